"""Proof that an exported file computes what its network computes.

Both run the same letterboxed pictures. The file gives K candidates a picture, best first; the
network is asked for *all* of its cells. Sums taken in another order differ in the last bits, so
candidates of nearly equal score may change places, also across the cut after the K-th: ranks
prove nothing. Instead, every candidate of the file must have a cell of its own in the network
whose box and scores agree, and every cell that is better than the file's last candidate by more
than the tolerance must have been given. Nothing is left out of the comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vision_heads.errors import require
from vision_heads.geometry.letterbox import letterbox
from vision_heads.geometry.rotations import geodesic
from vision_heads.network import Network
from vision_heads.runtime.engines import open_engine
from vision_heads.spec import InputSpec

TOLERANCES = {"boxes": 0.05, "scores": 1e-3}
"""Largest allowed difference: pixels of the network's input, and probability."""
ROTATION_TOLERANCE = 0.1
"""Degrees between two rotations."""
OTHER_TOLERANCE = 1e-3
"""Of any further output."""

Floats = NDArray[np.float32]


class ParityError(RuntimeError):
    """An exported file does not compute what its network computes: our fault."""


@dataclass(slots=True)
class Parity:
    """How an exported file and its network differ, over all pictures and heads.

    Attributes:
        pictures: compared.
        candidates: compared, over all pictures and heads.
        differences: largest difference by output suffix, of rotations in degrees; NaN counts
            as infinite.
        reordered: candidates whose rank differs, because scores are equal but for rounding.
        missing: cells the file should have given, by their score, and did not.
        candidates_that_score: candidates with a score above 0.05, where boxes matter.
    """

    pictures: int = 0
    candidates: int = 0
    differences: dict[str, float] = field(default_factory=dict)
    reordered: int = 0
    missing: int = 0
    candidates_that_score: int = 0

    @property
    def good(self) -> bool:
        """Whether every difference is within its tolerance."""
        return not self.missing and all(
            difference <= tolerance(name) for name, difference in self.differences.items()
        )

    def add(self, reference: Mapping[str, Floats], found: Mapping[str, Floats]) -> None:
        """Compare one picture's outputs of one head, without the head's prefix.

        Args:
            reference: every cell, (A, ...), best first.
            found: the exported file's candidates, (K, ...).
        """
        cells = match(reference, found)
        self.candidates += len(cells)
        self.reordered += int((cells != np.arange(len(cells))).sum())
        self.candidates_that_score += int((found["scores"].max(1) > 0.05).sum())
        for name, values in found.items():
            difference = _difference(name, reference[name][cells], values)
            largest = float(np.nan_to_num(difference, nan=np.inf).max(initial=0))
            self.differences[name] = max(self.differences.get(name, 0.0), largest)
        last = found["scores"].max(1).min(initial=np.inf)
        surely_better = reference["scores"].max(1) > last + TOLERANCES["scores"]
        surely_better[cells] = False
        self.missing += int(surely_better.sum())


def tolerance(name: str) -> float:
    """Return the largest allowed difference of the output `<head>/<name>`."""
    return ROTATION_TOLERANCE if name == "rotation" else TOLERANCES.get(name, OTHER_TOLERANCE)


def _difference(name: str, reference: Floats, found: Floats) -> NDArray[np.float64]:
    """How far values are apart: degrees for rotations, else entry by entry."""
    if name == "rotation":
        return geodesic(reference, found)
    return np.abs(reference.astype(np.float64) - found)


def match(reference: Mapping[str, Floats], found: Mapping[str, Floats]) -> NDArray[np.int64]:
    """Give each candidate a cell of its own: the one of its rank if that agrees, else the nearest.

    Args:
        reference: "boxes" (A, 4) and "scores" (A, classes) of every cell, best first.
        found: the same of the candidates, (K, ...) with K <= A.

    Returns:
        (K,) int64 indices into `reference`, all different.
    """
    count = len(found["boxes"])
    agree = np.ones(count, bool)
    for name, limit in TOLERANCES.items():
        agree &= (np.abs(reference[name][:count] - found[name]) <= limit).all(1)
    cells = np.where(agree, np.arange(count), -1)
    free = np.ones(len(reference["boxes"]), bool)
    free[:count] = ~agree
    best = reference["scores"].max(1)
    for row in np.flatnonzero(~agree):
        # Nearest box among the cells of this score; were there none, among all that are left.
        alike = free & (np.abs(best - found["scores"][row].max()) <= TOLERANCES["scores"])
        pool = np.flatnonzero(alike if alike.any() else free)
        distance = np.abs(reference["boxes"][pool] - found["boxes"][row]).max(1)
        cells[row] = pool[np.argmin(distance)]
        free[cells[row]] = False
    return cells


def prove(network: Network, path: Path, pictures: Iterable[NDArray[np.uint8]]) -> Parity:
    """Run pictures through a network and the file made from it, and compare.

    Args:
        network: unfused or fused; left in eval mode on the CPU. May have more heads than the
            file: that cutting them off changed nothing is proved too.
        path: the exported file; every head of it is compared.
        pictures: BGR uint8 (H, W, 3) of any size.

    Raises:
        UserError: there are no pictures.
        ParityError: the two disagree by more than `tolerance` allows.
    """
    engine = open_engine(path)
    heads = [head.name for head in engine.spec.heads]
    network.eval().cpu()
    parity = Parity()
    # Two at a time where the file allows it, so that an open batch is proved to be one.
    for images in batches(pictures, engine.spec.input, engine.batch or 2):
        found = engine.run(images)
        for head, reference in _all_cells(network, images, heads).items():
            for row in range(len(images)):
                parity.add(
                    {name: values[row] for name, values in reference.items()},
                    {name: found[f"{head}/{name}"][row] for name in reference},
                )
        parity.pictures += len(images)
    require(parity.pictures, "no pictures to prove the exported file on")
    if not parity.good:
        raise ParityError(f"the exported file disagrees with its network: {describe(parity)}")
    return parity


def describe(parity: Parity) -> str:
    """Say in one line how far a file is from its network."""
    parts = [
        f"{name} by {difference:.2g} (at most {tolerance(name):g})"
        for name, difference in parity.differences.items()
    ]
    return f"{', '.join(parts)}, {parity.missing} candidates missing on {parity.pictures} pictures"


def batches(pictures: Iterable[NDArray[np.uint8]], size: InputSpec, count: int) -> Iterator[Floats]:
    """Yield pictures as the network sees them, (at most `count`, 3, height, width)."""
    waiting: list[Floats] = []
    for picture in pictures:
        padded, _ = letterbox(picture, size.height, size.width, size.pad_value)
        waiting.append(padded[:, :, ::-1].transpose(2, 0, 1) * np.float32(size.scale))
        if len(waiting) == count:
            yield np.stack(waiting)
            waiting.clear()
    if waiting:
        yield np.stack(waiting)


def _all_cells(
    network: Network, images: Floats, heads: Sequence[str]
) -> dict[str, dict[str, Floats]]:
    """Return every cell of these heads, best first, by head and suffix, (B, cells, ...)."""
    more_than_there_are = images.shape[2] * images.shape[3]
    cells: dict[str, dict[str, Floats]] = {}
    with torch.inference_mode():
        for name, maps in network.features(torch.from_numpy(images), heads).items():
            head: Any = network.heads[name]
            found = head.export(head(maps), more_than_there_are)
            cells[name] = {suffix: values.numpy() for suffix, values in found.items()}
    return cells
