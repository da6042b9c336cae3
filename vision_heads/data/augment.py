"""Augmentation: its settings, and the scene that one training picture becomes.

A scene is drawn in one go: every picture of it goes from what was read to the network's input
through a single matrix (letterbox or mosaic place, mirror, rotation, scale, shear, translation),
so that nothing is resampled twice. docs/augmentation.md shows what each setting does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from vision_heads.data import colour
from vision_heads.data.mosaic import place_four, place_one
from vision_heads.data.paste import paste_small
from vision_heads.data.sample import Sample
from vision_heads.data.warp import (
    PAD_VALUE,
    Labels,
    Matrix,
    Picture,
    in_view,
    paint,
    shear,
    shift,
    stretch,
    turn,
    warp_labels,
)
from vision_heads.errors import require

Chance = Annotated[float, Field(ge=0, le=1)]
Load = Callable[[Sample], Picture]
"""Gives a sample's picture at any size; BGR uint8 (h, w, 3), not to be written to."""


class AugmentConfig(BaseModel):
    """What happens to pictures before the network sees them in training.

    Strengths are largest values: what is applied is drawn evenly from minus to plus.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: Chance = Field(default=0.5, description="chance that a picture is mirrored sideways")
    degrees: float = Field(default=0.0, ge=0, le=180, description="rotation, degrees")
    translate: float = Field(default=0.1, ge=0, le=0.9, description="shift, fraction of the input")
    scale: float = Field(default=0.5, ge=0, le=0.9, description="zoom; 0.5 gives x0.5 to x1.5")
    shear: float = Field(default=0.0, ge=0, le=45, description="shear along x and y, degrees")
    perspective: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="how much nearer an edge is than the middle",
    )
    hsv_h: float = Field(default=0.015, ge=0, le=0.5, description="hue shift, part of the circle")
    hsv_s: float = Field(default=0.7, ge=0, le=1, description="change of saturation, fraction")
    hsv_v: float = Field(default=0.4, ge=0, le=1, description="change of brightness, fraction")
    blur: Chance = Field(default=0.01, description="chance of a blur 3 or 5 pixels wide")
    grey: Chance = Field(default=0.01, description="chance that colour is taken away")
    contrast: Chance = Field(default=0.01, description="chance of contrast equalisation (CLAHE)")
    mosaic: Chance = Field(default=1.0, description="chance that a scene is made of four pictures")
    close_mosaic: int = Field(default=10, ge=0, description="last epochs, without mosaic and mixup")
    mosaic_pool: int = Field(
        default=128,
        ge=0,
        description="a mosaic's other pictures come from so many before it in the epoch's order,"
        " which are still decoded in memory; 0: from the whole data set",
    )
    mixup: Chance = Field(default=0.0, description="chance that two scenes are blended")
    copy_paste: Chance = Field(
        default=0.0, description="chance that a small object is pasted again"
    )
    copy_paste_size: float = Field(
        default=32.0,
        ge=2,
        le=256,
        description="longest side that counts as small, network pixels",
    )
    multi_scale: float = Field(
        default=0.0, ge=0, le=0.75, description="0.25 gives a network size x0.75 to x1.25 a step"
    )
    min_box: float = Field(
        default=1.5, ge=0, le=64, description="shortest side an object keeps, network pixels"
    )
    min_visible: Chance = Field(
        default=0.2, description="smallest part of its box an object keeps; less: an ignore area"
    )
    detail: float = Field(
        default=1.0, ge=1, le=8, description="pictures are kept at so many times the network's size"
    )
    cache: Literal["none", "ram"] = Field(
        default="none", description="ram: keep every picture of the data set decoded in memory"
    )

    @property
    def plain(self) -> bool:
        """Whether a scene without mosaic is just the letterboxed picture, perhaps mirrored."""
        return not (self.degrees or self.translate or self.scale or self.shear or self.perspective)


def check_poses(config: AugmentConfig, samples: Sequence[Sample], name: str) -> None:
    """Refuse to distort pictures with head poses: no rotation matrix describes the result.

    Raises:
        UserError: names the settings.
    """
    if all(sample.rotations is None for sample in samples):
        return
    for field in ("shear", "perspective"):
        require(
            not getattr(config, field),
            f"augment.{field}: must be 0, because {name} has head poses, which it would falsify",
        )


def random_view(config: AugmentConfig, size: tuple[int, int], rng: np.random.Generator) -> Matrix:
    """Draw the camera's move: rotation, zoom, shear, perspective and shift about the middle.

    Args:
        config: strengths.
        size: (height, width) of the input.
        rng: the same numbers are drawn whatever the strengths.

    Returns:
        Matrix, network pixels to network pixels.
    """
    height, width = size
    draw = rng.uniform(-1, 1, 8)
    if config.plain:
        return np.eye(3)
    zoom = 1 + draw[2] * config.scale
    moved = shift(draw[3] * config.translate * width, draw[4] * config.translate * height)
    bent = shear(draw[5] * config.shear, draw[6] * config.shear)
    flat = bent @ turn(draw[7] * config.degrees) @ stretch(zoom, zoom)
    tilt = np.eye(3)
    if config.perspective:
        tilt[2, :2] = draw[:2] * config.perspective / (width / 2, height / 2)
        # A mosaic reaches a whole input beyond each edge; none of it may lie past the horizon.
        corners = np.array([[x, y] for x in (-1.5, 1.5) for y in (-1.5, 1.5)]) * (width, height)
        depth = tilt[2, :2] @ flat[:2, :2] @ corners.T
        tilt[2, :2] *= min(1.0, 0.8 / float(-depth.min()))
    view = moved @ shift(width / 2, height / 2) @ tilt @ flat
    return view @ shift(-width / 2, -height / 2)


def compose(
    samples: list[Sample],
    load: Load,
    config: AugmentConfig,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[Picture, Labels]:
    """Draw one picture, or four as a mosaic, under one random view.

    Args:
        samples: one or four.
        load: gives their pictures; called only for those in view.
        config: strengths.
        size: (height, width) of the input.
        rng: decides everything.

    Returns:
        BGR uint8 (height, width, 3) and its labels.
    """
    flipped = (rng.random(len(samples)) < config.flip).tolist()
    if len(samples) == 1:
        places = [place_one(samples[0], size, flipped[0])]
    else:
        places = place_four(samples, size, flipped, rng)
    view = random_view(config, size, rng)
    canvas = np.full((*size, 3), PAD_VALUE, np.uint8)
    found = []
    for sample, place in zip(samples, places, strict=True):
        matrix = view @ place
        if not in_view(matrix, sample.width, sample.height, size):
            continue
        picture = load(sample)
        height, width = picture.shape[:2]
        enlarge = stretch(sample.width / width, sample.height / height)
        shrink = stretch(width / sample.width, height / sample.height)
        applied = paint(canvas, picture, matrix @ enlarge) @ shrink
        found.append(warp_labels(sample, applied, size, config.min_box, config.min_visible))
    return canvas, Labels.join(found or [Labels.none()])


def blend(
    first: tuple[Picture, Labels], second: tuple[Picture, Labels], rng: np.random.Generator
) -> tuple[Picture, Labels]:
    """Blend two scenes about half and half (mixup, Zhang et al. 2018); both labels stay."""
    share = float(rng.beta(32.0, 32.0))
    picture = cv2.addWeighted(first[0], share, second[0], 1 - share, 0.0)
    return picture, Labels.join([first[1], second[1]])  # type: ignore[return-value]


def augment(
    sample: Sample,
    partner: Callable[[np.random.Generator], Sample],
    load: Load,
    *,
    config: AugmentConfig,
    size: tuple[int, int],
    rng: np.random.Generator,
    combine: bool = True,
) -> tuple[Picture, Labels]:
    """Turn a sample into what the network sees of it.

    Args:
        sample: the picture this is about; always the first of its mosaic.
        partner: draws another picture of the data set.
        load: gives a sample's picture.
        config: what to do.
        size: (height, width) of the input.
        rng: decides everything; the result is a function of it.
        combine: False in the last epochs: no mosaic, no mixup.

    Returns:
        BGR uint8 (height, width, 3) and its labels.

    Raises:
        UserError: a picture cannot be read.
    """

    def scene(first: Sample) -> tuple[Picture, Labels]:
        samples = [first]
        if combine and rng.random() < config.mosaic:
            samples += [partner(rng) for _ in range(3)]
            samples = [samples[i] for i in rng.permutation(4)]
        return compose(samples, load, config, size, rng)

    picture, labels = scene(sample)
    if combine and rng.random() < config.mixup:
        picture, labels = blend((picture, labels), scene(partner(rng)), rng)
    if config.copy_paste:
        picture, labels = paste_small(
            picture, labels, config.copy_paste, config.copy_paste_size, rng
        )
    picture = colour.degrade(picture, rng, config.blur, config.grey, config.contrast)
    picture = colour.shift_hsv(picture, rng, config.hsv_h, config.hsv_s, config.hsv_v)
    return picture, labels
