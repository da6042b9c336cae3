"""The loop end to end on small pictures: it learns, resumes exactly, and stops with reasons."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from tests.training.scenes import square_split  # noqa: E402
from vision_heads.errors import UserError  # noqa: E402
from vision_heads.training.config import make_config  # noqa: E402
from vision_heads.training.trainer import Trainer  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]


def settings(**over):
    base = {
        "heads": {"squares": {"data": "-", "levels": [2, 3]}},
        "imgsz": 64,
        "epochs": 2,
        "batch": 4,
        "workers": 0,
        "amp": "off",
        "keep_half": False,
        "augment": {"mosaic": 0.5, "close_mosaic": 1},
        "optimizer": {"warmup_steps": 2, "warmup_epochs": 0},
    }
    return make_config(base | over, "test")


def _weights(out: Path) -> dict:
    return load_file(out / "weights" / "last.safetensors")


def test_learns_squares(tmp_path: Path) -> None:
    train = square_split(tmp_path / "train", 48)
    val = square_split(tmp_path / "val", 16, seed=1)
    config = settings(epochs=25, batch=8, augment={"mosaic": 0.0, "scale": 0.2}, val_every=25)
    figures = Trainer(config, {"squares": train}, {"squares": val}, tmp_path / "run").run()
    assert figures["squares/AP50"] > 50
    assert (tmp_path / "run" / "weights" / "best.safetensors").is_file()
    rows = (tmp_path / "run" / "results.csv").read_text().splitlines()
    assert len(rows) == 26 and "loss/squares/box" in rows[0] and "val/squares/AP50" in rows[0]
    assert list((tmp_path / "run" / "tensorboard").iterdir())


@pytest.mark.parametrize("clip", [0.01, 0.0])
def test_a_step_is_no_longer_than_the_clipped_gradient(tmp_path: Path, clip: float) -> None:
    optimizer = {"name": "sgd", "lr": 0.5, "momentum": 0, "weight_decay": 0, "clip": clip}
    config = settings(optimizer=optimizer | {"warmup_steps": 0, "warmup_epochs": 0})
    trainer = Trainer(config, {"squares": square_split(tmp_path, 4)}, {}, tmp_path / "run")
    weights = [p for p in trainer.network.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in weights]
    trainer.wrapped.train()
    trainer._train_step(next(iter(trainer.loader.epoch(0))))
    moved = [p.detach() - old for p, old in zip(weights, before, strict=True)]
    length = float(torch.cat([one.flatten() for one in moved]).double().norm())
    if clip:
        assert length == pytest.approx(0.5 * clip, rel=0.01)
    else:
        assert length > 0.5 * 0.05


def test_the_best_weights_are_the_latest_while_nothing_is_found(tmp_path, monkeypatch) -> None:
    """They were those of the first validation, the least trained, if no later one could tell."""
    from vision_heads.training import trainer as module

    data = {"squares": square_split(tmp_path / "train", 2)}
    trainer = Trainer(settings(), data, data, tmp_path / "run")
    figures: dict[str, float] = {}
    monkeypatch.setattr(module, "validate", lambda *_: figures)
    kept = []
    for number, found in enumerate([None, 0.0, 3.0, 3.0, 0.0]):
        figures |= {} if found is None else {"squares/AP50": found}
        with torch.no_grad():
            trainer.ema.network.backbone.stem.conv.weight.fill_(number)
        trainer._validate()
        weights = load_file(tmp_path / "run" / "weights" / "best.safetensors")
        kept.append(int(weights["backbone.stem.conv.weight"].mean()))
    assert kept == [0, 1, 2, 2, 2]


def test_loss_that_is_not_finite_names_the_pictures(tmp_path: Path) -> None:
    train = square_split(tmp_path / "train", 8)
    trainer = Trainer(settings(), {"squares": train}, {}, tmp_path / "run")
    with torch.no_grad():
        trainer.network.backbone.stem.conv.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"not finite at epoch 1, batch 1; its pictures: .*\.png"):
        trainer.run()


def test_resume_without_a_state(tmp_path: Path) -> None:
    train = square_split(tmp_path / "train", 8)
    with pytest.raises(UserError, match="no state to resume from; --overwrite starts anew"):
        Trainer(settings(), {"squares": train}, {}, tmp_path / "run", resume=True)


def test_broken_half_written_state_is_not_used(tmp_path: Path) -> None:
    from vision_heads.training.state import latest_state

    for name in (".000000009.tmp", "000000004"):
        (tmp_path / name).mkdir()
    (tmp_path / "000000004" / "state.json").write_text(json.dumps({}))
    (tmp_path / "000000007").mkdir()
    assert latest_state(tmp_path) == tmp_path / "000000004"


def test_a_state_of_the_same_step_stays_until_the_new_one_is_there(tmp_path, monkeypatch) -> None:
    """Batches are counted, not epochs: the end of an epoch may save what was just saved."""
    from vision_heads.training import state
    from vision_heads.training.optimizer import Ema

    network = torch.nn.Linear(2, 2)
    ema, optimizer = Ema(network, 0.9), torch.optim.SGD(network.parameters(), lr=0.1)

    def save(mark: str) -> None:
        state.save_state(tmp_path, 7, network, ema, optimizer, {"mark": mark})

    def mark() -> str:
        return state.load_state(state.latest_state(tmp_path), network, ema, optimizer)["mark"]

    save("first")
    done: list[str] = []
    rename, fsync = Path.rename, state.os.fsync
    with monkeypatch.context() as killed:
        killed.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            save("second")
    assert mark() == "first"
    # The files are on the disk before the name says that they are whole.
    monkeypatch.setattr(Path, "rename", lambda *p: done.append("rename") or rename(*p))
    monkeypatch.setattr(state.os, "fsync", lambda h: done.append("sync") or fsync(h))
    save("third")
    assert mark() == "third" and len([p for p in tmp_path.iterdir() if p.name[0] != "."]) == 1
    assert done.index("rename") >= 4 and done[-1] == "sync"


def test_a_run_is_resumed_on_its_own_data_alone(tmp_path: Path, capsys) -> None:
    train = square_split(tmp_path / "train", 4)
    out, config = tmp_path / "run", settings(epochs=1)
    Trainer(config, {"squares": train}, {}, out).run()
    renamed = replace(train, names=("blue", "yellow"))
    with pytest.raises(UserError, match=r"heads.squares.data: classes \['yellow', 'blue'\] when"):
        Trainer(config, {"squares": renamed}, {}, out, resume=True)
    fewer = replace(train, samples=train.samples[:3])
    with pytest.raises(UserError, match=r"heads.squares.data: pictures 4 when .* 3 now"):
        Trainer(config, {"squares": fewer}, {}, out, resume=True)
    capsys.readouterr()
    Trainer(config, {"squares": train}, {}, out, resume=True)
    assert "others than before" not in capsys.readouterr().err
    moved = replace(train.samples[0], boxes=train.samples[0].boxes + 1)
    other = replace(train, samples=[moved, *train.samples[1:]])
    Trainer(config, {"squares": other}, {}, out, resume=True)
    assert "squares: pictures or labels to learn from are others than before\n" in (
        capsys.readouterr().err
    )
    edited = settings(epochs=1, loss_weighting="uncertainty")
    with pytest.raises(UserError, match="does not fit this run's settings") as caught:
        Trainer(edited, {"squares": train}, {}, out, resume=True)
    assert "\n" not in str(caught.value)
    (state,) = (out / "state").iterdir()
    for name in ("network.safetensors", "state.json"):  # one bit, which nobody would notice
        data = (state / name).read_bytes()
        (state / name).write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
        with pytest.raises(UserError, match=rf"damaged .{name} is not as it was written"):
            Trainer(config, {"squares": train}, {}, out, resume=True)
        (state / name).write_bytes(data)
    (state / "SHA256SUMS").unlink()  # states of older versions have none
    Trainer(config, {"squares": train}, {}, out, resume=True)
    (state / "ema.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        Trainer(config, {"squares": train}, {}, out, resume=True)


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_edited_optimizer_settings_hold_from_where_a_run_is_resumed(tmp_path, capsys, name) -> None:
    """All but the learning rate came back from the state, whatever config.yaml said."""
    train = square_split(tmp_path / "train", 2)
    first = {"name": name, "momentum": 0.9, "weight_decay": 5e-4}
    out, edited = tmp_path / "run", first | {"momentum": 0.5, "weight_decay": 0.1}
    Trainer(settings(epochs=1, optimizer=first), {"squares": train}, {}, out).run()
    capsys.readouterr()
    resumed = Trainer(
        settings(epochs=2, optimizer=edited), {"squares": train}, {}, out, resume=True
    )
    group = resumed.optimizer.param_groups[0]
    assert group["weight_decay"] == 0.1
    assert 0.5 in (group.get("momentum"), *group.get("betas", ()))
    assert resumed.optimizer.state_dict()["state"]
    assert (
        "settings edited since it stopped: epochs 1 -> 2, optimizer.momentum 0.9 -> 0.5, "
        "optimizer.weight_decay 0.0005 -> 0.1\n"
    ) in capsys.readouterr().err
    resumed.run()
    Trainer(settings(epochs=2, optimizer=edited), {"squares": train}, {}, out, resume=True)
    assert "edited" not in capsys.readouterr().err


def test_a_state_that_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    from vision_heads.training.optimizer import Ema
    from vision_heads.training.state import check_data, latest_state, load_state, save_state

    network = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(40)))
    ema, adamw = Ema(network, 0.9), torch.optim.AdamW(network.parameters())
    data = {"data": {"squares": {"pictures": 4}}}
    save_state(tmp_path, 7, network, ema, adamw, data)
    state = latest_state(tmp_path)
    sgd = torch.optim.SGD(network.parameters(), nesterov=True, momentum=0.9)
    with pytest.raises(UserError, match=r"optimizer\.name was another"):
        load_state(state, network, ema, sgd)
    with pytest.raises(UserError, match="does not fit this run's settings") as caught:
        load_state(state, torch.nn.Identity(), ema, adamw)
    assert len(str(caught.value)) < len(str(state)) + 300  # and not every tensor's name
    with pytest.raises(UserError, match="heads: 'squares' was there when this run began"):
        check_data(state, {"renamed": {"pictures": 4}})
    two = {"data": {name: {"pictures": 4} for name in ("a", "b")}}
    save_state(tmp_path, 8, network, ema, adamw, two)
    state = latest_state(tmp_path)
    check_data(state, two["data"])
    with pytest.raises(UserError, match="heads: were a, b when this run began; put them in order"):
        check_data(state, dict(reversed(two["data"].items())))
    (state / "SHA256SUMS").unlink()
    for text in ("{}", "[]", '{"groups": [], "extra": {}}'):
        (state / "state.json").write_text(text)
        with pytest.raises(UserError, match=r"damaged .state\.json has no"):
            check_data(state, {"squares": {"pictures": 4}})


@pytest.mark.parametrize("text", ["epoch;lr\n1;2\n", "epoch,lr\nx,2\n", "epoch,lr\n1,2,3\n"])
def test_a_table_that_a_person_has_edited_is_named(tmp_path: Path, text: str) -> None:
    from vision_heads.training.journal import Journal

    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(UserError, match=r"results\.csv: is not as this run wrote it"):
        Journal(tmp_path, ["a"]).rewind(1)
    assert (tmp_path / "results.csv").read_text() == text


def test_one_cell_of_one_picture_is_too_little_for_batch_norm(tmp_path: Path) -> None:
    train = square_split(tmp_path / "train", 2)
    config = settings(imgsz=32, batch=1)
    with pytest.raises(UserError, match="imgsz: 32x32 is too small for batch norm"):
        Trainer(config, {"squares": train}, {}, tmp_path / "run").run()


def test_gpu_asked_for_where_there_is_none(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    train = square_split(tmp_path / "train", 8)
    with pytest.raises(UserError, match="torch sees no GPU"):
        Trainer(settings(device="cuda"), {"squares": train}, {}, tmp_path / "run")
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        Trainer(settings(amp="fp16"), {"squares": train}, {}, tmp_path / "run")


@pytest.mark.parametrize(
    ("device", "message"), [("cuda:9", "cuda:9 asked for, but torch sees 2"), ("cuda:x", "none of")]
)
def test_a_gpu_that_is_not_there_is_named(monkeypatch, device: str, message: str) -> None:
    from vision_heads.training.devices import make_accelerator

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match=message):
        make_accelerator(device, "off")


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "cpu", "wanted"),
    [
        (True, True, "Intel Xeon", "bf16"),
        (False, True, "Intel Xeon", "no"),  # slower than FP32 there
        (False, True, "AMD EPYC", "bf16"),
        (False, False, "AMD EPYC", "no"),
    ],
)
def test_bf16_on_a_cpu_where_it_pays(
    monkeypatch, amx: bool, avx512_bf16: bool, cpu: str, wanted: str
) -> None:
    from vision_heads.training.devices import best_precision

    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": cpu}, raising=False)
    assert best_precision(on_gpu=False) == wanted


def test_out_of_memory_says_what_to_change() -> None:
    from vision_heads.training.explain import explain_out_of_memory

    with (
        pytest.raises(UserError, match="--batch 2 --accumulate 2"),
        explain_out_of_memory(settings()),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_empty_pictures_are_negatives(tmp_path: Path) -> None:
    train = square_split(tmp_path / "train", 8)
    for sample in train.samples[:7]:
        sample.boxes, sample.labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    config = settings(epochs=1, augment={"mosaic": 0.0})
    Trainer(config, {"squares": train}, {}, tmp_path / "run").run()
    assert _weights(tmp_path / "run")
