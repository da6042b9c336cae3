"""Errors of torch in a training step that the user can mend, said as what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vision_heads.errors import UserError
from vision_heads.training.config import TrainConfig


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
