"""One model out of several that share a trunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vision_heads.errors import UserError, require
from vision_heads.spec import Groups, InputSpec, ModelSpec
from vision_heads.surgery.compose import BACKBONE, Origin, compose, first_difference
from vision_heads.surgery.cut import Made
from vision_heads.surgery.history import combined, continued
from vision_heads.surgery.model import Model
from vision_heads.surgery.specs import remade

_ALIKE = ("size", "fusion", "activation")


def merge(
    models: Sequence[Model],
    *,
    imgsz: tuple[int, int] | None = None,
    candidates: int | None = None,
) -> Made:
    """Put models together; every head computes what it did alone, bit by bit.

    The backbone must be the same in all, number for number. Where necks differ they become
    branches, from the first stage that differs on: a stage is shared by the heads whose tensors
    for it are equal and that share everything before it.

    Args:
        models: two or more; heads keep this order.
        imgsz: height and width in pixels; must be given when the models' differ.
        candidates: boxes a head exports; must be given when the models' differ.

    Raises:
        UserError: they do not share a trunk, or two heads have one name; says which and why.
    """
    require(len(models) > 1, "give at least two models to merge")
    for other in models[1:]:
        _check_pair(models[0], other)
    origins = _origins(models)
    first = models[0].spec
    bare = remade(
        first,
        input=_input(models, imgsz).model_dump(),
        heads=[head.model_dump() for model in models for head in model.spec.heads],
        branches={},
        lowest=first.low,
        merge=_united_classes(models),
        candidates=_candidates(models, candidates),
        provenance=continued(
            combined(models), f"merged {' and '.join(model.file.name for model in models)}"
        ),
    )
    spec = remade(bare, branches=_plan(bare, origins))
    return spec, compose(spec, origins)


def _check_pair(first: Model, other: Model) -> None:
    one, two = first.spec, other.spec
    for field in _ALIKE:
        a, b = getattr(one, field), getattr(two, field)
        require(a == b, f"{other.file}: {field} is {b}, but {first.file} has {a}: no common trunk")
    require(
        one.low == two.low,
        f"{other.file}: its neck goes down to P{two.low}, that of {first.file} to P{one.low}: "
        "no common trunk",
    )
    trunks = [Origin(m, m.spec.heads[0].name).tensors(BACKBONE) for m in (first, other)]
    name = first_difference(*trunks)
    if name is None:
        return
    stored = {True: "FP16", False: "FP32"}
    rounded = first.half != other.half
    hint = (
        f"; one is stored as {stored[first.half]}, the other as {stored[other.half]}"
        if rounded
        else "; heads share a trunk when they were trained together, or added with vh heads add"
    )
    raise UserError(
        f"{other.file}: {BACKBONE}.{name} differs from that of {first.file}: no common trunk{hint}"
    )


def _origins(models: Sequence[Model]) -> dict[str, Origin]:
    origins: dict[str, Origin] = {}
    for model in models:
        for head in model.spec.heads:
            if head.name in origins:
                raise UserError(
                    f"{model.file}: {origins[head.name].model.file} has a head {head.name!r} too; "
                    f"give one another name first: vh heads rename {model.file} "
                    f"{head.name}=NEW --out FILE"
                )
            origins[head.name] = Origin(model, head.name)
    return origins


def _input(models: Sequence[Model], imgsz: tuple[int, int] | None) -> InputSpec:
    """The input that all have; only its size may be chosen."""
    first = models[0].spec.input
    size = {"height": first.height, "width": first.width}
    for model in models[1:]:
        theirs = model.spec.input
        require(
            theirs.model_copy(update=size) == first,
            f"{model.file}: is fed otherwise (colour, scale or padding) than {models[0].file}",
        )
        require(
            imgsz or theirs == first,
            f"{model.file}: input is {theirs.height}x{theirs.width}, that of {models[0].file} "
            f"{first.height}x{first.width}; choose with --imgsz",
        )
    if imgsz is None:
        return first
    height, width = imgsz
    require(
        height % 32 == 0 and width % 32 == 0 and min(height, width) > 0,
        f"--imgsz {height}x{width}: must be multiples of 32",
    )
    return first.model_copy(update={"height": height, "width": width})


def _candidates(models: Sequence[Model], chosen: int | None) -> int:
    first = models[0].spec.candidates
    for model in models[1:]:
        require(
            chosen or model.spec.candidates == first,
            f"{model.file}: gives {model.spec.candidates} candidates, {models[0].file} {first}; "
            "choose with --candidates",
        )
    return chosen or first


def _united_classes(models: Sequence[Model]) -> dict[str, Any]:
    """The classes that results unite across heads, of all models."""
    found: dict[str, Any] = {}
    for model in models:
        for name, members in model.spec.merge.items():
            require(name not in found, f"{model.file}: merge.{name} is in another model too")
            found[name] = members
    return found


def _plan(spec: ModelSpec, origins: Mapping[str, Origin]) -> dict[str, Groups]:
    """Return which heads share each stage: those with equal tensors for it and all before it."""
    groups: Groups = (tuple(origins),)
    plan: dict[str, Groups] = {}
    for stage in spec.stages:
        groups = tuple(part for group in groups for part in _split(group, stage, origins))
        plan[stage] = groups
    return plan


def _split(group: Sequence[str], stage: str, origins: Mapping[str, Origin]) -> Groups:
    tensors = {name: origins[name].tensors(stage) for name in group}
    parts: list[list[str]] = []
    for name in (name for name in group if tensors[name]):
        for part in parts:
            if first_difference(tensors[part[0]], tensors[name]) is None:
                part.append(name)
                break
        else:
            parts.append([name])
    # Heads whose way ends before this stage need no copy, so they may be counted to any.
    idle = [name for name in group if not tensors[name]]
    if not parts:
        return (tuple(idle),)
    parts[0] += idle
    return tuple(map(tuple, parts))
