"""Typed FP16 ONNX out of an FP32 one: the network in float16, what follows it in float32.

The network is every node that a convolution depends on, and the convolutions themselves. What
comes after the last of them (sigmoid of scores, the choice of candidates, softmax and sums of box
sides, boxes in pixels, rotations) decodes, and stays float32: coordinates beyond 1024 would be
rounded to whole pixels otherwise. Nodes that only move or compare numbers keep the type they
are given, so that a thousand chosen values are widened and not all 34,000. Inputs and outputs of
the file stay float32.

The graph says itself which type each number has (a "strongly typed" network in TensorRT's words);
nothing is left to a builder's choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError, require
from vision_heads.export.gate_precision import MATRIX, file_precision
from vision_heads.export.onnx_file import float_tensors, load_model, save_model

MOVING = frozenset(
    {
        "Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity",
        "MaxPool", "ReduceMax", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""Operators that move or compare numbers without rounding: exact in any type."""
FLOAT32 = frozenset({"Exp", "Log", "Pow", "Softmax", "ReduceSum", "ReduceMean", "Sqrt", "Cast"})
"""Operators that stay float32 wherever they are: range or sums that float16 cannot hold."""
FLOAT32_INPUTS = {"Resize": (1, 2)}
"""Inputs whose type ONNX fixes: region of interest and scales."""
LARGEST, SMALLEST_NORMAL = 65504.0, 2.0**-14
MARGIN = 0.5
"""Share of the largest float16 that an activation may reach on the pictures it is tried on."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fp16Report:
    """What a conversion did.

    Attributes:
        path: the file written.
        precision: nodes by operator and type, as in `gate_precision.file_precision`.
        kept: nodes of the network that stayed float32, with the reason.
        casts: nodes added to go from one type to the other.
        weights: numbers that became float16.
        subnormal: of them, below float16's smallest normal number: fewer digits are left.
        flushed: of them, so small that they became 0.
        largest_rounding: largest relative rounding error of a weight in the normal range.
    """

    path: Path
    precision: dict[str, dict[str, int]]
    kept: dict[str, str]
    casts: int
    weights: int
    subnormal: int
    flushed: int
    largest_rounding: float


def to_fp16(source: Path, target: Path, *, images: Sequence[Floats] = ()) -> Fp16Report:
    """Write `source` as float16 with float32 decoding.

    Args:
        source: FP32 ONNX as `vh export` writes it.
        target: the file to write; it carries the same metadata.
        images: network inputs (B, 3, H, W) to try the range of activations on. A node whose
            output comes near the largest float16 (65504) stays float32.

    Raises:
        UserError: `source` is no such file, or holds no float32 convolution.
    """
    model = load_model(source)
    require(
        not any(
            attribute.HasField("g") for node in model.graph.node for attribute in node.attribute
        ),
        f"{source}: has graphs within its graph (If, Loop, Scan), which FP16 export cannot type",
    )
    types = float_tensors(model, str(source))
    network = network_nodes(model.graph)
    if not any(node.op_type in MATRIX for node in model.graph.node):
        raise UserError(f"{source}: has no convolution to compute in float16")
    kept = _too_large_weights(model.graph, network)
    if len(images):
        kept |= _too_large_activations(source, model, network, images)
    typed = _Typing(model, types, network, kept)
    typed.run()
    save_model(model, target)
    return Fp16Report(
        target, file_precision(target), kept, typed.casts, typed.weights, typed.subnormal,
        typed.flushed, typed.largest_rounding,
    )  # fmt: skip


def network_nodes(graph: Any) -> set[int]:
    """Return the indices of nodes that a convolution is or depends on; the others decode."""
    needed: set[str] = set()
    found: set[int] = set()
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        if node.op_type in MATRIX or needed.intersection(node.output):
            found.add(index)
            needed.update(node.input)
    return found


class _Typing:
    """Goes through a graph in its order and gives every number its type."""

    def __init__(
        self, model: Any, types: set[str], network: set[int], kept: Mapping[str, str]
    ) -> None:
        self.graph = model.graph
        self.float32 = types
        self.network = network
        self.kept = kept
        self.half: dict[str, str] = {}  # tensor to the name it has in float16
        self.only_half: set[str] = set()  # tensors that exist in float16 alone
        self.wide: dict[str, str] = {}
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.nodes: list[Any] = []
        self.casts = self.weights = self.subnormal = self.flushed = 0
        self.largest_rounding = 0.0

    def run(self) -> None:
        """Replace nodes and constants of the graph."""
        outputs = {output.name for output in self.graph.output}
        for index, node in enumerate(self.graph.node):
            if self._is_half(index, node):
                self._narrow(node, outputs)
            else:
                for place, name in enumerate(node.input):
                    node.input[place] = self._as_float32(name)
                self.nodes.append(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        self._drop_unused_constants()

    def _is_half(self, index: int, node: Any) -> bool:
        if node.name in self.kept or node.op_type in FLOAT32:
            return False
        floats = [name for name in node.input if name in self.float32]
        if index in self.network:
            return bool(floats)
        moved = [name for name in floats if name not in self.constants]
        return node.op_type in MOVING and bool(moved) and all(n in self.only_half for n in moved)

    def _narrow(self, node: Any, outputs: set[str]) -> None:
        fixed = FLOAT32_INPUTS.get(node.op_type, ())
        for place, name in enumerate(node.input):
            if name in self.float32 and place not in fixed:
                node.input[place] = self._as_half(name)
        self.nodes.append(node)
        for place, name in enumerate(node.output):
            if name not in self.float32:
                continue
            if name in outputs:  # the file's own outputs stay float32
                node.output[place] = self.half[name] = f"{name}/half"
                self._cast(self.half[name], name, "FLOAT")
            else:
                self.only_half.add(name)

    def _as_half(self, name: str) -> str:
        if name in self.only_half:
            return name
        if name not in self.half:
            self.half[name] = f"{name}/half"
            if name in self.constants:
                self._narrow_constant(self.constants[name])
            else:
                self._cast(name, self.half[name], "FLOAT16")
        return self.half[name]

    def _as_float32(self, name: str) -> str:
        if name not in self.only_half:
            return name
        if name not in self.wide:
            self.wide[name] = f"{name}/float"
            self._cast(name, self.wide[name], "FLOAT")
        return self.wide[name]

    def _cast(self, source: str, target: str, kind: str) -> None:
        from onnx import TensorProto, helper  # noqa: PLC0415

        self.casts += 1
        to = getattr(TensorProto, kind)
        self.nodes.append(helper.make_node("Cast", [source], [target], f"{target}/cast", to=to))

    def _narrow_constant(self, tensor: Any) -> None:
        from onnx import numpy_helper  # noqa: PLC0415

        values = numpy_helper.to_array(tensor)
        half = values.astype(np.float16)
        self.graph.initializer.append(numpy_helper.from_array(half, self.half[tensor.name]))
        size = np.abs(values)
        self.weights += values.size
        self.flushed += int(((values != 0) & (half == 0)).sum())
        self.subnormal += int(((values != 0) & (size < SMALLEST_NORMAL)).sum())
        normal = size >= SMALLEST_NORMAL
        error = np.abs(half.astype(np.float32) - values)[normal] / size[normal]
        self.largest_rounding = max(self.largest_rounding, float(error.max(initial=0)))

    def _drop_unused_constants(self) -> None:
        used = {name for node in self.graph.node for name in node.input}
        used |= {output.name for output in self.graph.output}
        left = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(left)


def _too_large_weights(graph: Any, network: set[int]) -> dict[str, str]:
    from onnx import numpy_helper  # noqa: PLC0415

    largest = {
        tensor.name: float(np.abs(numpy_helper.to_array(tensor)).max(initial=0))
        for tensor in graph.initializer
        if tensor.data_type == 1
    }
    kept = {}
    for index in network:
        node = graph.node[index]
        peak = max((largest.get(name, 0.0) for name in node.input), default=0.0)
        if not peak <= LARGEST:  # also where a weight is not a number
            kept[node.name] = f"a weight of {peak:.3g} is beyond float16"
    return kept


def _too_large_activations(
    source: Path, model: Any, network: set[int], images: Sequence[Floats]
) -> dict[str, str]:
    """Return the nodes whose outputs come near the end of float16's range on some pictures."""
    peaks = activation_peaks(source, model, network, images)
    kept = {}
    for index in network:
        node = model.graph.node[index]
        peak = max((peaks.get(name, 0.0) for name in node.output), default=0.0)
        if not peak <= MARGIN * LARGEST:
            kept[node.name] = f"its output reaches {peak:.3g}"
    return kept


def activation_peaks(
    source: Path, model: Any, network: set[int], images: Sequence[Floats]
) -> dict[str, float]:
    """Return the largest absolute value of every floating output of the network's nodes.

    Args:
        source: the model's file, for messages.
        model: ONNX model; not changed.
        network: indices of the nodes to look at.
        images: network inputs (B, 3, H, W).
    """
    import copy  # noqa: PLC0415

    import onnxruntime  # noqa: PLC0415
    from onnx import TensorProto, helper  # noqa: PLC0415

    watched = copy.deepcopy(model)
    types = float_tensors(model, str(source))
    names = [
        name for index in sorted(network) for name in model.graph.node[index].output
        if name in types
    ]  # fmt: skip
    del watched.graph.output[:]
    for name in names:
        peak = f"{name}/peak"
        watched.graph.node.append(helper.make_node("Abs", [name], [f"{name}/size"]))
        watched.graph.node.append(
            helper.make_node("ReduceMax", [f"{name}/size"], [peak], keepdims=0)
        )
        watched.graph.output.append(helper.make_tensor_value_info(peak, TensorProto.FLOAT, []))
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = session.get_inputs()[0].name
    peaks = dict.fromkeys(names, 0.0)
    for image in images:
        for name, value in zip(names, session.run(None, {feed: image}), strict=True):
            peaks[name] = float(np.fmax(peaks[name], value)) if np.isfinite(value) else np.inf
    return peaks
