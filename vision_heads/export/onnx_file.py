"""ONNX files through the onnx package: read, checked and written, and the type of every tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vision_heads.errors import UserError, require


def load_model(path: Path) -> Any:
    """Read an ONNX file by the onnx package.

    Raises:
        UserError: onnx is not installed, or the file is none of its.
    """
    onnx = onnx_package()
    require(path.is_file(), f"{path}: no such file")
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's exceptions are of its implementation
        raise UserError(f"{path}: not a readable ONNX file ({error})") from error


def save_model(model: Any, path: Path) -> None:
    """Check a model fully and write it."""
    onnx = onnx_package()
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def onnx_package() -> Any:
    """Import onnx; `UserError` says what to install when it is missing."""
    try:
        import onnx  # noqa: PLC0415
    except ImportError as error:
        raise UserError('this needs onnx: pip install "vision-heads[export]"') from error
    return onnx


def tensor_types(model: Any, where: str) -> dict[str, str]:
    """Return the element type of every tensor of a graph, e.g. "float32", "int64".

    Raises:
        UserError: the graph contradicts itself.
    """
    onnx = onnx_package()
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=False).graph
    except Exception as error:  # onnx's own exceptions share no base class
        raise UserError(f"{where}: not a sound ONNX graph ({error})") from error
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name: _name(kind) for name, kind in kinds.items() if kind}


def float_tensors(model: Any, where: str) -> set[str]:
    """Return the names of a graph's float32 tensors and constants."""
    return {name for name, kind in tensor_types(model, where).items() if kind == "float32"}


def _name(kind: int) -> str:
    onnx = onnx_package()
    name: str = onnx.TensorProto.DataType.Name(kind).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)
