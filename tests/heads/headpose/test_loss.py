"""The rotation loss against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from vision_heads.geometry.rotations import from_euler, to_euler  # noqa: E402
from vision_heads.geometry.rotations import geodesic as degrees_between  # noqa: E402
from vision_heads.heads.base import Targets  # noqa: E402
from vision_heads.heads.headpose.loss import HeadPoseLoss  # noqa: E402
from vision_heads.heads.headpose.options import HeadPoseOptions  # noqa: E402

ANGLES = np.array([[10.0, 20, -15], [-25, -100, 30], [5, 178, 0]])
FOUND = np.array([[-20.0, 45, 10], [15, -60, 0], [20, -170, 25]])


def _loss(**options) -> HeadPoseLoss:
    return HeadPoseLoss(1, (3,), HeadPoseOptions(reg_max=8, **options))


def _tensor(values):
    return torch.from_numpy(np.asarray(values)).float()


def test_columns_are_pulled_to_the_rotation_and_to_its_length() -> None:
    found, wanted = from_euler(FOUND), from_euler(ANGLES)
    columns = 1.5 * found[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)  # too long
    pulled = ((columns - wanted[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)) ** 2).sum(1)
    expected = np.radians(degrees_between(found, wanted)) + 0.5 * pulled
    got = _loss().pose_error(_tensor(columns), _tensor(wanted))
    assert got.tolist() == pytest.approx(expected, abs=1e-3)


def test_the_angles_own_error_is_their_mean_in_radians() -> None:
    found, wanted = from_euler(FOUND[:1]), from_euler(ANGLES[:1])
    columns = _tensor(found[:, :, :2].transpose(0, 2, 1).reshape(-1, 6))
    without, much = (
        float(_loss(angles_gain=gain).pose_error(columns, _tensor(wanted))) for gain in (0, 3)
    )
    expected = np.radians(np.abs(FOUND[0] - ANGLES[0])).mean()
    assert much - without == pytest.approx(3 * expected, rel=0.02)


def test_shares_of_the_angles_ranges() -> None:
    shares = np.array([[0.2, 0.9, 0.6], [0.5, 0.5, 0.5], [0.7, 0.1, 0.3]])
    wanted = from_euler(ANGLES)
    error = np.abs(shares - (to_euler(wanted) / (180, 360, 180) + 0.5))
    error[:, 1] = np.minimum(error[:, 1], 1 - error[:, 1])
    assert error[2, 1] < 0.2  # 178 degrees are not far from -144
    loss = _loss(representation="euler")
    got = loss.pose_error(torch.logit(_tensor(shares)), _tensor(wanted))
    assert got.tolist() == pytest.approx((error**2).mean(1), rel=1e-4)


def test_the_loss_is_a_mean_over_the_scores_of_heads_with_a_pose() -> None:
    generator = torch.Generator().manual_seed(2)
    shapes = {"scores/3": 1, "boxes/3": 32, "rotation/3": 6}
    raw = {name: torch.randn(1, n, 8, 8, generator=generator) for name, n in shapes.items()}
    raw["scores/3"] += 4
    boxes = [[x, y, x + 24, y + 24] for x in (2, 36) for y in (2, 36)]
    rotations = from_euler([*ANGLES, [math.nan] * 3])
    targets = Targets(
        *(_tensor(boxes), torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)),
        *(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), _tensor(rotations)),
    )
    loss = _loss(rotation_gain=3.0, alpha=0.5, beta=0.5)
    _, found = loss.assigned(raw, targets)
    known = found.box < 3
    assert known.any() and not known.all() and float(found.score[known].sum()) > 1
    predicted = raw["rotation/3"][0].flatten(1).T[found.cell[known]]
    errors = loss.pose_error(predicted, _tensor(rotations)[found.box[known]])
    expected = 3.0 * np.average(errors.numpy(), weights=found.score[known].numpy())
    assert float(loss(raw, targets)["rotation"]) == pytest.approx(expected, rel=1e-5)
