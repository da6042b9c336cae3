"""The one place that imports openvino, so that it tells nobody.

`import openvino` brings in openvino_telemetry, if that is installed, writes an id into the home
folder and sends an event to Google Analytics. Without that package it takes a stub of its own.
"""

from __future__ import annotations

import sys
from typing import Any

from vision_heads.errors import UserError

_TELEMETRY = "openvino_telemetry"


def openvino() -> Any:
    """Import openvino, without its telemetry.

    Raises:
        UserError: it is not installed.
    """
    if sys.modules.get("openvino") is not None:
        return sys.modules["openvino"]
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_telemetry(name)}
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # makes its import fail
    try:
        import openvino as package  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            f'this needs openvino ({error}): pip install "vision-heads[openvino]"'
        ) from error
    finally:
        del sys.modules[_TELEMETRY]
        sys.modules.update(hidden)
    return package


def _is_telemetry(name: str) -> bool:
    return name == _TELEMETRY or name.startswith(f"{_TELEMETRY}.")
