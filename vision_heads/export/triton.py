"""Model repositories for NVIDIA's Triton Inference Server, made from exported ONNX files.

Triton serves what lies in a folder of this shape (its documentation, "Model Repository" and
"Model Configuration"):

    <folder>/<name>/config.pbtxt        inputs, outputs, batching: protobuf text
    <folder>/<name>/1/model.onnx        version 1
    <folder>/<name>/<head>_labels.txt   a class a line, for people and other programs

Needs ONNX Runtime and nothing else: names, types and shapes are the file's own.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_heads.errors import UserError, require
from vision_heads.paths import printable
from vision_heads.spec import METADATA_KEY, ModelSpec

VERSION = "1"
"""Folder of the one version that is written."""

_TYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(bool)": "TYPE_BOOL",
}
_ANY = -1
"""How Triton writes a size that may differ from call to call."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a model.

    Attributes:
        name: as in the ONNX file.
        type: Triton's name of the number type, e.g. "TYPE_FP32".
        shape: all axes, the batch too; -1 where the size is open.
    """

    name: str
    type: str
    shape: tuple[int, ...]


def write_repository(onnx: Path, folder: Path, *, max_batch: int = 0) -> Path:
    """Write a model repository of one model, or replace the model of that name in it.

    Args:
        onnx: a file of `vh export`; the model is called as the file without its suffix.
        folder: the repository; made if it is not there. Other models in it are left alone.
        max_batch: 0: requests have exactly the shapes of the file, batch axis and all. Above
            0: Triton puts requests together into batches of up to so many; the file must have
            been exported with `--dynamic-batch`. Shapes in the configuration then lack the
            batch axis, as Triton wants it.

    Returns:
        The model's folder, `folder / name`.

    Raises:
        UserError: the file is none of `vh export`, its name is no name for a model, its batch
            is fixed although `max_batch` is above 0, or the folder cannot be written.
    """
    onnx, folder = Path(onnx), Path(folder)
    require(max_batch >= 0, f"max_batch must be 0 or more, got {max_batch}")
    name = onnx.stem
    require(
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name),
        f"{onnx}: Triton names the model after the file; use letters, digits, '.', '_' and '-'",
    )
    spec, inputs, outputs = _read(onnx)
    text = config(name, spec, inputs, outputs, max_batch, where=str(onnx))
    target = folder / name
    try:
        (target / VERSION).mkdir(parents=True, exist_ok=True)
        for head in spec.heads:
            labels = "".join(f"{printable(label)}\n" for label in head.classes)
            _replace(target / f"{head.name}_labels.txt", labels)
        part = target / VERSION / "model.onnx.part"
        shutil.copyfile(onnx, part)
        part.replace(part.with_suffix(""))
        # Last: with --model-control-mode=poll the server looks again when this file changes.
        _replace(target / "config.pbtxt", text)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}") from error
    return target


def config(
    name: str,
    spec: ModelSpec,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    max_batch: int,
    *,
    where: str,
) -> str:
    """Return the text of `config.pbtxt`.

    The model's description is in it as the parameter "vision_heads": a client asks the server
    for the configuration and needs no other file to letterbox, decode and name what it gets.

    Args:
        name: of the model.
        spec: of the file.
        inputs, outputs: of the file.
        max_batch: see `write_repository`.
        where: file, for messages.

    Raises:
        UserError: the batch of a tensor is fixed although `max_batch` is above 0.
    """
    for tensor in (*inputs, *outputs):
        require(
            not max_batch or (tensor.shape and tensor.shape[0] == _ANY),
            f"{where}: {tensor.name} has the shape {list(tensor.shape)}, so Triton cannot batch "
            "requests: export it with --dynamic-batch, or take a max_batch of 0",
        )
    lines = [f"name: {_quoted(name)}", 'platform: "onnxruntime_onnx"']
    lines.append(f"max_batch_size: {max_batch}")
    for kind, tensors in (("input", inputs), ("output", outputs)):
        lines.append(f"{kind} [")
        lines += [",\n".join(_entry(tensor, skip=int(max_batch > 0)) for tensor in tensors), "]"]
    if max_batch:
        lines.append("dynamic_batching { }")
    value = f"value: {{ string_value: {_quoted(spec.to_json())} }}"
    lines.append(f"parameters {{\n  key: {_quoted(METADATA_KEY)}\n  {value}\n}}")
    return "\n".join(lines) + "\n"


def _entry(tensor: Tensor, skip: int) -> str:
    dims = ", ".join(map(str, tensor.shape[skip:]))
    fields = f"name: {_quoted(tensor.name)}", f"data_type: {tensor.type}", f"dims: [ {dims} ]"
    return "  {\n" + "".join(f"    {field}\n" for field in fields) + "  }"


def _quoted(text: str) -> str:
    """Return a string of protobuf's text format; what is not ASCII becomes octal UTF-8 bytes."""
    known = {ord('"'): '\\"', ord("\\"): "\\\\", ord("\n"): "\\n"}
    plain = (known.get(b) or (chr(b) if 32 <= b < 127 else f"\\{b:03o}") for b in text.encode())
    return f'"{"".join(plain)}"'


def _read(path: Path) -> tuple[ModelSpec, list[Tensor], list[Tensor]]:
    require(path.suffix == ".onnx", f"{path}: a Triton repository is made from a .onnx file")
    require(path.is_file(), f"{path}: no such file")
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Nothing is run: only names, types and shapes are asked for.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's own exceptions share no other base class
        reason = str(error).strip().splitlines() or ["unknown reason"]
        raise UserError(f"{path}: ONNX Runtime cannot open it: {reason[0]}") from error
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    require(text, f"{path}: carries no model description; write it with vh export")
    return (
        ModelSpec.from_json(text, str(path)),
        [_tensor(value, path) for value in session.get_inputs()],
        [_tensor(value, path) for value in session.get_outputs()],
    )


def _tensor(value: object, path: Path) -> Tensor:
    name, kind = str(getattr(value, "name", "")), str(getattr(value, "type", ""))
    shape: Sequence[int | str | None] = getattr(value, "shape", ())
    require(kind in _TYPES, f"{path}: {name} is a {kind}, which Triton does not serve")
    sizes = tuple(side if isinstance(side, int) and side > 0 else _ANY for side in shape)
    return Tensor(name, _TYPES[kind], sizes)


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
