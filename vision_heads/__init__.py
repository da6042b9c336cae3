"""vision_heads: one light trunk, any number of task heads.

>>> import vision_heads
>>> predictor = vision_heads.load("aerial-n")
>>> result = predictor("street.jpg")

Names are resolved on first use, so that importing the package stays cheap.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vision_heads.version import __version__

# ONNX Runtime from 1.29 reports models and machine to its makers and keeps an id of the machine in
# the home folder, unless this stands before its first import, wherever that is.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from vision_heads.errors import UserError
    from vision_heads.results import Detections, Result
    from vision_heads.runtime.predictor import Predictor, load
    from vision_heads.spec import HeadSpec, InputSpec, ModelSpec

_HOMES = {
    "load": "vision_heads.runtime.predictor",
    "Predictor": "vision_heads.runtime.predictor",
    "Detections": "vision_heads.results",
    "Result": "vision_heads.results",
    "ModelSpec": "vision_heads.spec",
    "HeadSpec": "vision_heads.spec",
    "InputSpec": "vision_heads.spec",
    "UserError": "vision_heads.errors",
}

__all__ = [
    "Detections",
    "HeadSpec",
    "InputSpec",
    "ModelSpec",
    "Predictor",
    "Result",
    "UserError",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module the first time it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vision_heads' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, resolved or not."""
    return sorted(__all__)
