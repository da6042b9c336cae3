"""`vh heads add` from end to end: a new head learns, the old ones do not change by a bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from tests.surgery.models import (  # noqa: E402
    BRANCHES,
    assert_same_bits,
    assert_same_outputs,
    network_of,
    spec_of,
)
from tests.training.test_run import coco_card  # noqa: E402
from vision_heads.cli.main import app  # noqa: E402
from vision_heads.data.card import load_split  # noqa: E402
from vision_heads.errors import UserError  # noqa: E402
from vision_heads.geometry.letterbox import letterbox  # noqa: E402
from vision_heads.media.images import read_image  # noqa: E402
from vision_heads.network import load_network, save_network  # noqa: E402
from vision_heads.training.trainer import Trainer  # noqa: E402

QUICK = [
    "--epochs", "2", "--batch", "4", "--workers", "0", "--amp", "off",
    "--set", "augment.mosaic=0.5", "--set", "augment.close_mosaic=1",
]  # fmt: skip
NAMES = {name: name for name in "abc"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a data set and two models of the same numbers' kind, FP16 and FP32."""
    folder = tmp_path_factory.mktemp("add")
    coco_card(folder / "data")
    spec = spec_of(branches=BRANCHES)
    save_network(folder / "half.safetensors", network_of(spec, half=True), half=True)
    save_network(folder / "full.safetensors", network_of(spec))
    return folder


@pytest.fixture(scope="module")
def demo() -> torch.Tensor:
    """Real pictures as the network is fed them."""
    files = [sample.image for sample in load_split("demo", "val").samples[:2]]
    pictures = [letterbox(read_image(file), 192, 256)[0] for file in files]
    rgb = [torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1) for picture in pictures]
    return torch.stack(rgb).float() / 255


def _add(*arguments: object):
    return CliRunner().invoke(app, ["heads", "add", *map(str, arguments)])


def _run(place: Path, out: Path, *more: object, model: str = "half.safetensors") -> None:
    done = _add(place / model, "--head", f"new=detect:{place / 'data' / 'squares.yaml'}",
                "--like", "a", "--out", out, *QUICK, *more)  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)


@pytest.mark.slow
def test_old_heads_keep_every_bit_and_a_killed_run_goes_on(
    place, demo, tmp_path, monkeypatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    _run(place, whole, "--branch", "up_p3")
    before = load_network(place / "half.safetensors").eval()
    for which in ("last", "best"):
        file = whole / "weights" / f"{which}.safetensors"
        assert_same_bits(load_file(place / "half.safetensors"), load_file(file))
        assert_same_outputs(before, load_network(file).eval(), NAMES, demo)
    spec = load_network(file).spec
    assert spec.groups("up_p3") == (("a", "b"), ("c",), ("new",))
    assert spec.head("new").category_ids == (7, 8)
    assert (spec.input.height, spec.candidates) == (64, 20)  # the model's own
    assert "made by the test" in spec.provenance["terms"]

    # What was trained is the new head and its branch, and it did move.
    last = load_file(whole / "weights" / "last.safetensors")
    copied, shared = "neck.up_stages.p3_2.", "neck.up_stages.p3."
    weight = "fuse.cv1.conv.weight"
    assert not torch.equal(last[copied + weight], last[shared + weight])

    saved = Trainer._save_state

    def save_and_die(trainer: Trainer) -> None:
        saved(trainer)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_state", save_and_die)
        _add(place / "half.safetensors", "--head", f"new=detect:{place / 'data' / 'squares.yaml'}",
             "--like", "a", "--branch", "up_p3", "--out", cut, *QUICK)  # fmt: skip
    assert not (cut / "weights" / "last.safetensors").exists()
    done = _add("--resume", "--out", cut)
    assert done.exit_code == 0, (done.output, done.exception)
    resumed = load_file(cut / "weights" / "last.safetensors")
    assert resumed.keys() == last.keys()
    assert_same_bits(last, resumed)

    other = network_of(spec_of(branches=BRANCHES), seed=5)
    shutil.copy(place / "half.safetensors", tmp_path / "kept")
    save_network(place / "half.safetensors", other, half=True)
    done = _add("--resume", "--out", cut)
    shutil.copy(tmp_path / "kept", place / "half.safetensors")
    assert isinstance(done.exception, UserError)
    assert "differs from what this run began with" in str(done.exception)


def test_full_precision_stays_full(place, demo, tmp_path) -> None:
    quick = ["--epochs", "1", "--set", "heads.new.val=''"]  # no validation, no plots
    _run(place, tmp_path / "run", *quick, model="full.safetensors")
    file = tmp_path / "run" / "weights" / "last.safetensors"
    before = load_file(place / "full.safetensors")
    assert_same_bits(before, load_file(file))
    full = load_network(place / "full.safetensors").eval()
    assert_same_outputs(full, load_network(file).eval(), NAMES, demo)


def test_a_head_from_a_file_of_settings(place, tmp_path) -> None:
    head = tmp_path / "head.yaml"
    card = place / "data" / "squares.yaml"
    head.write_text(f"kind: detect\ndata: {card}\nlevels: [4, 5]\nval: ''\n")
    more = tmp_path / "more.yaml"
    more.write_text("epochs: 1\nbatch: 4\nworkers: 0\namp: 'off'\naugment: {mosaic: 0}\n")
    done = _add(place / "half.safetensors", "--head", f"new={head}", "--config", more,
                "--like", "c", "--out", tmp_path / "run")  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    spec = load_network(tmp_path / "run" / "weights" / "last.safetensors").spec
    assert spec.head("new").levels == (4, 5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "size=s"], "size: s, but .* has n"),
        (["--set", "keep_half=true"], "keep_half: .* is FP32"),
        (["--set", "init=x.safetensors"], "init: the start is"),
        (["--set", "branches={up_p5: [[new]]}"], r"branches: are the model's; use add_to\.branch"),
        (["--branch", "up_p9"], "--branch up_p9"),
        (["--set", "add_to=3"], "add_to"),
        (["--imgsz", "30"], "imgsz"),
        (["--head", "x"], "--head x"),
        (["--head", "n=detect:demo", "--head", "n=detect:voc"], "--head n: is given twice"),
        (["--head", "x=none.yaml"], r"none\.yaml"),
    ],
)
def test_mistakes_are_named(place, tmp_path, more, message) -> None:
    card = place / "data" / "squares.yaml"
    head = [] if "--head" in more else ["--head", f"new=detect:{card}"]
    done = _add(place / "full.safetensors", *head, "--like", "a", "--out", tmp_path / "r", *more)
    assert isinstance(done.exception, UserError), done.exception
    with pytest.raises(UserError, match=message):
        raise done.exception


def test_a_model_must_be_named_or_a_run_resumed(tmp_path) -> None:
    for words in (["--head", "a=detect:x"], ["m.safetensors", "--resume"]):
        done = _add(*words, "--out", tmp_path)
        assert isinstance(done.exception, UserError)
