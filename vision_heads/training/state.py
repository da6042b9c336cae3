"""The state a run resumes from: one folder, complete or not there.

Everything is safetensors and JSON; nothing is unpickled. A state is written under a temporary
name and renamed, and older ones go only after that, so a run killed at any moment finds one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vision_heads.errors import UserError
from vision_heads.network import Network
from vision_heads.training.optimizer import Ema


def save_state(
    folder: Path,
    step: int,
    network: Network,
    ema: Ema,
    optimizer: torch.optim.Optimizer,
    extra: dict[str, Any],
) -> None:
    """Write the state after `step` optimizer steps and drop older ones.

    Args:
        folder: of all states; made when missing.
        step: global step, orders the states.
        network, ema, optimizer: what is restored.
        extra: JSON values handed back by `load_state`.
    """
    target = folder / f"{step:09d}"
    temporary = folder / f".{step:09d}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(_plain(network.state_dict()), temporary / "network.safetensors")
    save_file(_plain(ema.network.state_dict()), temporary / "ema.safetensors")
    tensors, groups = _flatten(optimizer.state_dict())
    save_file(tensors, temporary / "optimizer.safetensors")
    record = {"groups": groups, "ema_updates": ema.updates, "extra": extra}
    (temporary / "state.json").write_text(json.dumps(record))
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
    for old in folder.iterdir():
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


def latest_state(folder: Path) -> Path | None:
    """Return the newest complete state in `folder`, or None."""
    states = sorted(p for p in folder.glob("[0-9]*") if (p / "state.json").is_file())
    return states[-1] if states else None


def load_state(
    state: Path, network: Network, ema: Ema, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Restore a state in place and return its `extra`.

    Raises:
        UserError: the state belongs to another architecture.
    """
    record = json.loads((state / "state.json").read_text())
    try:
        network.load_state_dict(load_file(state / "network.safetensors"))
        ema.network.load_state_dict(load_file(state / "ema.safetensors"))
    except RuntimeError as error:
        raise UserError(f"{state}: does not fit this run's model: {error}") from error
    ema.updates = record["ema_updates"]
    tensors = load_file(state / "optimizer.safetensors")
    optimizer.load_state_dict(_unflatten(tensors, record["groups"]))
    extra: dict[str, Any] = record["extra"]
    return extra


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous().cpu().clone() for name, value in state.items()}


def _flatten(state: dict[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    tensors = {
        f"{index}.{name}": torch.as_tensor(value).detach().contiguous().cpu().clone()
        for index, slots in state["state"].items()
        for name, value in slots.items()
        if value is not None
    }
    return tensors, state["param_groups"]


def _unflatten(tensors: dict[str, Tensor], groups: list[dict[str, Any]]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": groups}
