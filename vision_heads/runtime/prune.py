"""An ONNX model without what the wanted outputs do not need.

ONNX Runtime computes every node of a session's graph, whichever outputs a run asks for
(docs/decisions.md has the measurement), so skipping heads takes a smaller graph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from vision_heads.runtime import wire

# Field numbers of onnx.proto3.
_MODEL_GRAPH = 7
_NODE, _INITIALIZER, _OUTPUT, _VALUE_INFO = 1, 5, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_ATTRIBUTE_GRAPHS = (6, 11)
_NAME = {_INITIALIZER: 8, _OUTPUT: 1, _VALUE_INFO: 1}
"""Where each of these messages has its name."""


def keep_outputs(model: bytes, outputs: Collection[str]) -> bytes:
    """Return the model with only these outputs, and only the nodes and constants they need.

    Args:
        model: an ONNX file's content.
        outputs: names of outputs of its graph.

    Raises:
        ValueError: the model is damaged, or lacks one of the outputs.
    """
    return b"".join(
        wire.packed(field.number, _graph(wire.content(field.value), outputs))
        if field.number == _MODEL_GRAPH
        else bytes(field.raw)
        for field in wire.fields(memoryview(model))
    )


def _graph(graph: memoryview, outputs: Collection[str]) -> bytes:
    nodes = list(wire.messages(graph, _NODE))
    present = {wire.text(output, _NAME[_OUTPUT]) for output in wire.messages(graph, _OUTPUT)}
    missing = sorted(set(outputs) - present)
    if missing:
        raise ValueError(f"it has no output {missing[0]}")
    needed = set(outputs)
    kept = [False] * len(nodes)
    # A graph lists its nodes in an order they can run in, so one pass backwards meets them all.
    for at in range(len(nodes) - 1, -1, -1):
        if needed.intersection(wire.texts(nodes[at], _NODE_OUTPUT)):
            kept[at] = True
            needed.update(_reads(nodes[at]))
            needed.discard("")  # an optional input or output that is left out
    keep_node = iter(kept)
    parts = []
    for field in wire.fields(graph):
        if field.number == _NODE:
            keep = next(keep_node)
        elif field.number == _OUTPUT:
            keep = wire.text(wire.content(field.value), _NAME[_OUTPUT]) in outputs
        elif field.number in _NAME:
            keep = wire.text(wire.content(field.value), _NAME[field.number]) in needed
        else:
            keep = True
        if keep:
            parts.append(field.raw)
    return b"".join(parts)


def _reads(node: memoryview) -> Iterator[str]:
    """Yield what a node reads, and what the bodies of an If or a Loop read from around them."""
    yield from wire.texts(node, _NODE_INPUT)
    for attribute in wire.messages(node, _NODE_ATTRIBUTE):
        for number in _ATTRIBUTE_GRAPHS:
            for body in wire.messages(attribute, number):
                for inner in wire.messages(body, _NODE):
                    yield from _reads(inner)
                yield from (
                    wire.text(output, _NAME[_OUTPUT]) for output in wire.messages(body, _OUTPUT)
                )
