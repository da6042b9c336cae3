"""Write a Gst-nvinfer configuration and its labels for an exported ONNX file.

    python configure.py aerial-n.onnx
    python configure.py aerial-n.onnx --engine aerial-n.engine

writes config_infer_primary_vision_heads.txt and labels.txt beside the file; with --engine also the
plan inside that engine, which nvinfer then loads instead of building its own. Everything that the
configuration says about the model is read from it. Needs the core of vision_heads only.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from vision_heads.errors import UserError, require
from vision_heads.heads.base import DecodeOptions, kind_of
from vision_heads.paths import printable
from vision_heads.runtime.engines import OnnxEngine
from vision_heads.runtime.tensorrt_file import read_engine
from vision_heads.spec import HeadSpec, ModelSpec

CONFIG = "config_infer_primary_vision_heads.txt"
LABELS = "labels.txt"
LIBRARY = "libnvdsinfer_vision_heads.so"
PRECISIONS = {"fp32": 0, "int8": 1, "fp16": 2}
"""Names of nvinfer's network-mode."""


def heads_in_order(spec: ModelSpec) -> list[HeadSpec]:
    """Return the heads as the C++ parser counts their classes: by name, as C++ compares text."""
    return sorted(spec.heads, key=lambda head: head.name.encode())


def labels(spec: ModelSpec) -> str:
    """Return the labels, one a line, of all heads' classes.

    With several heads, a label says whose it is.
    """
    several = len(spec.heads) > 1
    return "".join(
        f"{head.name}:{printable(label)}\n" if several else f"{printable(label)}\n"
        for head in heads_in_order(spec)
        for label in head.classes
    )


def settings(
    spec: ModelSpec, onnx: str, *, batch: int, precision: str, engine: str | None = None
) -> dict[str, dict[str, str]]:
    """Return groups, keys and values of the configuration.

    Args:
        spec: of the file.
        onnx: its name, relative to the configuration.
        batch: frames a call; what the file fixes, or any with `--dynamic-batch`.
        precision: one of `PRECISIONS`, for an engine that nvinfer builds itself.
        engine: name of a ready TensorRT plan; that which nvinfer would build if None.
    """
    suffixes = {head.name: kind_of(head.kind).outputs for head in spec.heads}
    pose = any("rotation" in outputs for outputs in suffixes.values())
    outputs = [f"{name}/{suffix}" for name in sorted(suffixes) for suffix in suffixes[name]]
    size, options = spec.input, DecodeOptions()
    built = f"{onnx}_b{batch}_gpu0_{precision}.engine"
    properties = {
        "gpu-id": "0",
        "gie-unique-id": "1",
        "process-mode": "1",
        "network-type": "3" if pose else "0",
        "onnx-file": onnx,
        "model-engine-file": engine or built,
        "labelfile-path": LABELS,
        "batch-size": str(batch),
        "network-mode": str(PRECISIONS[precision]),
        "interval": "0",
        "net-scale-factor": repr(size.scale),
        "model-color-format": "0",
        "infer-dims": f"3;{size.height};{size.width}",
        "maintain-aspect-ratio": "1",
        "symmetric-padding": "1",
        "scaling-filter": "1",
        "num-detected-classes": str(sum(len(head.classes) for head in spec.heads)),
        "output-blob-names": ";".join(outputs),
        "cluster-mode": "4" if pose else "2",
        "custom-lib-path": LIBRARY,
    }
    if pose:
        properties["parse-bbox-instance-mask-func-name"] = "NvDsInferParseCustomVisionHeadsPose"
        properties["output-instance-mask"] = "1"
    else:
        properties["parse-bbox-func-name"] = "NvDsInferParseCustomVisionHeads"
    every = {"pre-cluster-threshold": str(options.conf)}
    if not pose:
        every |= {"nms-iou-threshold": str(options.iou), "topk": str(options.max_det)}
    return {"property": properties, "class-attrs-all": every}


def text_of(groups: dict[str, dict[str, str]]) -> str:
    """Return the configuration as GLib's key files are written."""
    return "\n".join(
        f"[{group}]\n" + "".join(f"{key}={value}\n" for key, value in entries.items())
        for group, entries in groups.items()
    )


def configure(
    onnx: Path, *, batch: int = 1, precision: str = "fp32", engine: Path | None = None
) -> Path:
    """Write configuration and labels beside an ONNX file; return the configuration's path.

    Args:
        onnx: of `vh export`.
        batch, precision: see `settings`.
        engine: of `vh export --format engine`, made of this file on the device.

    Raises:
        UserError: the file is none of `vh export`, does NMS itself, or its batch is another; the
            engine is damaged, or of another model.
    """
    require(batch >= 1, f"batch must be at least 1, got {batch}")
    model = OnnxEngine(onnx, threads=1)
    require(
        model.batch in (None, batch),
        f"{onnx}: takes {model.batch} frames a call, not {batch}; export it with --dynamic-batch",
    )
    require(model.spec.nms is None, f"{onnx}: does NMS itself; export it without --nms")
    plan = None if engine is None else _unpack(engine, onnx, batch)
    groups = settings(model.spec, onnx.name, batch=batch, precision=precision, engine=plan)
    path = onnx.parent / CONFIG
    (onnx.parent / LABELS).write_text(labels(model.spec), encoding="utf-8")
    path.write_text(text_of(groups), encoding="utf-8")
    return path


def _unpack(engine: Path, onnx: Path, batch: int) -> str:
    """Write the plan inside an engine beside the ONNX file; return its name.

    Our engines begin with a description, which nvinfer does not know.
    """
    facts, plan = read_engine(engine)
    same = facts.source_sha256 == hashlib.sha256(onnx.read_bytes()).hexdigest()
    require(same, f"{engine}: was built from {facts.source}, which is another file than {onnx}")
    least, _, most = facts.batch
    require(
        least <= batch <= most,
        f"{engine}: takes {least} to {most} frames a call, not {batch}",
    )
    path = onnx.with_suffix(".plan")
    path.write_bytes(plan)
    return path.name


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("onnx", type=Path)
    parser.add_argument("--batch", type=int, default=1, help="frames a call, e.g. one a camera")
    parser.add_argument("--precision", choices=sorted(PRECISIONS), default="fp32")
    parser.add_argument("--engine", type=Path, help="made of this file, on this device")
    given = parser.parse_args()
    path = configure(given.onnx, batch=given.batch, precision=given.precision, engine=given.engine)
    print(f"written: {path}, {path.with_name(LABELS)}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"configure: {error}") from error
