"""Where the shipped cards and weights lie, in a checkout and in an installed wheel alike."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

DEMO = {"detect": "demo", "headpose": "demo-heads"}
"""Shipped data set, by kind of head, that commands use when none is named."""


def assets(kind: str) -> Path:
    """Return the folder of shipped `kind` ("datasets" or "weights").

    A wheel carries them inside the package; a checkout has them beside it.
    """
    inside = _PACKAGE / "_assets" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind
