"""What the options of `vh export` may be together; found out before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_heads.errors import UserError, require

if TYPE_CHECKING:
    from vision_heads.export.gate import Limits
    from vision_heads.spec import NmsSpec

Given = Mapping[str, object]
"""Values by the option that gives them; None and False where it was not given."""

OF_NMS = ("--conf", "--iou", "--max-det")
OF_GATE = ("--max-drop", "--max-mae-rise")
OF_DATA = ("--split",)
OF_ENGINE = ("--workspace", "--dla", "--timing-cache", "--calib-cache")
OF_INT8 = ("--calib-data", "--calib-split", "--calib-cache", "--exclude", "--sensitivity")
OF_WEIGHTS = (
    *("--heads", "--imgsz", "--candidates", "--nms", "--pictures", "--data"),
    *("--exclude", "--sensitivity", "--threads", "--json", *OF_GATE),
)
"""Of the torch model, which is not there when an engine is made of an ONNX file."""


def check_values(
    method: str,
    threads: int | None,
    pictures: Path | None,
    data: Sequence[str] | None,
    json_file: Path | None,
) -> None:
    """Check what needs neither model nor pictures.

    Raises:
        UserError: names the option.
    """
    from vision_heads.export.formats import METHODS  # noqa: PLC0415
    from vision_heads.runtime.engines import MAX_THREADS  # noqa: PLC0415

    require(method in METHODS, f"--calib-method {method}: must be {', '.join(METHODS)}")
    require((threads or 1) <= MAX_THREADS, f"--threads {threads}: must be at most {MAX_THREADS}")
    require(not (pictures and data), "--pictures and --data: give one of them")
    if json_file is not None:
        place = json_file.parent.is_dir() and not json_file.is_dir()
        require(place, f"--json {json_file}: no such folder, or a folder itself")


def refuse_idle(
    given: Given,
    formats: Sequence[str],
    *,
    nms: bool,
    gate: bool,
    data: Sequence[str] | None,
    precision: str | None,
) -> None:
    """Refuse options that would do nothing without being missed.

    Args:
        given: at least the options of all groups above.
        formats: as `parse_formats` gives them.
        nms, gate, data, precision: what the groups belong to.

    Raises:
        UserError: names the options; or the precision is none of a format's.
    """
    from vision_heads.export.formats import needs_int8  # noqa: PLC0415

    int8 = needs_int8(formats, precision)
    for wanted, what, options in (
        (nms, "--nms", OF_NMS),
        (gate, "the gate", OF_GATE),
        (data, "--data", OF_DATA),
        ("engine" in formats, "--format engine", OF_ENGINE),
        (int8, "INT8", OF_INT8),
    ):
        idle = _given(given, options)
        require(wanted or not idle, f"{', '.join(idle)}: of {what}, which is not asked for")


def _given(given: Given, options: Sequence[str]) -> list[str]:
    """Return those of the options that were given; 0 is given, too."""
    return [one for one in options if given[one] is not None and given[one] is not False]


def refuse_of_weights(given: Given, model: str) -> None:
    """Refuse options that an engine of an ONNX file has no use for."""
    idle = ", ".join(_given(given, OF_WEIGHTS))
    require(not idle, f"{idle}: not for an engine of {model}, only for one of weights")


def engine_settings(
    workspace: int | None, dla: int | None, timing_cache: Path | None, calib_cache: Path | None
) -> dict[str, Any]:
    """Return the given ones of these options by their names in `EngineOptions`."""
    settings = {
        "workspace_mib": workspace,
        "dla": dla,
        "timing_cache": timing_cache,
        "calibration_cache": calib_cache,
    }
    return {name: value for name, value in settings.items() if value is not None}


def make_nms(conf: float | None, iou: float | None, max_det: int | None) -> NmsSpec:
    """Return the NMS that goes into the graph; its own figures where none are given."""
    from vision_heads.spec import NmsSpec  # noqa: PLC0415

    require((max_det or 0) <= 30000, f"--max-det {max_det}: must be at most 30000")
    given = {"conf": conf, "iou": iou, "max_det": max_det}
    return NmsSpec(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def make_limits(
    max_drop: float | None, max_mae_rise: float | None, latency_gate: str, rounds: int
) -> Limits:
    """Return what files must keep to."""
    from vision_heads.export.gate import LATENCY_GATES, Limits  # noqa: PLC0415

    for name in LATENCY_GATES:
        if name == latency_gate:
            return Limits(max_drop, max_mae_rise, name, rounds)
    raise UserError(f"--latency-gate {latency_gate}: must be {', '.join(LATENCY_GATES)}")
