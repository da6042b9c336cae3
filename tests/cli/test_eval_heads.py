"""`vh eval --data HEAD=CARD` with a real file of two heads, which find bright squares exactly."""

from __future__ import annotations

import json

import cv2
import pytest
import typer
from typer.testing import CliRunner

from tests.runtime.tiny_onnx import picture, write_model
from vision_heads.cli import eval as command
from vision_heads.errors import UserError

pytest.importorskip("faster_coco_eval")

app = typer.Typer()
app.callback()(lambda: None)
command.register(app)


def vh(*words):
    return CliRunner().invoke(app, ["eval", *map(str, words)])


def write_set(folder, names, squares):
    """Write a YOLO data set: a picture for each list of (class, x, y) squares of 16 pixels."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number, found in enumerate(squares):
        by_class = {}
        lines = []
        for name, x, y in found:
            by_class.setdefault(name, []).append((x, y, 16))
            if name in names:
                centre = ((x + 8) / 128, (y + 8) / 128)
                lines.append(f"{names.index(name)} {centre[0]} {centre[1]} 0.125 0.125")
        cv2.imwrite(str(folder / f"images/{number}.png"), picture(128, 128, by_class))
        (folder / f"labels/{number}.txt").write_text("\n".join(lines))
    card = folder / "card.yaml"
    card.write_text(
        f"format: yolo\nnames: [{', '.join(names)}]\n"
        "splits:\n  val: {images: images, annotations: labels}\n"
        "  test: {images: images, annotations: labels}\n"
    )
    return card


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two heads and two data sets; the second's labels miss half of what is there."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "two.onnx", heads=("one", "two"))
    write_model(tmp_path / "lone.onnx", heads=("one",))
    write_set(tmp_path / "a", ("red", "blue"), [[("red", 8, 8), ("blue", 64, 8)]] * 3)
    write_set(tmp_path / "b", ("green",), [[("green", 8, 8), ("green", 40, 96)], []])
    labels = tmp_path / "b/labels/1.txt"
    labels.write_text("0 0.5 0.5 0.125 0.125\n")  # what nobody can find
    return tmp_path


BOTH = ("two.onnx", "--data", "one=a/card.yaml", "--data", "two=b/card.yaml")


def test_two_heads_on_two_sets_in_one_table(place):
    done = vh(*BOTH, "--json", "out.json", "--plots", "plots", "--save-predictions", "kept.json")
    assert done.exit_code == 0, done.output
    rows = {line.split()[0]: line.split() for line in done.output.splitlines() if line.split()}
    record = json.loads((place / "out.json").read_text())
    assert list(record) == ["mean", "heads", "source"] and record["source"] == "two.onnx"
    one, two = record["heads"]["one"], record["heads"]["two"]
    assert one["AP50"] == pytest.approx(100) and one["AR100"] == pytest.approx(100)
    assert 0 < two["AP50"] < 70  # two of three
    assert record["mean"]["AP50"] == pytest.approx((one["AP50"] + two["AP50"]) / 2)
    assert rows["one"][:5] == ["one", "coco", "a", "val", "3"]
    assert rows["two"][:5] == ["two", "coco", "b", "val", "2"]
    assert rows["mean"] == ["mean", f"{record['mean']['AP50']:.2f}"]
    assert "one: 2 of 2 classes match: the data set lacks green (left out)" in done.output
    for head in ("one", "two"):
        assert {file.name for file in (place / "plots" / head).iterdir()} == {
            "pr.png", "f1.png", "confusion.png"
        }  # fmt: skip
    assert len(json.loads((place / "kept-one.json").read_text())) == 6
    assert len(json.loads((place / "kept-two.json").read_text())) == 2


def test_each_head_has_the_record_it_would_have_alone(place):
    assert vh(*BOTH, "--json", "out.json").exit_code == 0
    record = json.loads((place / "out.json").read_text())
    for head, card in (("one", "a/card.yaml"), ("two", "b/card.yaml")):
        done = vh("two.onnx", "--data", card, "--head", head, "--json", f"{head}.json")
        assert done.exit_code == 0, done.output
        assert json.loads((place / f"{head}.json").read_text()) == record["heads"][head]


def test_a_model_of_one_head_is_written_as_before(place):
    assert vh("lone.onnx", "--data", "a/card.yaml", "--json", "plain.json").exit_code == 0
    done = vh("lone.onnx", "--data", "one=a/card.yaml", "--json", "named.json", "--plots", "plots")
    assert done.exit_code == 0, done.output
    plain = json.loads((place / "plain.json").read_text())
    assert json.loads((place / "named.json").read_text()) == plain
    assert plain["AP50"] == pytest.approx(100) and plain["data"] == "a"
    assert (place / "plots/pr.png").is_file()


def test_the_same_card_goes_through_the_network_once(place, monkeypatch):
    from vision_heads.runtime.engines import OnnxEngine

    calls = []
    original = OnnxEngine.run

    def note(self, images, heads=None):
        calls.append(tuple(heads))
        return original(self, images, heads)

    monkeypatch.setattr(OnnxEngine, "run", note)
    done = vh("two.onnx", "--data", "one=a/card.yaml", "--data", "two=a/card.yaml")
    assert done.exit_code == 0, done.output
    assert calls == [("one", "two")] * 3
    calls.clear()
    assert vh(*BOTH).exit_code == 0
    assert sorted(calls) == [("one",)] * 3 + [("two",)] * 2


def test_protocol_and_split_by_head(place):
    done = vh(
        *BOTH, "--protocol", "two=visdrone", "--split", "test", "--split", "one=val",
        "--json", "out.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    heads = json.loads((place / "out.json").read_text())["heads"]
    assert [(one["protocol"], one["split"]) for one in heads.values()] == [
        ("coco", "val"), ("visdrone", "test")
    ]  # fmt: skip


def test_a_file_whose_name_has_an_equals_sign_is_a_card(place):
    (place / "a").rename(place / "one=a")
    done = vh("lone.onnx", "--data", "one=a/card.yaml", "--json", "out.json")
    assert done.exit_code == 0, done.output
    assert json.loads((place / "out.json").read_text())["AP50"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("two.onnx", "--data", "three=a/card.yaml"), r"no head 'three'; this model has \['one'"),
        ((*BOTH, "--data", "one=b/card.yaml"), "--data one: is given twice"),
        ((*BOTH, "--data", "b/card.yaml"), "--data b/card.yaml: whose"),
        (("two.onnx", "--data", "a/card.yaml", "--data", "b/card.yaml"), "which one"),
        ((*BOTH, "--head", "one"), "--head goes with --data CARD"),
        ((*BOTH, "--protocol", "three=coco"), "--protocol three=coco: no --data three=CARD"),
        ((*BOTH, "--protocol", "one=headpose"), "head 'one' is of kind detect; headpose scores"),
        ((*BOTH, "--protocol", "one=voc"), "unknown protocol 'voc'"),
        ((*BOTH, "--protocol", "one=mot"), "--protocol mot: scores tracks only"),
        ((*BOTH, "--pose-conf", "0.3"), "--pose-conf: none of these heads' poses are judged"),
        ((*BOTH, "--split", "two=nowhere"), "no 'nowhere'"),
        (("two.onnx", "--data", "a/card.yaml"), "give each its data with --data HEAD=CARD"),
        (("--predictions", "x", "--data", "one=a/card.yaml"), "goes with a model"),
        (
            ("two.onnx", "--data", "a/card.yaml", "--protocol", "one=coco"),
            "--protocol HEAD=... goes with",
        ),
        (("two.onnx", "--data", "two=c.yaml"), "c.yaml"),
        (
            ("two.onnx", "--data", "a/card.yaml", "--protocol", "headpose", "--conf", "0.9"),
            "--conf 0.9: hides heads whose poses are judged, from 0.7 on; --pose-conf sets that",
        ),
    ],
)
def test_mistakes_are_the_users(place, words, message):
    done = vh(*words)
    assert isinstance(done.exception, UserError), done.output
    assert done.exception.args[0].count("\n") == 0
    with pytest.raises(UserError, match=message):
        raise done.exception
