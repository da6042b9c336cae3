"""Which operators TensorRT's ONNX parser takes, and whether a graph keeps to them.

The tables are NVIDIA's `operators.md` of the onnx-tensorrt project, names and element types, in
`operators.json` beside this file with where each was read. A release between two tables is held to
what both have, because operators have only ever been added. The limits below the tables come from
the same pages and from TensorRT's operator reference (docs.nvidia.com, "TopK", "NMS").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vision_heads.errors import require
from vision_heads.export.nodes import Constant, Graph, Node, element_types, read_graph

RELEASES = ("8.6", "10.3", "10.13", "11.0", "11.4")
"""TensorRT releases that exported graphs are tested against: the oldest, those of JetPack 6 and 7,
and version 11."""

MOST_CANDIDATES = 3840
"""TopK's largest K, in every release."""
MOST_NMS_BOXES = 5000
"""Boxes a picture that TensorRT's NMS layer looks at; 2000 on compute capability 5.3 and 6.2."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a release of TensorRT does not take.

    Attributes:
        node: the node's name.
        operator: its operator; "" when the whole graph is meant.
        reason: one line.
    """

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        """Return one line that names the node."""
        return f"{self.operator} ({self.node}): {self.reason}" if self.operator else self.reason


@dataclass(frozen=True, slots=True)
class Table:
    """What a release takes.

    Attributes:
        release: e.g. "10.3".
        opset: newest ONNX operator set.
        operators: element types of each operator.
        narrowed: types that the parser turns into others by itself.
        sources: where this was read.
    """

    release: str
    opset: int
    operators: Mapping[str, frozenset[str]]
    narrowed: Mapping[str, str]
    sources: tuple[str, ...]


def unsupported(path: str | Path, release: str) -> list[Problem]:
    """Say what in an ONNX file a release of TensorRT does not take.

    Args:
        path: an ONNX file.
        release: version of TensorRT, e.g. "8.6", "10.3.0", "11.4.0.106".

    Returns:
        Problems in the graph's order; none if all of it is documented to work.

    Raises:
        UserError: no readable ONNX file, or a release before 8.6.
    """
    table, graph = table_of(release), read_graph(path)
    found = []
    if graph.opset > table.opset:
        found.append(
            Problem("", "", f"ONNX operator set {graph.opset}; {release} takes up to {table.opset}")
        )
    types = element_types(graph)
    for node in graph.nodes:
        found += [
            Problem(node.name, node.operator, reason)
            for reason in _reasons(node, graph, types, table)
        ]
    return found


@lru_cache
def table_of(release: str) -> Table:
    """Return what a release takes; `UserError` for one before 8.6 or no version at all."""
    number = _version(release)
    data, tables = _data()
    first = min(tables)
    require(number >= first, f"TensorRT {release}: must be {'.'.join(map(str, first))} or newer")
    below, above = max(t for t in tables if t <= number), [t for t in tables if t > number]
    lower = tables[below]
    # Of 11 and later nothing newer is known; of a release that is listed, that is all.
    if below == number or not above or below[0] >= 11:
        return Table(release, *_parts(lower))
    upper = tables[min(above)]
    both = lower["operators"].keys() & upper["operators"].keys()
    modern = number[0] >= 10  # INT64 and the other new types came with 10.0
    known = upper if modern else lower
    between = data["between"]
    return Table(
        release,
        between["opset"] if modern and below[0] < 10 else lower["opset"],
        {name: known["operators"][name] for name in both},
        known["narrowed"],
        (lower["source"], upper["source"], between["source"]),
    )


def _parts(
    table: dict[str, Any],
) -> tuple[int, dict[str, frozenset[str]], dict[str, str], tuple[str]]:
    return table["opset"], table["operators"], table["narrowed"], (table["source"],)


@lru_cache
def _data() -> tuple[dict[str, Any], dict[tuple[int, int], dict[str, Any]]]:
    file = Path(__file__).with_name("operators.json")
    data = json.loads(file.read_text(encoding="utf-8"))
    tables: dict[tuple[int, int], dict[str, Any]] = {}
    for entry in data["tables"]:
        operators = dict(tables[_version(entry["like"])]["operators"]) if "like" in entry else {}
        for types, names in entry["operators"].items():
            operators |= dict.fromkeys(names, frozenset(types.split()))
        tables[_version(entry["release"])] = entry | {"operators": operators}
    return data, tables


def _version(text: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", text)
    require(match, f"TensorRT {text}: no version like 10.3")
    assert match is not None
    return int(match[1]), int(match[2])


def _reasons(node: Node, graph: Graph, types: Mapping[str, str], table: Table) -> list[str]:
    if node.operator in _data()[0]["plugins"]:
        return []
    if node.domain not in ("", "ai.onnx"):
        return [f"operators of {node.domain!r} are not TensorRT's"]
    if node.operator not in table.operators:
        return [f"not among the operators of TensorRT {table.release}"]
    reasons = []
    wrong = _wrong_types(node, types, table)
    if wrong:
        takes = ", ".join(sorted(table.operators[node.operator]))
        reasons.append(f"{', '.join(wrong)}: TensorRT {table.release} takes {takes}")
    check = _LIMITS.get(node.operator)
    return reasons + (check(node, graph, table) if check else [])


_DATA_INPUT = {"Where": 1}
"""Where an operator's data come in, if not first."""


def _wrong_types(node: Node, types: Mapping[str, str], table: Table) -> list[str]:
    """Return the types of a node's data that the release does not take.

    Second inputs are indices, axes and scales, which TensorRT reads as it needs them.
    """
    allowed = table.operators[node.operator]
    place = _DATA_INPUT.get(node.operator, 0)
    data = [types.get(name, "") for name in node.inputs[place : place + 1]]
    if node.operator in ("Cast", "Constant", "ConstantOfShape"):
        data += [types.get(node.outputs[0], "")]
    if node.operator == "ConstantOfShape":
        data = data[1:]  # its input is a shape
    narrowed = {table.narrowed.get(kind, kind): kind for kind in data if kind}
    return [given for kind, given in narrowed.items() if kind not in allowed]


def _constant(node: Node, graph: Graph, place: int) -> Constant | None:
    name = node.inputs[place] if len(node.inputs) > place else ""
    if name in graph.constants:
        return graph.constants[name]
    for other in graph.nodes:
        value = other.attributes.get("value")
        if name in other.outputs and other.operator == "Constant" and isinstance(value, Constant):
            return value
    return None


def _must_be_constant(place: int, what: str) -> Callable[[Node, Graph, Table], list[str]]:
    def check(node: Node, graph: Graph, _: Table) -> list[str]:
        given = len(node.inputs) > place and node.inputs[place]
        return [f"{what} must be constant"] if given and not _constant(node, graph, place) else []

    return check


def _top_k(node: Node, graph: Graph, _: Table) -> list[str]:
    k = _constant(node, graph, 1)
    if k is None or not k.numbers:
        return ["K must be constant"]
    reasons = []
    if k.numbers[0] > MOST_CANDIDATES:
        reasons.append(
            f"K is {k.numbers[0]}, at most {MOST_CANDIDATES}: export with fewer --candidates"
        )
    if node.attributes.get("sorted", 1) != 1:
        reasons.append("sorted must be 1")
    return reasons


def _resize(node: Node, graph: Graph, _: Table) -> list[str]:
    allowed: dict[str, set[Any]] = {
        "coordinate_transformation_mode": {
            "half_pixel",
            "pytorch_half_pixel",
            "tf_half_pixel_for_nn",
            "asymmetric",
            "align_corners",
        },
        "mode": {"nearest", "linear"},
        "nearest_mode": {"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"},
        "keep_aspect_ratio_policy": {"stretch"},
        "antialias": {0},
    }
    return [
        f"{name} {node.attributes[name]!r} is none of {', '.join(sorted(map(str, values)))}"
        for name, values in allowed.items()
        if name in node.attributes and node.attributes[name] not in values
    ]


def _max_pool(node: Node, graph: Graph, _: Table) -> list[str]:
    reasons = [] if len(node.outputs) == 1 else ["its indices cannot be given out"]
    dilations = node.attributes.get("dilations", ())
    if any(step != 1 for step in (dilations if isinstance(dilations, tuple) else ())):
        reasons.append(f"dilations must be 1, not {dilations}")
    return reasons


def _zero_point(node: Node, graph: Graph, _: Table) -> list[str]:
    """TensorRT quantizes symmetrically, to signed numbers."""
    if len(node.inputs) < 3 or not node.inputs[2]:
        return ["must say its type by a zero point of INT8; without one it is UINT8"]
    point = _constant(node, graph, 2)
    if point is None:
        return ["its zero point must be constant"]
    if point.type == "UINT8":
        return ["quantizes to UINT8; TensorRT takes INT8 with zero point 0"]
    return ["its zero point must be 0"] if any(point.numbers) else []


def _nms(node: Node, graph: Graph, _: Table) -> list[str]:
    most = _constant(node, graph, 2)
    if most and most.numbers and most.numbers[0] > MOST_NMS_BOXES:
        return [f"gives up to {most.numbers[0]} boxes, at most {MOST_NMS_BOXES}"]
    return []


_LIMITS: dict[str, Callable[[Node, Graph, Table], list[str]]] = {
    "TopK": _top_k,
    "Resize": _resize,
    "MaxPool": _max_pool,
    "QuantizeLinear": _zero_point,
    "DequantizeLinear": _zero_point,
    "NonMaxSuppression": _nms,
    "CumSum": _must_be_constant(1, "axis"),
    "Squeeze": _must_be_constant(1, "axes"),
    "Unsqueeze": _must_be_constant(1, "axes"),
    "Slice": _must_be_constant(3, "axes"),
    **{
        f"Reduce{name}": _must_be_constant(1, "axes")
        for name in ("L1", "L2", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    },
}
