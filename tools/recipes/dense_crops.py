"""Render crops of one head each, with the place on the head that every pixel shows.

    python -m tools.recipes.dense_crops runs/dense-1.npz --scenes 6873 --seed 1
    python -m tools.recipes.dense_crops runs/dense-faces.npz --card tools/cards/headpose-mini.yaml

The second form cuts the heads with a pose out of a card's train split; what their pixels show is
unknown. Both are for tools/recipes/dense_heads.py. Arrays in the file, N crops:

    X  (N, 96, 96, 3) uint8 BGR
    N  (N, 48, 48, 3) int8   place on the head in its own axes, 120ths of its height; -128 off it
    R  (N, 3, 3) float32     rotation
    B  (N, 4) float32        box, xyxy pixels of the crop
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from tools.bench.shared import start
from tools.recipes.head_crops import GREY, MARGIN, cut
from vision_heads.data.card import load_split
from vision_heads.data.synthetic import render_heads
from vision_heads.data.synthetic.heads import HeadScene, Surface
from vision_heads.data.synthetic.people import OVER, Group
from vision_heads.media.images import read_image

SIDE = 96
"""Pixels of a crop; the map of places has half of it."""
UNIT = 120
"""Steps of a place in a head height: places reach a little beyond one, int8 to 127."""
NOWHERE = -128
LEAST = {"scene": 16, "card": 24}
"""Pixels of the smallest head that is cut out."""
SCENES: tuple[tuple[Group, int, int, float], ...] = (
    ("portrait", 112, 112, 0.5),
    ("few", 304, 232, 0.25),
    ("group", 512, 320, 0.15),
    ("rows", 704, 432, 0.05),
    ("crowd", 704, 432, 0.05),
)
"""Groups, width and height of their pictures, share of the scenes."""


@dataclass(slots=True)
class Crops:
    """Crops as they are gathered; see the head of this file."""

    images: list[NDArray[np.uint8]] = field(default_factory=list)
    places: list[NDArray[np.int8]] = field(default_factory=list)
    rotations: list[NDArray[np.float32]] = field(default_factory=list)
    boxes: list[NDArray[np.float32]] = field(default_factory=list)

    def save(self, file: Path) -> None:
        """Write what was gathered."""
        if not self.images:
            raise SystemExit(f"{file}: there is no head to write")
        np.savez(
            file,
            X=np.stack(self.images),
            N=np.stack(self.places),
            R=np.stack(self.rotations).astype(np.float32),
            B=np.stack(self.boxes).astype(np.float32),
        )


def main() -> None:
    """Render or cut, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=int, default=6900, help="pictures to render")
    parser.add_argument("--seed", type=int, default=1, help="files of other seeds share no picture")
    parser.add_argument("--card", help="cut the heads of its train split instead")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    crops = from_card(args.card) if args.card else from_scenes(args.scenes, args.seed)
    crops.save(args.out)
    print(f"{args.out}: {len(crops.images)} crops")


def from_scenes(count: int, seed: int) -> Crops:
    """Render scenes of all groups and cut every head out."""
    rng, crops = np.random.default_rng(seed), Crops()
    shares = [share for *_, share in SCENES]
    for number in track(range(count), "scenes"):
        group, width, height, _ = SCENES[rng.choice(len(SCENES), p=shares)]
        scene = render_heads(
            (seed + 1) * 1_000_000 + number, width, height, group=group, surface=True
        )
        cut_scene(scene, crops)
    return crops


def cut_scene(scene: HeadScene, crops: Crops) -> None:
    """Add every head of a scene that is large enough."""
    assert scene.surface is not None
    for row, box in enumerate(scene.boxes):
        span = float((box[2:] - box[:2]).max())
        if span < LEAST["scene"]:
            continue
        scale = SIDE / (MARGIN * span)
        shift = SIDE / 2 - scale * (box[:2] + box[2:]) / 2
        # Pixel centres lie half a pixel in, OpenCV counts them as whole numbers.
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        matrix[:, 2] += 0.5 * scale - 0.5
        picture = cv2.warpAffine(
            scene.image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderValue=GREY
        )
        crops.images.append(np.asarray(picture, np.uint8))
        crops.places.append(places_of(scene.surface, row, scale, shift))
        crops.rotations.append(scene.rotations[row])
        crops.boxes.append((box.reshape(2, 2) * scale + shift).reshape(4))


def places_of(
    surface: Surface, row: int, scale: float, shift: NDArray[np.floating]
) -> NDArray[np.int8]:
    """Return the places that a crop's pixels show of its head, at half the crop's resolution.

    Args:
        surface: of the scene.
        row: of the head.
        scale, shift: crop pixels = scale * picture pixels + shift.
    """
    middles = (np.arange(SIDE // 2) + 0.5) * 2
    columns, rows = (np.floor((middles - s) / scale * OVER).astype(int) for s in shift)
    height, width = surface.owner.shape
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    index = np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))
    mine = inside & (surface.owner[index] == row)
    steps = np.round(np.nan_to_num(surface.places[index]) * UNIT).clip(-127, 127)
    return np.where(mine[..., None], steps, NOWHERE).astype(np.int8)


def from_card(card: str) -> Crops:
    """Cut the heads with a pose out of a card's train split."""
    crops = Crops()
    with tempfile.TemporaryDirectory() as folder:
        for sample in load_split(card, "train").samples:
            first = len(crops.images) + 1
            for crop in cut(sample, SIDE, LEAST["card"], Path(folder), first):
                assert crop.rotations is not None
                crops.images.append(read_image(crop.image))
                crops.places.append(np.full((SIDE // 2, SIDE // 2, 3), NOWHERE, np.int8))
                crops.rotations.append(crop.rotations[0])
                crops.boxes.append(crop.boxes[0])
    return crops


if __name__ == "__main__":
    start(main)
