"""Validation during training: the same runtime and rules as `vh eval`."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from vision_heads.data.sample import DataSplit
from vision_heads.errors import UserError, require
from vision_heads.evaluation.protocols import protocol_of
from vision_heads.evaluation.records import class_map
from vision_heads.evaluation.runner import describe, options_for, predict_split, said_unread
from vision_heads.heads.base import kind_of
from vision_heads.network import Network
from vision_heads.runtime.predictor import Predictor
from vision_heads.torch_engine import TorchEngine
from vision_heads.training.config import TrainConfig
from vision_heads.training.journal import Journal


def check_scorable(
    config: TrainConfig, train: Mapping[str, DataSplit], val: Mapping[str, DataSplit]
) -> dict[str, str]:
    """Check that each head can be validated; the first validation is hours away.

    Args:
        config: of the run.
        train: what each head learns; its classes are the head's.
        val: what those heads are validated on that are.

    Returns:
        A line for each head of which some classes cannot be compared.

    Raises:
        UserError: a split holds no picture, or no class of its head; names the setting.
    """
    notes: dict[str, str] = {}
    for name, split in val.items():
        where = f"heads.{name}.val: {split.name} ({split.split})"
        require(split.samples, f"{where} holds no pictures; with val: '' the head is not validated")
        rules = protocol_of(config.protocol_of(name))
        rules.check_ready()
        try:
            classes = class_map(train[name].names, split.names, lone=rules.lone_class)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        if note := describe(classes, split.names):
            notes[name] = note
    return notes


def validate(
    network: Network, splits: Mapping[str, DataSplit], config: TrainConfig, journal: Journal
) -> dict[str, float]:
    """Score a network on each head's validation split.

    Returns:
        Figures as `<head>/<number>`, in percent; what the data cannot tell is left out.
    """
    device = next(network.parameters()).device
    engine = TorchEngine(deepcopy(network), device=str(device))
    predictor = Predictor(engine)
    figures: dict[str, float] = {}
    for name, split in splits.items():
        head = network.spec.head(name)
        journal.say(f"validate {name} on {len(split.samples)} pictures of {split.name}")
        protocol = config.protocol_of(name)
        lone = protocol_of(protocol).lone_class
        run = predict_split(predictor, split, options_for(protocol), head=head, lone=lone)
        if run.unread:
            journal.say(f"{name}: {said_unread(run)}")
        numbers = kind_of(head.kind).evaluate(split, run.detections, protocol)
        figures |= {f"{name}/{key}": value for key, value in numbers.items()}
    return figures


def marks(figures: Mapping[str, float], splits: Mapping[str, DataSplit]) -> dict[str, float]:
    """Say in one number how good each head is, 0..100.

    Args:
        figures: of `validate`.
        splits: what each head was validated on.

    Returns:
        AP50; where poses were judged it is taken times 1 - MAE / 90 degrees, so that weights
        which find heads but not their poses are not good.
    """
    found: dict[str, float] = {}
    for head, split in splits.items():
        mark = figures.get(f"{head}/AP50", 0.0)
        posed = any(sample.rotations is not None for sample in split.samples)
        if posed and f"{head}/matched" in figures:
            # No error given: nothing was matched.
            mark *= max(0.0, 1 - figures.get(f"{head}/mae", 90.0) / 90)
        found[head] = mark
    return found


def fitness(figures: Mapping[str, float], splits: Mapping[str, DataSplit]) -> float:
    """Return the mean of the heads' `marks`, to keep the best weights."""
    found = marks(figures, splits)
    return sum(found.values()) / max(len(found), 1)
