"""The state a run resumes from: one folder, complete or not there.

Everything is safetensors and JSON; nothing is unpickled. A state is written under a temporary
name, brought to the disk and renamed, and older ones go only after that, so that a run which is
killed or loses power at any moment finds one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vision_heads.errors import UserError
from vision_heads.network import Network, write_tensors
from vision_heads.training.optimizer import Ema

_KEYS = ("groups", "ema_updates", "extra")
"""What a state's JSON holds."""
_TELLING = ("betas", "nesterov", "matrix")
"""Settings of parameter groups that AdamW, SGD and Muon do not share, one of each."""
_SUMS = "SHA256SUMS"


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
    if target.exists():  # kept until the new one is there, and sorted before it
        target = folder / f"{step:09d}+"
        shutil.rmtree(target, ignore_errors=True)
    temporary = folder / f".{step:09d}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_tensors(temporary / "network.safetensors", _plain(network.state_dict()))
    write_tensors(temporary / "ema.safetensors", _plain(ema.network.state_dict()))
    tensors, groups = _flatten(optimizer.state_dict())
    write_tensors(temporary / "optimizer.safetensors", tensors)
    record = {"groups": groups, "ema_updates": ema.updates, "extra": extra}
    (temporary / "state.json").write_text(json.dumps(record))
    (temporary / _SUMS).write_text(_sums(temporary))
    _to_disk(temporary)
    temporary.rename(target)
    _to_disk(folder)
    for old in folder.iterdir():
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


def _to_disk(folder: Path) -> None:
    """Have the system write out a folder and its files: without it a power cut may empty them."""
    if os.name != "posix":  # where folders cannot be opened
        return
    for path in (*(file for file in folder.iterdir() if file.is_file()), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def latest_state(folder: Path) -> Path | None:
    """Return the newest complete state in `folder`, or None."""
    states = sorted(p for p in folder.glob("[0-9]*") if (p / "state.json").is_file())
    return states[-1] if states else None


def check_whole(state: Path) -> None:
    """Check that the files of a state are as they were written: weights may be wrong in silence.

    States of older versions say nothing of it.

    Raises:
        UserError: names the file that is another, or is gone.
    """
    try:
        before = (state / _SUMS).read_text().splitlines()
        now = _sums(state).splitlines()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UserError(f"{state}: damaged ({error})") from error
    wrong = [line.partition("  ")[2] for line in before if line not in now]
    if wrong:
        raise UserError(
            f"{state}: damaged ({wrong[0]} is not as it was written); put it back, or start "
            "another run from weights/best.safetensors with --init"
        )


def _sums(state: Path) -> str:
    """Return the files' checksums as `sha256sum` prints them."""
    files = sorted(file for file in state.iterdir() if file.name != _SUMS)
    return "".join(f"{_sha256(file)}  {file.name}\n" for file in files)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_data(state: Path, data: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that a run is resumed on what it began with: other classes would take its names.

    Args:
        state: to resume from.
        data: what there is now, by head; compared with `extra["data"]` of the state, which those
            of older versions lack.

    Raises:
        UserError: the data differ, or the state is damaged.
    """
    check_whole(state)
    known = _record(state)["extra"].get("data", {})
    for name, before in known.items():
        if name not in data:
            raise UserError(
                f"heads: {name!r} was there when this run began, and is not now; put it back, or "
                "start another run from its weights with --init"
            )
        for what, value in before.items():
            if data[name][what] != value:
                raise UserError(
                    f"heads.{name}.data: {what} {value} when this run began, {data[name][what]} "
                    "now; put them back, or start another run from its weights with --init"
                )
    order = [name for name in data if name in known]
    if order != list(known):  # the optimizer knows weights by their places alone
        raise UserError(f"heads: were {', '.join(known)} when this run began; put them in order")


def _record(state: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((state / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{state}: damaged ({error})") from error
    missing = [key for key in _KEYS if not isinstance(record, dict) or key not in record]
    if missing:
        raise UserError(f"{state}: damaged (state.json has no {missing[0]!r})")
    return record


def load_state(
    state: Path, network: Network, ema: Ema, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Restore a state in place and return its `extra`.

    The optimizer keeps its settings, which may have been edited since; what it has gathered is
    restored.

    Raises:
        UserError: the state belongs to another architecture or optimizer, or is damaged.
    """
    record = _record(state)
    _check_optimizer(state, record["groups"], optimizer)
    try:
        network.load_state_dict(load_file(state / "network.safetensors"))
        ema.network.load_state_dict(load_file(state / "ema.safetensors"))
        tensors = load_file(state / "optimizer.safetensors")
        settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        optimizer.load_state_dict(_unflatten(tensors, record["groups"]))
    except (RuntimeError, ValueError) as error:
        # Of another network, torch lists every name.
        problem = shorten(str(error).splitlines()[-1], 200, placeholder=" ...")
        raise UserError(f"{state}: does not fit this run's settings ({problem})") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{state}: damaged ({error})") from error
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
    ema.updates = record["ema_updates"]
    extra: dict[str, Any] = record["extra"]
    return extra


def edited(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Say which settings differ, e.g. "epochs 10 -> 20"; "" where none do.

    Args:
        before: nested settings that a state was saved with; None for those of older versions.
        now: of the resumed run.
    """
    old, new = _flat(before or now), _flat(now)
    names = [name for name in dict.fromkeys([*new, *old]) if old.get(name) != new.get(name)]
    changes = [f"{name} {_said(old, name)} -> {_said(new, name)}" for name in names]
    return ", ".join(changes)


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested settings by names such as "optimizer.lr"."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        deeper = isinstance(value, dict) and value
        flat |= _flat(value, f"{above}{name}.") if deeper else {above + name: value}
    return flat


def _said(settings: Mapping[str, Any], name: str) -> str:
    return json.dumps(settings[name]) if name in settings else "none"


def _check_optimizer(
    state: Path, groups: Sequence[Mapping[str, Any]], optimizer: torch.optim.Optimizer
) -> None:
    """Refuse another optimizer's state: torch would take it, and step wrongly or not at all."""
    for before, now in zip(groups, optimizer.param_groups, strict=False):
        if any((key in before) != (key in now) for key in _TELLING):
            raise UserError(
                f"{state}: does not fit this run's settings (optimizer.name was another when it "
                "began; put it back)"
            )


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
