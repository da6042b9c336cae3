"""A whole search: from single-head models and data sets to plans, and the files that say so."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vision_heads.branching.cost import costs_of
from vision_heads.branching.plans import apart, count_plans, describe, to_branches, together
from vision_heads.branching.probe import Probes, choose_probes, compare, pool_size
from vision_heads.branching.search import (
    EXACT_HEADS,
    Budget,
    Matrix,
    Scored,
    Scorer,
    check_budget,
    choose,
    find_plans,
    front,
)
from vision_heads.branching.similarity import Kernel, Method
from vision_heads.branching.singles import Single
from vision_heads.data.sample import DataSplit
from vision_heads.errors import UserError
from vision_heads.spec import ModelSpec

RANKED = 50
"""Plans written into the report, besides those of the front."""

Progress = Callable[[int, str], AbstractContextManager[Callable[[], None]]]
"""Shows progress: called with how many steps there are, and of what."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to search.

    Attributes:
        probes: pictures of each data set.
        method, kernel: how models are compared, see `similarity.signature`.
        budget: of the plan.
        seed: of the choice of pictures.
        threads: of ONNX Runtime, where milliseconds are measured.
    """

    probes: int = 100
    method: Method = "dds"
    kernel: Kernel = "rbf"
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        singles: the models compared.
        spec: of the model of all heads, sharing everything.
        settings: of the search.
        probes: of each data set.
        by_data: dissimilarities by head whose data the probes are of, then by stage.
        matrices: their means: by stage in the order they run, (heads, heads), NaN where a head's
            own model lacks the stage.
        count: of all monotone plans.
        plans: within the budget, best first.
        front: of these, those that none beats in score and price; cheapest first.
        together, apart: sharing everything and sharing nothing, whatever the budget.
        chosen: the plan to take.
        measured_ms: of the chosen plan's whole network, where milliseconds have a budget.
    """

    singles: list[Single]
    spec: ModelSpec
    settings: Settings
    probes: list[Probes]
    by_data: dict[str, dict[str, Matrix]]
    matrices: dict[str, Matrix]
    count: int
    plans: list[Scored]
    front: list[Scored]
    together: Scored
    apart: Scored
    chosen: Scored
    measured_ms: float | None

    @property
    def names(self) -> list[str]:
        """The heads'."""
        return [head.name for head in self.spec.heads]

    @property
    def exact(self) -> bool:
        """Whether every plan was looked at."""
        return len(self.names) <= EXACT_HEADS

    def branches(self, plan: Scored) -> dict[str, list[list[str]]]:
        """Return a plan as a training config's `branches`."""
        return to_branches(plan.plan, list(self.matrices), self.names)

    def rule(self) -> str:
        """Say how the plan was chosen."""
        if self.settings.budget.limits():
            return "the lowest score within the budget"
        return "the knee of the front, where score and price together are lowest"


def search_branches(
    singles: list[Single],
    splits: Sequence[DataSplit],
    spec: ModelSpec,
    settings: Settings,
    progress: Progress,
) -> Found:
    """Compare the models on probe pictures of all data sets and choose a branch plan.

    Args:
        singles: the models, on the device to compute on.
        splits: pictures of each model's data set, in their order.
        spec: of the model of all heads (`singles.together_spec`).
        settings: how to search.
        progress: shows it.

    Raises:
        UserError: too few readable pictures, or a budget that no plan keeps.
    """
    ms = _timed(spec, settings, progress) if settings.budget.ms is not None else None
    costs = costs_of(spec, ms)
    check_budget(costs, settings.budget)  # before the long part
    probes = _choose(singles, splits, spec, settings, progress)
    by_data: dict[str, dict[str, Matrix]] = {}
    with progress(sum(len(pictures.samples) for pictures in probes), "probe pictures") as step:
        for single, pictures in zip(singles, probes, strict=True):
            by_data[single.name] = compare(
                singles, pictures, spec.input, settings.method, settings.kernel, step
            )
    matrices = mean_matrices(by_data, spec)
    heads = len(singles)
    priced = tuple(settings.budget.limits()) or ("parameters", "flops")
    scorer = Scorer(matrices, costs, heads, priced)
    plans = find_plans(scorer, settings.budget)
    chosen = choose(plans, settings.budget)
    stages = len(matrices)
    return Found(
        singles=singles,
        spec=spec,
        settings=settings,
        probes=probes,
        by_data=by_data,
        matrices=matrices,
        count=count_plans(heads, stages),
        plans=plans,
        front=front(plans),
        together=scorer((together(heads),) * stages),
        apart=scorer((apart(heads),) * stages),
        chosen=chosen,
        measured_ms=None if ms is None else _time_plan(spec, chosen, settings),
    )


def mean_matrices(by_data: dict[str, dict[str, Matrix]], spec: ModelSpec) -> dict[str, Matrix]:
    """Return the mean over the data sets, for each stage of the model of all heads."""
    heads = len(spec.heads)
    # A stage between two heads' levels may be in none of their own models.
    nowhere = np.full((heads, heads), np.nan)
    return {
        stage: np.mean([found.get(stage, nowhere) for found in by_data.values()], axis=0)
        for stage in spec.stages
    }


def _choose(
    singles: list[Single],
    splits: Sequence[DataSplit],
    spec: ModelSpec,
    settings: Settings,
    progress: Progress,
) -> list[Probes]:
    total = sum(pool_size(split, settings.probes) for split in splits)
    with progress(total, "pictures to choose from") as step:
        return [
            choose_probes(single, split, settings.probes, spec.input, settings.seed, step)
            for single, split in zip(singles, splits, strict=True)
        ]


def _timed(
    spec: ModelSpec, settings: Settings, progress: Progress
) -> tuple[float, dict[str, float]]:
    from vision_heads.branching.latency import time_model, time_stages  # noqa: PLC0415

    with progress(2, "measurements of time") as step:
        whole = time_model(spec, settings.threads)
        step()
        stages = time_stages(spec, settings.threads)
        step()
    return whole, stages


def _time_plan(spec: ModelSpec, plan: Scored, settings: Settings) -> float:
    from vision_heads.branching.latency import time_model  # noqa: PLC0415

    branches = to_branches(plan.plan, spec.stages, [head.name for head in spec.heads])
    planned = ModelSpec.model_validate(spec.model_dump() | {"branches": branches})
    return time_model(planned, settings.threads)


def write_found(found: Found, folder: Path) -> list[Path]:
    """Write plan.yaml, report.json and dissimilarity.png; files of these names are replaced.

    Raises:
        UserError: the folder cannot be written, or matplotlib is not installed.
    """
    from vision_heads.branching.draw import matrices_figure  # noqa: PLC0415

    figure = matrices_figure(found.matrices, found.names, found.settings.method)
    plan, report, drawing = (
        folder / name for name in ("plan.yaml", "report.json", "dissimilarity.png")
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        plan.write_text(plan_yaml(found), encoding="utf-8")
        text = json.dumps(report_of(found), indent=2, allow_nan=False)
        report.write_text(text + "\n", encoding="utf-8")
        figure.savefig(drawing, dpi=120, bbox_inches="tight")
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}") from error
    return [plan, report, drawing]


def plan_yaml(found: Found) -> str:
    """Return the chosen plan as part of a training config, with how it was found."""
    chosen, settings = found.chosen, found.settings
    files = ", ".join(f"{single.name}={single.file}" for single in found.singles)
    pictures = ", ".join(
        f"{len(probes.samples)} of {probes.split.name} ({probes.split.split})"
        for probes in found.probes
    )
    how = settings.method + (f" ({settings.kernel} kernel)" if settings.method == "dds" else "")
    comment = [
        "Found by vh branch search; copy `branches` into a training config (docs/branches.md).",
        f"models: {files}",
        f"compared by {how} on probes: {pictures}; seed {settings.seed}",
        f"chosen: {found.rule()}",
        f"score {chosen.score:.4f} (all shared {found.together.score:.4f}), "
        f"{chosen.cost.parameters:,} parameters, {chosen.cost.flops / 1e9:.2f} GFLOPs at "
        f"{found.spec.input.height}x{found.spec.input.width}",
    ]
    head = "".join(f"# {line}\n" for line in comment)
    lines = yaml.safe_dump(
        {"branches": found.branches(chosen)}, sort_keys=False, default_flow_style=None, width=1000
    )
    return head + lines


def report_of(found: Found) -> dict[str, Any]:
    """Return everything a search found, as JSON holds it; NaN is null."""
    settings, names = found.settings, found.names
    lacking = {
        single.name: [s for s in found.matrices if s not in single.network.spec.stages]
        for single in found.singles
    }
    shown = {id(plan): plan for plan in (*found.plans[:RANKED], *found.front)}
    return {
        "heads": [
            {
                "name": probes.head,
                "file": str(single.file),
                "data": probes.split.name,
                "split": probes.split.split,
                "pictures": len(probes.split.samples),
                "chosen_from": probes.pool,
                "probes": [str(sample.image) for sample in probes.samples],
                "unread": probes.unread,
                "stages_its_own_model_lacks": lacking[single.name],
            }
            for single, probes in zip(found.singles, found.probes, strict=True)
        ],
        "method": settings.method,
        "kernel": settings.kernel if settings.method == "dds" else None,
        "seed": settings.seed,
        "input": [found.spec.input.height, found.spec.input.width],
        "budget": asdict(settings.budget),
        "dissimilarity": _plain(found.matrices, names),
        "dissimilarity_by_data": {
            name: _plain(matrices, names) for name, matrices in found.by_data.items()
        },
        "monotone_plans": found.count,
        "every_plan_scored": found.exact,
        "different_plans_within_budget": len(found.plans),
        "chosen_by": found.rule(),
        "chosen": _record(found, found.chosen) | {"measured_ms": found.measured_ms},
        "all_shared": _record(found, found.together),
        "all_split": _record(found, found.apart),
        "front": [_record(found, plan) for plan in found.front],
        "ranked": [_record(found, plan) for plan in shown.values()],
    }


def _record(found: Found, plan: Scored) -> dict[str, Any]:
    branches = found.branches(plan)
    return {
        "branches": branches,
        "words": describe(branches),
        "score": plan.score,
        "price": plan.price,
        **asdict(plan.cost),
    }


def _plain(matrices: dict[str, Matrix], names: list[str]) -> dict[str, dict[str, Any]]:
    return {
        stage: {
            name: {
                other: None if math.isnan(value) else round(float(value), 6)
                for other, value in zip(names, row, strict=True)
            }
            for name, row in zip(names, matrix, strict=True)
        }
        for stage, matrix in matrices.items()
    }
