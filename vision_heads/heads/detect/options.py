"""Settings that only the kind `detect` understands."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vision_heads.errors import UserError
from vision_heads.spec import HeadSpec, first_problem


class DetectOptions(BaseModel):
    """Options of a detect head, in `HeadSpec.options`.

    Attributes:
        reg_max: bins of each side's distance distribution (DFL, arXiv 2006.04388).
        box_width: channels of the box branch; None: as wide as the level's map, 16 to 4 * reg_max.
            Where many heads share a trunk, a narrow one makes each of them cheaper.
        class_width: channels of the class branch; None: at least 64.
        topk, alpha, beta: of the task-aligned assignment (TOOD, arXiv 2108.07755).
        box_gain, class_gain, dfl_gain: weights of the losses.
        nwd: 0..1, how much of the overlap, in assignment and box loss alike, is the normalised
            Wasserstein distance (arXiv 2110.13389) instead of CIoU; for tiny boxes.
        nwd_constant: pixels; the scale of that distance.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reg_max: Annotated[int, Field(ge=2, le=64)] = 16
    box_width: Annotated[int, Field(ge=8, le=256)] | None = None
    class_width: Annotated[int, Field(ge=8, le=256)] | None = None
    topk: Annotated[int, Field(ge=1, le=100)] = 10
    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 6.0
    box_gain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 7.5
    class_gain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    dfl_gain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.5
    nwd: Annotated[float, Field(ge=0, le=1)] = 0.0
    nwd_constant: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 12.8


Options = TypeVar("Options", bound=DetectOptions)


def options_of(spec: HeadSpec, model: type[Options]) -> Options:
    """Validate a head's options by a kind's model; `UserError` names the head and the field."""
    try:
        return model.model_validate(spec.options)
    except ValidationError as error:
        raise UserError(f"head {spec.name!r}: options.{first_problem(error)}") from error
