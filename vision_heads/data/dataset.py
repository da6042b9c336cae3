"""Batches for training: several data sets mixed, augmented by workers, repeatable exactly.

The batch of step k of epoch e is a function of (seed, e, k) and of nothing else: not of the
number of workers or processes, nor of what was loaded before. A run therefore resumes anywhere
without any stored random state.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from vision_heads.data import colour
from vision_heads.data.augment import AugmentConfig, check_poses
from vision_heads.data.batches import Batch, Failure, PlannedStep, Step, Steps
from vision_heads.data.order import NEVER, Schedule
from vision_heads.data.sample import DataSplit
from vision_heads.data.store import PictureStore
from vision_heads.errors import UserError, require

__all__ = ["PREFETCH", "Batch", "TrainLoader"]

PREFETCH = 2
"""Batches that each worker loads ahead."""


@dataclass(slots=True)
class _StepsAhead:
    """The steps from `start` to the end of the run, for workers to go on with.

    Across the ends of epochs, so that the next one's first batches are ready when it begins.
    """

    schedule: Schedule
    epochs: int
    start: Step = (0, 0)

    def after(self, at: Step) -> Step:
        steps = self.schedule.steps(at[0])
        return (at[0], at[1] + 1) if at[1] + 1 < steps else (at[0] + 1, 0)

    def __iter__(self) -> Iterator[PlannedStep]:
        at = self.start
        # A finished run may be asked for more; then it is one epoch at a time.
        while at[0] < max(self.epochs, self.start[0] + 1) and self.schedule.active(at[0]):
            yield (*at, self.schedule)
            at = self.after(at)


class TrainLoader:
    """Loads and augments the batches of a training run.

    Without weights an epoch shows every picture of every data set once; its last batch may be
    smaller. With several processes the last, incomplete batch is left out, so that all of them
    take the same number of equal steps.

    Args:
        sources: the data set of each head, by the head's name.
        augment: what happens to pictures.
        height, width: of the network's input, multiples of 32.
        batch_size: of all processes together.
        epochs: of the run; the last `augment.close_mosaic` of them combine no pictures.
        seed: of the run.
        workers: processes that load ahead; 0 loads in this one.
        rank, world: which process this is, of how many. Process r has the r-th equal stretch of
            rows of the batch that one process alone would have.
        weights: share of each head's data set in an epoch; small sets are repeated, and large
            ones shown in part, only as far as this asks for it (see `order.Schedule`). None: in
            proportion to their sizes.

    Raises:
        UserError: a setting does not fit the data; the message names it.

    Example:
        >>> loader = TrainLoader({"aerial": split}, AugmentConfig(), height=640, width=640,
        ...                      batch_size=16, epochs=100, seed=0, workers=2)
        >>> for batch in loader.epoch(3, start_step=120):  # resumes a run
        ...     images = batch.images.float() / 255
    """

    def __init__(
        self,
        sources: Mapping[str, DataSplit],
        augment: AugmentConfig,
        *,
        height: int,
        width: int,
        batch_size: int,
        epochs: int,
        seed: int,
        workers: int,
        rank: int = 0,
        world: int = 1,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        _check(sources, augment, batch_size, world, weights)
        if augment.blur or augment.grey or augment.contrast:
            colour.transforms()
        self._names, self._workers, self._seed = tuple(sources), workers, seed
        # Several processes leave the incomplete batch out.
        schedule = Schedule(
            sizes=tuple(len(split.samples) for split in sources.values()),
            weights=None if weights is None else tuple(weights[name] for name in sources),
            until=(NEVER,) * len(sources),
            seed=seed,
            batch_size=batch_size,
            whole_batches=world > 1,
        )
        total = sum(schedule.counts(0))
        require(schedule.steps(0), f"batch_size: {batch_size} is more than the {total} pictures")
        # What mosaics may ask for, and the batches that workers have under way.
        recent = augment.mosaic_pool + (PREFETCH * workers + 2) * batch_size
        everything = [sample for split in sources.values() for sample in split.samples]
        self._steps = Steps(
            names=tuple(sources),
            samples=tuple(split.samples for split in sources.values()),
            config=augment,
            size=(height, width),
            batch_size=batch_size,
            epochs=epochs,
            seed=seed,
            rank=rank,
            world=world,
            store=PictureStore(
                everything,
                height,
                width,
                augment.detail,
                recent=None if augment.cache == "ram" else recent,
            ),
        )
        self._steps_ahead = _StepsAhead(schedule, epochs)
        self._loader: DataLoader[Any] | None = None
        self._batches: Iterator[Batch | Failure] | None = None

    def __len__(self) -> int:
        """Return the number of steps of the first epoch, and so of all if no head is frozen."""
        return self.schedule.steps(0)

    @property
    def schedule(self) -> Schedule:
        """How many pictures of which head every epoch holds."""
        return self._steps_ahead.schedule

    def freeze(self, head: str, epoch: int) -> None:
        """Draw no pictures of a head from an epoch on; no batch of it may have been taken."""
        changed = self.schedule.leave_out(self._names.index(head), epoch)
        if changed != self.schedule:
            self._steps_ahead.schedule = changed
            # What workers have loaded ahead was planned otherwise.
            self._batches = None

    def turns(self, epochs: int) -> dict[str, np.ndarray]:
        """Return by head how often each picture has its turn in the first epochs."""
        return dict(zip(self._names, self.schedule.turns(epochs), strict=True))

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from `start_step` on.

        Args:
            epoch: from 0.
            start_step: first step that is wanted, to resume a run.

        Raises:
            UserError: a picture cannot be read; the message names the file.
        """
        for step in range(start_step, self.schedule.steps(epoch)):
            yield self._fetch((epoch, step))

    def close(self) -> None:
        """End the worker processes; the next epoch starts new ones."""
        self._batches = self._loader = None

    def _fetch(self, at: Step) -> Batch:
        if self._batches is None or self._steps_ahead.start != at:
            self._steps_ahead.start = at
            self._batches = iter(self._open())
        batch = next(self._batches)
        if isinstance(batch, Failure):
            self.close()
            raise UserError(batch.message)
        self._steps_ahead.start = self._steps_ahead.after(at)
        return batch

    def _open(self) -> DataLoader[Any]:
        if self._loader is not None:
            return self._loader
        # Forked workers share the pictures that are kept in memory.
        context = "fork" if sys.platform == "linux" and self._workers else None
        self._loader = DataLoader(
            self._steps,
            sampler=self._steps_ahead,
            batch_size=None,
            num_workers=self._workers,
            collate_fn=_as_it_is,
            worker_init_fn=_start_worker,
            persistent_workers=self._workers > 0,
            prefetch_factor=PREFETCH if self._workers else None,
            pin_memory=torch.cuda.is_available(),
            multiprocessing_context=context,
            # Of its own: torch's global generator is left as the training has it.
            generator=torch.Generator().manual_seed(self._seed),
        )
        return self._loader


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    # One process a worker; OpenCV's threads would fight over the cores.
    cv2.setNumThreads(0)
    # Ctrl-C is the training's to answer; it ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _check(
    sources: Mapping[str, DataSplit],
    config: AugmentConfig,
    batch_size: int,
    world: int,
    weights: Mapping[str, float] | None,
) -> None:
    require(sources, "no data set to train on")
    require(
        batch_size > 0 and batch_size % world == 0,
        f"batch_size: must be a multiple of the {world} processes, got {batch_size}",
    )
    require(
        weights is None or set(weights) == set(sources),
        f"weights: must name the heads {sorted(sources)}, got {sorted(weights or {})}",
    )
    for head, split in sources.items():
        where = f"{split.name} ({split.split})"
        require(split.samples, f"{where}: no pictures to train head {head!r} on")
        check_poses(config, split.samples, where)
        for sample in split.samples:
            sides = sample.boxes[:, 2:] - sample.boxes[:, :2]
            if not (sides > 0).all():
                row = int(np.flatnonzero(~(sides > 0).all(1))[0])
                raise UserError(
                    f"{sample.image}: box {row} is empty: {sample.boxes[row].tolist()};"
                    " see `vh data check`"
                )
