"""Exact changes of a graph that let ONNX Runtime's INT8 kernels run side by side without detours.

None changes what is computed: numbers are the same up to the last bits of float sums. What each
one gains is in docs/decisions.md, "What was tried for CPU speed".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vision_heads.export.quantize_graph import OnnxGraph, attribute

ALIGNED = 4
"""Input channels that the convolution kernels for INT8 want a multiple of."""


@dataclass(slots=True)
class Rewritten:
    """What changes of a graph left for the quantizer to know.

    Attributes:
        moving: names of new nodes that only move numbers, and so work on INT8 as on float; each
            has one output, of the same name.
        same: pairs of a tensor and its copy, which must share a scale.
    """

    moving: list[str] = field(default_factory=list)
    same: list[tuple[str, str]] = field(default_factory=list)

    def of_quantized(self, floats: Collection[str]) -> list[str]:
        """Return the new nodes that do not copy one of these tensors, which stay in float."""
        left = {copy for source, copy in self.same if source in floats}
        return [name for name in self.moving if name not in left]


def rewrite(graph: OnnxGraph) -> Rewritten:
    """Apply every change of this module to the graph, in place."""
    told = Rewritten()
    shapes = graph.shapes()
    for concat in [node for node in graph.model.graph.node if node.op_type == "Concat"]:
        branch = _branch(graph, concat, shapes)
        if branch is None:
            continue
        readers = graph.consumers[concat.output[0]]
        kinds = sorted(node.op_type for node in readers)
        if kinds == ["GatherElements"] and _few(shapes, readers[0], branch):
            _project_late(graph, branch, readers[0], told)
        elif kinds == ["GatherElements", "ReduceMax"]:
            _cells_last(graph, branch, next(n for n in readers if n.op_type == "ReduceMax"))
        graph.reindex()
    for node in [node for node in graph.model.graph.node if node.op_type == "Resize"]:
        _double_by_copies(graph, node, shapes, told)
        graph.reindex()
    _align_input(graph, shapes, told)
    graph.drop_unused()
    return told


@dataclass(frozen=True, slots=True)
class _Part:
    """One level of a branch: its last convolution (1x1), flattened behind it to (B, C, cells)."""

    convolution: Any
    flatten: Any
    weight: str
    bias: str
    cells: int


@dataclass(frozen=True, slots=True)
class _Branch:
    concat: Any
    parts: tuple[_Part, ...]

    @property
    def nodes(self) -> list[Any]:
        """Nodes that a rewritten branch replaces."""
        return [node for part in self.parts for node in (part.convolution, part.flatten)] + [
            self.concat
        ]


def _branch(graph: OnnxGraph, concat: Any, shapes: dict[str, list[int]]) -> _Branch | None:
    """Return what is concatenated if it is 1x1 convolutions of all levels, flattened."""
    parts = []
    for name in concat.input:
        flatten = graph.producers.get(name)
        if flatten is None or flatten.op_type != "Reshape":
            return None
        convolution = graph.producers.get(flatten.input[0])
        shape = shapes.get(flatten.input[0], [])
        if (
            convolution is None
            or convolution.op_type != "Conv"
            or len(convolution.input) != 3
            or list(attribute(convolution, "kernel_shape", [])) != [1, 1]
            or attribute(convolution, "group", 1) != 1
            or len(graph.consumers[flatten.input[0]]) != 1
            or len(shape) != 4
            or not shape[2] * shape[3]
        ):
            return None
        parts.append(
            _Part(
                convolution, flatten, convolution.input[1], convolution.input[2],
                shape[2] * shape[3],
            )
        )  # fmt: skip
    return _Branch(concat, tuple(parts)) if attribute(concat, "axis") == 2 else None


def _few(shapes: dict[str, list[int]], gather: Any, branch: _Branch) -> bool:
    """Whether projecting the chosen cells once a level is less work than projecting all."""
    chosen = shapes.get(gather.output[0], [0, 0, 0])[2]
    return 0 < chosen * len(branch.parts) < sum(part.cells for part in branch.parts)


class _Nodes:
    """Makes nodes under a common prefix, each with one output of its own name."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.made: list[Any] = []

    def add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Append a node and return the name of its output, which is the node's name too."""
        from onnx import helper  # noqa: PLC0415

        full = f"{self.prefix}/{name}"
        self.made.append(helper.make_node(operator, inputs, [full], full, **attributes))
        return full


def _project_late(graph: OnnxGraph, branch: _Branch, gather: Any, told: Rewritten) -> None:
    """Apply a branch's last convolutions to the chosen cells only, not to all 34,000.

    Each level projects all chosen cells, and each cell takes its own level's answer: 1000 cells
    four times are still a ninth of all.
    """
    spread = graph.producers[gather.input[1]]
    chosen = spread.input[0] if spread.op_type == "Expand" else gather.input[1]
    start, out = 0, ""
    made: list[Any] = []
    for level, part in enumerate(branch.parts):
        nodes = _Nodes(f"{gather.name}/level{level}")
        features = part.convolution.input[0]
        weight = graph.constant(part.weight)
        first = _integers(graph, nodes, "first", start)
        inside = nodes.add("Sub", [chosen, first], "offset")
        limits = [
            _integers(graph, nodes, "zero", 0),
            _integers(graph, nodes, "last", part.cells - 1),
        ]
        inside = nodes.add("Clip", [inside, *limits], "cell")
        wide = _integers(graph, nodes, "width", [1, weight.shape[1], 1])
        inside = nodes.add("Expand", [inside, wide], "cells")
        shape = _integers(graph, nodes, "shape", [0, weight.shape[1], -1])
        flat = nodes.add("Reshape", [features, shape], "flat")
        taken = nodes.add("GatherElements", [flat, inside], "taken", axis=2)
        told.moving += [flat, taken]
        told.same += [(features, flat), (features, taken)]
        short = graph.add_constant(f"{nodes.prefix}/weight", weight[..., 0])
        answer = nodes.add("Conv", [taken, short, part.bias], "projected", kernel_shape=[1])
        if out:
            here = nodes.add("GreaterOrEqual", [chosen, first], "here")
            answer = nodes.add("Where", [here, answer, out], "answer")
        out = answer
        start += part.cells
        made += nodes.made
    graph.replace([*branch.nodes, gather], made, gather)
    graph.rewire(gather.output[0], out)


def _cells_last(graph: OnnxGraph, branch: _Branch, best: Any) -> None:
    """Turn a branch's last convolutions into matrix products with the channels last.

    INT8 maps lie channels last in memory; a float convolution would reorder them twice.
    """
    made: list[Any] = []
    rows = []
    for level, part in enumerate(branch.parts):
        nodes = _Nodes(f"{branch.concat.name}/level{level}")
        weight = graph.constant(part.weight)[:, :, 0, 0]
        turned = nodes.add("Transpose", [part.convolution.input[0]], "turned", perm=[0, 2, 3, 1])
        flat = _integers(graph, nodes, "flat_shape", [-1, weight.shape[1]])
        flat = nodes.add("Reshape", [turned, flat], "flat")
        factor = graph.add_constant(f"{nodes.prefix}/weight", weight.T)
        product = nodes.add("Gemm", [flat, factor, part.bias], "product")
        shape = _integers(graph, nodes, "shape", [-1, part.cells, weight.shape[0]])
        rows.append(nodes.add("Reshape", [product, shape], "cells"))
        made += nodes.made
    nodes = _Nodes(branch.concat.name)
    joined = nodes.add("Concat", rows, "cells", axis=1)
    # The chosen cells' scores are still taken from (B, classes, cells).
    out = nodes.add("Transpose", [joined], "turned", perm=[0, 2, 1])
    best.input[0] = joined
    _reduce_over(graph, best, 2)
    graph.replace(branch.nodes, [*made, *nodes.made], branch.concat)
    graph.rewire(branch.concat.output[0], out)


def _reduce_over(graph: OnnxGraph, node: Any, axis: int) -> None:
    """Set the axis of a reduction: an attribute up to operator set 17, an input from 18 on."""
    for entry in node.attribute:
        if entry.name == "axes":
            entry.ints[:] = [axis]
            return
    node.input[1] = graph.add_constant(f"{node.name}/axes", np.array([axis], np.int64))


def _double_by_copies(
    graph: OnnxGraph, node: Any, shapes: dict[str, list[int]], told: Rewritten
) -> None:
    """Write an enlargement by 2 without interpolation as two concatenations.

    Channels last these copy whole rows of memory; ONNX Runtime's INT8 Resize goes number by
    number in one thread.
    """
    source, out = node.input[0], node.output[0]
    before, after = shapes.get(source, []), shapes.get(out, [])
    if (
        attribute(node, "mode", b"nearest") != b"nearest"
        or len(before) != 4
        or not all(before[1:])
        or [2 * side for side in before[2:]] != after[2:]
    ):
        return
    _, channels, height, width = before
    nodes = _Nodes(node.name)
    shape = _integers(graph, nodes, "columns_shape", [-1, height, width, 1, channels])
    line = nodes.add("Transpose", [source], "turned", perm=[0, 2, 3, 1])
    line = nodes.add("Reshape", [line, shape], "columns")
    line = nodes.add("Concat", [line, line], "columns_twice", axis=3)
    shape = _integers(graph, nodes, "rows_shape", [-1, height, 1, 2 * width * channels])
    line = nodes.add("Reshape", [line, shape], "rows")
    line = nodes.add("Concat", [line, line], "rows_twice", axis=2)
    shape = _integers(graph, nodes, "shape", [-1, 2 * height, 2 * width, channels])
    line = nodes.add("Reshape", [line, shape], "enlarged")
    line = nodes.add("Transpose", [line], "turned_back", perm=[0, 3, 1, 2])
    told.moving += [made.name for made in nodes.made]
    told.same += [(source, made.name) for made in nodes.made]
    graph.replace([node], nodes.made, node)
    graph.rewire(out, line)


def _align_input(graph: OnnxGraph, shapes: dict[str, list[int]], told: Rewritten) -> None:
    """Give the first convolution a fourth channel with weights of 0: a copy of the first."""
    (given,) = graph.model.graph.input
    readers = graph.consumers[given.name]
    if len(readers) != 1 or readers[0].op_type != "Conv":
        return
    first = readers[0]
    weight = graph.constant(first.input[1])
    lacking = -weight.shape[1] % ALIGNED
    height, width = shapes[given.name][2:]
    if not lacking or attribute(first, "group", 1) != 1 or not height * width:
        return
    nodes = _Nodes(f"{first.name}/input")
    order = [*range(weight.shape[1]), *[0] * lacking]
    order_name = graph.add_constant(f"{nodes.prefix}/order", np.array(order, np.int64))
    # Flat, so that ONNX Runtime does not turn the channels last first: whole planes are copied.
    shape = _integers(graph, nodes, "flat_shape", [0, weight.shape[1], height * width])
    flat = nodes.add("Reshape", [given.name, shape], "flat")
    wide = nodes.add("Gather", [flat, order_name], "planes", axis=1)
    shape = _integers(graph, nodes, "shape", [0, len(order), height, width])
    wide = nodes.add("Reshape", [wide, shape], "aligned")
    padded = np.pad(weight, ((0, 0), (0, lacking), (0, 0), (0, 0)))
    first.input[0] = wide
    first.input[1] = graph.add_constant(f"{nodes.prefix}/weight", padded)
    told.moving += [node.name for node in nodes.made]
    told.same += [(given.name, node.name) for node in nodes.made]
    graph.replace([], nodes.made, first)


def _integers(graph: OnnxGraph, nodes: _Nodes, name: str, values: int | list[int]) -> str:
    return graph.add_constant(f"{nodes.prefix}/{name}", np.array(values, np.int64))
