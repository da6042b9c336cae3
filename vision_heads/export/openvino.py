"""OpenVINO files: an ONNX file of `vh export` as .xml and .bin, which carry the description too."""

from __future__ import annotations

from pathlib import Path

from vision_heads._openvino import openvino
from vision_heads.errors import UserError, require
from vision_heads.export.inspect import read_onnx
from vision_heads.measure import METADATA_KEY as MEASURES_KEY
from vision_heads.runtime.openvino_engine import HINTS, PRECISION_KEY
from vision_heads.spec import METADATA_KEY


def write_openvino(source: Path, target: Path, precision: str) -> list[Path]:
    """Convert an ONNX file.

    Args:
        source: of `vh export`: the FP32 one, or the INT8 one for "int8".
        target: the .xml file; the weights go to the .bin beside it.
        precision: the runtime is to compute in: "float32", "float16", "bfloat16" or "int8".
            With "float16" and "bfloat16" weights are stored as float16.

    Returns:
        The files written.

    Raises:
        UserError: openvino is not installed or cannot convert the file, which names the reason.
    """
    require(target.suffix == ".xml", f"{target}: an OpenVINO file's name must end in .xml")
    require(precision in HINTS, f"--precision {precision}: OpenVINO takes {', '.join(HINTS)}")
    content = read_onnx(source)
    require(METADATA_KEY in content.metadata, f"{source}: carries no model description")
    package = openvino()
    try:
        # read_model, and not convert_model: that one is Python around it, with telemetry.
        model = package.Core().read_model(str(source))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"{source}: OpenVINO cannot convert it: {reason}") from error
    model.set_rt_info(content.metadata[METADATA_KEY], [METADATA_KEY, "spec"])
    model.set_rt_info(precision, [METADATA_KEY, PRECISION_KEY])
    if MEASURES_KEY in content.metadata:
        model.set_rt_info(content.metadata[MEASURES_KEY], [METADATA_KEY, "measures"])
    half = precision in ("float16", "bfloat16")
    package.save_model(model, str(target), compress_to_fp16=half)
    return [target, target.with_suffix(".bin")]
