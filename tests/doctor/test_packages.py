"""Packages that overwrite each other, that do not import, that do not go together."""

from __future__ import annotations

import pytest

from tests.doctor.fake import FakeSystem, by_check
from vision_heads.doctor import packages
from vision_heads.doctor.system import Package, ProbeError, Ran

OURS = Package(
    "0.1.0",
    (
        "numpy>=1.26",
        "opencv-python>=4.8",
        "onnxruntime>=1.18",
        'av>=15.1; extra == "stream"',
        'albumentations==2.0.8; extra == "train"',
        'torch>=2.4; extra == "train"',
        'vision-heads[stream]; extra == "serve"',
        'fastapi>=0.115; extra == "serve"',
    ),
)
CORE = {
    "vision-heads": OURS,
    "numpy": "2.4.6",
    "opencv-python": "5.0.0.93",
    "onnxruntime": "1.31.1",
}


@pytest.mark.parametrize(
    ("installed", "status"),
    [
        ({"opencv-python": "5.0.0.93"}, "ok"),
        ({"opencv-python": "5.0.0.93", "opencv-python-headless": "5.0.0.93"}, "ok"),
        ({"opencv-python": "5.0.0.93", "opencv-python-headless": "4.11.0.86"}, "warning"),
        ({"opencv-contrib-python": "4.9.0.80", "opencv-python": "5.0.0.93"}, "warning"),
        ({}, "ok"),
    ],
)
def test_two_opencv_wheels(installed, status):
    line = by_check(packages.opencv_wheels(FakeSystem(installed=installed)))["opencv wheels"]
    assert line.status == status
    if status == "warning":
        assert all(name in line.mend for name in installed)
        assert line.mend.index("uninstall") < line.mend.index("pip install")


def test_two_runtime_wheels_keep_the_one_for_the_gpu():
    installed = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.26.0"}
    line = by_check(packages.runtime_wheels(FakeSystem(installed=installed)))["onnxruntime wheels"]
    assert line.status == "warning" and line.mend.endswith("pip install onnxruntime-gpu")


def test_requirements_and_extras_when_all_is_well():
    lines = by_check(packages.requirements(FakeSystem(installed=CORE | {"av": "18.1.0"})))
    assert {line.status for line in lines.values()} == {"ok"}
    assert lines["extra stream"].found == "installed"
    assert 'pip install "vision-heads[train]"' in lines["extra train"].found
    assert "torch" in lines["extra train"].found
    assert "fastapi" in lines["extra serve"].found and "stream" not in lines["extra serve"].found


def test_headless_opencv_stands_in_for_the_other():
    installed = CORE | {"opencv-python-headless": "5.0.0.93"}
    del installed["opencv-python"]
    assert (
        by_check(packages.requirements(FakeSystem(installed=installed)))["requirements"].status
        == "ok"
    )


def test_a_missing_or_old_core_package_is_broken_with_the_command():
    installed = CORE | {"numpy": "1.24.0"}
    del installed["onnxruntime"]
    line = by_check(packages.requirements(FakeSystem(installed=installed)))["requirements"]
    assert line.status == "broken" and "numpy 1.24.0 is not >=1.26" in line.found
    assert line.mend == 'python -m pip install "onnxruntime>=1.18" "numpy>=1.26"'


def test_a_wrong_version_of_an_extra_is_a_warning():
    installed = CORE | {"torch": "2.15.0+cu132", "albumentations": "2.1.0"}
    line = by_check(packages.requirements(FakeSystem(installed=installed)))["extra train"]
    assert line.status == "warning" and "albumentations 2.1.0 is not ==2.0.8" in line.found


def test_a_package_that_is_not_installed_is_said():
    line = by_check(packages.requirements(FakeSystem()))["requirements"]
    assert line.status == "warning" and line.mend == "python -m pip install ."


@pytest.mark.parametrize(
    ("module", "reason", "mend"),
    [
        ("cv2", "libGL.so.1: cannot open shared object file", "opencv-python-headless"),
        ("cv2", "cv2 has no imread: its folder is incomplete", "pip uninstall -y opencv-python"),
        ("numpy", "crashed by signal 4", "--force-reinstall --no-deps numpy"),
        ("onnxruntime", "libstdc++.so.6: version GLIBCXX_3.4.32 not found", "libstdc++.so.6"),
    ],
)
def test_an_import_that_fails_is_broken_with_its_reason(module, reason, mend):
    probes = {f"imported {name}": {"version": "1", "seconds": 0.1} for name in packages.CORE}
    probes[f"imported {module}"] = ProbeError(reason)
    lines = by_check(packages.imports(FakeSystem(installed=CORE, probes=probes)))
    bad = lines.pop(f"import {module}")
    assert bad.status == "broken" and bad.found == reason and mend in bad.mend
    assert {line.status for line in lines.values()} == {"ok"} and len(lines) == 2


def test_an_import_built_for_another_numpy_is_a_warning():
    noise = "A module that was compiled using NumPy 1.x cannot be run in NumPy 2.4.6 as it may"
    probes = {f"imported {name}": {"version": "1", "seconds": 0.1} for name in packages.CORE}
    probes["imported cv2"] = {"version": "4.8.0", "seconds": 0.1, "noise": noise}
    lines = by_check(packages.imports(FakeSystem(installed=CORE, probes=probes)))
    assert lines["import cv2"].status == "warning"
    assert lines["import cv2"].mend == "python -m pip install --upgrade opencv-python"


def test_pip_check():
    commands = {"/usr/bin/python3 -m pip check": "No broken requirements found.\n"}
    assert by_check(packages.conflicts(FakeSystem(commands=commands)))["pip check"].status == "ok"
    text = "torchvision 0.19.0 has requirement torch==2.4.0, but you have torch 2.5.1.\n" * 5
    commands = {"/usr/bin/python3 -m pip check": Ran(1, text)}
    line = by_check(packages.conflicts(FakeSystem(commands=commands)))["pip check"]
    assert (
        line.status == "warning" and "you have torch 2.5.1" in line.found and "2 more" in line.found
    )
    commands = {"/usr/bin/python3 -m pip check": Ran(1, "/usr/bin/python3: No module named pip\n")}
    line = by_check(packages.conflicts(FakeSystem(commands=commands)))["pip check"]
    assert line.status == "ok" and "not looked at" in line.found


@pytest.mark.parametrize(
    ("torch", "vision", "status"),
    [
        ("2.15.0+cu132", Package("0.30.0+cu132", ("torch==2.15.0",)), "ok"),
        ("2.14.0", Package("0.30.0", ("torch==2.15.0",)), "broken"),
        ("2.15.0+cpu", Package("0.30.0+cu132", ("torch==2.15.0",)), "broken"),
        ("2.15.0", Package("0.30.0+cu132", ("torch (>=2.14.0)",)), "ok"),
    ],
)
def test_torch_and_torchvision(torch, vision, status):
    system = FakeSystem(installed={"torch": torch, "torchvision": vision})
    line = by_check(packages.torch_pair(system))["torch and torchvision"]
    assert line.status == status and bool(line.mend) == (status == "broken")


def test_no_torch_is_no_line():
    assert list(packages.torch_pair(FakeSystem())) == []
