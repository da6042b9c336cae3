"""Settings that only the kind `headpose` understands."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from vision_heads.heads.detect.options import DetectOptions


class HeadPoseOptions(DetectOptions):
    """Options of a head-pose head, in `HeadSpec.options`: those of a detect head, and its own.

    Attributes:
        representation: what the rotation branch predicts. "6d": two columns of the rotation
            matrix (Zhou et al., arXiv 1812.07035), trained by the angle between rotations,
            without any jump. "euler": pitch / 180, yaw / 360 and roll / 180 as numbers in 0..1
            (DirectMHP, arXiv 2302.01110), for comparison: it cannot say |pitch| or |roll| > 90.
        rotation_gain: weight of the rotation loss: with "6d" radians and half the squared
            distance of the columns, with "euler" squared shares of the range. None: 1 with "6d",
            20 with "euler", where it is far smaller.
        angles_gain: weight, within the rotation loss of "6d", of the mean absolute error of
            DirectMHP's pitch, yaw and roll in radians. It keeps pitch and roll of profiles,
            which the angle between rotations hardly sees, from growing large.
        rotation_width: channels of the rotation branch.
    """

    representation: Literal["6d", "euler"] = "6d"
    rotation_gain: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    angles_gain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    rotation_width: Annotated[int, Field(ge=8, le=256)] = 32

    @field_validator("angles_gain")
    @classmethod
    def _beside_6d(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("representation") == "euler":
            raise ValueError("goes with the representation 6d")
        return value

    @property
    def gain(self) -> float:
        """The rotation loss's weight, chosen by the representation when none is given."""
        if self.rotation_gain is not None:
            return self.rotation_gain
        return {"6d": 1.0, "euler": 20.0}[self.representation]
