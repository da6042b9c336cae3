"""Whether a data set is what it was when a run began: more than its number of pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from vision_heads.data.sample import DataSplit


def fingerprint(split: DataSplit) -> str:
    """Return a digest of a split's pictures by their ids and sizes, and of all their labels.

    Where the pictures lie does not count, nor what they show: reading them all takes too long.
    """
    digest = hashlib.blake2b(repr(split.names).encode(), digest_size=16)
    for sample in split.samples:
        digest.update(repr((sample.image_id, sample.width, sample.height)).encode())
        for values in (
            sample.boxes,
            sample.labels,
            sample.ignore_boxes,
            sample.ignore_labels,
            sample.rotations,
        ):
            digest.update(b"none" if values is None else values.tobytes() + b";")
    return digest.hexdigest()


def fingerprints(
    train: Mapping[str, DataSplit], val: Mapping[str, DataSplit]
) -> dict[str, dict[str, str]]:
    """Return the digest of each head's splits, by what they are for."""
    return {
        use: {name: fingerprint(split) for name, split in splits.items()}
        for use, splits in (("train", train), ("val", val))
    }


def changed(
    before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Say which data are not what they were.

    Args:
        before: `fingerprints` of the state that is resumed; empty for those of older versions.
        now: those of the resumed run.
    """
    said = {
        "train": "pictures or labels to learn from are others than before",
        "val": "pictures or labels to validate on are others than before, so the best weights "
        "are chosen by figures of both",
    }
    return [
        f"{name}: {said[use]}"
        for use, digests in now.items()
        for name, digest in digests.items()
        if before.get(use, {}).get(name, digest) != digest
    ]
