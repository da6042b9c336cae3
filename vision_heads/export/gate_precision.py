"""Which precision the layers of a file have, and which one a runtime really computes them in."""

from __future__ import annotations

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vision_heads.errors import UserError
from vision_heads.export.onnx_file import load_model, tensor_types

Precision = dict[str, dict[str, int]]
"""Number of nodes by layer type (operator) and by precision: float32, float16, int8, ..."""

MATRIX = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that hold the weights, whose precision is what was asked for."""
PLUMBING = frozenset(
    {
        "Cast", "Constant", "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear",
        "ReorderInput", "ReorderOutput", "MemcpyFromHost", "MemcpyToHost",
    }
)  # fmt: skip
"""Operators that only change types or layouts."""
_OTHER_NAMES = ("Convolution", "Deconvolution", "FullyConnected", "GroupConvolution")
"""What OpenVINO calls them."""
_QUANTIZED = {
    "QLinearConv": "Conv",
    "ConvInteger": "Conv",
    "QLinearMatMul": "MatMul",
    "MatMulInteger": "MatMul",
    "QGemm": "Gemm",
}
_TYPES = {"float": "float32", "uint8": "int8", "float16": "float16", "bfloat16": "bfloat16"}


def file_precision(path: Path) -> Precision:
    """Return the precision of an ONNX file's nodes, by operator, as the graph itself says.

    A node between DequantizeLinear and QuantizeLinear counts as int8, a convolution already
    when its inputs come from DequantizeLinear: that is how such graphs mean it. What a runtime
    makes of it is `executed_precision`'s to say.
    """
    model = load_model(path)
    types = tensor_types(model, str(path))
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    readers: dict[str, set[str]] = defaultdict(set)
    for node in model.graph.node:
        for name in node.input:
            readers[name].add(node.op_type)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for node in model.graph.node:
        if node.op_type in PLUMBING:
            continue
        kinds = [types.get(name, "") for name in (*node.output, *node.input)]
        kind = next((kind for kind in kinds if kind.startswith(("float", "bfloat"))), None)
        if kind is None:
            continue  # shape arithmetic
        data = [n for n in node.input if types.get(n, "").startswith("float")]
        if _is_quantized(node, data, makers, readers):
            kind = "int8"
        counts[node.op_type][kind] += 1
    return _plain(counts)


def _is_quantized(
    node: Any, data: list[str], makers: Mapping[str, str], readers: Mapping[str, set[str]]
) -> bool:
    weighty = node.op_type in MATRIX
    read = data[:2] if weighty else data
    if not read or any(makers.get(name) != "DequantizeLinear" for name in read):
        return False
    return weighty or all(
        readers.get(name, set()) <= {"QuantizeLinear"} and readers.get(name) for name in node.output
    )


def executed_precision(
    path: Path, *, providers: Iterable[str] = ("CPUExecutionProvider",)
) -> Precision:
    """Run an ONNX file once under ONNX Runtime's profiler and return what its kernels computed in.

    ONNX Runtime widens what a provider has no kernel for (float16 on CPUs) without a word, and
    fuses quantised nodes only where it knows the pattern: this is what it really did.

    Raises:
        UserError: ONNX Runtime cannot open the file.
    """
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="vh-profile-") as folder:
        options.profile_file_prefix = str(Path(folder) / "run")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        except Exception as error:  # ONNX Runtime's own exceptions share no other base class
            raise UserError(f"{path}: ONNX Runtime cannot open it: {error}") from error
        feed = {
            value.name: np.zeros(
                [side if isinstance(side, int) else 1 for side in value.shape],
                np.uint8 if value.type == "tensor(uint8)" else np.float32,
            )
            for value in session.get_inputs()
        }
        session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for event in events:
        values = event.get("args", {})
        operator = values.get("op_name")
        if operator is None or not event["name"].endswith("_kernel_time"):
            continue
        operator = operator.removeprefix("Fused")
        kind = _kernel_type(operator, values)
        if kind is not None and operator not in PLUMBING:
            counts[_QUANTIZED.get(operator, operator.removeprefix("QLinear"))][kind] += 1
    return _plain(counts)


def _kernel_type(operator: str, values: Mapping[str, Any]) -> str | None:
    """Return what a kernel's first floating or 8-bit input or output is; None if it has none."""
    if operator in _QUANTIZED or operator.startswith("QLinear"):
        return "int8"
    for tensor in (*values.get("input_type_shape", ()), *values.get("output_type_shape", ())):
        kind = next(iter(tensor), "")
        if kind in ("float", "float16", "bfloat16", "double"):
            return _TYPES.get(kind, kind)
        if kind in ("int8", "uint8"):
            return "int8"
    return None


def share_in(precision: Precision, wanted: str) -> tuple[int, int]:
    """Return how many of the nodes that hold weights are of a precision, and how many there are."""
    rows = [precision[name] for name in precision if _holds_weights(name)]
    return sum(row.get(wanted, 0) for row in rows), sum(sum(row.values()) for row in rows)


def _holds_weights(layer: str) -> bool:
    return layer in MATRIX or layer in _OTHER_NAMES


def describe(precision: Precision) -> str:
    """Say in one line what computes in what, most nodes first, e.g. "Conv 117 float16"."""
    by_kind: dict[str, list[str]] = defaultdict(list)
    for layer, row in sorted(precision.items(), key=lambda item: -sum(item[1].values())):
        for kind, count in row.items():
            by_kind[kind].append(f"{count} {layer}")
    order = sorted(by_kind, key=lambda kind: -len(by_kind[kind]))
    return "; ".join(f"{kind}: {', '.join(by_kind[kind])}" for kind in order)


def _plain(counts: Mapping[str, Counter[str]]) -> Precision:
    ordered = sorted(counts.items(), key=lambda item: -sum(item[1].values()))
    return {layer: dict(row.most_common()) for layer, row in ordered}


def executed_by(engine: Any, path: Path) -> tuple[Precision, str]:
    """Return what an engine computes in on this machine, and who computes.

    Engines that know say so by `executed_precision()`, returning precision and name; ONNX files
    are run under ONNX Runtime's profiler by the providers the engine uses.
    """
    asked = getattr(engine, "executed_precision", None)
    if asked is not None:
        found: tuple[Precision, str] = asked()
        return found
    providers = tuple(getattr(engine, "providers", ())) or ("CPUExecutionProvider",)
    return executed_precision(path, providers=providers), f"ONNX Runtime ({providers[0]})"
