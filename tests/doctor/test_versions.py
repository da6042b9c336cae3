"""Version numbers and requirements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_heads.doctor.facts import DRIVERS, JETPACKS, ORT_GPU, gpu_wheel, jetpack_of
from vision_heads.doctor.versions import agree, parse, requirement, satisfies

versions = st.lists(st.integers(0, 40), min_size=1, max_size=4).map(tuple)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("10.3.0.30-1+cuda12.5", (10, 3, 0, 30)),
        ("2.15.0+cu132", (2, 15, 0)),
        ("v1.27", (1, 27)),
        ("5.0.0.93", (5, 0, 0, 93)),
        ("2.0.0rc1", (2, 0, 0)),
        ("unknown", ()),
        ("", ()),
    ],
)
def test_numbers_of_a_version(text, numbers):
    assert parse(text) == numbers


@pytest.mark.parametrize(
    ("version", "limits", "good"),
    [
        ("2.4.6", ">=1.26", True),
        ("1.25.9", ">=1.26", False),
        ("8.4.190", ">=8.4,<8.5", True),
        ("8.5.0", ">=8.4,<8.5", False),
        ("2.0.8", "==2.0.8", True),
        ("2.0", "==2.0.0", True),
        ("2.15.0+cu132", "==2.15.0", True),
        ("2.15.1", "==2.15.*", True),
        ("2.16", "==2.15.*", False),
        ("12.8.90", "~=12.0", True),
        ("13.0", "~=12.0", False),
        ("8.3.2", "!=8.3.*,>=5.3.0", False),
        ("3", "", True),
    ],
)
def test_limits(version, limits, good):
    assert satisfies(version, limits) is good


@given(versions, versions)
def test_limits_agree_with_the_order_of_tuples(left, right):
    size = max(len(left), len(right))
    padded = [v + (0,) * (size - len(v)) for v in (left, right)]
    texts = [".".join(map(str, v)) for v in (left, right)]
    assert satisfies(texts[0], f">={texts[1]}") == (padded[0] >= padded[1])
    assert satisfies(texts[0], f"<{texts[1]}") == (padded[0] < padded[1])
    assert satisfies(texts[0], f"=={texts[1]}") != satisfies(texts[0], f"!={texts[1]}")


def test_requirements_in_both_ways_of_writing():
    new = requirement('vision-heads[stream,track]>=1.0; extra == "serve"')
    assert new is not None
    assert (new.name, new.extras, new.limits, new.extra) == (
        "vision-heads",
        "stream,track",
        ">=1.0",
        "serve",
    )
    assert not new.conditional
    old = requirement("torch (>=2.14.0)")
    assert old is not None and (old.name, old.limits, old.extra) == ("torch", ">=2.14.0", "")
    other = requirement('Nvidia_CUDA.runtime-cu12~=12.0; platform_system == "Linux"')
    assert other is not None and other.name == "nvidia-cuda-runtime-cu12" and other.conditional
    assert requirement("=nonsense") is None


def test_versions_agree_as_far_as_both_are_given():
    assert agree((12, 6), (12, 6, 68)) and agree((13,), (13, 0))
    assert not agree((12, 6), (12, 5, 1))


def test_tables_are_in_order_and_complete():
    for table, key in ((ORT_GPU, "first"), (JETPACKS, "l4t")):
        order = [getattr(row, key) for row in table]
        assert order == sorted(order, reverse=True)
    assert all(wheel.cuda in DRIVERS for wheel in ORT_GPU)
    assert all(release.cuda for release in JETPACKS)


@pytest.mark.parametrize(
    ("l4t", "name"),
    [
        ((36, 4, 3), "JetPack 6.2"),
        ((36, 4, 0), "JetPack 6.1"),
        ((36, 4, 7), "JetPack 6.2.1"),
        ((36, 3, 0), "JetPack 6.0"),
        ((38, 2, 2), "JetPack 7.0"),
        ((39, 2), "JetPack 7.2"),
        ((35, 4, 1), "JetPack 5.1.2"),
    ],
)
def test_jetson_linux_to_jetpack(l4t, name):
    release = jetpack_of(l4t)
    assert release is not None and release.name == name


def test_unknown_releases_are_not_guessed():
    assert jetpack_of((36, 2)) is None
    assert jetpack_of((40, 0)) is None
    assert gpu_wheel((1, 14)) is None


@pytest.mark.parametrize(
    ("version", "cuda"),
    [("1.31.1", 13), ("1.27.0", 13), ("1.26.0", 12), ("1.19.2", 12), ("1.18.1", 11)],
)
def test_cuda_of_onnxruntime_gpu(version, cuda):
    wheel = gpu_wheel(parse(version))
    assert wheel is not None and wheel.cuda == cuda
