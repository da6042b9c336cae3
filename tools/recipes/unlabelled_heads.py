"""Copy a card's labels with areas that are not judged wherever a model finds a head without one.

In a data set of faces with poses, heads that turn away are often not labelled. Trained on as
background they lower the scores of all heads, most of all in crowds. Whether such a find is a head
does not matter: where it is, nothing is learned.

    python tools/recipes/unlabelled_heads.py runs/faces tools/cards/headpose-mini.yaml headpose-n

Writes `OUT/{train,val}.json` and `OUT/card.yaml`; pictures stay where they are.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from vision_heads.data.card import load_split
from vision_heads.data.sample import REGION, DataSplit, Sample
from vision_heads.data.synthetic.write import write_coco
from vision_heads.evaluation.runner import predict_split
from vision_heads.geometry.boxes import iou_matrix
from vision_heads.heads.base import DecodeOptions
from vision_heads.runtime.predictor import load

SAME = 0.3
"""IoU with a label from which a find is the labelled head."""


def main() -> None:
    """Write the splits `train`, with areas, and `val`, as it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("card")
    parser.add_argument("model", help="finds heads: weights by name or file")
    parser.add_argument("--conf", type=float, default=0.2, help="least score of a find")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    train, val = load_split(args.card, "train"), load_split(args.card, "val")
    marked = with_areas(train, args.model, args.conf)
    more = sum(len(s.ignore_boxes) for s in marked) - sum(
        len(s.ignore_boxes) for s in train.samples
    )
    print(f"{args.card}: {more} heads without a label in {len(marked)} pictures")
    splits = {}
    for name, samples in (("train", marked), ("val", val.samples)):
        write_coco(samples, args.out / f"{name}.json", train.names, (1,))
        folder = str(samples[0].image.parent.resolve())
        splits[name] = {"images": folder, "annotations": f"{name}.json"}
    card = {"format": "coco", "path": ".", "splits": splits, "terms": train.terms}
    (args.out / "card.yaml").write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")


def with_areas(split: DataSplit, model: str, conf: float) -> list[Sample]:
    """Return a split's samples with the model's finds that no label covers as ignored areas."""
    options = DecodeOptions(conf=conf, iou=0.6, max_det=300)
    predictor = load(model)
    found = predict_split(predictor, split, options, head=predictor.spec.heads[0]).detections
    samples = []
    for sample, heads in zip(split.samples, found, strict=True):
        overlap = iou_matrix(heads.xyxy, sample.boxes).max(1, initial=0)
        new = heads.xyxy[overlap < SAME]
        samples.append(
            replace(
                sample,
                ignore_boxes=np.concatenate([sample.ignore_boxes, new]).astype(np.float32),
                ignore_labels=np.append(sample.ignore_labels, np.full(len(new), REGION)),
            )
        )
    return samples


if __name__ == "__main__":
    main()
