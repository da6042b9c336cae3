"""The description of a model: the one source of truth, carried inside every file of it.

Weights hold it as JSON in the safetensors metadata, ONNX files and engines in theirs, always
under `METADATA_KEY`. Everything that needs to know a size, a class name or a category id reads
it here. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vision_heads.errors import UserError

METADATA_KEY = "vision_heads"

Size = Literal["n", "s", "m"]
Level = Literal[2, 3, 4, 5]

LEVELS: tuple[Level, ...] = (2, 3, 4, 5)
"""Pyramid levels P2..P5; level l has stride 2**l."""

STAGES = ("down_p4", "down_p3", "down_p2", "up_p3", "up_p4", "up_p5")
"""The neck's stages in the order they run: down the pyramid, then up it again."""

Groups = tuple[tuple[str, ...], ...]
"""Head names, split into those that share one copy of a stage."""

Merge = dict[str, tuple[str, ...]]
"""A class to make out of several heads' classes, each of these written `head:class`."""

MERGED = "merged"
"""Name in results of what was merged; no head of a model that merges may have it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


MAX_SIDE = 8192
"""Largest network size, pixels: beyond, a single input may fill the memory."""


def near_sizes(sides: Sequence[int]) -> str:
    """Say which network sizes are next to one that is none.

    Example:
        >>> near_sizes([100]), near_sizes([384, 650])
        ('96 or 128', '384x640 or 384x672')
    """
    below = [min(max(side // 32, 1) * 32, MAX_SIDE) for side in sides]
    above = [min(max(-(-side // 32), 1) * 32, MAX_SIDE) for side in sides]
    return " or ".join(dict.fromkeys("x".join(map(str, size)) for size in (below, above)))


class InputSpec(_Strict):
    """What the network is fed: RGB / 255, NCHW float32, letterboxed on grey.

    Attributes:
        height, width: network size in pixels, multiples of 32.
        color: channel order the network sees; pictures in the API are BGR.
        scale: factor from uint8 to the network's range.
        pad_value: grey level (0..255) of the letterbox's border.
    """

    height: Annotated[int, Field(ge=32, le=MAX_SIDE)] = 640
    width: Annotated[int, Field(ge=32, le=MAX_SIDE)] = 640
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
        for number, name in enumerate(self.classes):
            if not name.strip():
                raise ValueError(f"classes: class {number} has no name, only {name!r}")
        return self


class NmsSpec(_Strict):
    """NMS that an exported file does itself; `vision_heads.export.nms` describes its outputs.

    Attributes:
        conf: lowest score that is kept, strictly above.
        iou: a box that overlaps a better one of its class by more is dropped.
        max_det: D, most results a picture and head.
    """

    conf: Annotated[float, Field(ge=0, le=1)] = 0.25
    iou: Annotated[float, Field(ge=0, le=1)] = 0.6
    max_det: Annotated[int, Field(ge=1, le=30000)] = 300


class ModelSpec(_Strict):
    """A whole model.

    Attributes:
        version: of this schema; a file with a newer one is refused with a message.
        size: n, s or m (YOLOv8's depth and width scaling).
        fusion: block of the neck's fusion stages.
        activation: of every Conv + BN pair.
        input: what the network is fed.
        heads: at least one; names are unique.
        branches: by neck stage (see `STAGES`), the groups of heads that share a copy of it. A
            stage that is not named is shared as the one before it; all heads share the first.
            What has split stays split.
        lowest: level the neck goes down to before it comes up again, where that is finer than
            what the heads read: a head cut out of a larger model keeps that model's neck.
        merge: classes that results unite across heads, e.g. {"car": ("aerial:car",
            "vehicles:automobile")}; none by default.
        candidates: K, how many candidates a picture each head exports.
        nms: set in exported files that do NMS themselves; None for those that give candidates.
        provenance: free text by key: data, terms, command, seed, figures.
    """

    version: Literal[1] = 1
    size: Size = "n"
    fusion: Literal["c2f", "irdcb"] = "c2f"
    activation: Literal["silu", "hardswish", "relu"] = "silu"
    input: InputSpec = InputSpec()
    heads: tuple[HeadSpec, ...] = Field(min_length=1)
    branches: dict[str, Groups] = {}
    lowest: Level | None = None
    merge: Merge = {}
    candidates: Annotated[int, Field(ge=1, le=30000)] = 1000
    nms: NmsSpec | None = None
    provenance: dict[str, str] = {}

    @field_validator("heads")
    @classmethod
    def _unique_names(cls, value: tuple[HeadSpec, ...]) -> tuple[HeadSpec, ...]:
        names = [head.name for head in value]
        if len(set(names)) != len(names):
            raise ValueError(f"head names repeat: {names}")
        return value

    @model_validator(mode="after")
    def _monotone_branches(self) -> ModelSpec:
        names = [head.name for head in self.heads]
        object.__setattr__(self, "branches", check_branches(self.branches, names))
        return self

    @model_validator(mode="after")
    def _lowest_reaches_heads(self) -> ModelSpec:
        if self.lowest is not None and self.lowest > self.levels[0]:
            raise ValueError(
                f"lowest: {self.lowest} is above P{self.levels[0]}, which a head reads"
            )
        return self

    @model_validator(mode="after")
    def _mergeable(self) -> ModelSpec:
        check_merge(self.merge, self.heads)
        return self

    @property
    def levels(self) -> tuple[int, ...]:
        """Every level that some head reads, sorted."""
        return tuple(sorted({level for head in self.heads for level in head.levels}))

    @property
    def low(self) -> int:
        """Level where the neck turns from down to up."""
        return self.lowest or self.levels[0]

    @property
    def stages(self) -> tuple[str, ...]:
        """The neck's stages that this model has, in the order they run."""
        down = [f"down_p{level}" for level in range(LEVELS[-1] - 1, self.low - 1, -1)]
        return (*down, *(f"up_p{level}" for level in range(self.low + 1, self.levels[-1] + 1)))

    def groups(self, stage: str) -> Groups:
        """Return which heads share each copy of a neck stage, in the order of the heads."""
        groups: Groups = (tuple(head.name for head in self.heads),)
        for earlier in STAGES[: STAGES.index(stage) + 1]:
            groups = self.branches.get(earlier, groups)
        return groups

    def route(self, head: str) -> dict[str, int]:
        """Return the neck stages that a head's maps come through, each with its copy's number.

        In the order they run; a way up ends at the head's highest level.
        """
        top = self.head(head).levels[-1]
        return {
            stage: number
            for stage in self.stages
            if stage.startswith("down") or int(stage[-1]) <= top
            for number, group in enumerate(self.groups(stage))
            if head in group
        }

    def head(self, name: str) -> HeadSpec:
        """Return the head called `name`; `UserError` lists the names when there is none."""
        for head in self.heads:
            if head.name == name:
                return head
        raise UserError(f"no head {name!r}; this model has {[h.name for h in self.heads]}")

    def to_json(self) -> str:
        """Serialise for a file's metadata."""
        # Left out where there is none, so that older versions go on reading such files.
        return self.model_dump_json(exclude=None if self.nms else {"nms"})

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


def check_branches(branches: dict[str, Groups], names: list[str]) -> dict[str, Groups]:
    """Return a branch plan in the heads' order, without stages that split nothing.

    Args:
        branches: groups of heads by stage, as `ModelSpec.branches`.
        names: of all heads, in their order.

    Raises:
        ValueError: names the stage that is unknown, does not hold every head once, or joins what
            an earlier one split.
    """
    unknown = [stage for stage in branches if stage not in STAGES]
    if unknown:
        raise ValueError(f"branches: no stage {unknown[0]!r}; there are {', '.join(STAGES)}")
    plan: dict[str, Groups] = {}
    above: Groups = (tuple(names),)
    for stage in (stage for stage in STAGES if stage in branches):
        given = branches[stage]
        if sorted(name for group in given for name in group) != sorted(names):
            raise ValueError(f"branches.{stage}: must name every head of {names} once")
        ordered = (tuple(sorted(group, key=names.index)) for group in given if group)
        groups = tuple(sorted(ordered, key=lambda group: names.index(group[0])))
        for group in groups:
            if not any(set(group) <= set(wider) for wider in above):
                raise ValueError(
                    f"branches.{stage}: {list(group)} were split at an earlier stage; "
                    "what has split stays split"
                )
        if groups != above:
            plan[stage] = groups
        above = groups
    return plan


def check_merge(merge: Merge, heads: Sequence[HeadSpec]) -> None:
    """Raise `ValueError` unless these heads can be merged so.

    Each name must stand for classes of at least two heads whose results are boxes and nothing
    else, and no class may be named twice.
    """
    by_name = {head.name: head for head in heads}
    if merge and MERGED in by_name:
        raise ValueError(f"merge: a head is called {MERGED!r}, as the merged results are")
    seen: set[str] = set()
    for name, members in merge.items():
        where = f"merge.{name}"
        if not name.strip():
            raise ValueError("merge: a class to make has no name")
        for member in members:
            head = by_name.get(member.partition(":")[0])
            if head is None or member.partition(":")[2] not in head.classes:
                known = "; ".join(f"{head.name}: {', '.join(head.classes)}" for head in heads)
                raise ValueError(f"{where}: no {member!r}; write head:class, of {known}")
            if not _gives_boxes_alone(head.kind):
                raise ValueError(f"{where}: {member!r}: a {head.kind} finds more than boxes")
            if member in seen:
                raise ValueError(f"{where}: {member!r} is named twice")
            seen.add(member)
        if len({member.partition(":")[0] for member in members}) < 2:
            raise ValueError(f"{where}: must name classes of at least two heads")


def reduce_merge(merge: Merge, heads: Iterable[str]) -> Merge:
    """Return what of a merge is left when only these heads are there: two make a merge."""
    kept = set(heads)
    left: Merge = {}
    for name, members in merge.items():
        of_kept = tuple(member for member in members if member.partition(":")[0] in kept)
        if len({member.partition(":")[0] for member in of_kept}) > 1:
            left[name] = of_kept
    return left


def _gives_boxes_alone(kind: str) -> bool:
    # Here, because heads are described in terms of this module.
    from vision_heads.heads.base import kind_of  # noqa: PLC0415

    return kind_of(kind).outputs == ("boxes", "scores")


def first_problem(error: ValidationError) -> str:
    """Say in one line which field of a pydantic model is wrong, and why."""
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    message = {"extra_forbidden": "no such field", "missing": "must be given"}.get(
        problem["type"], message
    )
    more = error.error_count() - 1
    # What concerns several fields names them itself.
    where = f"{field}: " if field else ""
    return where + message + (f" (and {more} more)" if more else "")
