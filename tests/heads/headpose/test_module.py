from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from vision_heads.errors import UserError  # noqa: E402
from vision_heads.geometry.rotations import from_euler, geodesic  # noqa: E402
from vision_heads.heads.base import DecodeOptions, Targets, kind_of  # noqa: E402
from vision_heads.heads.detect.module import DetectHead  # noqa: E402
from vision_heads.heads.headpose.module import HeadPoseHead  # noqa: E402
from vision_heads.spec import HeadSpec  # noqa: E402

CHANNELS = {2: 16, 3: 24, 4: 32, 5: 48}


def _spec(levels=(2, 3), **options) -> HeadSpec:
    return HeadSpec(name="p", kind="headpose", classes=("head",), levels=levels, options=options)


def _head(levels=(2, 3), **options) -> HeadPoseHead:
    torch.manual_seed(0)
    return HeadPoseHead(_spec(levels, **options), CHANNELS)


def _features(rows: int = 1, levels=(2, 3), side: int = 64) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        lv: torch.randn(rows, CHANNELS[lv], side // 2**lv, side // 2**lv, generator=generator)
        for lv in levels
    }


def _targets(boxes, rows, angles=None) -> Targets:
    """Angles: [pitch, yaw, roll], None where unknown; None altogether: data without poses."""
    rotations = None
    if angles is not None:
        numbers = [[math.nan] * 3 if a is None else a for a in angles]
        rotations = torch.from_numpy(from_euler(np.array(numbers).reshape(-1, 3))).float()
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.zeros(len(boxes), dtype=torch.int64),
        torch.tensor(rows, dtype=torch.int64),
        torch.zeros(0, 4),
        torch.zeros(0, dtype=torch.int64),
        rotations,
    )


BOXES = [[6, 6, 28, 30], [36, 34, 60, 60]]


def _train(head: HeadPoseHead, targets: Targets, steps: int) -> dict:
    features = _features()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(steps):
        losses = head.loss(head(features), targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return {name: float(value.detach()) for name, value in losses.items()}


@pytest.mark.parametrize("representation", ["6d", "euler"])
def test_training_on_one_scene_finds_its_poses(representation: str) -> None:
    head = _head(representation=representation)
    # One looks away, a little beyond the jump of yaw; the other down and to the left.
    angles = [[10, -179, 5], [-30, 60, -20]]
    _train(head, _targets(BOXES, [0, 0], angles), 200)
    found = head.eval().export(head(_features()), 60)
    arrays = {name: value[0].detach().numpy() for name, value in found.items()}
    result = kind_of("headpose").decode(arrays, _spec(), DecodeOptions(conf=0.3))
    assert len(result) == 2 and result.rotation is not None
    for box, angle in zip(BOXES, angles, strict=True):
        row = int(np.abs(result.xyxy - box).sum(1).argmin())
        assert np.abs(result.xyxy[row] - box).max() < 3
        assert geodesic(result.rotation[row], from_euler(angle)) < 12


@pytest.mark.parametrize("representation", ["6d", "euler"])
def test_unknown_poses_train_the_box_only(representation: str) -> None:
    head = _head(representation=representation)
    known = head.loss(head(_features()), _targets(BOXES, [0, 0], [[0, 90, 0], [0, 90, 0]]))
    for targets in (_targets(BOXES, [0, 0], [None, None]), _targets(BOXES, [0, 0])):
        head.zero_grad()
        losses = head.loss(head(_features()), targets)
        assert float(losses["rotation"].detach()) == 0
        for name in ("box", "class", "dfl"):
            torch.testing.assert_close(losses[name], known[name])
        sum(losses.values()).backward()
        # Zero, not none: with several processes every weight needs a gradient.
        grads = [p.grad for p in head.rotation_branches.parameters()]
        assert all(g is not None and float(g.abs().sum()) == 0 for g in grads)
        assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_the_angles_own_error_is_a_part_of_the_rotation_loss() -> None:
    targets = _targets(BOXES, [0, 0], [[10, -179, 5], [-30, 88, -20]])

    def losses(gain: float) -> dict[str, torch.Tensor]:
        return _head(angles_gain=gain).loss(_head()(_features()), targets)

    without, half, whole = losses(0), losses(0.5), losses(1)
    added = half["rotation"] - without["rotation"]
    assert added > 0.05
    torch.testing.assert_close(whole["rotation"] - without["rotation"], 2 * added)
    torch.testing.assert_close(whole["box"], without["box"])


def test_heads_without_pose_do_not_thin_out_the_others() -> None:
    head = _head()
    pose = [20.0, 100.0, 0.0]
    alone = head.loss(head(_features()), _targets(BOXES[:1], [0], [pose]))
    mixed = head.loss(head(_features()), _targets(BOXES, [0, 0], [pose, None]))
    torch.testing.assert_close(alone["rotation"], mixed["rotation"], rtol=1e-3, atol=1e-4)


def test_no_heads_at_all() -> None:
    head = _head()
    losses = head.loss(head(_features(2)), _targets([], [], []))
    assert losses["rotation"] == 0 and torch.isfinite(sum(losses.values()))
    sum(losses.values()).backward()


def _around(raw: dict, cell: int) -> torch.Tensor:
    """Sum of columns of a cell of the second picture and its neighbours on its level, by score."""
    on_p2 = raw["scores/2"][0, 0].numel()
    level, rest = (2, cell) if cell < on_p2 else (3, cell - on_p2)
    values, scores = raw[f"rotation/{level}"][1], raw[f"scores/{level}"][1, 0].sigmoid()
    height, width = scores.shape
    total = torch.zeros(6)
    for y in range(max(0, rest // width - 1), min(height, rest // width + 2)):
        for x in range(max(0, rest % width - 1), min(width, rest % width + 2)):
            total += values[:, y, x] * (scores[y, x] + 0.01)
    return total


@pytest.mark.parametrize("representation", ["6d", "euler"])
def test_export_gives_rotations_of_the_chosen_cells(representation: str) -> None:
    head = _head((2, 3), representation=representation).eval()
    raw = head(_features(2))
    generator = torch.Generator().manual_seed(5)
    for name in raw:
        raw[name] = torch.randn(raw[name].shape, generator=generator)
    found = head.export(raw, 40)
    rotation = found["rotation"]
    assert rotation.shape == (2, 40, 3, 3) and rotation.dtype == torch.float32
    eye = torch.eye(3).expand_as(rotation)
    torch.testing.assert_close(rotation.mT @ rotation, eye, atol=1e-5, rtol=0)
    assert (torch.linalg.det(rotation) > 0.99).all()
    # The same cells' raw numbers, all of them and only then chosen.
    scores = torch.cat([raw[f"scores/{lv}"].flatten(2) for lv in (2, 3)], 2)[:, 0]
    best = int(scores[1].argsort(descending=True)[7])
    if representation == "6d":
        first = _around(raw, best)[:3]
        torch.testing.assert_close(rotation[1, 7, :, 0], first / first.norm())
    else:
        values = torch.cat([raw[f"rotation/{lv}"].flatten(2) for lv in (2, 3)], 2)
        shares = values[1, :, best].sigmoid().numpy()
        angles = (shares - 0.5) * (180, 360, 180)
        np.testing.assert_allclose(rotation[1, 7].numpy(), from_euler(angles), atol=1e-5)


def test_boxes_and_scores_are_those_of_a_detect_head() -> None:
    pose = _head().eval()
    detect = DetectHead(HeadSpec(name="d", classes=("head",), levels=(2, 3)), CHANNELS).eval()
    missing, extra = detect.load_state_dict(pose.state_dict(), strict=False)
    assert not missing and all(name.startswith("rotation") for name in extra)
    ours, theirs = (head.export(head(_features()), 30) for head in (pose, detect))
    torch.testing.assert_close(ours["boxes"], theirs["boxes"])
    torch.testing.assert_close(ours["scores"], theirs["scores"])


def test_half_precision_raw_values_still_give_orthonormal_rotations() -> None:
    head = _head().eval()
    raw = {name: value.bfloat16() for name, value in head(_features()).items()}
    rotation = head.export(raw, 20)["rotation"]
    torch.testing.assert_close(
        rotation.mT @ rotation, torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"representation": "quaternion"}, "representation"),
        ({"nose": 1}, "nose"),
        ({"rotation_gain": float("inf")}, "rotation_gain"),
        ({"angles_gain": -1}, "angles_gain"),
        ({"representation": "euler", "angles_gain": 0.5}, "angles_gain"),
    ],
)
def test_wrong_option_is_named(options: dict, field: str) -> None:
    with pytest.raises(UserError, match=f"head 'p': options.{field}"):
        kind_of("headpose").check(_spec(**options))
