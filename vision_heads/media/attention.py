"""`vh detect --attention`: who is turned to whom, as a CSV file and as counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vision_heads.geometry.attention import AT_CAMERA, AT_NOBODY, attention
from vision_heads.media.sinks import TextFile, csv_text
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
        self._within = within
        self._file = TextFile(path)
        self.counts = dict.fromkeys(("heads", "camera", "others", "nobody", "unknown", "pairs"), 0)
        self._file.write(csv_text([COLUMNS]))

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
            rows = []
            for row, target in enumerate(seen.target.tolist()):
                # A head alone in its picture has no other to look up where it is AT_NOBODY.
                angle = seen.others[row, target] if target >= 0 else seen.camera[row]
                rows.append(
                    (
                        *(result.source, head, row),
                        *found.xyxy[row].astype(np.float64).round(2).tolist(),
                        "" if unknown[row] else round(float(seen.camera[row]), 2),
                        "unknown" if unknown[row] else _word(target),
                        "" if target == AT_NOBODY else round(float(angle), 2),
                        int(row in paired),
                    )
                )
            self._file.write(csv_text(rows))

    def _count(self, target: np.ndarray, unknown: np.ndarray, pairs: int) -> None:
        self.counts["heads"] += len(target)
        self.counts["camera"] += int((target == AT_CAMERA).sum())
        self.counts["others"] += int((target >= 0).sum())
        self.counts["nobody"] += int(((target == AT_NOBODY) & ~unknown).sum())
        self.counts["unknown"] += int(unknown.sum())
        self.counts["pairs"] += pairs

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _word(target: int) -> str:
    return {AT_CAMERA: "camera", AT_NOBODY: ""}.get(target, str(target))
