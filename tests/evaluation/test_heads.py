"""Several heads in one go against the same heads one by one."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import UserError
from vision_heads.evaluation.heads import Exam, mean_ap50, records, score_heads
from vision_heads.evaluation.protocols import protocol_of, score
from vision_heads.evaluation.runner import options_for, predict_split
from vision_heads.evaluation.tables import heads_table
from vision_heads.geometry.rotations import from_euler
from vision_heads.results import Detections, Failure, Result
from vision_heads.spec import HeadSpec, ModelSpec

pytest.importorskip("faster_coco_eval")

CARS = HeadSpec(name="cars", classes=("car", "tank"))
PETS = HeadSpec(name="pets", classes=("cat", "dog"))
POSE = HeadSpec(name="pose", kind="headpose", classes=("person",))
BOXES = np.array([[5, 5, 25, 30], [40, 10, 70, 60], [10, 50, 30, 75]], np.float32)


def split(name, names, pictures, labels, seed=0):
    """Three labelled boxes a picture, moved a little from picture to picture."""
    rng = np.random.default_rng(seed)
    samples = []
    for picture in pictures:
        boxes = (BOXES + rng.integers(-3, 4, (3, 1))).astype(np.float32)
        sample = Sample(Path(f"{picture}.jpg"), picture, 100, 80, boxes, np.array(labels))
        sample.euler = rng.uniform(-60, 60, (3, 3))
        sample.rotations = from_euler(sample.euler).astype(np.float32)
        samples.append(sample)
    return DataSplit(name, "val", names, tuple(range(1, len(names) + 1)), samples)


class Fake:
    """A predictor that finds most of what is labelled, a little off; counts its passes."""

    def __init__(self, splits, broken=()):
        self.spec = ModelSpec(heads=(CARS, PETS, POSE))
        self.splits, self.broken = splits, broken
        self.passes: list[tuple[str, tuple[str, ...]]] = []

    def stream(self, images, options, *, merge):
        assert merge == {}
        for file in images:
            self.passes.append((Path(file).stem, tuple(options)))
            if Path(file).stem in self.broken:
                yield Failure(str(file), f"{file}: not a readable picture")
                continue
            heads = {head: self.found(head, Path(file), one) for head, one in options.items()}
            yield Result(heads, 100, 80, str(file))

    def found(self, head, file, options):
        spec = self.spec.head(head)
        split = self.splits[head]
        (sample,) = (one for one in split.samples if one.image == file)
        rng = np.random.default_rng(ord(file.stem[0]) + len(head))
        boxes = sample.boxes + rng.normal(0, 2, sample.boxes.shape)
        label = [spec.classes.index(n) if n in spec.classes else 0
                 for n in (split.names[i] for i in sample.labels)]  # fmt: skip
        rotation = None
        if head == "pose":
            rotation = from_euler(sample.euler + rng.normal(0, 5, (3, 3)))
        every = Detections(
            boxes, [0.9, 0.8, 0.75], label, spec.classes, spec.category_ids, rotation
        )
        keep = every.score > options.conf
        if options.classes is not None:
            keep &= np.isin(every.class_id, options.classes)
        return every[keep][: options.max_det]


@pytest.fixture
def splits():
    return {
        "cars": split("street", ("car", "bus"), "abcd", (0, 0, 1)),
        "pets": split("zoo", ("cat", "dog"), "efg", (0, 1, 1), seed=1),
        # The pictures of the street again, in another order and with other labels.
        "pose": split("people", ("head",), "dbca", (0, 0, 0), seed=2),
    }


def exams(splits, **protocols):
    chosen = {"cars": "visdrone", "pets": "coco", "pose": "headpose"} | protocols
    return [
        Exam(head, protocol_of(chosen[head.name]), splits[head.name]) for head in (CARS, PETS, POSE)
    ]


def test_every_head_gets_what_it_would_get_alone(splits):
    fake = Fake(splits)
    marked = score_heads(fake, exams(splits))
    assert list(marked) == ["cars", "pets", "pose"]
    for name, one in marked.items():
        rules = one.exam.rules
        run = predict_split(
            Fake(splits), splits[name], options_for(rules.name), head=one.exam.head,
            lone=rules.lone_class,
        )  # fmt: skip
        alone = score(splits[name], run.detections, rules.name).numbers
        assert one.scores.numbers == pytest.approx(alone, abs=0, nan_ok=True)
        assert one.scores.numbers["AP50"] > 20
        assert [len(found) for found in one.found] == [len(found) for found in run.detections]
    assert marked["pose"].scores.numbers["mae"] > 1
    assert marked["cars"].run.classes.only_model == ("tank",)


def test_pictures_of_several_heads_are_run_once_and_others_by_their_head_alone(splits):
    fake, seen = Fake(splits), []
    score_heads(fake, exams(splits), progress=lambda *at: seen.append(at))
    assert fake.passes == [(name, ("cars", "pose")) for name in "abcd"] + [
        (name, ("pets",)) for name in "efg"
    ]
    assert seen == [(number, 7) for number in range(1, 8)]


def test_limits_hold_for_each_head_by_its_own_rules(splits):
    options = []

    class Noting(Fake):
        def found(self, head, file, one):
            options.append((head, one.max_det, one.conf))
            return super().found(head, file, one)

    score_heads(Noting(splits), exams(splits), conf=0.77)
    assert set(options) == {("cars", 500, 0.77), ("pets", 1000, 0.77), ("pose", 1000, 0.77)}


def test_a_broken_picture_is_empty_for_every_head_on_it(splits):
    marked = score_heads(Fake(splits, broken="b"), exams(splits))
    assert [len(found) for found in marked["cars"].found] == [3, 0, 3, 3]
    assert [len(found) for found in marked["pose"].found] == [3, 0, 3, 3]  # d b c a
    assert marked["cars"].run.unread == marked["pose"].run.unread
    assert not marked["pets"].run.unread
    with pytest.raises(UserError, match="no picture of zoo val can be read"):
        score_heads(Fake(splits, broken="efg"), exams(splits))


def test_a_head_without_a_class_in_its_data_is_named_before_any_work(splits):
    splits["pets"].names = ("cow", "pig")
    fake = Fake(splits)
    with pytest.raises(UserError, match="head pets: no class in common"):
        score_heads(fake, exams(splits))
    assert not fake.passes


def shown(marked):
    console = Console(width=200, file=StringIO())
    console.print(heads_table(marked))
    return console.file.getvalue()


def test_one_table_with_the_mean(splits):
    marked = score_heads(Fake(splits), exams(splits))
    rows = [line.split() for line in shown(marked).splitlines() if line.strip()]
    names = [row[0] for row in rows]
    assert names[-1] == "mean"
    cars, pets, pose = (rows[names.index(name)] for name in ("cars", "pets", "pose"))
    numbers = marked["pose"].scores.numbers
    figures = [f"{numbers[key]:.2f}" for key in ("AP", "AP50", "recall")]
    assert pose == [
        "pose", "headpose", "people", "val", "4", *figures, "recall", f"{numbers['mae']:.2f}"
    ]  # fmt: skip
    assert cars[1:5] == ["visdrone", "street", "val", "4"] and cars[-2:] == ["AR500", "-"]
    assert pets[-3:-1] == [f"{marked['pets'].scores.numbers['AR100']:.2f}", "AR100"]
    mean = np.mean([one.scores.numbers["AP50"] for one in marked.values()])
    assert rows[-1] == ["mean", f"{mean:.2f}"]
    # Without poses, no column of errors.
    assert "MAE" in shown(marked) and "MAE" not in shown({"pets": marked["pets"]})


def test_what_cannot_be_measured_takes_no_part_in_the_mean(splits):
    marked = score_heads(Fake(splits), exams(splits))
    before = [marked[name].scores.numbers["AP50"] for name in ("cars", "pose")]
    blank = replace(marked["pets"].scores, numbers=dict.fromkeys(
        marked["pets"].scores.numbers, float("nan")))  # fmt: skip
    marked["pets"] = replace(marked["pets"], scores=blank)
    assert mean_ap50(marked) == pytest.approx(np.mean(before))
    assert math.isnan(mean_ap50({"pets": marked["pets"]}))
    text = json.dumps(records({"pets": marked["pets"]}, "m.onnx"), allow_nan=False)
    assert json.loads(text)["mean"] == {"AP50": None}


@pytest.mark.parametrize("rules", ["coco", "headpose"])
def test_what_is_not_installed_is_said_before_any_picture_is_looked_at(splits, monkeypatch, rules):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    fake = Fake(splits)
    exam = next(e for e in exams(splits) if e.rules.name == rules)
    with pytest.raises(UserError, match=r"need faster-coco-eval: pip install"):
        score_heads(fake, [exam])
    assert not fake.passes
