"""What commands that read models share."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from vision_heads.errors import UserError, missing_package, require
from vision_heads.runtime.engines import resolve_weights


def safetensors_of(model: str) -> Path:
    """Return the `.safetensors` file that a path or a shipped name means.

    Raises:
        UserError: there is none, or it is of another kind.
    """
    named = Path(model).suffix == "" and not Path(model).exists()
    file = resolve_weights(f"{model}.safetensors" if named else model)
    if file.suffix != ".safetensors":
        raise UserError(f"{file}: needs the weights it was made from (.safetensors)")
    return file


def torch_module(name: str, otherwise: str = "") -> Any:
    """Import a module that needs torch; `UserError` says what to install when it is missing.

    Args:
        name: of the module.
        otherwise: what goes without, as the error's end.
    """
    try:
        return import_module(name)
    except ImportError as error:
        needs = f"this needs {missing_package(error)}"
        raise UserError(f'{needs}: pip install "vision-heads[train]"{otherwise}') from error


def comma_separated(text: str | None) -> list[str] | None:
    """Split an option's list; None stays None."""
    if text is None:
        return None
    return [part.strip() for part in text.split(",") if part.strip()]


def class_list(text: str | None) -> list[int | str] | None:
    """Split a list of classes by name or number; None stays None."""
    names = comma_separated(text)
    if names is None:
        return None
    return [int(name) if name.isdecimal() else name for name in names]


def pixels(text: str | None) -> tuple[int, int] | None:
    """Parse an `--imgsz`: a side, or HEIGHTxWIDTH; returns height and width."""
    if text is None:
        return None
    sides = text.lower().split("x")
    require(
        len(sides) in (1, 2) and all(side.isdecimal() for side in sides),
        f"--imgsz {text}: must be a number of pixels or HEIGHTxWIDTH",
    )
    return int(sides[0]), int(sides[-1])
