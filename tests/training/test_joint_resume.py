"""Everything of joint training at once: killed and resumed, and in two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from tests.training.test_trainer import REPOSITORY  # noqa: E402
from vision_heads.network import load_network  # noqa: E402

_ALL = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from tests.training.joint import BRANCHES, data, joint
from tests.training.test_distillation import _teacher
from vision_heads.training import trainer as module
from vision_heads.training.trainer import Trainer
module.validate = lambda *_: {"yellow/AP50": 5.0}  # no progress
root, out, resume = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "resume"
heads = {
    "yellow": {"teacher": str(root / "t.safetensors"), "sampling": 2, "patience": 1},
    "blue": {"freeze_after": 1, "sampling": 1, "val": ""},
    "face": {"sampling": 1, "val": ""},
}
config = joint(
    heads, epochs=3, branches=BRANCHES, ema=0.9, amp="bf16", workers=1, conflict_every=2,
    loss_weighting="uncertainty", batch_norm="per_head", val_every=1, accumulate=2,
    checkpoint_minutes=0.0005, augment={"mosaic": 0.5, "close_mosaic": 1},
)
val = {"yellow": data(root, "val", count=2, seed=5)["yellow"]}
trainer = Trainer(config, data(root), val, out, resume=resume)
trainer.run()
print("frozen", sorted(trainer.freezing.after.items()))
"""


def _prepare(root: Path) -> None:
    from tests.training.joint import data
    from tests.training.test_distillation import _teacher

    for split, count, seed in (("train", 8, 0), ("val", 2, 5)):
        data(root, split, count, seed)
    _teacher(root / "t.safetensors", yellow={})


def _start(
    root: Path, out: Path, mode: str, *, processes: int = 1, code: str = _ALL
) -> subprocess.Popen:
    script = root / "all.py"
    script.write_text(code)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    program = [sys.executable, *(launch if processes > 1 else []), str(script)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*program, str(root), str(out), mode],
        cwd=REPOSITORY, env=environment | {"ACCELERATE_USE_CPU": "true"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _end(process: subprocess.Popen) -> str:
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-3000:]
    return said


def _step(state: Path) -> int:
    return int(state.parent.name.rstrip("+"))  # the second state of a step has a "+"


@pytest.mark.slow
def test_a_killed_joint_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    _prepare(tmp_path)
    said = _end(_start(tmp_path, tmp_path / "whole", "new"))
    assert said == "frozen [('blue', 1), ('yellow', 2)]\n"
    cut = tmp_path / "cut"
    process = _start(tmp_path, cut, "new")
    deadline = time.monotonic() + 240
    # Past the epoch in which a head froze, before the end.
    while not any(_step(p) > 5 for p in (cut / "state").glob("[0-9]*/state.json")):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (cut / "weights" / "last.safetensors").exists()
    assert _end(_start(tmp_path, cut, "resume")) == said
    expected, found = (
        load_file(out / "weights/last.safetensors") for out in (tmp_path / "whole", cut)
    )
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    assert (cut / "results.csv").read_text() == (tmp_path / "whole/results.csv").read_text()


@pytest.mark.slow
def test_two_processes_agree_on_everything(tmp_path: Path) -> None:
    _prepare(tmp_path)
    said = _end(_start(tmp_path, tmp_path / "run", "new", processes=2)).splitlines()
    assert len(said) == 2 and said[0] == said[1] == "frozen [('blue', 1), ('yellow', 2)]"
    assert load_network(tmp_path / "run/weights/last.safetensors")
    rows = (tmp_path / "run/results.csv").read_text().splitlines()
    assert "weight/blue" in rows[0] and "conflict/backbone.p4/yellow~blue" in rows[0]


_GRADIENTS = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from safetensors.torch import save_file
from tests.training.joint import BRANCHES, data, joint
from vision_heads.training.trainer import Trainer
root, out = Path(sys.argv[1]), Path(sys.argv[2])
heads = {"yellow": {"teacher": str(root / "t.safetensors")}}
config = joint(heads, branches=BRANCHES, loss_weighting="uncertainty", optimizer={"clip": 0})
trainer = Trainer(config, data(root), {}, out)
found = {}
def keep():
    trainer.weighting.share(trainer.accelerator)
    named = list(trainer.network.named_parameters()) + list(trainer.weighting.log_variances.items())
    found.update({n: p.grad.clone().contiguous() for n, p in named if p.grad is not None})
trainer._move_weights = keep
trainer.network.eval()
trainer._train_step(next(iter(trainer.loader.epoch(0))))
if trainer.main:
    save_file(found, root / f"{trainer.accelerator.num_processes}.safetensors")
"""


@pytest.mark.slow
def test_joint_gradients_of_two_processes_equal_those_of_one(tmp_path: Path) -> None:
    _prepare(tmp_path)
    for processes in (1, 2):
        _end(_start(tmp_path, tmp_path / "out", "", processes=processes, code=_GRADIENTS))
    one, two = load_file(tmp_path / "1.safetensors"), load_file(tmp_path / "2.safetensors")
    assert one.keys() == two.keys() and {"yellow", "blue", "face"} < one.keys()
    largest = max(float(value.abs().max()) for value in one.values())
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, rtol=1e-3, atol=1e-5 * largest, msg=lambda m, n=name: f"{n}: {m}"
        )
