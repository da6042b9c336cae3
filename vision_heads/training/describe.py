"""From the settings of a run to the description of the model it trains."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import ValidationError

from vision_heads.data.sample import DataSplit
from vision_heads.errors import UserError
from vision_heads.heads.base import kind_of
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec, first_problem
from vision_heads.training.config import HeadConfig, TrainConfig
from vision_heads.version import __version__


def build_spec(config: TrainConfig, splits: Mapping[str, DataSplit], command: str) -> ModelSpec:
    """Describe the model that a run trains.

    Data, terms, seed and command go into provenance, and what heads learn no poses from.

    Raises:
        UserError: `merge` names a class that the data does not have.
    """
    heads = tuple(
        HeadSpec(
            name=name,
            kind=head.kind,
            classes=splits[name].names,
            category_ids=splits[name].category_ids,
            levels=head.levels,
            options=head.options,
        )
        for name, head in config.heads.items()
    )
    notes = {name: pose_note(head, splits[name]) for name, head in config.heads.items()}
    poses = "; ".join(f"{name}: {note}" for name, note in notes.items() if note)
    provenance = {
        "program": f"vision_heads {__version__}",
        "command": command,
        "data": "; ".join(f"{n}: {s.name} ({len(s.samples)} pictures)" for n, s in splits.items()),
        "terms": "; ".join(sorted({s.terms for s in splits.values() if s.terms})),
        "seed": str(config.seed),
        "epochs": str(config.epochs),
        **({"init": config.init} if config.init else {}),
        **({"poses": poses} if poses else {}),
        **config.terms,
    }
    height, width = config.imgsz
    try:
        return ModelSpec(
            size=config.size,
            fusion=config.fusion,
            activation=config.activation,
            candidates=config.candidates,
            input=InputSpec(height=height, width=width),
            heads=heads,
            branches=config.branches,
            merge=config.merge,
            provenance=provenance,
        )
    except ValidationError as error:  # what settings alone cannot tell: a class of `merge`
        raise UserError(f"settings: {first_problem(error)}") from error


def pose_note(head: HeadConfig, split: DataSplit) -> str:
    """Say that a head gives poses which no label of its data teaches; "" where that is not so.

    Args:
        head: its settings.
        split: what it is trained on.
    """
    if "rotation" not in kind_of(head.kind).outputs or _posed(split):
        return ""
    learned = "learned from its teacher alone" if head.teacher else "not learned"
    return f"no box of {split.name} ({split.split}) has a pose, so poses are {learned}"


def _posed(split: DataSplit) -> bool:
    return any(
        sample.rotations is not None and np.isfinite(sample.rotations).all((1, 2)).any()
        for sample in split.samples
    )
