"""Readers of label formats; each module reads one and is imported only when used.

A format is a module with `read(source: Source) -> Part`; a new one is a new module and a line
in `FORMATS`.
"""

from __future__ import annotations

from importlib import import_module

from vision_heads.data.formats.base import Part, Source

FORMATS = ("coco", "yolo", "voc", "visdrone")
"""Registered formats; each names a module here."""


def read(name: str, source: Source) -> Part:
    """Read one part of a split in the registered format `name`."""
    part: Part = import_module(f"vision_heads.data.formats.{name}").read(source)
    return part
