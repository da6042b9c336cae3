"""Rotations as a network predicts them, in torch; `vision_heads.geometry.rotations` is numpy's."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_SMALL = 1e-6
_FLAT = 1e-3
"""Radians about 0 and 180 degrees in which the geodesic distance is rounded off."""

_LEAST_WEIGHT = 0.01
"""Of a cell that no class suits: where all are such, the sum must not vanish."""

_PROFILE = 0.05
"""Cosine of yaw below which errors of pitch and roll flatten out, as they hardly mean a thing."""

EULER_RANGE = (180.0, 360.0, 180.0)
"""Degrees of pitch, yaw and roll that one unit of DirectMHP's regression spans."""


def from_columns(values: Tensor) -> Tensor:
    """First and second column (..., 6), any length and angle, to rotations (..., 3, 3).

    Gram-Schmidt (Zhou et al., arXiv 1812.07035): continuous over all rotations. The second
    column is made orthogonal twice, which leaves only rounding even where the two are nearly
    parallel.
    """
    first = functional.normalize(values[..., :3], dim=-1, eps=_SMALL)
    second = functional.normalize(_without(values[..., 3:], first), dim=-1, eps=_SMALL)
    second = functional.normalize(_without(second, first), dim=-1, eps=_SMALL)
    return torch.stack((first, second, cross(first, second)), -1)


def averaged_columns(values: Tensor, scores: Tensor) -> Tensor:
    """Sum the columns of each cell and the eight around it, weighted by score.

    Made orthonormal, a weighted sum of rotations' columns is near their chordal mean (Hartley et
    al., "Rotation Averaging", 2013). Cells beside the head weigh next to nothing by their scores.

    Args:
        values: columns (B, 6, H, W).
        scores: probabilities (B, 1, H, W), of the best class.

    Returns:
        (B, 6, H, W); their lengths mean nothing.
    """
    return functional.avg_pool2d(values * (scores + _LEAST_WEIGHT), 3, stride=1, padding=1)


def columns_error(values: Tensor, wanted: Tensor) -> Tensor:
    """Squared distance (...) of raw columns (..., 6) from those of rotations (..., 3, 3)."""
    columns = wanted[..., :2].mT.flatten(-2)
    return (values - columns).square().sum(-1)


def _without(values: Tensor, direction: Tensor) -> Tensor:
    return values - (values * direction).sum(-1, keepdim=True) * direction


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product of (..., 3) vectors, in operators that every ONNX version has."""
    ax, ay, az = a.unbind(-1)
    bx, by, bz = b.unbind(-1)
    return torch.stack((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), -1)


def from_euler_shares(shares: Tensor) -> Tensor:
    """DirectMHP's pitch, yaw, roll (..., 3), each 0..1 of its range, to rotations (..., 3, 3).

    R = Rx(pitch) Ry(-yaw) Rz(roll), image axes.
    """
    span = shares.new_tensor(EULER_RANGE)
    pitch, yaw, roll = ((shares - 0.5) * span * (math.pi / 180)).unbind(-1)
    cp, sp, cy, sy = pitch.cos(), pitch.sin(), yaw.cos(), yaw.sin()
    cr, sr = roll.cos(), roll.sin()
    rows = (
        (cy * cr, -cy * sr, -sy),
        (cp * sr - sp * sy * cr, cp * cr + sp * sy * sr, -sp * cy),
        (sp * sr + cp * sy * cr, sp * cr - cp * sy * sr, cp * cy),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def geodesic(first: Tensor, second: Tensor) -> Tensor:
    """Angle between rotations (..., 3, 3), radians in 0..pi, with finite gradients everywhere.

    arccos of the trace has an infinite slope at 0 and at pi. Here the angle is the argument of
    (cosine, sine), both taken from the relative rotation, and only the sine's own kink at 0 is
    rounded off; the result is at most 0.001 too large there and too small at pi.
    """
    relative = first.mT @ second
    cosine = (relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    skew = relative - relative.mT
    squared = (skew[..., 0, 1] ** 2 + skew[..., 0, 2] ** 2 + skew[..., 1, 2] ** 2) / 4
    return torch.atan2((squared + _FLAT**2).sqrt(), cosine)


def angles_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error of DirectMHP's pitch, yaw and roll, radians, with bounded gradients.

    Of the two triples that name `found` the one of the same side as `wanted`'s is compared, so
    nothing jumps where |pitch| is 90 or yaw 180. Near a profile, where a small turn changes pitch
    and roll by much, what is least wrong of all that the picture allows has small angles: the
    angle between rotations does not care, this does.

    Args:
        found, wanted: rotations (..., 3, 3).

    Returns:
        (...).
    """
    side = torch.where(wanted[..., 2, 2] < 0, -1.0, 1.0)
    errors = [_turn(a, b) for a, b in zip(_arms(found, side), _arms(wanted, side), strict=True)]
    return torch.stack(errors, -1).mean(-1)


def _arms(rotation: Tensor, side: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """Cosine and sine of pitch, yaw and roll; those of pitch and roll times |cos(yaw)|."""
    m = rotation
    level = (m[..., 0, 0].square() + m[..., 0, 1].square() + _SMALL).sqrt()
    return (
        (side * m[..., 2, 2], -side * m[..., 1, 2]),
        (side * level, -m[..., 0, 2]),
        (side * m[..., 0, 0], -side * m[..., 0, 1]),
    )


def _turn(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> Tensor:
    """Angle in 0..pi between two directions (x, y), the second taken as if it were of length 1."""
    length = torch.hypot(*wanted).clamp(min=_SMALL)
    x, y = wanted[0] / length, wanted[1] / length
    across = found[1] * x - found[0] * y
    along = found[0] * x + found[1] * y
    return torch.atan2((across.square() + _PROFILE**2).sqrt(), along)


def euler_error(shares: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error (...) of pitch, yaw and roll shares (..., 3); yaw the short way round."""
    error = (shares - wanted).abs()
    yaw = torch.minimum(error[..., 1], 1 - error[..., 1])
    return (error[..., 0] ** 2 + yaw**2 + error[..., 2] ** 2) / 3
