"""Where pictures lie before the random view is taken: one letterboxed, or four around a point."""

from __future__ import annotations

import numpy as np

from vision_heads.data.sample import Sample
from vision_heads.data.warp import Matrix, shift, stretch
from vision_heads.geometry.letterbox import plan


def place_one(sample: Sample, size: tuple[int, int], flipped: bool) -> Matrix:
    """Return the letterbox of one picture as a matrix, original to network pixels.

    Args:
        sample: the picture.
        size: (height, width) of the network's input.
        flipped: mirror the picture about its own vertical axis.
    """
    fit = plan(sample.width, sample.height, *size)
    matrix = shift(fit.left, fit.top) @ stretch(fit.scale_x, fit.scale_y)
    return matrix @ _mirror(sample) if flipped else matrix


def place_four(
    samples: list[Sample],
    size: tuple[int, int],
    flipped: list[bool],
    rng: np.random.Generator,
) -> list[Matrix]:
    """Return the places of four pictures that meet in a random point.

    Each has the size that its letterbox would give it, and reaches past the input's edges.

    Args:
        samples: four pictures: top left, top right, bottom left, bottom right.
        size: (height, width) of the network's input.
        flipped: which are mirrored.
        rng: source of the point.
    """
    height, width = size
    fits = [plan(sample.width, sample.height, height, width) for sample in samples]
    widths, heights = [f.resized_width for f in fits], [f.resized_height for f in fits]
    # Anywhere on the input if the pictures fill it; else where they leave the least of it grey.
    x = float(rng.uniform(*sorted((width - min(widths[1], widths[3]), min(widths[0], widths[2])))))
    y = float(rng.uniform(*sorted((height - min(heights[2:]), min(heights[:2])))))
    matrices = []
    for i, (sample, fit, mirrored) in enumerate(zip(samples, fits, flipped, strict=True)):
        left = x if i % 2 else x - fit.resized_width
        top = y if i // 2 else y - fit.resized_height
        matrix = shift(left, top) @ stretch(fit.scale_x, fit.scale_y)
        matrices.append(matrix @ _mirror(sample) if mirrored else matrix)
    return matrices


def _mirror(sample: Sample) -> Matrix:
    return shift(sample.width, 0) @ stretch(-1, 1)
