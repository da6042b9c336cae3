"""Starting from other weights: load whatever matches and say what did."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vision_heads.errors import UserError
from vision_heads.network import read_weights
from vision_heads.paths import is_there
from vision_heads.runtime.engines import safetensors_of


@dataclass(frozen=True, slots=True)
class InitReport:
    """What `initialise` did.

    Attributes:
        matched: names loaded.
        other_shape: names present on both sides with different shapes; left as they were.
        absent: names of the network that the file does not hold.
        unused: names of the file that the network does not have.
    """

    matched: tuple[str, ...]
    other_shape: tuple[str, ...]
    absent: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.matched) + len(self.other_shape) + len(self.absent)
        return (
            f"{len(self.matched)} of {total} tensors loaded, {len(self.other_shape)} of another "
            f"shape, {len(self.absent)} not in the file; {len(self.unused)} of the file not used"
        )


def initialise(network: nn.Module, path: str | Path, *, trust_pickle: bool = False) -> InitReport:
    """Copy every tensor of a file whose name and shape match into the network.

    Args:
        network: changed in place.
        path: safetensors, the name of shipped weights, or a plain state dict saved by torch; a
            pickled checkpoint (such as ultralytics' .pt) only with `trust_pickle`, as unpickling
            runs the file's code.

    Raises:
        UserError: the file cannot be read, or nothing in it matches.
    """
    path = _file_of(Path(path))
    theirs = _read(path, trust_pickle)
    ours = {n: v for n, v in network.state_dict().items() if not n.endswith("num_batches_tracked")}
    matched = [n for n in ours if n in theirs and theirs[n].shape == ours[n].shape]
    other = [n for n in ours if n in theirs and theirs[n].shape != ours[n].shape]
    if not matched:
        raise UserError(f"{path}: none of its {len(theirs)} tensors fits this model")
    network.load_state_dict({n: theirs[n].float() for n in matched}, strict=False)
    return InitReport(
        tuple(matched),
        tuple(other),
        tuple(n for n in ours if n not in theirs),
        tuple(n for n in theirs if n not in ours),
    )


def _file_of(path: Path) -> Path:
    """Return the file that a path or a shipped name means."""
    named = path.suffix in {"", ".safetensors"} and not is_there(path)
    return safetensors_of(str(path)) if named else path


def _read(path: Path, trust_pickle: bool) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_weights(path)[0]
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if trust_pickle:
        # A pickled ultralytics model needs its classes; the switches must be set before them.
        import vision_heads._ultralytics  # noqa: F401, PLC0415
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except Exception as error:
        if not _begins_like_torch(path):
            raise UserError(f"{path}: not a torch file") from error
        if isinstance(error, pickle.UnpicklingError) and not trust_pickle:
            raise UserError(
                f"{path}: holds pickled code, not plain tensors; --trust-pickle loads it all the "
                "same (it can run any code it likes: only for files you trust)"
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not readable as a torch file ({reason})") from error
    return _state_of(loaded, path)


def _begins_like_torch(path: Path) -> bool:
    """Whether a file is a zip or a pickle: torch refuses any other as if it held code."""
    with path.open("rb") as file:
        start = file.read(2)
    return start == b"PK" or start[:1] == b"\x80"


def _state_of(loaded: Any, path: Path) -> dict[str, Tensor]:
    """Find the state dict in what checkpoints usually are."""
    for key in ("ema", "model", "state_dict"):
        if isinstance(loaded, dict) and loaded.get(key) is not None:
            loaded = loaded[key]
            break
    state = loaded.state_dict() if isinstance(loaded, nn.Module) else loaded
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds no state dict")
    tensors = {str(n): v for n, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        raise UserError(f"{path}: holds no tensors")
    return tensors
