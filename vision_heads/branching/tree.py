"""A model drawn as the tree it is: the backbone, the neck's stages and copies, the heads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.markup import escape
from rich.table import Table

from vision_heads.measure import Measures, Part, StageCopy
from vision_heads.spec import ModelSpec


@dataclass(slots=True)
class Node:
    """A part of the model, and what reads its maps.

    Attributes:
        name: "backbone", a stage of the neck or a head's name.
        copy: number of the stage's copy; None for backbone and heads.
        heads: that need it, in the model's order.
        children: in the model's order.
    """

    name: str
    copy: int | None = None
    heads: list[str] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)


def tree_of(spec: ModelSpec) -> Node:
    """Return the tree of a model: each head is a leaf at the end of the stages it comes through.

    Args:
        spec: its heads' levels and its branches make the tree.
    """
    root = Node("backbone")
    for head in spec.heads:
        node = root
        node.heads.append(head.name)
        for stage, copy in spec.route(head.name).items():
            node = _child(node, stage, copy)
            node.heads.append(head.name)
        node.children.append(Node(head.name, None, [head.name]))
    return root


def _child(node: Node, stage: str, copy: int) -> Node:
    for child in node.children:
        if (child.name, child.copy) == (stage, copy):
            return child
    node.children.append(Node(stage, copy))
    return node.children[-1]


def lines_of(root: Node) -> Iterator[tuple[str, Node]]:
    """Walk a tree in the order in which it is drawn.

    What follows without a fork stays in one column, so that a chain of shared stages does not
    wander to the right.

    Yields:
        What to draw before the part's name, and the part.
    """
    yield from _lines(root, "", "")


def _lines(node: Node, first: str, rest: str) -> Iterator[tuple[str, Node]]:
    yield first, node
    if len(node.children) == 1:
        yield from _lines(node.children[0], rest, rest)
        return
    for number, child in enumerate(node.children, 1):
        last = number == len(node.children)
        corner, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        yield from _lines(child, rest + corner, rest + below)


def tree_table(spec: ModelSpec, measures: Measures | None) -> Table:
    """Return the tree with what every part costs.

    Args:
        spec: the model.
        measures: its own; None or without the neck's copies leaves costs blank.
    """
    costs: dict[tuple[str, int | None], Part | StageCopy] = {}
    if measures is not None:
        _, _, *heads = measures.parts
        costs |= {(part.name, None): part for part in heads}
        costs |= {(copy.stage, copy.copy): copy for copy in measures.neck}
    table = Table(box=None, pad_edge=False)
    table.add_column("tree", no_wrap=True)
    table.add_column("read by", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("GFLOPs", justify="right", no_wrap=True)
    everyone = len(spec.heads)
    root = tree_of(spec)
    for before, node in lines_of(root):
        readers = "all" if len(node.heads) == everyone else ", ".join(node.heads)
        if not node.children:
            readers = f"head, {spec.head(node.name).kind}"
        cost = costs.get((node.name, node.copy))
        if node is root:  # a head may be called "backbone" too
            cost = measures.parts[0] if measures else None
        cells = (f"{cost.parameters:,}", f"{cost.flops / 1e9:.2f}") if cost else ("", "")
        table.add_row(before + escape(node.name), escape(readers), *cells)
    return table
