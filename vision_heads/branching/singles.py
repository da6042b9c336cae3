"""The single-head models that a search compares, and the model they would be together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from vision_heads.errors import UserError, require
from vision_heads.network import Network, load_network
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec, first_problem

MOST = 8
"""Heads a search takes: of nine there are 21,147 partitions."""


@dataclass(frozen=True, slots=True)
class Single:
    """A trained model of one head.

    Attributes:
        name: the head's in the model to plan; unique.
        file: its weights.
        network: in eval mode.
    """

    name: str
    file: Path
    network: Network

    @property
    def head(self) -> HeadSpec:
        """The head, under the name it is to have."""
        return self.network.spec.heads[0].model_copy(update={"name": self.name})


def read_singles(files: Sequence[tuple[str | None, Path]]) -> list[Single]:
    """Read the models of a search.

    Args:
        files: weight files, each with the name its head is to have; None: its own.

    Raises:
        UserError: fewer than two or more than `MOST`, a file of several heads, two heads of one
            name, or models that are not built alike.
    """
    require(len(files) > 1, "a search compares models: give at least two")
    require(len(files) <= MOST, f"a search takes at most {MOST} models, got {len(files)}")
    singles: list[Single] = []
    for name, file in files:
        network = load_network(file).eval().requires_grad_(False)
        heads = [head.name for head in network.spec.heads]
        require(
            len(heads) == 1,
            f"{file}: has the heads {', '.join(heads)}; a search compares models of one head "
            "each (vh heads extract cuts one out)",
        )
        single = Single(_checked(name or heads[0], network.spec.heads[0], file), file, network)
        for other in singles:
            _check_pair(other, single)
        singles.append(single)
    return singles


def _checked(name: str, head: HeadSpec, file: Path) -> str:
    try:
        return HeadSpec.model_validate(head.model_dump() | {"name": name}).name
    except ValidationError as error:
        raise UserError(f"{name}={file}: {first_problem(error)}") from error


def _check_pair(first: Single, second: Single) -> None:
    require(
        first.name != second.name,
        f"{second.file}: its head is called {second.name!r}, as that of {first.file}; "
        f"give one another name: NAME={second.file}",
    )
    for field in ("size", "fusion", "activation"):
        one, other = (getattr(single.network.spec, field) for single in (first, second))
        require(
            one == other,
            f"{second.file}: {field} {other}, but {one} in {first.file}; heads that share a "
            "trunk must have it alike",
        )


def together_spec(singles: Sequence[Single], imgsz: tuple[int, int] | None = None) -> ModelSpec:
    """Return the model of all heads that shares everything.

    Args:
        singles: as `read_singles` gives them.
        imgsz: height and width of its input; None: that of all singles.

    Raises:
        UserError: the singles' inputs differ and no `imgsz` is given, or it is none.
    """
    first = singles[0].network.spec
    given = {} if imgsz is None else {"height": imgsz[0], "width": imgsz[1]}
    for single in singles[1:] if imgsz is None else ():
        own = single.network.spec.input
        require(
            own == first.input,
            f"{single.file}: input {own.height}x{own.width}, but {first.input.height}x"
            f"{first.input.width} in {singles[0].file}; choose one with --imgsz",
        )
    try:
        inputs = InputSpec.model_validate(first.input.model_dump() | given)
    except ValidationError as error:
        raise UserError(f"--imgsz: {first_problem(error)}") from error
    lowest = min(single.network.spec.low for single in singles)
    heads = tuple(single.head for single in singles)
    return ModelSpec(
        size=first.size,
        fusion=first.fusion,
        activation=first.activation,
        input=inputs,
        heads=heads,
        # A head that was cut out of a larger model may come down further than any reads.
        lowest=lowest if lowest < min(level for head in heads for level in head.levels) else None,  # type: ignore[arg-type]
    )
