"""A weight file in memory: its spec, its numbers, and how exactly they were stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from vision_heads.errors import UserError, require
from vision_heads.network import Network, fill_network, load_network, save_network
from vision_heads.spec import ModelSpec

_INTEGERS = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")


@dataclass(frozen=True, slots=True)
class Model:
    """What a weight file holds.

    Attributes:
        file: where it was read.
        spec: its own.
        state: every stored tensor by name, FP32.
        half: the file stores FP16 only, so writing these numbers as FP16 loses nothing.
    """

    file: Path
    spec: ModelSpec
    state: dict[str, Tensor]
    half: bool


def read_model(path: str | Path) -> Model:
    """Read a weight file and check that its tensors fit its spec.

    Raises:
        UserError: the file is missing, damaged, has no spec, or does not fit its own spec.
    """
    path = Path(path)
    network = load_network(path)
    return Model(path, network.spec, stored_state(network), is_half(path))


def is_half(path: Path) -> bool:
    """Whether a readable weight file stores FP16 and nothing finer."""
    with safe_open(path, framework="pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    return kinds <= {"F16", *_INTEGERS}


def stored_state(network: Network) -> dict[str, Tensor]:
    """Return the tensors that weight files hold: all but batch norm's counters of batches."""
    state: dict[str, Tensor] = network.state_dict()
    return {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}


def check_target(out: Path, *, force: bool) -> None:
    """Refuse a file that could not be written, before any work is done.

    Raises:
        UserError: not a .safetensors name, no such folder, or there already and not `force`.
    """
    require(out.suffix == ".safetensors", f"--out {out}: must end in .safetensors")
    require(out.parent.is_dir(), f"--out {out}: no such folder {out.parent}")
    require(not out.is_dir(), f"--out {out}: is a folder")
    require(force or not out.exists(), f"--out {out}: is there already; --force replaces it")


def write_model(
    out: Path, spec: ModelSpec, state: Mapping[str, Tensor], *, half: bool, force: bool = False
) -> None:
    """Write a model, whole or not at all.

    Args:
        out: the file.
        spec, state: must fit each other.
        half: store FP16; the numbers must have come out of FP16 files.
        force: replace a file that is there.

    Raises:
        UserError: the file cannot be written.
    """
    check_target(out, force=force)
    network = fill_network(spec, state, str(out))
    try:
        save_network(out, network, half=half)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}") from error
