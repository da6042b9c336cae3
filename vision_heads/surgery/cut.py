"""Smaller models out of larger ones, and other names for heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vision_heads.errors import require
from vision_heads.spec import Merge, ModelSpec, reduce_merge
from vision_heads.surgery.compose import Origin, compose
from vision_heads.surgery.history import continued
from vision_heads.surgery.model import Model
from vision_heads.surgery.specs import remade

Made = tuple[ModelSpec, dict[str, Tensor]]
"""A new model: its spec and its tensors."""


def extract(model: Model, heads: Sequence[str]) -> Made:
    """Cut heads out as a model of their own whose outputs are equal, bit by bit.

    The neck goes as far down as it did, also where no head is left that reads the finest level:
    what the others read has come from there. Terms and data stay whole, for the trunk has learned
    from all of it.

    Args:
        model: the larger one.
        heads: names to keep; they keep the model's order.

    Raises:
        UserError: no head has such a name, or none is named.
    """
    _check_names(model.spec, heads)
    kept = [head for head in model.spec.heads if head.name in heads]
    names = [head.name for head in kept]
    step = f"took {', '.join(names)} out of {model.file.name} ({_names(model.spec)})"
    spec = remade(
        model.spec,
        heads=[head.model_dump() for head in kept],
        branches={
            stage: [[name for name in group if name in names] for group in groups]
            for stage, groups in model.spec.branches.items()
        },
        lowest=model.spec.low,
        merge=reduce_merge(model.spec.merge, names),
        provenance=continued(model.spec.provenance, step),
    )
    return spec, compose(spec, {name: Origin(model, name) for name in names})


def drop(model: Model, heads: Sequence[str]) -> Made:
    """Leave heads out; what remains computes what it did, bit by bit.

    Raises:
        UserError: no head has such a name, none is named, or none would be left.
    """
    _check_names(model.spec, heads)
    kept = [head.name for head in model.spec.heads if head.name not in heads]
    require(kept, f"{model.file}: would have no head left; a model has at least one")
    return extract(model, kept)


def rename(model: Model, names: Mapping[str, str]) -> Made:
    """Give heads other names; all at once, so that two may change places.

    Args:
        model: the model.
        names: old name to new one.

    Raises:
        UserError: no head has such a name, or a new one is taken, or cannot be one.
    """
    _check_names(model.spec, list(names))
    old = [head.name for head in model.spec.heads]
    new = [names.get(name, name) for name in old]
    taken = [name for name in new if new.count(name) > 1]
    require(not taken, f"{model.file}: two heads would be called {taken[:1]}; they have {old}")
    now = dict(zip(old, new, strict=True))
    step = "renamed " + ", ".join(f"{before} to {after}" for before, after in names.items())
    heads: list[dict[str, Any]] = [head.model_dump() for head in model.spec.heads]
    spec = remade(
        model.spec,
        heads=[head | {"name": now[head["name"]]} for head in heads],
        branches={
            stage: [[now[name] for name in group] for group in groups]
            for stage, groups in model.spec.branches.items()
        },
        merge=_renamed_merge(model.spec.merge, now),
        provenance=continued(model.spec.provenance, step),
    )
    return spec, compose(spec, {now[name]: Origin(model, name) for name in old})


def _renamed_merge(merge: Merge, now: Mapping[str, str]) -> Merge:
    def member(text: str) -> str:
        head, colon, name = text.partition(":")
        return now[head] + colon + name

    return {name: tuple(member(text) for text in members) for name, members in merge.items()}


def _check_names(spec: ModelSpec, heads: Sequence[str]) -> None:
    require(heads, f"name at least one head of {_names(spec)}")
    for name in heads:
        spec.head(name)


def _names(spec: ModelSpec) -> str:
    return ", ".join(head.name for head in spec.heads)
