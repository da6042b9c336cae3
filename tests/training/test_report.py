"""The page at the end of a run, which no picture and no missing table may take away."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.cli.test_messages import closed_terminals  # noqa: E402
from tests.training.scenes import posed, square_split  # noqa: E402
from tests.training.test_trainer import settings  # noqa: E402
from vision_heads.data.sample import OTHER, REGION, DataSplit, Sample  # noqa: E402
from vision_heads.evaluation.protocols import score  # noqa: E402
from vision_heads.evaluation.records import Found, class_map  # noqa: E402
from vision_heads.evaluation.runner import Run  # noqa: E402
from vision_heads.network import Network, save_network  # noqa: E402
from vision_heads.results import Detections  # noqa: E402
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec  # noqa: E402
from vision_heads.training import report  # noqa: E402
from vision_heads.training.config import make_config  # noqa: E402
from vision_heads.training.journal import Journal  # noqa: E402
from vision_heads.training.meters import Meters  # noqa: E402
from vision_heads.training.validate import validate  # noqa: E402
from vision_heads.training.worst import worst  # noqa: E402


def _network(split: DataSplit) -> Network:
    head = HeadSpec(name="squares", classes=split.names, levels=(2, 3))
    return Network(ModelSpec(heads=(head,), input=InputSpec(height=64, width=64))).eval()


def _broken(folder: Path) -> DataSplit:
    """Make three pictures, of which the first passes for one until it is read."""
    split = square_split(folder, 3)
    split.samples[0].image.write_bytes(b"nothing")
    return split


def test_a_picture_that_cannot_be_read_does_not_cost_the_page(tmp_path, monkeypatch) -> None:
    """It failed at the very end, after all the epochs: such a picture is always among the worst."""
    split = replace(_broken(tmp_path / "val"), name="квадраты")
    monkeypatch.setattr(report, "write_plots", lambda *_: [])
    write = Path.write_text
    monkeypatch.setattr(  # a system that does not write UTF-8 by itself
        Path, "write_text", lambda self, text, encoding="ascii": write(self, text, encoding)
    )
    (tmp_path / "plots" / "squares").mkdir(parents=True)
    (tmp_path / "weights").mkdir()
    save_network(tmp_path / "weights" / "best.safetensors", _network(split))
    # Nor is there a results.csv: its owner may remove it, and resume a run that has ended.
    page = report.write_report(tmp_path, {"squares": split}, {"squares": "coco"}, [])
    text = page.read_text(encoding="utf-8")
    assert "1 pictures cannot be read and count as empty: " in text and "квадраты" in text
    assert text.count("<li>") == 2 and "000.png: " not in text.split("<ol>")[1]


def test_a_run_goes_on_without_its_terminal(tmp_path: Path) -> None:
    """The next line about an epoch ended it: a traceback, and the hours since the last state."""
    with closed_terminals():
        journal = Journal(tmp_path, ["squares"])
        journal.say("epoch 1")
        with journal.progress("epoch 2", 3, 0) as advance:
            advance(Meters(), 4)
        journal.say("epoch 2")


def test_validation_says_what_it_could_not_read(tmp_path: Path, capsys) -> None:
    split = _broken(tmp_path / "val")
    validate(_network(split), {"squares": split}, settings(), Journal(tmp_path, ["squares"]))
    said = capsys.readouterr().err
    assert "squares: 1 pictures cannot be read and count as empty: " in said
    assert str(split.samples[0].image) in said


def test_the_worst_pictures_are_those_of_the_scoring(tmp_path: Path) -> None:
    """Where names differed by case alone, every right result was drawn as invented and missed."""
    split = square_split(tmp_path, 2)
    found = [
        Detections(s.boxes, np.ones(len(s.boxes), np.float32), s.labels, ("YELLOW", "Blue"), (0, 1))
        for s in split.samples
    ]
    classes = class_map(found[0].names, split.names)
    assert worst(split, Run(found, classes, ()), 0.5, 9) == []


@pytest.mark.parametrize(("area_of", "invented"), [(0, 1), (1, 0), (REGION, 0), (OTHER, 0)])
def test_an_ignored_area_excuses_results_of_its_class_alone(area_of: int, invented: int) -> None:
    area = np.array([[0, 0, 100, 100]], np.float32)
    sample = Sample(
        Path("a.jpg"), "a", 200, 200, ignore_boxes=area, ignore_labels=np.array([area_of])
    )
    box = np.array([[10, 10, 30, 30]], np.float32)
    found = Detections(box, np.ones(1, np.float32), np.array([1]), ("pedestrian", "car"))
    split = DataSplit("squares", "val", found.names, (1, 2), [sample])
    counts = [
        m.count for m in worst(split, Run([found], class_map(*[found.names] * 2), ()), 0.5, 9)
    ]
    assert counts == [1] * invented


def test_poses_are_validated_as_vh_eval_does(tmp_path: Path) -> None:
    """A head's and a data set's only class match for it whatever they are called."""
    pytest.importorskip("faster_coco_eval")
    split = posed(square_split(tmp_path, 1))
    spec = HeadSpec(name="face", kind="headpose", classes=("person",), levels=(2, 3))
    network = Network(ModelSpec(heads=(spec,), input=InputSpec(height=64, width=64))).eval()
    config = make_config({"heads": {"face": {"kind": "headpose", "data": "x"}}}, "test")
    figures = validate(network, {"face": split}, config, Journal(tmp_path, ["face"]))
    assert "face/AP50" in figures


def test_counts_are_whole_numbers_beside_percentages(tmp_path: Path) -> None:
    """Those of heads were "2.00"."""
    pytest.importorskip("faster_coco_eval")
    split = posed(square_split(tmp_path, 2))
    heads = sum(len(sample.boxes) for sample in split.samples)
    page = report._numbers(score(split, [Found.empty() for _ in split.samples], "headpose"))
    table = page.split("</table>")[0]
    columns, cells = (re.findall(rf"<{tag}>([^<]+)", table) for tag in ("th", "td"))
    row = dict(zip(columns, cells[1:], strict=True))
    assert (row["total"], row["matched"], row["recall"]) == (str(heads), "0", "0.00")
