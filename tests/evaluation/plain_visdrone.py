"""The VisDrone rules once more, one box at a time: slow, short, and sharing no code."""

from __future__ import annotations

import math

import numpy as np


def plain_visdrone(truth, found, sizes):
    """Score lists of rows x, y, w, h, score, category, one array for each picture."""
    kept = [drop(t, f, *size) for t, f, size in zip(truth, found, sizes, strict=True)]
    thresholds = [0.5 + 0.05 * step for step in range(10)]
    limits = (1, 10, 100, 500)
    precision = np.zeros((11, 10))
    recall = np.zeros((11, 10, 4))
    weights = []
    for c in range(1, 11):
        weights += [c for t, _ in kept if any(row[5] == c for row in t)]
        for i, threshold in enumerate(thresholds):
            for j, limit in enumerate(limits):
                outcome, objects = [], 0
                for t, f in kept:
                    objects += sum(row[5] == c for row in t)
                    outcome += match_one(
                        [row for row in t if row[5] == c],
                        [row for row in f[:limit] if row[5] == c],
                        threshold,
                    )
                outcome.sort(key=lambda pair: -pair[0])
                hits = misses = 0
                curve = []
                for _, state in outcome:
                    hits += state == 1
                    misses += state == 0
                    curve.append((hits / max(1, objects), hits / max(1, hits + misses)))
                recall[c, i, j] = max((r for r, _ in curve), default=0)
            precision[c, i] = area(curve)
    if not weights:
        return dict.fromkeys(("AP", "AP50", "AP75", "AR1", "AR10", "AR100", "AR500"), math.nan)
    numbers = {
        "AP": precision[weights].mean(),
        "AP50": precision[weights, 0].mean(),
        "AP75": precision[weights, 5].mean(),
    }
    for j, limit in enumerate(limits):
        numbers[f"AR{limit}"] = recall[weights, :, j].mean()
    return {name: 100 * value for name, value in numbers.items()}


def drop(truth, found, width, height):
    """Leave out what is at least half covered by pixels of ignored regions."""
    regions = [[max(1, int(v)) for v in row[:4]] for row in truth if row[5] == 0]
    objects = [row for row in truth if row[5] != 0]
    if not regions:
        return objects, list(found)
    painted = {
        (column, line)
        for x, y, w, h in regions
        for column in range(x, min(width, x + w) + 1)
        for line in range(y, min(height, y + h) + 1)
    }

    def free(row):
        x, y, w, h = (max(1, math.floor(v + 0.5)) for v in row[:4])
        x, y = min(width, x), min(height, y)
        inside = sum(
            (column, line) in painted
            for column in range(x + 1, min(width, x + w) + 1)
            for line in range(y + 1, min(height, y + h) + 1)
        )
        return inside / (w * h) < 0.5

    return [row for row in objects if free(row)], [row for row in found if free(row)]


def match_one(truth, found, threshold):
    """Return (score, 1 hit / 0 false / -1 not counted) of one picture's results of a class."""
    objects = [row for row in truth if row[4] == 1]
    ignored = [row for row in truth if row[4] == 0]
    taken = set()
    outcome = []
    for row in sorted(found, key=lambda row: -row[4]):
        best, who = threshold, None
        for index, one in enumerate(objects):
            overlap = share(common(row, one), size(row) + size(one) - common(row, one))
            if index not in taken and overlap >= best:
                best, who = overlap, index
        taken.add(who)
        covered = any(share(common(row, one), size(row)) >= threshold for one in ignored)
        outcome.append((row[4], 1 if who is not None else -1 if covered else 0))
    return outcome


def size(row):
    return row[2] * row[3]


def share(part, whole):
    return part / whole if part > 0 else 0.0


def common(a, b):
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def area(curve):
    """Integrate the best precision at each recall or more."""
    total = last = 0.0
    for index, (recall, _) in enumerate(curve):
        total += (recall - last) * max(p for _, p in curve[index:])
        last = recall
    return total
