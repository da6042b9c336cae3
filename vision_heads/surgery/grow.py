"""A model with room for new heads: the old tensors where they were, the new ones ready to train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vision_heads.errors import UserError, require
from vision_heads.spec import STAGES, Groups, HeadSpec, ModelSpec
from vision_heads.surgery.compose import Origin, compose, modules_of
from vision_heads.surgery.history import continued, united
from vision_heads.surgery.model import Model
from vision_heads.surgery.specs import remade


@dataclass(frozen=True, slots=True)
class Growth:
    """A model that gets new heads.

    Attributes:
        base: as it was; every tensor in it keeps its name and its numbers.
        spec: with the new heads.
        start: tensors to start from: the base's, and copies of them in the new branches.
        added: names of the new heads.
    """

    base: Model
    spec: ModelSpec
    start: dict[str, Tensor]
    added: tuple[str, ...]

    @property
    def frozen(self) -> frozenset[str]:
        """Names of the tensors that must not change."""
        return frozenset(self.base.state)


def grow(
    base: Model,
    heads: Sequence[HeadSpec],
    *,
    branch: str | None = None,
    like: str | None = None,
    provenance: dict[str, str] | None = None,
) -> Growth:
    """Plan new heads on a trained trunk.

    Args:
        base: the trained model.
        heads: to add, after those there are.
        branch: neck stage from which each new head has copies of its own, which start as the
            shared ones are; None: it reads the shared neck as it is.
        like: head whose copies of each stage the new ones share (before `branch`) or start from;
            must be given when the model has branches.
        provenance: of the training; data and terms are joined to the base's.

    Raises:
        UserError: a name is taken, a level cannot be reached without changing what the old heads
            read, or the branch is none; says what to do.
    """
    for head in heads:
        _check_head(base, head)
    guide = _guide(base, like)
    spec = remade(
        base.spec,
        heads=[head.model_dump() for head in (*base.spec.heads, *heads)],
        branches=_plan(base.spec, [head.name for head in heads], guide, branch),
        lowest=base.spec.low,
        provenance=_provenance(base, [head.name for head in heads], provenance or {}),
    )
    start: dict[str, Tensor] = {}
    for head in heads:
        _check_branch(spec, head.name, branch)
        for stage in spec.route(head.name):
            module = modules_of(spec, head.name)[stage]
            start |= {f"{module}.{n}": v for n, v in _copy_of(base, guide, stage).items()}
    start |= compose(spec, {h.name: Origin(base, h.name) for h in base.spec.heads})
    return Growth(base, spec, start, tuple(head.name for head in heads))


def _check_head(base: Model, head: HeadSpec) -> None:
    names = [old.name for old in base.spec.heads]
    require(
        head.name not in names,
        f"{base.file}: has a head {head.name!r} already; call the new one otherwise",
    )
    low = base.spec.low
    require(
        head.levels[0] >= low,
        f"heads.{head.name}.levels: reads P{head.levels[0]}, but the neck of {base.file} turns at "
        f"P{low}, and turning lower would change what {', '.join(names)} read; give it levels "
        f"from {low} up, or train all heads together with vh train",
    )


def _guide(base: Model, like: str | None) -> str:
    names = [head.name for head in base.spec.heads]
    if like is not None:
        return base.spec.head(like).name
    require(
        not base.spec.branches,
        f"{base.file}: its heads have branches; --like says whose the new head follows, out of "
        f"{', '.join(names)}",
    )
    return names[0]


def _copy_of(base: Model, guide: str, stage: str) -> dict[str, Tensor]:
    """The tensors of a stage in the copy of the guide's group; none where nobody needs one."""
    groups = base.spec.groups(stage)
    sharers = next(group for group in groups if guide in group)
    return next((t for name in sharers if (t := Origin(base, name).tensors(stage))), {})


def _plan(
    spec: ModelSpec, added: Sequence[str], guide: str, branch: str | None
) -> dict[str, Groups]:
    if branch is not None and branch not in spec.stages:
        raise UserError(f"--branch {branch}: no stage of this model: {', '.join(spec.stages)}")
    plan: dict[str, Groups] = {}
    for stage in STAGES:
        groups = spec.groups(stage)
        if branch is not None and STAGES.index(stage) >= STAGES.index(branch):
            plan[stage] = (*groups, *((name,) for name in added))
        else:
            plan[stage] = tuple((*g, *added) if guide in g else g for g in groups)
    return plan


def _check_branch(spec: ModelSpec, head: str, branch: str | None) -> None:
    route = list(spec.route(head))
    require(
        branch is None or branch in route,
        f"--branch {branch}: head {head!r} does not come through it, only through "
        f"{', '.join(route) or 'the backbone'}",
    )


def _provenance(base: Model, added: Sequence[str], new: dict[str, str]) -> dict[str, str]:
    """The base's, with the new heads' training beside it."""
    names = ", ".join(added)
    found = dict(base.spec.provenance)
    training = {key: value for key, value in new.items() if key not in ("data", "terms")}
    if training:
        found[f"added {names}"] = "; ".join(f"{key}: {value}" for key, value in training.items())
    for key in ("data", "terms"):
        if united(found.get(key), new.get(key)):
            found[key] = united(found.get(key), new.get(key))
    return continued(found, f"added {names} to {base.file.name}")
