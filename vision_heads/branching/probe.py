"""Probe pictures of each data set, and how every single-head model sees them.

A probe set is representative in this sense: out of a random pool of pictures (four times as many
as wanted), k-means groups what the data set's own model makes of them (the mean over the picture
of its backbone's maps P3 to P5, each channel scaled to the same spread), and of each group the
picture nearest its centre is taken. So rare kinds of scenes are there, and near-copies are not
there twice. The same seed gives the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vision_heads.branching.similarity import FEWEST, Kernel, Method, signature, similarity
from vision_heads.branching.singles import Single
from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import UserError, require
from vision_heads.media.images import ImageError, read_image
from vision_heads.network import Network
from vision_heads.runtime.inputs import fill
from vision_heads.spec import InputSpec

POOL = 4
"""Pictures looked at for each probe that is wanted."""
GRID = 4
"""Cells a side that maps are averaged to, so that memory does not grow with the picture."""
BATCH = 8
ROUNDS = 25
"""Most rounds of k-means."""

Floats = NDArray[np.float32]
Step = Callable[[], None]


@dataclass(slots=True)
class Probes:
    """The probe pictures of one data set.

    Attributes:
        head: whose data set it is.
        split: the data.
        samples: the probes.
        pool: how many pictures they were chosen from.
        unread: messages of the pictures that could not be read.
    """

    head: str
    split: DataSplit
    samples: list[Sample]
    pool: int
    unread: list[str] = field(default_factory=list)


def choose_probes(
    single: Single, split: DataSplit, count: int, inputs: InputSpec, seed: int, step: Step
) -> Probes:
    """Choose pictures that represent a data set; all of them where there are no more.

    Args:
        single: the model trained on it.
        split: its pictures.
        count: how many to choose.
        inputs: what the pictures are letterboxed to.
        seed: of the pool and of k-means.
        step: called after each picture of the pool.

    Raises:
        UserError: fewer than `FEWEST` pictures, or so many that cannot be read.
    """
    chosen = Probes(single.name, split, list(split.samples), len(split.samples))
    if len(split.samples) > count:
        rng = np.random.default_rng(seed)
        pool = rng.permutation(len(split.samples))[: POOL * count]
        candidates = [split.samples[i] for i in sorted(pool)]
        seen, rows = [], []
        for samples, images in _batches(candidates, inputs, chosen.unread, step):
            seen += samples
            rows.append(_summary(single.network, images))
        chosen.pool, chosen.samples = len(candidates), seen
        if len(seen) > count:
            picked = _representatives(np.concatenate(rows), count, rng)
            chosen.samples = [seen[i] for i in picked]
    _require_enough(chosen)
    return chosen


def pool_size(split: DataSplit, count: int) -> int:
    """Return how many pictures `choose_probes` looks at."""
    return 0 if len(split.samples) <= count else min(len(split.samples), POOL * count)


def compare(
    singles: Sequence[Single],
    probes: Probes,
    inputs: InputSpec,
    method: Method,
    kernel: Kernel,
    step: Step,
) -> dict[str, NDArray[np.float64]]:
    """Compare all models stage by stage on the probes of one data set.

    Args:
        singles: the models.
        probes: their unreadable pictures are left out and noted there.
        inputs: what the pictures are letterboxed to.
        method, kernel: see `similarity.signature`.
        step: called after each picture.

    Returns:
        By stage, (models, models) dissimilarities: 1 - similarity. NaN where one of the two
        models lacks the stage.

    Raises:
        UserError: too few pictures can be read, or a model gives the same for all of them.
    """
    features: list[dict[str, list[Floats]]] = [{} for _ in singles]
    kept: list[Sample] = []
    for samples, images in _batches(probes.samples, inputs, probes.unread, step):
        kept += samples
        for single, found in zip(singles, features, strict=True):
            for stage, maps in stage_features(single.network, images).items():
                found.setdefault(stage, []).append(maps)
    probes.samples = kept
    _require_enough(probes)
    stages = {stage for single in singles for stage in single.network.spec.stages}
    matrices = {stage: np.full((len(singles), len(singles)), np.nan) for stage in stages}
    for stage, matrix in matrices.items():
        signatures = {
            number: _signature(singles[number], stage, np.concatenate(found[stage]), method, kernel)
            for number, found in enumerate(features)
            if stage in found
        }
        for row, first in signatures.items():
            for column, second in signatures.items():
                # Beyond the ninth digit is rounding, on either side of nothing.
                matrix[row, column] = abs(round(1 - similarity(first, second), 9))
    return matrices


def stage_features(network: Network, images: Tensor) -> dict[str, Floats]:
    """Return what every neck stage of a one-head model gives, averaged to `GRID` cells a side.

    Args:
        network: in eval mode.
        images: (B, 3, H, W), RGB / 255.

    Returns:
        By stage, (B, C * cells).
    """
    found: dict[str, Floats] = {}

    def keep(stage: str) -> Callable[..., None]:
        def hook(_module: object, _inputs: object, out: Tensor | tuple[Tensor, Tensor]) -> None:
            # A stage on the way down also returns its compressed input; the map is the first.
            fused = out if isinstance(out, Tensor) else out[0]
            cells = (min(GRID, fused.shape[2]), min(GRID, fused.shape[3]))
            pooled = functional.adaptive_avg_pool2d(fused.float(), cells)
            found[stage] = pooled.flatten(1).cpu().numpy()

        return hook

    hooks = [
        network.neck.copy_of(stage, 0).register_forward_hook(keep(stage))
        for stage in network.spec.stages
    ]
    try:
        with torch.inference_mode():
            network.features(images.to(next(network.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _batches(
    samples: Sequence[Sample], inputs: InputSpec, unread: list[str], step: Step
) -> Iterator[tuple[list[Sample], Tensor]]:
    """Yield the samples that can be read, `BATCH` at a time, letterboxed; note the others."""
    for start in range(0, len(samples), BATCH):
        read: list[Sample] = []
        images = np.empty((BATCH, 3, inputs.height, inputs.width), np.float32)
        for sample in samples[start : start + BATCH]:
            try:
                fill(read_image(sample.image), inputs, images[len(read)])
                read.append(sample)
            except ImageError as error:
                unread.append(str(error))
            step()
        if read:
            yield read, torch.from_numpy(images[: len(read)])


def _summary(network: Network, images: Tensor) -> Floats:
    """Return the mean over each picture of the backbone's maps P3 to P5, (B, C)."""
    with torch.inference_mode():
        maps = network.backbone(images.to(next(network.parameters()).device))
    means = [maps[level].float().mean((2, 3)) for level in (3, 4, 5)]
    return torch.cat(means, 1).cpu().numpy()


def _representatives(rows: Floats, count: int, rng: np.random.Generator) -> list[int]:
    """Return the rows nearest the centres of k-means, sorted; exactly `count` of them."""
    x = (rows - rows.mean(0)) / np.maximum(rows.std(0), 1e-6)
    centres = x[_spread(x, count, rng)]
    for _ in range(ROUNDS):
        nearest = _squares(x, centres).argmin(1)
        moved = np.stack(
            [x[nearest == k].mean(0) if (nearest == k).any() else centres[k] for k in range(count)]
        )
        if np.allclose(moved, centres):
            break
        centres = moved
    distances = _squares(x, centres)
    picked: list[int] = []
    for centre in range(count):
        # Two centres may have one nearest picture; each gets its own.
        free = np.setdiff1d(np.arange(len(x)), picked)
        picked.append(int(free[distances[free, centre].argmin()]))
    return sorted(picked)


def _spread(x: Floats, count: int, rng: np.random.Generator) -> list[int]:
    """Choose first centres far from each other, by chance (k-means++)."""
    chosen = [int(rng.integers(len(x)))]
    while len(chosen) < count:
        distances = _squares(x, x[chosen]).min(1).astype(np.float64)
        distances[chosen] = 0
        if not distances.any():  # only copies are left
            distances[np.setdiff1d(np.arange(len(x)), chosen)] = 1
        chosen.append(int(rng.choice(len(x), p=distances / distances.sum())))
    return chosen


def _squares(x: Floats, centres: Floats) -> Floats:
    """Return squared distances (rows, centres)."""
    norms = (x**2).sum(1)[:, None] + (centres**2).sum(1)[None]
    return np.asarray(np.maximum(norms - 2 * x @ centres.T, 0))


def _signature(
    single: Single, stage: str, features: Floats, method: Method, kernel: Kernel
) -> NDArray[np.float64]:
    try:
        return signature(features, method, kernel)
    except ValueError as error:
        raise UserError(f"{single.file}: {stage}: {error}") from error


def _require_enough(probes: Probes) -> None:
    first = f"; first {probes.unread[0]}" if probes.unread else ""
    require(
        len(probes.samples) >= FEWEST,
        f"{probes.split.name}: {probes.split.split}: {len(probes.samples)} readable pictures, a "
        f"search needs {FEWEST}{first}",
    )
