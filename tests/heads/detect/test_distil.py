"""What a pupil is told, against its definition."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from vision_heads.heads.detect.distil import distil_detect  # noqa: E402
from vision_heads.heads.detect.options import DetectOptions  # noqa: E402
from vision_heads.heads.headpose.distil import distil_rotation  # noqa: E402
from vision_heads.heads.headpose.options import HeadPoseOptions  # noqa: E402
from vision_heads.heads.headpose.rotate import from_columns  # noqa: E402

LEVELS, BINS = (2, 3), 4
SIDES = {2: 4, 3: 2}


def _raw(seed, **channels):
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{name}/{level}": torch.randn(2, count, SIDES[level], SIDES[level], generator=generator)
        for name, count in channels.items()
        for level in LEVELS
    }


def _cells(raw, name):
    """(cells of all rows and levels, channels), level by level."""
    return torch.cat([raw[f"{name}/{level}"].movedim(1, 3).flatten(0, 2) for level in LEVELS])


def test_classes_and_sides_are_told_by_their_divergence():
    ours, theirs = (_raw(seed, scores=3, boxes=4 * BINS) for seed in (0, 1))
    options = DetectOptions(reg_max=BINS, class_gain=0.7, dfl_gain=2.0)
    losses = distil_detect(ours, theirs, LEVELS, options)
    p, q = (_cells(raw, "scores").sigmoid() for raw in (theirs, ours))
    best = p.amax(1)
    assert float(best.sum()) > 1
    wanted = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum() / best.sum()
    assert float(losses["class"]) == pytest.approx(0.7 * float(wanted), rel=1e-4)
    p, q = (_cells(raw, "boxes").view(-1, 4, BINS).softmax(2) for raw in (theirs, ours))
    divergence = (p * (p / q).log()).sum(2).mean(1)
    wanted = (divergence * best).sum() / best.sum()
    assert float(losses["dfl"]) == pytest.approx(2.0 * float(wanted), rel=1e-4)


def test_a_teacher_that_sees_nothing_is_not_made_louder():
    """The sum of what it sees counts as 1 at least."""
    ours, theirs = (_raw(seed, scores=1, boxes=4 * BINS) for seed in (0, 1))
    losses = []
    for quiet in (12.0, 14.0):
        raw = {n: v - quiet if n.startswith("scores") else v for n, v in theirs.items()}
        losses.append(float(distil_detect(ours, raw, LEVELS, DetectOptions(reg_max=BINS))["dfl"]))
    assert losses[1] < losses[0] / 4


@pytest.mark.parametrize("representation", ["6d", "euler"])
def test_rotations_are_told_where_the_teacher_sees_a_head(representation):
    count = 6 if representation == "6d" else 3
    ours, theirs = (_raw(seed, scores=1, rotation=count) for seed in (0, 1))
    options = HeadPoseOptions(representation=representation, rotation_gain=3.0)
    loss = distil_rotation(ours, theirs, LEVELS, options)
    best = _cells(theirs, "scores").sigmoid().amax(1)
    said, wanted = (_cells(raw, "rotation") for raw in (ours, theirs))
    if representation == "6d":
        errors = ((from_columns(said) - from_columns(wanted)) ** 2).flatten(1).sum(1)
    else:
        errors = ((said.sigmoid() - wanted.sigmoid()) ** 2).sum(1)
    expected = 3.0 * float((errors * best).sum() / best.sum())
    assert float(loss) == pytest.approx(expected, rel=1e-4)
