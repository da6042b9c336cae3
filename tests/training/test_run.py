"""`vh train` as a person runs it: a card, flags, a folder with everything in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from tests.training.scenes import square_split  # noqa: E402
from vision_heads.cli.main import app  # noqa: E402
from vision_heads.cli.train import assign, parse_head  # noqa: E402
from vision_heads.data.sample import Problem  # noqa: E402
from vision_heads.errors import UserError  # noqa: E402
from vision_heads.network import load_network  # noqa: E402
from vision_heads.training.config import make_config  # noqa: E402
from vision_heads.training.explain import explain_gone  # noqa: E402
from vision_heads.training.run import _announce, _empty, join_parts  # noqa: E402
from vision_heads.training.trainer import Trainer  # noqa: E402
from vision_heads.training.validate import check_scorable  # noqa: E402

QUICK = [
    "--imgsz", "64", "--batch", "4", "--workers", "0", "--amp", "off",
    "--set", "augment.mosaic=0.5", "--set", "augment.close_mosaic=1",
]  # fmt: skip


def coco_card(folder: Path, count: int = 8) -> Path:
    """Write squares as a COCO data set and return its card."""
    for name, seed in (("train", 0), ("val", 1)):
        split = square_split(folder / name, count, seed=seed)
        images, annotations = [], []
        for number, sample in enumerate(split.samples, 1):
            images.append({"id": number, "file_name": sample.image.name, "width": 64, "height": 64})
            for box, label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
                x1, y1, x2, y2 = box
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": number, "category_id": 7 + label,
                     "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1),
                     "iscrowd": 0}
                )  # fmt: skip
        record = {"images": images, "annotations": annotations,
                  "categories": [{"id": 7, "name": "yellow"},
                                 {"id": 8, "name": "blue"}]}  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(record))
    card = folder / "squares.yaml"
    card.write_text(
        "format: coco\npath: .\nsplits:\n"
        "  train: {images: train, annotations: train.json}\n"
        "  val: {images: val, annotations: val.json}\nterms: made by the test\n"
    )
    return card


def _vh(*arguments: str):
    return CliRunner().invoke(app, ["train", *arguments])


@pytest.mark.slow
def test_a_run_by_flags_leaves_everything(tmp_path: Path) -> None:
    card = coco_card(tmp_path / "data")
    out = tmp_path / "run"
    done = _vh("--head", f"squares=detect:{card}", "--epochs", "2", "--out", str(out), *QUICK)
    assert done.exit_code == 0, (done.output, done.exception)
    for name in ("config.yaml", "results.csv", "curves.png", "batch0.png", "report.html",
                 "weights/last.safetensors", "weights/best.safetensors"):  # fmt: skip
        assert (out / name).stat().st_size > 0, name
    network = load_network(out / "weights" / "last.safetensors")
    assert network.spec.heads[0].category_ids == (7, 8)
    assert network.spec.provenance["terms"] == "made by the test"
    page = (out / "report.html").read_text()
    assert page.count("<img") >= 4 and "Worst pictures" in page

    again = _vh("--head", f"squares=detect:{card}", "--out", str(out), *QUICK)
    assert isinstance(again.exception, UserError) and "holds a run" in str(again.exception)
    other = _vh("--resume", "--epochs", "9", "--out", str(out))
    assert isinstance(other.exception, UserError) and "own settings" in str(other.exception)


@pytest.mark.slow
def test_two_processes_leave_one_run(tmp_path: Path) -> None:
    card = coco_card(tmp_path / "data")
    out = tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
              "-m", "vision_heads", "train", "--head", f"squares=detect:{card}", "--epochs", "1",
              "--device", "cpu", "--out", str(out), *QUICK]  # fmt: skip
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        launch, cwd=root, capture_output=True, text=True, timeout=240, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert load_network(out / "weights" / "last.safetensors")
    assert len((out / "results.csv").read_text().splitlines()) == 2
    assert done.stderr.count("weights in") == 1


def test_broken_labels_refuse_until_told_how_to_mend_them(tmp_path: Path) -> None:
    card = coco_card(tmp_path / "data")
    file = tmp_path / "data" / "train.json"
    record = json.loads(file.read_text())
    record["annotations"][0]["bbox"] = [50, 50, 100, 100]
    file.write_text(json.dumps(record))
    arguments = ["--head", f"squares=detect:{card}", "--epochs", "1", "--out", str(tmp_path / "r")]
    refused = _vh(*arguments, *QUICK)
    assert isinstance(refused.exception, UserError)
    assert "--fix" in str(refused.exception)
    mended = _vh(*arguments, *QUICK, "--fix", "clip,drop", "--overwrite")
    assert mended.exit_code == 0 and "mended or left out: 1 " in mended.output


def test_a_card_without_a_split_to_validate_on_says_what_to_do(tmp_path: Path) -> None:
    """Labelling tools often export one split, called train."""
    card = coco_card(tmp_path / "data", count=2)
    fields = yaml.safe_load(card.read_text())
    del fields["splits"]["val"]
    card.write_text(yaml.safe_dump(fields))
    out = tmp_path / "run"
    words = ["--head", f"squares=detect:{card}", "--epochs", "1", "--out", str(out), *QUICK]
    refused = _vh(*words)
    assert "heads.squares.val: " in str(refused.exception) and "only train;" in str(
        refused.exception
    )
    done = _vh(*words, "--set", "heads.squares.val=null")
    assert done.exit_code == 0, done.output
    assert [file.name for file in (out / "weights").iterdir()] == ["last.safetensors"]


def _old_run(out: Path) -> list[Path]:
    """Make a folder look like a run's; return what must not be lost."""
    files = [out / "config.yaml", out / "weights" / "best.safetensors", out / "state" / "x.json"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("kept")
    return files


def test_a_mistake_with_overwrite_leaves_the_old_run(tmp_path: Path) -> None:
    files = _old_run(tmp_path / "run")
    card = coco_card(tmp_path / "data", count=2)
    head = ("--head", f"squares=detect:{card}", "--out", str(tmp_path / "run"), "--overwrite")
    for mistake in (
        ("--head", f"squares=detect:{tmp_path / 'absent.yaml'}"),
        ("--init", str(tmp_path / "absent.safetensors")),
        ("--init", str(files[1])),  # which would be gone before it could be read again
    ):
        done = _vh(*head, *QUICK, *mistake)
        assert isinstance(done.exception, UserError), done.exception
        assert [file.read_text() for file in files] == ["kept"] * len(files), mistake
    assert "part of the run that --overwrite would replace" in str(done.exception)


def test_folders_that_no_run_has_made_are_left_alone(tmp_path: Path) -> None:
    """`--out .` in a project that has a folder called weights."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mine.safetensors").write_text("kept")
    card = coco_card(tmp_path / "data", count=2)
    for more in ((), ("--overwrite",)):
        done = _vh("--head", f"squares=detect:{card}", "--out", str(tmp_path), *QUICK, *more)
        assert isinstance(done.exception, UserError) and "holds no run" in str(done.exception)
        assert (tmp_path / "weights" / "mine.safetensors").read_text() == "kept"


def test_a_runs_folders_may_be_links(tmp_path: Path) -> None:
    """Links to a larger disk were a traceback, and a linked state was left for --resume."""
    out, disk = tmp_path / "run", tmp_path / "disk"
    out.mkdir()
    for name in ("state", "weights"):
        (disk / name / "old").mkdir(parents=True)
        (disk / name / "old.safetensors").write_text("old")
        (out / name).symlink_to(disk / name)
    _empty(out)
    assert (out / "weights").is_symlink() and not list((disk / "weights").iterdir())
    assert (out / "state").is_symlink() and not list((disk / "state").iterdir())


def test_a_state_that_cannot_be_removed_is_refused(tmp_path: Path, monkeypatch) -> None:
    """It stayed without a word, and the next --resume would have gone on from it."""
    (tmp_path / "state" / "000000007").mkdir(parents=True)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(UserError, match=r"state/000000007: cannot be removed"):
        _empty(tmp_path)


def test_resume_and_overwrite_contradict_each_other(tmp_path: Path) -> None:
    files = _old_run(tmp_path)
    done = _vh("--resume", "--overwrite", "--out", str(tmp_path))
    assert isinstance(done.exception, UserError) and "give one of them" in str(done.exception)
    assert all(file.is_file() for file in files)


def test_a_full_disk_is_a_message_and_other_faults_are_not(tmp_path: Path, monkeypatch) -> None:
    from vision_heads.training import run

    monkeypatch.setattr(run, "read_parts", lambda *_: [square_split(tmp_path, 1)])
    monkeypatch.setattr(run, "_read_val", lambda *_: square_split(tmp_path, 1))
    for number, kind, message in (
        (28, UserError, "run: cannot be written .No space.*make room, and --resume goes on"),
        (5, OSError, "Input/output error"),
    ):
        error = OSError(number, os.strerror(number))
        out = tmp_path / f"run-{number}"

        def fail(*_: object, error: OSError = error, **__: object) -> None:
            raise error

        for make, train in ((lambda *_, **__: SimpleNamespace(), fail), (fail, None)):
            shutil.rmtree(out, ignore_errors=True)
            monkeypatch.setattr(run, "Trainer", make)
            monkeypatch.setattr(run, "_train", train)
            with pytest.raises(kind, match=message.replace("run:", f"run-{number}:")):
                run.start_run(run.Flags(None, {"heads": {"a": {"data": "x"}}}, out, ""))


def test_a_head_without_any_label_is_refused(tmp_path: Path) -> None:
    """It would learn that there is nothing anywhere, and end with exit code 0."""
    card = coco_card(tmp_path, 2)
    file = tmp_path / "train.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    done = _vh("--head", f"a=detect:{card}", *QUICK, "--out", str(tmp_path / "run"))
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == (
        "heads.a.data: none of the 2 pictures of squares (train) has a box to learn from"
    )


def test_validation_data_that_cannot_be_scored_is_refused_before_the_first_epoch(
    tmp_path: Path,
) -> None:
    """The first validation said so, ten epochs later, and so did every --resume."""
    card = coco_card(tmp_path, 2)
    file = tmp_path / "val.json"
    right = json.loads(file.read_text())
    for change, message in (
        (
            {"categories": [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}]},
            "no class in common: the model finds yellow, blue; the data set has cat, dog",
        ),
        (
            {"images": [], "annotations": []},
            "holds no pictures; with val: '' the head is not validated",
        ),
    ):
        file.write_text(json.dumps(right | change))
        out = tmp_path / "run"
        done = _vh("--head", f"a=detect:{card}", *QUICK, "--epochs", "1", "--out", str(out))
        assert isinstance(done.exception, UserError), done.output
        assert str(done.exception).startswith("heads.a.val: squares (val)")
        assert message in str(done.exception) and not (out / "config.yaml").exists()


def test_pictures_that_count_as_negatives_are_counted(tmp_path: Path) -> None:
    """A set of which half the label files were lost was trained on without a word."""
    said: list[str] = []
    split = replace(square_split(tmp_path, 2), unlabelled=3)
    twice = Problem("duplicate-box", tmp_path / "a.txt", "line 2 of blue is there twice")
    joined = join_parts([split, replace(split, unlabelled=4, problems=[twice])])
    trainer = SimpleNamespace(
        config=make_config({"heads": {"a": {"data": "x"}}}, "test"),
        journal=SimpleNamespace(say=said.append),
        loader=SimpleNamespace(epoch=lambda _: ()),
        epoch=0,
    )
    _announce(trainer, {"a": joined}, {"a": split})
    negatives = "pictures have no label file and count as negatives"
    assert said[1:] == [
        f"  train of squares + squares: 7 {negatives}",
        "  train of squares + squares: used as they are: 1 duplicate-box "
        f"({twice.file}: {twice.detail}); see: vh data check",
        f"  train of squares: 3 {negatives}",
    ]


def test_classes_that_validation_cannot_compare_are_named(tmp_path: Path) -> None:
    """They counted as missed, or were left out, without a word."""
    train = {n: square_split(tmp_path / n, 1) for n in ("a", "b", "face")}
    train["face"] = replace(train["face"], names=("head",), category_ids=(1,))
    val = {
        "a": replace(train["a"], names=("Yellow", "green")),
        "b": replace(train["b"], names=("BLUE", "yellow")),
        "face": replace(train["face"], names=("person",)),
    }
    heads = {n: {"data": "x"} for n in ("a", "b")} | {"face": {"kind": "headpose", "data": "x"}}
    notes = check_scorable(make_config({"heads": heads}, "test"), train, val)
    assert notes == {
        "a": "1 of 2 classes match: the model cannot find green (scored as missed); "
        "the data set lacks blue (left out)"
    }


@pytest.mark.slow
def test_a_head_pose_run_without_poses_says_so(tmp_path: Path) -> None:
    """It ended like any other, and its poses were nobody's."""
    card = coco_card(tmp_path / "data", 4)
    out = tmp_path / "run"
    head = ("--head", f"face=headpose:{card}", "--epochs", "1", "--out", str(out))
    done = _vh(*head, *QUICK, "--set", "augment.close_mosaic=0")
    assert done.exit_code == 0, (done.output, done.exception)
    note = "face: no box of squares (train) has a pose, so poses are not learned"
    assert done.output.count(note) == 1
    assert note in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to train"),
        (["--head", "aerial"], "NAME=KIND:CARD"),
        (["--head", "a=cubes:x"], "unknown head kind|no card|cubes"),
        (["absent.yaml"], "absent.yaml"),
        (["--head", "a=detect:visdrone", "--set", "optimizer"], "KEY=VALUE"),
        (["--head", "a=detect:visdrone", "--imgsz", "axb"], "--imgsz axb"),
        (["--head", "a=detect:visdrone", "--size", "q"], "size"),
        (["--head", "a=detect:visdrone", "--head", "a=detect:coco"], "--head a: is given twice"),
    ],
)
def test_mistakes_on_the_command_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = _vh(*arguments, "--out", str(tmp_path / "run"))
    assert isinstance(done.exception, UserError)
    assert re.search(message, str(done.exception)), str(done.exception)


def test_set_reaches_nested_settings() -> None:
    settings: dict = {"epochs": 3}
    assign(settings, "optimizer.lr=0.01")
    assign(settings, "fix=[clip]")
    assert settings == {"epochs": 3, "optimizer": {"lr": 0.01}, "fix": ["clip"]}
    for value in ("2026-13-45", "!!bool maybe", "[" * 5000, "{a: 1, a: 2}"):
        with pytest.raises(UserError, match=rf"--set seed={re.escape(value)}: not YAML"):
            assign(settings, f"seed={value}")
    with pytest.raises(UserError, match="holds a value"):
        assign(settings, "epochs.x=1")


def test_head_flag() -> None:
    assert parse_head("aerial=detect:cards/a:b.yaml") == (
        "aerial", {"kind": "detect", "data": "cards/a:b.yaml"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nmore"),
            r"workers: one of 0 was ended from outside \(.* killed by signal: Killed\), as a",
        ),
        (FileNotFoundError(2, "No such file", "run/state/.1.tmp/a"), r"was run deleted, or its"),
        (
            OSError(5, "Input/output error", "run/a"),
            r"run/a: cannot be written \(Input/output error\)",
        ),
    ],
)
def test_what_befalls_a_run_is_said_in_one_line(tmp_path, monkeypatch, error, message) -> None:
    """Each was a traceback, and exit code 1."""

    def fail(*_: object) -> None:
        raise error

    card = coco_card(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trainer, "run", fail)
    done = _vh("--head", f"a=detect:{card}", "--out", "run", *QUICK)
    assert isinstance(done.exception, UserError)
    assert re.search(message, str(done.exception)), str(done.exception)


def test_a_file_that_is_no_part_of_the_run_is_our_own_fault() -> None:
    others = FileNotFoundError(2, "No such file", "other/a"), FileNotFoundError(2, "No such file")
    for error in (*others, PermissionError(13, "", "run")):
        with pytest.raises(type(error)), explain_gone(Path("run")):
            raise error
