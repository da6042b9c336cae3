"""`vh detect --attention`: who is turned to whom, as a CSV file and as counts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from vision_heads.geometry.attention import AT_CAMERA, AT_NOBODY, attention
from vision_heads.media.sinks import named_errors, open_text, writing
from vision_heads.results import Failure, Result

COLUMNS = (
    *("source", "head", "number", "x1", "y1", "x2", "y2"),
    *("camera_degrees", "turned_to", "turned_degrees", "mutual"),
)


class AttentionSink:
    """One row a head: how far it is turned from the camera, and to what it is turned.

    `number` counts a picture's results of a head of the model from 0, best first; `turned_to`
    is such a number, "camera", "" for nobody, or "unknown" where there is no pose. Directions
    are those of heads, not of eyes.

    Args:
        path: the CSV file.
        within: degrees up to which a head counts as turned to something.

    Attributes:
        counts: over all pictures: heads, camera, others, nobody, unknown, pairs.
    """

    needs_image = False

    def __init__(self, path: Path, within: float = 15.0) -> None:
        self._path, self._within = path, within
        self._file = open_text(path)
        self._rows = csv.writer(self._file)
        self.counts = dict.fromkeys(("heads", "camera", "others", "nobody", "unknown", "pairs"), 0)
        with named_errors(path):
            self._rows.writerow(COLUMNS)

    def write(self, name: str, result: Result | Failure) -> None:
        """Append a picture's rows; failures and heads of the model without poses have none."""
        if isinstance(result, Failure):
            return
        for head, found in result.heads.items():
            if found.rotation is None:
                continue
            seen = attention(
                found.rotation, found.xyxy, result.width, result.height, within=self._within
            )
            unknown = np.isnan(seen.camera)
            self._count(seen.target, unknown, len(seen.mutual))
            paired = set(seen.mutual.reshape(-1).tolist())
            with writing(self._file, self._path):
                for row, target in enumerate(seen.target.tolist()):
                    # A head alone in its picture has no other to look up where it is AT_NOBODY.
                    angle = seen.others[row, target] if target >= 0 else seen.camera[row]
                    self._rows.writerow(
                        (
                            *(result.source, head, row),
                            *found.xyxy[row].astype(np.float64).round(2).tolist(),
                            "" if unknown[row] else round(float(seen.camera[row]), 2),
                            "unknown" if unknown[row] else _word(target),
                            "" if target == AT_NOBODY else round(float(angle), 2),
                            int(row in paired),
                        )
                    )

    def _count(self, target: np.ndarray, unknown: np.ndarray, pairs: int) -> None:
        self.counts["heads"] += len(target)
        self.counts["camera"] += int((target == AT_CAMERA).sum())
        self.counts["others"] += int((target >= 0).sum())
        self.counts["nobody"] += int(((target == AT_NOBODY) & ~unknown).sum())
        self.counts["unknown"] += int(unknown.sum())
        self.counts["pairs"] += pairs

    def close(self) -> None:
        """Close the file."""
        if not self._file.closed:
            with named_errors(self._path), self._file, writing(self._file, self._path):
                pass


def _word(target: int) -> str:
    return {AT_CAMERA: "camera", AT_NOBODY: ""}.get(target, str(target))
