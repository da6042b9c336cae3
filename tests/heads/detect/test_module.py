from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from vision_heads.errors import UserError  # noqa: E402
from vision_heads.heads.base import Targets  # noqa: E402
from vision_heads.heads.detect.anchors import Grid, centers_and_strides  # noqa: E402
from vision_heads.heads.detect.loss import wasserstein_similarity  # noqa: E402
from vision_heads.heads.detect.module import DetectHead  # noqa: E402
from vision_heads.spec import HeadSpec  # noqa: E402

CHANNELS = {2: 16, 3: 24, 4: 32, 5: 48}


def _head(levels=(2, 3), **options) -> DetectHead:
    torch.manual_seed(0)
    spec = HeadSpec(name="a", classes=("x", "y", "z"), levels=levels, options=options)
    return DetectHead(spec, CHANNELS)


def _features(rows: int, levels=(2, 3), side: int = 64) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        lv: torch.randn(rows, CHANNELS[lv], side // 2**lv, side // 2**lv, generator=generator)
        for lv in levels
    }


def _targets(boxes, labels, rows, ignore=(), ignore_rows=()) -> Targets:
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(rows, dtype=torch.int64),
        torch.tensor(ignore, dtype=torch.float32).view(-1, 4),
        torch.tensor(ignore_rows, dtype=torch.int64),
    )


def test_export_agrees_with_decoding_every_cell() -> None:
    head = _head((2, 3, 4)).eval()
    raw = head(_features(2, (2, 3, 4)))
    found = head.export(raw, 50)
    grids = [Grid.of(level, raw[f"scores/{level}"]) for level in (2, 3, 4)]
    centers, strides = centers_and_strides(grids, torch.device("cpu"))
    logits = torch.cat([raw[f"scores/{lv}"].flatten(2) for lv in (2, 3, 4)], 2)
    spread = torch.cat([raw[f"boxes/{lv}"].flatten(2) for lv in (2, 3, 4)], 2)
    for row in range(2):
        best = logits[row].amax(0).sort(descending=True, stable=True).indices[:50]
        torch.testing.assert_close(found["scores"][row], logits[row][:, best].T.sigmoid())
        sides = spread[row].view(4, 16, -1).softmax(1)
        reach = (sides * torch.arange(16.0)[None, :, None]).sum(1).T * strides
        boxes = torch.cat((centers - reach[:, :2], centers + reach[:, 2:]), 1)[best]
        torch.testing.assert_close(found["boxes"][row], boxes, atol=1e-4, rtol=1e-5)


def test_fewer_cells_than_candidates() -> None:
    head = _head((3,)).eval()
    found = head.export(head(_features(1, (3,), 32)), 1000)
    assert found["boxes"].shape == (1, 16, 4) and found["scores"].shape == (1, 16, 3)


def test_widths_of_the_branches() -> None:
    usual, narrow = _head(), _head(box_width=16, class_width=32)
    assert narrow.box_branches["p3"][0].conv.out_channels == 16
    assert narrow.class_branches["p3"][1][1].conv.out_channels == 32
    features = _features(1)
    shapes = [
        {name: value.shape for name, value in head(features).items()} for head in (usual, narrow)
    ]
    assert shapes[0] == shapes[1]
    assert usual.class_branches["p3"][1][1].conv.out_channels >= 64
    # As wide as the map, within 16 and four times the bins.
    assert [usual.box_branches[name][0].conv.out_channels for name in ("p2", "p3")] == [16, 24]
    few = _head(reg_max=4)
    assert few.box_branches["p3"][0].conv.out_channels == 16


def test_a_new_head_begins_with_few_objects_and_small_ones() -> None:
    head = _head().eval()
    assert not any("bins" in name for name in head.state_dict())
    with torch.no_grad():
        for branch in (*head.box_branches.values(), *head.class_branches.values()):
            branch[-1].weight.zero_()
        raw = head(_features(1))
    for level in (2, 3):
        # Five a level in a picture of 640 pixels, which has a hundred times the cells of this one.
        assert float(raw[f"scores/{level}"].sigmoid().sum()) * 100 == pytest.approx(5, rel=0.01)
    found = head.export(raw, 1000)["boxes"][0]
    sides = (found[:, 2:] - found[:, :2]).flatten().tolist()
    assert min(sides) / 4 == pytest.approx(2 * 1.53, abs=0.02)
    assert max(sides) / 8 == pytest.approx(2 * 1.53, abs=0.02)


def test_training_on_one_scene_finds_it() -> None:
    head, features = _head(), _features(1)
    targets = _targets([[8, 8, 24, 28], [40, 36, 46, 41]], [0, 2], [0, 0])
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(150):
        losses = head.loss(head(features), targets)
        assert set(losses) == {"box", "class", "dfl"}
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    found = head.eval().export(head(features), 100)
    for box, label in zip(targets.boxes, targets.labels, strict=True):
        scores = found["scores"][0][:, label]
        best = int(scores.argmax())
        assert scores[best] > 0.4
        torch.testing.assert_close(found["boxes"][0][best], box, atol=2.0, rtol=0)


def test_no_objects_at_all_still_trains_the_classes() -> None:
    head = _head()
    losses = head.loss(head(_features(2)), _targets([], [], []))
    assert losses["box"] == 0 and losses["dfl"] == 0 and losses["class"] > 0
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in head.parameters())


def test_ignored_area_gives_no_loss_inside() -> None:
    head = _head()
    raw = head(_features(1))
    for value in raw.values():
        value.retain_grad()
    whole = _targets([], [], [], [[0, 0, 64, 64]], [0])
    assert head.loss(raw, whole)["class"] == 0
    half = _targets([], [], [], [[0, 0, 32, 64]], [0])
    head.loss(raw, half)["class"].backward()
    gradient = raw["scores/2"].grad[0].abs().sum(0)
    assert gradient[:, :8].sum() == 0 and (gradient[:, 8:] > 0).all()


def test_object_inside_an_ignored_area_is_still_learned() -> None:
    head = _head()
    raw = head(_features(1))
    losses = head.loss(raw, _targets([[8, 8, 24, 24]], [1], [0], [[0, 0, 64, 64]], [0]))
    assert losses["box"] > 0 and losses["class"] > 0


def test_loss_is_a_mean_over_assigned_scores_not_a_sum_over_rows() -> None:
    head = _head().eval()
    features = _features(1)
    with torch.no_grad():
        for branch in head.class_branches.values():
            branch[-1].bias.fill_(3.0)
        for branch in head.box_branches.values():
            branch[-1].bias.zero_()
    # Enough objects that the normaliser is above its floor of 1.
    boxes = [[x, y, x + 15, y + 15] for x in range(0, 64, 16) for y in range(0, 64, 16)]
    once = head.loss(head(features), _targets(boxes, [0] * 16, [0] * 16))
    rows = [row for row in range(4) for _ in boxes]
    repeated = {level: value.repeat(4, 1, 1, 1) for level, value in features.items()}
    four = head.loss(head(repeated), _targets(boxes * 4, [0] * 64, rows))
    for name, value in once.items():
        assert float(value.detach()) > 0
        torch.testing.assert_close(four[name], value, rtol=1e-4, atol=1e-5)


def test_wasserstein_similarity() -> None:
    box = torch.tensor([[10.0, 10.0, 14.0, 14.0]])
    same = wasserstein_similarity(box, box, 12.8)
    assert float(same) == pytest.approx(1.0, abs=1e-4)
    apart = [float(wasserstein_similarity(box, box + shift, 12.8)) for shift in (1.0, 5.0, 20.0)]
    assert apart == sorted(apart, reverse=True) and apart[-1] > 0


def test_wasserstein_option_assigns_what_nothing_overlaps() -> None:
    """Points for predictions, beside a target of 3 pixels: CIoU sees nothing, NWD a short way."""
    targets = _targets([[30.5, 30.5, 33.5, 33.5]], [0], [0])
    found = {}
    for share in (0.0, 0.5):
        head = _head(nwd=share)
        with torch.no_grad():
            for branch in head.box_branches.values():
                branch[-1].weight.zero_()
                branch[-1].bias.copy_(-100.0 * (head.bins.repeat(4) > 0))
        losses = head.loss(head(_features(1)), targets)
        found[share] = float(losses["box"].detach())
    assert found[0.0] == 0 and found[0.5] > 0


INFINITE = float("inf")  # JSON has no such number: weights that carry it could not be loaded


@pytest.mark.parametrize(
    "options",
    [
        {"reg_max": 1}, {"nwd": 2}, {"topk": 0}, {"colour": "red"},
        {"alpha": INFINITE}, {"nwd_constant": INFINITE}, {"class_gain": INFINITE},
    ],
)  # fmt: skip
def test_wrong_option_is_named(options: dict) -> None:
    with pytest.raises(UserError, match=f"head 'a': options.{next(iter(options))}"):
        _head(**options)
