"""Readers of label formats; each module reads one and is imported only when used.

A format is a module with `read(source: Source) -> Part`; a new one is a new module and a line
in `FORMATS`.
"""

from __future__ import annotations

from importlib import import_module

from vision_heads.data.formats.base import Part, Source

FORMATS = ("coco", "yolo", "voc", "visdrone", "300w-lp", "biwi", "crowdhuman")
"""Registered formats; each names a module here."""

_MODULES = {"300w-lp": "lp300w"}
"""Modules of formats whose names are no module names."""


def read(name: str, source: Source) -> Part:
    """Read one part of a split in the registered format `name`."""
    module = import_module(f"vision_heads.data.formats.{_MODULES.get(name, name)}")
    part: Part = module.read(source)
    return part
