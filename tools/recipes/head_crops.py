"""Cut every head with a known pose out of the pictures of cards: small pictures of one near head.

Learning a rotation takes hundreds of thousands of heads, and a crop of 80 pixels costs a CPU a
hundredth of what a picture of 640 does. What is learned on crops starts the training on pictures.

    python tools/recipes/head_crops.py runs/crops tools/cards/headpose-mini.yaml ... --side 80

Writes `OUT/train` and `OUT/card.yaml` (COCO with `euler_angles`). Labels are those of the cards.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import yaml

from vision_heads.data.card import load_split
from vision_heads.data.sample import Sample
from vision_heads.data.synthetic.write import write_coco
from vision_heads.media.images import read_image

MARGIN = 1.5
"""Side of the square that is cut out, in longer sides of the head's box."""
GREY = (114, 114, 114)


def main() -> None:
    """Cut the train split of every card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("cards", nargs="+")
    parser.add_argument("--side", type=int, default=80, help="pixels of the crops")
    parser.add_argument("--least", type=float, default=24, help="pixels of the smallest head used")
    args = parser.parse_args()
    folder = args.out / "train" / "images"
    folder.mkdir(parents=True)
    crops: list[Sample] = []
    terms = []
    for card in args.cards:
        split = load_split(card, "train")
        terms.append(split.terms)
        for sample in split.samples:
            crops += cut(sample, args.side, args.least, folder, len(crops) + 1)
        print(f"{card}: {len(crops)} crops so far")
    write_coco(crops, args.out / "train" / "annotations.json", ("head",), (1,))
    card = {
        "format": "coco",
        "path": ".",
        "splits": {"train": {"images": "train/images", "annotations": "train/annotations.json"}},
        "terms": "; ".join(dict.fromkeys(filter(None, terms))),
    }
    (args.out / "card.yaml").write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")


def cut(sample: Sample, side: int, least: float, folder: Path, first: int) -> list[Sample]:
    """Cut a sample's heads with poses; crop ids and file names count from `first`.

    Other heads that a crop shows are areas that are not judged.
    """
    if sample.rotations is None:
        return []
    known = np.isfinite(sample.rotations).all((1, 2))
    spans = (sample.boxes[:, 2:] - sample.boxes[:, :2]).max(1, initial=0)
    picture = read_image(sample.image)
    crops: list[Sample] = []
    for index in np.flatnonzero(known & (spans >= least)):
        scale = side / (MARGIN * spans[index])
        middle = (sample.boxes[index, :2] + sample.boxes[index, 2:]) / 2
        shift = side / 2 - scale * middle
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        # Shrinking needs every pixel; OpenCV's affine warp takes four.
        crop = cv2.warpAffine(
            *_halved(picture, matrix), (side, side), flags=cv2.INTER_LINEAR, borderValue=GREY
        )
        file = folder / f"{first + len(crops):06d}.jpg"
        if not cv2.imwrite(str(file), crop, [cv2.IMWRITE_JPEG_QUALITY, 92]):
            raise SystemExit(f"{file}: cannot be written")
        boxes = (sample.boxes * scale + np.tile(shift, 2)).clip(0, side).astype(np.float32)
        others = np.delete(boxes, index, 0)
        others = others[(others[:, 2:] - others[:, :2] > 1).all(1)]
        crops.append(
            Sample(
                image=file,
                image_id=first + len(crops),
                width=side,
                height=side,
                boxes=boxes[index : index + 1],
                labels=np.zeros(1, np.int64),
                ignore_boxes=others,
                ignore_labels=np.full(len(others), -1, np.int64),
                rotations=sample.rotations[index : index + 1],
            )
        )
    return crops


def _halved(picture: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Halve a picture while the matrix shrinks it by two or more, and double the matrix's scale."""
    while matrix[0, 0] <= 0.5:
        height, width = picture.shape[:2]
        picture = cv2.resize(
            picture, (max(width // 2, 1), max(height // 2, 1)), interpolation=cv2.INTER_AREA
        )
        matrix = matrix * np.array([[2, 2, 1]])
    return picture, matrix


if __name__ == "__main__":
    main()
