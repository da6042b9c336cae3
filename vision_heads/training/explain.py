"""Errors of a training that the user can mend, said as what to change."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vision_heads.errors import UserError
from vision_heads.training.config import TrainConfig

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EIO, errno.ENXIO, errno.ENODEV}
_GONE |= {getattr(errno, name) for name in ("ESTALE", "ENOTCONN") if hasattr(errno, name)}
_RESUME = "--resume goes on from the last state"


@contextmanager
def explain_out_of_memory(config: TrainConfig) -> Iterator[None]:
    """Turn the GPU's out-of-memory error into what to change."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        half = max(1, config.batch // 2)
        raise UserError(
            f"the GPU's memory does not hold batch {config.batch} at "
            f"{config.imgsz[0]}x{config.imgsz[1]}; try --batch {half} --accumulate "
            f"{config.accumulate * 2}, a smaller --imgsz, or --amp bf16"
        ) from error


@contextmanager
def explain_lone_values(config: TrainConfig) -> Iterator[None]:
    """Turn batch norm's error over a single cell of a single picture into what to change."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"imgsz: {config.imgsz[0]}x{config.imgsz[1]} is too small for batch norm: P5 is one "
            "cell there, and a head had one picture in a batch; take a larger one"
        ) from error


@contextmanager
def explain_dead_worker(config: TrainConfig) -> Iterator[None]:
    """Turn the end of a process that loads pictures into what to change.

    torch notices it wherever the training is at the moment.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = str(error).splitlines()[0].rstrip(". ")
        raise UserError(
            f"workers: one of {config.workers} was ended from outside ({reason}), as a system does "
            f"that is short of memory; fewer need less. {_RESUME}"
        ) from error


@contextmanager
def explain_gone(out: Path) -> Iterator[None]:
    """Turn the error of a run's folder that was deleted, or whose disk is away, into a message."""
    try:
        yield
    except OSError as error:
        file = Path(str(error.filename or ""))  # without a name it may be any file's
        inside = not {out, out.resolve()}.isdisjoint([file, *file.parents])
        if error.errno not in _GONE or error.filename is None or not inside:
            raise
        text = f"{file}: cannot be written ({error.strerror}): was {out} deleted, or its disk taken"
        raise UserError(f"{text} away? {_RESUME}, if it is there") from error
