"""Lines and zones as a user writes them: a YAML file, checked field by field.

units: fraction            # of width and height, 0..1; or pixels (the default)
lines:
  - {name: gate, points: [[0.1, 0.5], [0.9, 0.5]]}
zones:
  - {name: yard, points: [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], classes: [car, van]}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vision_heads.errors import UserError, require
from vision_heads.spec import first_problem
from vision_heads.yaml_file import read_yaml

Floats = NDArray[np.float64]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Point = tuple[Finite, Finite]


class Shape(BaseModel):
    """What lines and zones have in common.

    Attributes:
        name: unique among lines, or among zones.
        points: x, y in the file's units; x to the right, y down.
        anchor: the point of a box that counts: its centre, or the middle of its bottom edge,
            where a person or a car stands when the camera looks from the side.
        heads: only objects of these heads; all when empty.
        classes: only objects of these classes; all when empty.
        sources: only in these sources; all when empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    points: tuple[Point, ...]
    anchor: Literal["center", "bottom"] = "center"
    heads: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def counts(self, head: str, label: str) -> bool:
        """Say whether objects of a head and class concern this shape."""
        return (not self.heads or head in self.heads) and (
            not self.classes or label in self.classes
        )


class Line(Shape):
    """A line with two sides: who looks from the first point to the second has "out" on the left.

    An object that crosses from the left hand to the right hand goes in, the other way out.
    """

    @field_validator("points")
    @classmethod
    def _two(cls, value: tuple[Point, ...]) -> tuple[Point, ...]:
        if len(value) != 2:
            raise ValueError(f"a line has 2 points, got {len(value)}")
        if value[0] == value[1]:
            raise ValueError("the two points of a line must differ")
        return value


class Zone(Shape):
    """A polygon; what is on its edge is inside."""

    @field_validator("points")
    @classmethod
    def _an_area(cls, value: tuple[Point, ...]) -> tuple[Point, ...]:
        if len(value) < 3:
            raise ValueError(f"a zone has at least 3 points, got {len(value)}")
        sides = np.asarray(value)[1:] - np.asarray(value)[0]
        if np.linalg.matrix_rank(sides) < 2:
            raise ValueError("the points of a zone must not lie on one line")
        return value


class Shapes(BaseModel):
    """All lines and zones of a run.

    Attributes:
        units: what `points` are in: pixels of the source's picture, or fractions of its width
            and height, which fit any size.
        lines, zones: see there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    units: Literal["pixels", "fraction"] = "pixels"
    lines: tuple[Line, ...] = ()
    zones: tuple[Zone, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Shapes:
        shapes: dict[str, Sequence[Shape]] = {"lines": self.lines, "zones": self.zones}
        if not self.lines and not self.zones:
            raise ValueError("there are neither lines nor zones")
        for kind, members in shapes.items():
            twice = [name for name, n in Counter(one.name for one in members).items() if n > 1]
            if twice:
                raise ValueError(f"{kind}: the name {twice[0]!r} is there twice")
            for index, one in enumerate(members):
                fraction = _is_fraction(one.points)
                if self.units == "fraction" and not fraction:
                    raise ValueError(f"{kind}.{index}.points: fractions are 0..1")
                if self.units == "pixels" and fraction:  # would count nothing
                    raise ValueError(
                        f"{kind}.{index}.points: all within one pixel; add 'units: fraction'"
                    )
        return self

    def check(self, classes: Mapping[str, Sequence[str]], where: str) -> None:
        """Check names against a model's.

        Args:
            classes: class names by head.
            where: what messages begin with: the file.

        Raises:
            UserError: a shape names a head or a class that the model does not have.
        """
        for kind, members in (("lines", self.lines), ("zones", self.zones)):
            for index, shape in enumerate(members):
                for head in shape.heads:
                    known = ", ".join(classes)
                    field = f"{where}: {kind}.{index}.heads"
                    require(head in classes, f"{field}: no head {head!r}; there are: {known}")
                heads = shape.heads or tuple(classes)
                have = {label for head in heads for label in classes[head]}
                for label in shape.classes:
                    field = f"{where}: {kind}.{index}.classes"
                    known = ", ".join(sorted(have))
                    require(label in have, f"{field}: no class {label!r}; there are: {known}")

    def strangers(self, sources: Collection[str]) -> list[str]:
        """Return a line for each name in a shape's `sources` that no source has.

        No mistake for certain: one file may serve several runs, and a service gets more sources.
        """
        return [
            f"{kind}.{index}.sources: {name!r} is none of the sources: {', '.join(sources)}"
            for kind, members in (("lines", self.lines), ("zones", self.zones))
            for index, shape in enumerate(members)
            for name in shape.sources
            if name not in sources
        ]


def read_shapes(file: Path) -> Shapes:
    """Read a file of lines and zones.

    Raises:
        UserError: it cannot be read, or a field is wrong; one line that names the field.
    """
    content = read_yaml(file)
    require(isinstance(content, dict), f"{file}: must have the fields lines, zones or both")
    try:
        return Shapes.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{file}: {first_problem(error)}") from error


def _is_fraction(points: Sequence[Point]) -> bool:
    values = np.asarray(points)
    return bool(((values >= 0) & (values <= 1)).all())
