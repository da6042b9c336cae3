"""The settings of a training run: one pydantic model, so that a wrong one fails by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from vision_heads.data.augment import AugmentConfig
from vision_heads.errors import UserError
from vision_heads.spec import LEVELS, Groups, Level, Size, first_problem

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HeadConfig(_Strict):
    """One head of the run.

    Attributes:
        kind: of the head.
        data: data-set card, by name or path; or several whose classes are the same, which are
            trained on together (validation uses the first).
        train, val: splits of the card; an empty `val` skips validation of this head.
        levels: pyramid levels the head reads.
        weight: of its loss in the sum.
        sampling: how often its pictures are drawn relative to the other heads'; None: by the
            sizes of the data sets.
        options: of the kind, e.g. `nwd: 0.5` for detect.
    """

    kind: str = "detect"
    data: Annotated[tuple[str, ...], Field(min_length=1)]
    train: str = "train"
    val: str = "val"
    levels: tuple[Level, ...] = LEVELS
    weight: Positive = 1.0
    sampling: Positive | None = None
    options: dict[str, Any] = {}

    @field_validator("data", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class OptimizerConfig(_Strict):
    """How weights move.

    Attributes:
        name: adamw or sgd (Nesterov).
        lr: peak learning rate, for the batch size of the run.
        final: last learning rate as a fraction of the peak; the way there is a cosine.
        momentum: of SGD, or AdamW's first beta.
        weight_decay: on convolution weights only.
        warmup_epochs: linear from 0 to the peak; at least `warmup_steps` steps.
        clip: largest norm of the gradient, 0 for no clipping.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 2e-3
    final: Fraction = 0.01
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    warmup_epochs: Annotated[float, Field(ge=0)] = 2.0
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    clip: Annotated[float, Field(ge=0)] = 10.0


class TrainConfig(_Strict):
    """A whole run.

    Attributes:
        heads: by name.
        size, fusion, activation, candidates, branches: of the model, see `ModelSpec`.
        imgsz: network size in pixels, one number or height and width, multiples of 32.
        epochs: times every picture is seen.
        batch: pictures a step over all processes together.
        accumulate: steps whose gradients are averaged before the weights move.
        optimizer, augment: nested settings.
        ema: decay of the weights' moving average, 0 for none.
        amp: arithmetic of the forward pass; "auto" is bf16 on a GPU or a CPU that has it.
        freeze_bn: keep batch-norm statistics as they start.
        seed: of initial weights, order and augmentation.
        workers: processes that load pictures.
        device: "auto", "cpu", "cuda" ...
        init: weights to start from; whatever matches is loaded.
        trust_pickle: allow `init` to be unpickled (it can run any code it likes).
        fix: "clip" and "drop" mend broken labels; without them training refuses.
        val_every: epochs between validations; the last epoch is always validated.
        protocol: rules of validation.
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
    imgsz: tuple[int, int] = (640, 640)
    epochs: Annotated[int, Field(ge=1)] = 100
    batch: Annotated[int, Field(ge=1)] = 16
    accumulate: Annotated[int, Field(ge=1)] = 1
    optimizer: OptimizerConfig = OptimizerConfig()
    augment: AugmentConfig = AugmentConfig()
    ema: Fraction = 0.9999
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    freeze_bn: bool = False
    seed: Annotated[int, Field(ge=0)] = 0
    workers: Annotated[int, Field(ge=0)] = 2
    device: str = "auto"
    init: str | None = None
    trust_pickle: bool = False
    fix: tuple[Literal["clip", "drop"], ...] = ()
    val_every: Annotated[int, Field(ge=1)] = 10
    protocol: Literal["coco", "visdrone", "headpose"] = "coco"
    checkpoint_minutes: Positive = 10.0
    keep_half: bool = True
    terms: dict[str, str] = {}

    @field_validator("imgsz", mode="before")
    @classmethod
    def _both_sides(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) else value

    @field_validator("imgsz")
    @classmethod
    def _multiples_of_32(cls, value: tuple[int, int]) -> tuple[int, int]:
        if any(side % 32 or side < 32 for side in value):
            raise ValueError(f"must be multiples of 32, got {list(value)}")
        return value

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
    """Read a YAML of settings; `UserError` when it is missing or no mapping."""
    try:
        settings = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: must be a mapping of settings")
    return settings
