"""The description of a model: the one source of truth, carried inside every file of it.

Weights hold it as JSON in the safetensors metadata, ONNX files and engines in theirs, always
under `METADATA_KEY`. Everything that needs to know a size, a class name or a category id reads
it here. No torch.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vision_heads.errors import UserError

METADATA_KEY = "vision_heads"

Size = Literal["n", "s", "m"]
Level = Literal[2, 3, 4, 5]

LEVELS: tuple[Level, ...] = (2, 3, 4, 5)
"""Pyramid levels P2..P5; level l has stride 2**l."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputSpec(_Strict):
    """What the network is fed: RGB / 255, NCHW float32, letterboxed on grey.

    Attributes:
        height, width: network size in pixels, multiples of 32.
        color: channel order the network sees; pictures in the API are BGR.
        scale: factor from uint8 to the network's range.
        pad_value: grey level (0..255) of the letterbox's border.
    """

    height: Annotated[int, Field(ge=32, le=8192)] = 640
    width: Annotated[int, Field(ge=32, le=8192)] = 640
    color: Literal["rgb"] = "rgb"
    scale: float = 1 / 255
    pad_value: Annotated[int, Field(ge=0, le=255)] = 114

    @field_validator("height", "width")
    @classmethod
    def _multiple_of_32(cls, value: int) -> int:
        if value % 32:
            raise ValueError(f"must be a multiple of 32, got {value}")
        return value


class HeadSpec(_Strict):
    """One head: its name, kind, classes and the pyramid levels it reads.

    Attributes:
        name: unique in the model; prefixes the head's tensors in exported files.
        kind: a registered kind, e.g. "detect".
        classes: names in the order of the score channels.
        category_ids: the data set's own id of each class, used in results that are scored
            elsewhere; 0..n-1 when the data set numbers its classes so.
        levels: sorted pyramid levels; (2, 3, 4, 5) for small objects, (3, 4, 5) otherwise.
        options: settings that only this kind understands; the kind validates them.
    """

    name: str
    kind: str = "detect"
    classes: tuple[str, ...] = Field(min_length=1)
    category_ids: tuple[int, ...] = ()
    levels: tuple[Level, ...] = LEVELS
    options: dict[str, Any] = {}

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", value):
            raise ValueError(f"must be letters, digits, '-' or '_', got {value!r}")
        return value

    @field_validator("levels")
    @classmethod
    def _sorted_levels(cls, value: tuple[Level, ...]) -> tuple[Level, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError(f"must be distinct levels out of {LEVELS}, got {value}")
        return tuple(sorted(value))

    @model_validator(mode="after")
    def _complete_ids(self) -> HeadSpec:
        if not self.category_ids:
            object.__setattr__(self, "category_ids", tuple(range(len(self.classes))))
        if len(self.category_ids) != len(self.classes):
            raise ValueError(
                f"category_ids has {len(self.category_ids)} entries for {len(self.classes)} classes"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes repeats a name")
        return self


class ModelSpec(_Strict):
    """A whole model.

    Attributes:
        version: of this schema; a file with a newer one is refused with a message.
        size: n, s or m (YOLOv8's depth and width scaling).
        fusion: block of the neck's fusion stages.
        activation: of every Conv + BN pair.
        input: what the network is fed.
        heads: at least one; names are unique.
        candidates: K, how many candidates a picture each head exports.
        provenance: free text by key: data, terms, command, seed, figures.
    """

    version: Literal[1] = 1
    size: Size = "n"
    fusion: Literal["c2f", "irdcb"] = "c2f"
    activation: Literal["silu", "hardswish", "relu"] = "silu"
    input: InputSpec = InputSpec()
    heads: tuple[HeadSpec, ...] = Field(min_length=1)
    candidates: Annotated[int, Field(ge=1, le=30000)] = 1000
    provenance: dict[str, str] = {}

    @field_validator("heads")
    @classmethod
    def _unique_names(cls, value: tuple[HeadSpec, ...]) -> tuple[HeadSpec, ...]:
        names = [head.name for head in value]
        if len(set(names)) != len(names):
            raise ValueError(f"head names repeat: {names}")
        return value

    @property
    def levels(self) -> tuple[int, ...]:
        """Every level that some head reads, sorted."""
        return tuple(sorted({level for head in self.heads for level in head.levels}))

    def head(self, name: str) -> HeadSpec:
        """Return the head called `name`; `UserError` lists the names when there is none."""
        for head in self.heads:
            if head.name == name:
                return head
        raise UserError(f"no head {name!r}; this model has {[h.name for h in self.heads]}")

    def to_json(self) -> str:
        """Serialise for a file's metadata."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str, where: str) -> ModelSpec:
        """Parse what `to_json` wrote.

        Args:
            text: the JSON.
            where: file the text came from, for the error message.

        Raises:
            UserError: the text is no spec, or one of a newer version.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise UserError(f"{where}: {first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """Say in one line which field of a pydantic model is wrong, and why."""
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"]) or "value"
    message = problem["msg"].removeprefix("Value error, ")
    message = {"extra_forbidden": "no such field", "missing": "must be given"}.get(
        problem["type"], message
    )
    more = error.error_count() - 1
    return f"{field}: {message}" + (f" (and {more} more)" if more else "")
