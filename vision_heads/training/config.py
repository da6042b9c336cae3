"""The settings of a training run: one pydantic model, so that a wrong one fails by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from vision_heads.data.augment import AugmentConfig
from vision_heads.errors import UserError
from vision_heads.evaluation.protocols import PROTOCOLS
from vision_heads.heads.base import KINDS, kind_of
from vision_heads.spec import (
    LEVELS,
    MAX_SIDE,
    Groups,
    HeadSpec,
    Level,
    Merge,
    Size,
    check_branches,
    first_problem,
)
from vision_heads.yaml_file import read_yaml

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
ProtocolName = Literal["coco", "visdrone", "headpose"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HeadConfig(_Strict):
    """One head of the run.

    Attributes:
        kind: of the head.
        data: data-set card, by name or path; or several whose classes are the same, which are
            trained on together (validation uses the first).
        train, val: splits of the card; an empty `val`, or null, skips validation of this head.
        levels: pyramid levels the head reads.
        weight: of its loss in the sum.
        sampling: share of its pictures in every batch and epoch relative to the other heads',
            whatever the sizes of the data sets; given to every head or to none. None: each
            picture once an epoch, so shares follow the sizes.
        protocol: rules of this head's validation; None: the run's.
        freeze_after: epochs after which the head stops: its own layers, and the neck stages
            that only stopped heads use, keep their averaged weights; its pictures leave the
            batch. None: it trains to the end.
        patience: validations in a row without a better figure of this head (see
            `validate.marks`) after which it stops in the same way; None: never.
        teacher: weights, a file or a shipped name, of a trained model whose head of this name (or
            whose only head) has the same kind, classes and levels; it teaches this head besides
            the labels.
        teacher_weight: of what the teacher teaches, relative to the labels' losses.
        options: of the kind, e.g. `nwd: 0.5` for detect.
    """

    kind: str = "detect"
    data: Annotated[tuple[str, ...], Field(min_length=1)]
    train: str = "train"
    val: str = "val"
    levels: tuple[Level, ...] = LEVELS
    weight: Positive = 1.0
    sampling: Positive | None = None
    protocol: ProtocolName | None = None
    freeze_after: Count | None = None
    patience: Count | None = None
    teacher: str | None = None
    teacher_weight: Positive = 1.0
    options: dict[str, Any] = {}

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, value: str) -> str:
        if value not in KINDS:
            raise ValueError(f"unknown head kind {value!r}; known: {', '.join(KINDS)}")
        return value

    @field_validator("data", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("val", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return "" if value is None else value

    @field_validator("patience")
    @classmethod
    def _has_a_figure(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not info.data.get("val", "val"):
            raise ValueError("needs validation, and this head's `val` is empty")
        return value


class OptimizerConfig(_Strict):
    """How weights move.

    Attributes:
        name: adamw, sgd (Nesterov) or muon (see `training/muon.py`; AdamW's learning rates suit).
        lr: peak learning rate, for the batch size of the run.
        final: last learning rate as a fraction of the peak; the way there is a cosine.
        momentum: of SGD and Muon, or AdamW's first beta.
        weight_decay: on convolution weights only.
        warmup_epochs: linear from 0 to the peak.
        warmup_steps: least length of that, where epochs are short.
        clip: largest norm of the gradient, 0 for no clipping.
    """

    name: Literal["adamw", "sgd", "muon"] = "adamw"
    lr: Positive = 2e-3
    final: Fraction = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5e-4
    warmup_epochs: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    clip: Annotated[float, Field(ge=0)] = 10.0


class AddTo(_Strict):
    """The trained model that the run's heads are added to; see `training/partial.py`.

    Attributes:
        model: its weights (.safetensors); everything in them stays as it is.
        branch: neck stage from which each new head has copies of its own; None: it reads the
            neck as it is.
        like: head of the model whose branches the new ones follow.
    """

    model: str
    branch: str | None = None
    like: str | None = None


class TrainConfig(_Strict):
    """A whole run.

    Attributes:
        heads: by name.
        size, fusion, activation, candidates, branches, merge: of the model, see `ModelSpec`.
        imgsz: network size in pixels, one number or height and width, multiples of 32.
        epochs: passes over the data. Without `sampling` weights each picture of every head that
            still trains has its turn once an epoch. With them an epoch has as many turns, shared
            out by the weights: a data set whose share is larger than its size is gone through
            again in another order, of one whose share is smaller each epoch takes another
            random part. The report counts every picture's turns.
        batch: pictures a step over all processes together.
        accumulate: steps whose gradients are averaged before the weights move.
        optimizer, augment: nested settings.
        ema: decay of the weights' moving average, 0 for none.
        amp: arithmetic of the forward pass; "auto" is bf16 on a GPU or a CPU where it pays.
        freeze_bn: keep batch-norm statistics as they start.
        batch_norm: what the trunk's batch norms normalise by in training: "mixed", the whole
            batch; "per_head", each head's rows on their own (see `training/batch_norm.py`).
        loss_weighting: "fixed": the heads' `weight`s alone; "uncertainty": times a learned
            factor a head (see `training/weighting.py`).
        conflict_every: steps between measurements of how far the heads' gradients disagree in
            each stage of the trunk; 0 for none. Each costs a backward pass a head.
        seed: of initial weights, order and augmentation.
        workers: processes that load pictures.
        device: "auto", "cpu", "cuda" ...
        init: weights to start from, a file or a shipped name; whatever matches is loaded.
        add_to: a trained model that gets the heads, instead of a trunk of their own.
        trust_pickle: allow `init` to be unpickled (it can run any code it likes).
        fix: "clip" and "drop" mend broken labels; without them training refuses.
        val_every: epochs between validations; the last epoch is always validated.
        protocol: rules of validation of heads that name none; None: what suits their kind.
        checkpoint_minutes: most minutes between states to resume from.
        keep_half: write the final weights in FP16.
        terms: extra provenance written into the weights.
    """

    heads: Annotated[dict[str, HeadConfig], Field(min_length=1)]
    size: Size = "n"
    fusion: Literal["c2f", "irdcb"] = "c2f"
    activation: Literal["silu", "hardswish", "relu"] = "silu"
    candidates: Annotated[int, Field(ge=1, le=30000)] = 1000
    branches: dict[str, Groups] = {}
    merge: Merge = {}
    imgsz: tuple[int, int] = (640, 640)
    epochs: Annotated[int, Field(ge=1)] = 100
    batch: Annotated[int, Field(ge=1)] = 16
    accumulate: Annotated[int, Field(ge=1)] = 1
    optimizer: OptimizerConfig = OptimizerConfig()
    augment: AugmentConfig = AugmentConfig()
    ema: Fraction = 0.9999
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    freeze_bn: bool = False
    batch_norm: Literal["mixed", "per_head"] = "mixed"
    loss_weighting: Literal["fixed", "uncertainty"] = "fixed"
    conflict_every: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0  # torch takes no larger one
    workers: Annotated[int, Field(ge=0)] = 2
    device: str = "auto"
    init: str | None = None
    add_to: AddTo | None = None
    trust_pickle: bool = False
    fix: tuple[Literal["clip", "drop"], ...] = ()
    val_every: Annotated[int, Field(ge=1)] = 10
    protocol: ProtocolName | None = None
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 10.0
    keep_half: bool = True
    terms: dict[str, str] = {}

    @field_validator("amp", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a bare off as false

    @field_validator("imgsz", mode="before")
    @classmethod
    def _both_sides(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) else value

    @field_validator("imgsz")
    @classmethod
    def _multiples_of_32(cls, value: tuple[int, int]) -> tuple[int, int]:
        if any(side % 32 or side < 32 for side in value):
            raise ValueError(f"must be multiples of 32, got {list(value)}")
        if max(value) > MAX_SIDE:
            raise ValueError(f"must be at most {MAX_SIDE}, got {list(value)}")
        return value

    @model_validator(mode="after")
    def _heads_can_be_built(self) -> TrainConfig:
        for name, head in self.heads.items():
            try:
                HeadSpec(name=name, classes=("any",), levels=head.levels)
            except ValidationError as error:
                raise ValueError(f"heads.{name}.{first_problem(error)}") from error
        return self

    @model_validator(mode="after")
    def _heads_agree(self) -> TrainConfig:
        check_branches(self.branches, list(self.heads))
        unweighted = [name for name, head in self.heads.items() if head.sampling is None]
        if unweighted and len(unweighted) < len(self.heads):
            raise ValueError(
                f"heads.{unweighted[0]}.sampling: give `sampling` to every head or to none"
            )
        for name, head in self.heads.items():
            protocol = self.protocol_of(name)
            if head.val and head.kind not in PROTOCOLS[protocol].kinds:
                raise ValueError(
                    f"heads.{name}.protocol: {protocol} does not score the kind {head.kind}"
                )
        return self

    def protocol_of(self, head: str) -> str:
        """Return the rules by which a head is validated: its own, the run's, or its kind's."""
        settings = self.heads[head]
        return settings.protocol or self.protocol or kind_of(settings.kind).protocol

    def to_yaml(self) -> str:
        """Return the resolved settings, as `vh train` reads them."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def make_config(settings: dict[str, Any], where: str) -> TrainConfig:
    """Validate settings.

    Args:
        settings: nested plain values.
        where: file or command line they came from, for the error message.

    Raises:
        UserError: one line that names the field.
    """
    try:
        return TrainConfig.model_validate(settings)
    except ValidationError as error:
        raise UserError(f"{where}: {first_problem(error)}") from error


def read_settings(path: Path) -> dict[str, Any]:
    """Read a YAML of settings; `UserError` when it is missing, ambiguous or no mapping."""
    settings = read_yaml(path)
    if not isinstance(settings, dict):
        raise UserError(f"{path}: must be a mapping of settings")
    return settings
