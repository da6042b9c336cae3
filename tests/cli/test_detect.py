from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import typer
from typer.testing import CliRunner

from tests.runtime.tiny_onnx import picture, write_model
from vision_heads.cli import detect as command
from vision_heads.errors import UserError
from vision_heads.runtime import slicing
from vision_heads.spec import HeadSpec, ModelSpec

app = typer.Typer()
app.callback()(lambda: None)
command.register(app)


def _vh(*args):
    """Run `vh detect`; errors come back as exceptions."""
    return CliRunner().invoke(app, ["detect", *map(str, args)], catch_exceptions=True)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A model and a folder of six pictures, the fourth of which is cut off."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "m.onnx")
    for number in range(6):
        path = tmp_path / "in" / "sub" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        squares = {"red": [(8 * number, 16, 16)], "blue": [(64, 64, 16)]}
        cv2.imwrite(str(path), picture(128, 128, squares))
    broken = tmp_path / "in" / "sub" / "3.png"
    broken.write_bytes(broken.read_bytes()[:-20])
    return tmp_path


def test_a_corrupt_picture_is_reported_and_the_others_are_done(place):
    done = _vh("in", "--weights", "m.onnx", "--json", "found.json", "--csv", "found.csv")
    assert done.exit_code == 2
    assert "3.png: truncated" in done.output
    assert "6 pictures, 1 failed" in done.output
    records = json.loads((place / "found.json").read_text())
    assert [Path(record["source"]).name for record in records] == [f"{n}.png" for n in range(6)]
    assert "truncated" in records[3]["error"]
    for number in (0, 1, 2, 4, 5):
        boxes = {r["class"]: r["box"] for r in records[number]["heads"]["aerial"]}
        assert boxes["red"] == [8 * number, 16, 8 * number + 16, 32]
    with (place / "found.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 10
    assert not (place / "runs").exists()  # nothing was asked to be saved there


def test_all_is_well_without_the_corrupt_one(place):
    done = _vh("in/sub/0.png", "in/sub/1.png", "--weights", "m.onnx", "--threads", "2")
    assert done.exit_code == 0
    lines = done.output.split()
    assert lines[lines.index("red") + 1] == "2" and lines[lines.index("blue") + 1] == "2"
    assert "2 pictures, 0 failed" in done.output


def test_saved_files(place):
    done = _vh(
        "in/sub/*[012].png", "--weights", "m.onnx", "--classes", "red,1", "--out", "here",
        "--save-images", "--save-txt", "--crops",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    files = sorted(str(p.relative_to(place / "here")) for p in (place / "here").rglob("*.[jt]*"))
    assert files == sorted(
        [f"images/{n}.jpg" for n in range(3)]
        + [f"labels/{n}.txt" for n in range(3)]
        + [f"crops/aerial/red/{n}-0.jpg" for n in range(3)]
    )
    assert (place / "here/labels/1.txt").read_text() == (
        "0 0.125000 0.187500 0.125000 0.125000 1.000000\n"
    )


def test_a_folder_alone_gets_drawn_pictures(place):
    done = _vh("in/sub/0.png", "--weights", "m.onnx", "--out", "here")
    assert done.exit_code == 0, done.output
    assert (place / "here/images/0.jpg").is_file() and not (place / "here/labels").exists()
    _vh("in/sub/0.png", "--weights", "m.onnx", "--out", "there", "--save-txt")
    assert not (place / "there/images").exists()


def test_a_second_run_does_not_look_at_the_drawings_of_the_first(place):
    for number in range(2):
        done = _vh(".", "--weights", "m.onnx", "--save-images", "--json", f"{number}.json")
        assert "6 pictures, 1 failed" in done.output
    assert f"runs{os.sep}detect{os.sep}images: left out" in done.output


def test_pictures_and_labels_of_others_are_not_written_over(place):
    (place / "in").rename(place / "images")
    done = _vh("images", "--weights", "m.onnx", "--save-images", "--out", ".")
    assert isinstance(done.exception, UserError)
    assert "did not write" in str(done.exception)


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_results_that_somebody_deletes_meanwhile_end_the_run(place, monkeypatch, option):
    @contextlib.contextmanager
    def meddle(total, unit):
        yield lambda: (place / "found").unlink(missing_ok=True)

    monkeypatch.setattr(command, "progress", meddle)
    done = _vh("in/sub/0.png", "in/sub/1.png", "--weights", "m.onnx", option, "found")
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == "found: cannot be written: it was deleted"


def test_a_single_large_picture_keeps_all_threads_busy(place, monkeypatch):
    from vision_heads.runtime import predictor

    seen = {}

    def note(*args, **options):
        seen.update(options)
        return iter(())

    monkeypatch.setattr(predictor, "stream", note)
    for extra, parallel in (((), 1), (("--slice", "64"), 3)):
        _vh("in/sub/0.png", "--weights", "m.onnx", "--threads", "3", *extra)
        assert seen["parallel"] == parallel


def test_runs_are_numbered(place):
    for expected in ("detect", "detect-2", "detect-3"):
        assert _vh("in/sub/0.png", "--weights", "m.onnx", "--save-txt").exit_code == 0
        assert (place / "runs" / expected / "labels" / "0.txt").is_file()


def test_slices_and_several_heads(place):
    write_model(place / "two.onnx", heads=("one", "two"), batch=None)
    image = picture(416, 320, {"red": [(104, 40, 16), (8, 8, 16)]})
    cv2.imwrite(str(place / "big.png"), image)
    options = ("--weights", "two.onnx", "--slice", "128", "--overlap", "0.25", "--conf", "0.6")
    for merge, metric in (("nms", "iou"), ("nmm", "ios")):
        done = _vh("big.png", *options, "--merge", merge, "--metric", metric, "--json", "a.json")
        assert done.exit_code == 0, done.output
        (record,) = json.loads((place / "a.json").read_text())
        for head in ("one", "two"):
            boxes = [found["box"] for found in record["heads"][head]]
            assert sorted(boxes)[:1] == [[8, 8, 24, 24]] and [104, 40, 120, 56] in boxes
    assert "one/red" in done.output and "--overlap" not in done.output
    done = _vh("big.png", *options, "--heads", "two", "--json", "a.json")
    assert list(json.loads((place / "a.json").read_text())[0]["heads"]) == ["two"]


def test_an_overlap_that_may_fill_the_memory_is_told(place):
    words = ("in/sub/0.png", "--weights", "m.onnx", "--slice", "640", "--save-txt")
    assert "--overlap" not in _vh(*words, "--overlap", "0.9").output
    done = _vh(*words, "--overlap", "0.95")
    assert done.exit_code == 0
    assert "vh: --overlap 0.95: up to 400 tiles see each object, and memory grows" in done.output


def test_a_picture_whose_tiles_see_too_much_of_the_same_is_left_out(place, monkeypatch):
    cv2.imwrite(str(place / "big.png"), picture(416, 320, {"red": [(104, 40, 16)]}))
    cv2.imwrite(str(place / "empty.png"), picture(416, 320, {}))
    monkeypatch.setattr(slicing, "MOST_PAIRS", 10)
    options = ("--weights", "m.onnx", "--slice", "128", "--overlap", "0.9", "--json", "a.json")
    done = _vh("big.png", "empty.png", *options)
    assert done.exit_code == 2, done.output
    assert "vh: big.png: " in done.output and "pairs, too many to be merged" in done.output
    big, empty = json.loads((place / "a.json").read_text())
    assert "a smaller overlap" in big["error"] and "heads" in empty


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.jpg"], "none.jpg: no such file"),
        (["in", "--weights", "gone.onnx"], "gone.onnx: no such file"),
        (["in", "--classes", "tram"], "no class 'tram'"),
        (["in", "--heads", "pose"], "no head 'pose'"),
        (["in", "--imgsz", "256"], "made for 128x128 only"),
        (["in", "--slice", "640", "--overlap", "1"], "overlap must be"),
        (["in", "--slice", "640", "--merge", "soft"], "--merge soft: tiles are merged by"),
        (["in", "--json", "m.onnx/found.json"], "cannot be written"),
        (["in", "--save-txt", "--out", "m.onnx"], "cannot be written"),
        (["in", "--json", "a.out", "--csv", "a.out"], "is what --json writes"),
        (["in", "--json", "in/sub/0.png"], "results would replace it"),
        (["in", "--json", "a.out", "--csv", "in/../a.out"], "is what --json writes"),
        (["list.txt", "--json", "list.txt"], "list.txt: is read, and would be replaced"),
        (["in", "--csv", "m.onnx"], "m.onnx: is read, and would be replaced"),
        (["odd.list.txt", "--csv", "0.dat"], "0.dat: is read, and would be replaced"),
        (["in", "--overlap", "0.4"], "do nothing without --slice"),
        (["in", "--metric", "giou"], "metric must be 'iou' or 'ios'"),
        (["in", "--slice", "0"], "size must be at least 32"),
        (["in", "--within", "20"], "--within does nothing without --attention"),
        (["a" * 300 + ".jpg"], "File name too long"),
        (["in", "--weights", "a" * 300 + ".onnx"], "File name too long"),
        (["in", "--classes", ","], "classes: none given"),
        (["in", "--weights", "in"], "in: is a folder"),
        (["in", "--weights", ""], "name is empty"),
    ],
)
def test_mistakes_are_found_before_any_work(place, args, message):
    if "--weights" not in args:
        args = [*args, "--weights", "m.onnx"]
    (place / "list.txt").write_text("in/sub/0.png\n")
    (place / "odd.list.txt").write_text("0.dat\n")
    (place / "0.dat").write_bytes((place / "in/sub/0.png").read_bytes())
    before = sorted(place.rglob("*"))
    done = _vh(*args)
    assert isinstance(done.exception, UserError), done.output
    assert message in str(done.exception)
    assert sorted(place.rglob("*")) == before


def test_without_arguments_the_demo_is_drawn(place, monkeypatch):
    from vision_heads import paths
    from vision_heads.runtime import engines

    shipped = place / "shipped"
    monkeypatch.setattr(paths, "assets", lambda kind: shipped / kind)
    monkeypatch.setattr(engines, "assets", lambda kind: shipped / kind)
    (shipped / "weights").mkdir(parents=True)
    write_model(shipped / "weights" / "aerial-n.onnx")
    with pytest.raises(UserError, match="demo pictures are not installed"):
        raise _vh().exception
    demo = shipped / "datasets" / "demo" / "images"
    demo.mkdir(parents=True)
    cv2.imwrite(str(demo / "street.png"), picture(128, 128, {"red": [(8, 8, 16)]}))
    done = _vh()
    assert done.exit_code == 0, done.output
    assert (place / "runs/detect/images/street.jpg").is_file()
    assert str(place / "runs/detect/images") in done.output.replace("\n", "")


def test_the_demo_shows_what_the_model_looks_for(place):
    done = _vh("--weights", "headpose-n")
    assert done.exit_code == 0, done.output
    assert (place / "runs/detect/images/04_group_from_above.jpg").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_a_valid_json_file(place, number):
    for count in range(3000):
        os.link(place / "in" / "sub" / "0.png", place / "in" / f"{count:05}.png")
    # A shell that started us in the background may have switched Ctrl-C off.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import typer; from vision_heads.cli import detect; app = typer.Typer();"
        "app.callback()(lambda: None); detect.register(app); app()"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, "detect", "in", "--weights", "m.onnx", "--json", "a.json"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    target = place / "a.json"
    until = time.monotonic() + 60
    while not (target.exists() and target.stat().st_size > 5000) and time.monotonic() < until:
        time.sleep(0.02)
    run.send_signal(number)
    message = run.communicate(timeout=30)[1]
    assert run.returncode != 0
    assert "vh: interrupted; results of" in message and "Traceback" not in message
    assert 10 < len(json.loads(target.read_text())) < 3006


def test_help_is_complete():
    done = CliRunner().invoke(app, ["detect", "--help"], env={"COLUMNS": "200"})
    options = """--weights --conf --iou --classes --max-det --imgsz --slice --overlap --save-images
        --save-txt --json --csv --crops --out --heads --batch --threads"""
    for option in options.split():
        assert option in done.output
    assert "Examples" in done.output


@pytest.fixture
def two_heads(place):
    """The same network with two heads that find the same squares."""
    write_model(place / "two.onnx", heads=("one", "two"))
    (place / "merge.yaml").write_text("warm: [one:red, two:red]\n")
    return place


def _records(path):
    with path.open(newline="") as file:
        return [(row["head"], row["class"]) for row in csv.DictReader(file)]


def test_only_the_heads_asked_for_have_results(two_heads):
    done = _vh("in/sub/0.png", "--weights", "two.onnx", "--heads", "two", "--json", "a.json")
    assert done.exit_code == 0, done.output
    (record,) = json.loads((two_heads / "a.json").read_text())
    assert list(record["heads"]) == ["two"]
    done = _vh("in/sub/0.png", "--weights", "two.onnx", "--heads", "two,tree")
    assert isinstance(done.exception, UserError)
    assert "no head 'tree'; this model has ['one', 'two']" in str(done.exception)


def test_classes_are_merged_as_a_file_says(two_heads):
    words = ("in/sub/0.png", "--weights", "two.onnx", "--csv", "a.csv")
    assert _vh(*words).exit_code == 0
    plain = [(head, name) for head in ("one", "two") for name in ("red", "blue")]
    assert sorted(_records(two_heads / "a.csv")) == sorted(plain)
    done = _vh(*words, "--merge-classes", "merge.yaml", "--save-txt", "--out", "out")
    assert done.exit_code == 0, done.output
    assert "merged/warm" in done.output and "one/red" not in done.output
    assert _records(two_heads / "a.csv") == [("one", "blue"), ("two", "blue"), ("merged", "warm")]
    assert (two_heads / "out/labels/merged/0.txt").read_text().startswith("0 0.0625")


def test_a_merge_of_the_model_can_be_switched_off_or_replaced(two_heads):
    spec = write_model(two_heads / "two.onnx", heads=("one", "two"))
    own = spec.model_dump() | {"merge": {"cold": ["one:blue", "two:blue"]}}
    text = type(spec).model_validate(own).to_json()
    write_model(two_heads / "two.onnx", heads=("one", "two"), metadata=text)
    found = []
    for option in ((), ("--merge-classes", "off"), ("--merge-classes", "merge.yaml")):
        done = _vh("in/sub/0.png", "--weights", "two.onnx", "--csv", "a.csv", *option)
        assert done.exit_code == 0, done.output
        found.append([name for head, name in _records(two_heads / "a.csv") if head == "merged"])
    assert found == [["cold"], [], ["warm"]]


def test_what_is_wrong_with_a_merge_is_named(two_heads):
    (two_heads / "bad.yaml").write_text("warm: [one:red, two:orange]\n")
    for option, file, message in (
        ("--merge-classes", "bad.yaml", "no 'two:orange'"),
        ("--merge-classes", "none.yaml", "none.yaml: No such"),
        ("--merge", "merge.yaml", "--merge merge.yaml: tiles are merged by nms or nmm"),
    ):
        done = _vh("in/sub/0.png", "--weights", "two.onnx", option, file)
        assert isinstance(done.exception, UserError) and message in str(done.exception)


def test_names_of_classes_are_no_markup(place):
    spec = write_model(place / "m.onnx")
    own = spec.model_dump()
    own["heads"][0]["classes"] = ("[/stop]", "car [red]", ":car:")
    text = type(spec).model_validate(own).to_json()
    write_model(place / "m.onnx", metadata=text)
    done = _vh("in/sub/0.png", "--weights", "m.onnx")
    assert done.exit_code == 0, done.exception
    assert "[/stop]" in done.output and ":car:" in done.output


def test_attention_wants_a_head_with_poses_among_those_that_run():
    spec = ModelSpec(
        heads=(
            HeadSpec(name="aerial", classes=("car",)),
            HeadSpec(name="pose", kind="headpose", classes=("head",)),
        )
    )
    for heads in (None, ["pose"], ["aerial", "pose"]):
        command._require_poses(spec, heads, "two")
    with pytest.raises(UserError, match="two has no head that finds poses among aerial"):
        command._require_poses(spec, ["aerial"], "two")


def test_standard_output_holds_the_results_alone_and_goes_on(place, capfd):
    os.write(1, b"before\n")  # "vh ... --csv /dev/stdout >> all.csv"
    done = _vh("in/sub/0.png", "--weights", "m.onnx", "--csv", "/dev/stdout")
    assert done.exit_code == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "before"
    assert lines[1].startswith("source,head,class")
    assert [line.split(",")[2] for line in lines[2:]] == ["red", "blue"]
    assert "1 pictures, 0 failed" in done.stderr
    assert not done.stdout
