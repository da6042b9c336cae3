"""The batch of any step: pictures of several data sets, augmented, with their labels and routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vision_heads.data.augment import AugmentConfig, augment
from vision_heads.data.order import EpochOrder, Schedule, sample_rng, step_rng
from vision_heads.data.sample import Sample
from vision_heads.data.store import PictureStore
from vision_heads.data.warp import Labels
from vision_heads.errors import UserError
from vision_heads.heads.base import Targets

Step = tuple[int, int]
"""(epoch, step)."""
PlannedStep = tuple[int, int, Schedule]
"""(epoch, step, schedule): workers outlive a schedule, so every step brings its own."""


@dataclass(slots=True)
class Batch:
    """Pictures of one step and process, with the labels of every head.

    Attributes:
        images: (B, 3, H, W) uint8 RGB.
        routes: rows of the batch that belong to each head, (B_head,) int64, ascending; without
            the heads that are frozen.
        targets: labels of each of these heads; their `rows` count the head's own rows.
        files: the picture of each row; the first one where several were combined.
    """

    images: Tensor
    routes: dict[str, Tensor]
    targets: dict[str, Targets]
    files: list[str]

    def pin_memory(self) -> Batch:
        """Move the pictures to page-locked memory, for a quicker copy to a GPU."""
        self.images = self.images.pin_memory()
        return self


@dataclass(frozen=True, slots=True)
class Failure:
    """A `UserError` on its way out of a worker, without torch's traceback around it."""

    message: str


@dataclass
class Steps(Dataset[Any]):
    """Makes the batch of any step; what a worker process holds."""

    names: tuple[str, ...]
    samples: tuple[Sequence[Sample], ...]
    config: AugmentConfig
    size: tuple[int, int]
    batch_size: int
    epochs: int
    seed: int
    rank: int
    world: int
    store: PictureStore
    _orders: dict[tuple[int, Schedule], EpochOrder] = field(default_factory=dict)

    def __getitem__(self, step: PlannedStep) -> Batch | Failure:
        try:
            return self.batch(*step)
        except UserError as error:
            return Failure(str(error))

    def batch(self, epoch: int, step: int, schedule: Schedule) -> Batch:
        """Return this process's rows of a step's batch."""
        order = self._order(epoch, schedule)
        share = self.batch_size // self.world
        start = step * self.batch_size + self.rank * share
        positions = range(start, min(start + share, len(order.source)))
        size = self._size(epoch, step)
        images = torch.empty((len(positions), 3, *size), dtype=torch.uint8)
        planes = images.numpy()
        labels = []
        for row, position in enumerate(positions):
            picture, found = self._sample(schedule, epoch, position, size)
            # BGR to RGB planes, straight into the batch's memory.
            cv2.split(picture, list(planes[row, ::-1]))
            labels.append(found)
        sources = order.source[positions.start : positions.stop]
        routes, targets = {}, {}
        for i in schedule.active(epoch):
            name, rows = self.names[i], np.flatnonzero(sources == i)
            routes[name] = torch.from_numpy(rows)
            posed = any(sample.rotations is not None for sample in self.samples[i])
            targets[name] = collate([labels[row] for row in rows], posed)
        files = [
            str(self._pick(schedule, epoch, int(order.source[p]), int(order.rank[p])).image)
            for p in positions
        ]
        return Batch(images, routes, targets, files)

    def _order(self, epoch: int, schedule: Schedule) -> EpochOrder:
        key = (epoch, schedule)
        if key not in self._orders:
            # The one before is used too, for the pictures before the epoch's first.
            while len(self._orders) > 2:
                del self._orders[next(iter(self._orders))]
            self._orders[key] = schedule.order(epoch)
        return self._orders[key]

    def _pick(self, schedule: Schedule, epoch: int, source: int, rank: int) -> Sample:
        """The data set's picture number `rank` of the epoch; below 0: of the one before."""
        if rank < 0 and epoch:
            epoch -= 1
        picks = self._order(epoch, schedule).picks[source]
        return self.samples[source][int(picks[rank % len(picks)])]

    def _size(self, epoch: int, step: int) -> tuple[int, int]:
        span = self.config.multi_scale
        if not span:
            return self.size
        factor = step_rng(self.seed, epoch, step).uniform(1 - span, 1 + span)
        height, width = (max(round(side * factor / 32), 1) * 32 for side in self.size)
        return height, width

    def _sample(
        self, schedule: Schedule, epoch: int, position: int, size: tuple[int, int]
    ) -> tuple[np.ndarray, Labels]:
        order = self._order(epoch, schedule)
        source, rank = int(order.source[position]), int(order.rank[position])
        pool = self.config.mosaic_pool

        def partner(rng: np.random.Generator) -> Sample:
            if not pool:
                return self.samples[source][int(rng.integers(len(self.samples[source])))]
            return self._pick(schedule, epoch, source, rank - 1 - int(rng.integers(pool)))

        return augment(
            self._pick(schedule, epoch, source, rank),
            partner,
            self.store,
            config=self.config,
            size=size,
            rng=sample_rng(self.seed, epoch, position),
            combine=epoch < self.epochs - self.config.close_mosaic,
        )


def collate(parts: Sequence[Labels], posed: bool) -> Targets:
    """Put the labels of a head's rows together.

    Args:
        parts: labels of row 0, 1, ... of the head.
        posed: whether the head's data set has poses.
    """

    def rows(counts: list[int]) -> Tensor:
        return torch.from_numpy(np.repeat(np.arange(len(counts)), counts))

    joined = Labels.join(list(parts) or [Labels.none()])
    return Targets(
        boxes=torch.from_numpy(joined.boxes),
        labels=torch.from_numpy(joined.labels),
        rows=rows([len(part.labels) for part in parts]),
        ignore_boxes=torch.from_numpy(joined.ignore),
        ignore_rows=rows([len(part.ignore) for part in parts]),
        rotations=torch.from_numpy(joined.rotations) if posed else None,
    )
