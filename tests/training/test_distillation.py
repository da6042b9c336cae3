"""Teachers: what they say, when they do not fit, and that they help."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from tests.training.joint import data, joint  # noqa: E402
from vision_heads.errors import UserError  # noqa: E402
from vision_heads.network import Network, save_network  # noqa: E402
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec  # noqa: E402
from vision_heads.training.trainer import Trainer  # noqa: E402

HEADS = {
    "yellow": {"classes": ("yellow",), "levels": (2, 3)},
    "face": {"classes": ("head",), "levels": (2, 3), "kind": "headpose"},
}


def _teacher(path: Path, seed: int = 1, **heads: dict) -> Path:
    torch.manual_seed(seed)
    specs = tuple(HeadSpec(**({"name": n} | HEADS[n.split("-")[0]] | v)) for n, v in heads.items())
    network = Network(ModelSpec(heads=specs, input=InputSpec(height=64, width=64))).train()
    network(torch.rand(4, 3, 64, 64))
    with torch.no_grad():  # a teacher that sees something
        for name, value in network.state_dict().items():
            if "class_branches" in name and name.endswith("2.bias"):
                value.fill_(-1.0)
    save_network(path, network)
    return path


@pytest.mark.parametrize("options", [{}, {"representation": "euler"}])
def test_whoever_agrees_with_the_teacher_has_nothing_to_learn(options: dict) -> None:
    spec = HeadSpec(name="face", **HEADS["face"], options=options)
    torch.manual_seed(0)
    network = Network(ModelSpec(heads=(spec,))).eval()
    with torch.no_grad():
        said = network(torch.rand(2, 3, 64, 64))["face"]
    head = network.heads["face"]
    same = {name: value.clone().requires_grad_() for name, value in said.items()}
    losses = head.distil(same, said)
    assert set(losses) == {"class", "dfl", "rotation"}
    sum(losses.values()).backward()
    for name, value in losses.items():
        assert float(value.detach()) == pytest.approx(0, abs=1e-4), name
    for name, value in same.items():
        assert float(value.grad.abs().max()) < 1e-5, name


@pytest.mark.parametrize("part", ["scores", "boxes", "rotation"])
def test_following_the_gradient_leads_to_the_teacher(part: str) -> None:
    head = Network(ModelSpec(heads=(HeadSpec(name="face", **HEADS["face"]),))).heads["face"]
    torch.manual_seed(0)
    shapes = {"scores": 1, "boxes": 64, "rotation": 6}
    said = {f"{n}/{p}": torch.randn(2, c, 4, 4) for n, c in shapes.items() for p in (2, 3)}
    raw = {n: v + (0.5 * torch.randn_like(v) if n.startswith(part) else 0) for n, v in said.items()}
    for value in raw.values():
        value.requires_grad_()
    before = {name: float(value.detach()) for name, value in head.distil(raw, said).items()}
    key = {"scores": "class", "boxes": "dfl", "rotation": "rotation"}[part]
    assert before[key] > 0.01
    assert all(abs(v) < 1e-4 for n, v in before.items() if n != key), "others have nothing to say"
    sum(head.distil(raw, said).values()).backward()
    with torch.no_grad():
        stepped = {name: value - 0.2 * value.grad for name, value in raw.items()}
    after = head.distil(stepped, said)
    assert 0 <= float(after[key]) < before[key]


def test_a_head_without_rows_learns_nothing_and_breaks_nothing() -> None:
    head = Network(ModelSpec(heads=(HeadSpec(name="face", **HEADS["face"]),))).heads["face"]
    shapes = {"scores": 1, "boxes": 64, "rotation": 6}
    none = {f"{n}/{p}": torch.zeros(0, c, 4, 4) for n, c in shapes.items() for p in (2, 3)}
    raw = {name: value.clone().requires_grad_() for name, value in none.items()}
    losses = head.distil(raw, none)
    sum(losses.values()).backward()
    assert all(float(value.detach()) == 0 for value in losses.values())


def test_a_taught_run_follows_its_teachers(tmp_path: Path) -> None:
    yellow = _teacher(tmp_path / "yellow.safetensors", yellow={})
    face = _teacher(tmp_path / "face.safetensors", face={})
    taught = {"yellow": {"teacher": str(yellow), "teacher_weight": 3.0},
              "face": {"teacher": str(face)}}  # fmt: skip
    rows = {}
    for name, heads in (("taught", taught), ("alone", {})):
        config = joint(heads, epochs=2, optimizer={"lr": 0.005, "warmup_steps": 1})
        trainer = Trainer(config, data(tmp_path), {}, tmp_path / name)
        trainer.run()
        rows[name] = trainer.journal.rows
    columns = {c for c in rows["taught"][0] if "teacher_" in c}
    assert columns == {
        "loss/yellow/teacher_class", "loss/yellow/teacher_dfl", "loss/face/teacher_class",
        "loss/face/teacher_dfl", "loss/face/teacher_rotation",
    }  # fmt: skip
    assert set(rows["taught"][0]) - columns == set(rows["alone"][0])
    first, second = rows["taught"]
    assert sum(second[c] for c in columns) < sum(first[c] for c in columns)
    one, other = (load_file(tmp_path / n / "weights/last.safetensors") for n in rows)
    assert any(not torch.equal(value, other[name]) for name, value in one.items())
    assert not any("teacher" in name for name in one)


def test_a_teacher_sees_the_rows_and_pixels_of_its_pupil(tmp_path: Path, monkeypatch) -> None:
    file = _teacher(tmp_path / "t.safetensors", yellow={})
    trainer = Trainer(joint({"yellow": {"teacher": str(file)}}), data(tmp_path), {}, tmp_path / "r")
    seen = []
    teacher = trainer.teachers.networks["yellow"]
    assert not any(p.requires_grad for p in teacher.parameters()) and not teacher.training
    teacher.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = next(trainer.loader.epoch(0))
    trainer._train_step(batch)
    (pixels,) = seen
    assert torch.equal(pixels, batch.images[batch.routes["yellow"]].float().div(255))


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"yellow": {"classes": ("lemon",)}}, r"its classes \['lemon'\] are not \['yellow'\]"),
        ({"yellow": {"levels": (2, 3, 4)}}, r"its levels \[2, 3, 4\] are not \[2, 3\]"),
        ({"yellow": {"kind": "headpose"}}, "its kind headpose are not detect"),
        (
            {"yellow": {"options": {"reg_max": 8}}},
            r"its options .*'reg_max': 8.* other predictions",
        ),
        ({"yellow-a": {}, "yellow-b": {}}, r"has no head 'yellow', but \['yellow-a', 'yellow-b'\]"),
    ],
)
def test_a_teacher_that_does_not_fit_is_named(tmp_path: Path, teacher: dict, message: str) -> None:
    file = _teacher(tmp_path / "t.safetensors", **teacher)
    config = joint({"yellow": {"teacher": str(file)}})
    with pytest.raises(UserError, match=rf"heads.yellow.teacher: .*t.safetensors: {message}"):
        Trainer(config, data(tmp_path), {}, tmp_path / "run")
    shipped = joint({"yellow": {"teacher": "aerial-n"}})  # whose only head knows other classes
    with pytest.raises(UserError, match=r"heads.yellow.teacher: aerial-n: its classes"):
        Trainer(shipped, data(tmp_path), {}, tmp_path / "run")
    absent = joint({"yellow": {"teacher": str(tmp_path / "none.safetensors")}})
    with pytest.raises(UserError, match=r"none.safetensors: no such file"):
        Trainer(absent, data(tmp_path), {}, tmp_path / "run")
