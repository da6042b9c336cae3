"""Head rotations: matrices, Euler angles, rotation vectors, distances. Pure numpy.

A rotation is a 3x3 matrix in image axes: x right, y down, z towards the viewer. Its columns are
the head's own axes as the picture shows them; the third is where the nose points. The identity
looks straight out of the picture. `R = Rx(pitch) @ Ry(-yaw) @ Rz(roll)`: positive pitch looks up,
positive yaw turns the nose to the picture's left, positive roll tilts the head clockwise.

Three angles never name a rotation uniquely: (pitch, yaw, roll) and (pitch + 180, 180 - yaw,
roll + 180) are one and the same. A convention says which of the two is meant:

============  ==================  =======  ====================================================
convention    numbers             unit     choice
============  ==================  =======  ====================================================
directmhp     pitch, yaw, roll    degrees  |pitch| <= 90, yaw and roll over the full circle: a
                                           head turned away has |yaw| > 90 and stays upright
300w-lp       pitch, yaw, roll    radians  |yaw| <= pi / 2, as `Pose_Para` has them: a head
                                           turned away has |pitch| and |roll| above pi / 2
biwi          pitch, yaw, roll    degrees  |yaw| <= 90, as extracted from BIWI's matrices
opencv        rotation vector     radians  axis times angle in OpenCV's camera axes (x right,
                                           y down, z into the picture); zero looks at the camera
============  ==================  =======  ====================================================

All functions take arrays of any leading shape, compute in float64, and turn NaN into NaN.
Sources: DirectMHP (arXiv 2302.01110) for its angles; Zhou et al. (arXiv 1812.07035) for 6D.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_heads.errors import require

Convention = Literal["directmhp", "300w-lp", "biwi", "opencv"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)
"""Names that `from_euler` and `to_euler` know."""

Floats = NDArray[np.float64]

_LOCKED = 1e-6
"""Cosine of yaw below which pitch and roll turn about the same axis as far as can be told."""
_MIRROR = np.diag([-1.0, 1.0, 1.0])
_DEPTH = np.diag([1.0, 1.0, -1.0])  # z towards the viewer <-> z into the picture


def from_euler(angles: ArrayLike, convention: str = "directmhp") -> Floats:
    """Turn the numbers of a convention into rotations.

    Args:
        angles: (..., 3) numbers as the table above lists them; any size of angle is fine.
        convention: one of `CONVENTIONS`.

    Returns:
        (..., 3, 3) float64.

    Raises:
        UserError: the convention is unknown.
        ValueError: the last axis is not 3.

    Example:
        >>> from_euler([0, 90, 0])[:, 2].round(3).tolist()  # the nose points left
        [-1.0, 0.0, 0.0]
    """
    numbers = _triples(angles)
    _known(convention)
    if convention == "opencv":
        return _DEPTH @ _from_vector(numbers) @ _DEPTH
    pitch, yaw, roll = np.moveaxis(_in_radians(numbers, convention), -1, 0)
    return _about(0, pitch) @ _about(1, -yaw) @ _about(2, roll)


def to_euler(rotation: ArrayLike, convention: str = "directmhp") -> Floats:
    """Turn rotations into the numbers of a convention; the inverse of `from_euler`.

    Where yaw is +-90 degrees, pitch and roll turn about one axis and only their sum (or
    difference) is known. It is shared evenly between the two, so that both stay within 90.

    Args:
        rotation: (..., 3, 3).
        convention: one of `CONVENTIONS`.

    Returns:
        (..., 3) float64: angles in (-180, 180] degrees (or that in radians), or a rotation
        vector of length 0..pi.

    Raises:
        UserError: the convention is unknown.
        ValueError: the last two axes are not 3 x 3.

    Example:
        >>> to_euler(from_euler([10, 170, -5])).round(3).tolist()
        [10.0, 170.0, -5.0]
    """
    matrix = _matrices(rotation)
    _known(convention)
    if convention == "opencv":
        return _to_vector(_DEPTH @ matrix @ _DEPTH)
    angles = _angles(matrix, upright=convention == "directmhp")
    return angles if convention == "300w-lp" else np.degrees(angles)


def from_biwi(matrix: ArrayLike) -> Floats:
    """Turn the 3x3 matrices of BIWI's pose files (Kinect axes, z away) into rotations."""
    return _DEPTH @ _matrices(matrix) @ _DEPTH


def to_biwi(rotation: ArrayLike) -> Floats:
    """Turn rotations into the 3x3 matrices that BIWI's pose files hold."""
    return _DEPTH @ _matrices(rotation) @ _DEPTH


def from_6d(columns: ArrayLike) -> Floats:
    """Make rotations of a first and a second column, by Gram-Schmidt.

    Args:
        columns: (..., 6): x, y, z of the first column, then of the second; any length.

    Returns:
        (..., 3, 3); NaN where the two columns are zero or parallel.
    """
    six = np.asarray(columns, np.float64)
    if six.shape[-1:] != (6,):
        raise ValueError(f"the last axis must be 6, got shape {six.shape}")
    first = _unit(six[..., :3])
    rest = six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdims=True) * first
    second = _unit(rest)
    return np.stack([first, second, np.cross(first, second)], axis=-1)


def to_6d(rotation: ArrayLike) -> Floats:
    """Return the first and second column of rotations, (..., 6)."""
    matrix = _matrices(rotation)
    return np.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1)


def to_vector(rotation: ArrayLike) -> Floats:
    """Return rotation vectors (..., 3): the axis, in image axes, times the angle in radians.

    This is the rotation group's logarithm; its length is 0..pi. (`to_euler` with "opencv" gives
    vectors in OpenCV's axes instead.)
    """
    return _to_vector(_matrices(rotation))


def from_vector(vector: ArrayLike) -> Floats:
    """Return rotations (..., 3, 3) by rotation vectors (..., 3); the inverse of `to_vector`."""
    return _from_vector(_triples(vector))


def geodesic(a: ArrayLike, b: ArrayLike) -> Floats:
    """Angle of the turn from one rotation to another, degrees in 0..180.

    Exact near 0 and near 180, where the arc cosine of the trace is not.

    Args:
        a, b: (..., 3, 3), broadcast against each other.

    Returns:
        (...).
    """
    turn = np.swapaxes(_matrices(a), -1, -2) @ _matrices(b)
    angle = np.arctan2(np.linalg.norm(_skew(turn), axis=-1), _trace(turn) - 1)
    return np.asarray(np.degrees(angle))


def mirror(rotation: ArrayLike) -> Floats:
    """Rotations (..., 3, 3) as seen in the picture flipped left to right: yaw, roll change sign."""
    return _MIRROR @ _matrices(rotation) @ _MIRROR


def rotate_in_plane(rotation: ArrayLike, theta: ArrayLike) -> Floats:
    """Rotations as seen in the picture turned clockwise by `theta`.

    Args:
        rotation: (..., 3, 3).
        theta: (...) degrees.
    """
    return _about(2, np.radians(np.asarray(theta, np.float64))) @ _matrices(rotation)


def direction(rotation: ArrayLike) -> Floats:
    """Return where the nose points, (..., 3) unit vectors in image axes: the third column."""
    return _matrices(rotation)[..., 2]


def wrap(degrees: ArrayLike) -> Floats:
    """Bring angles in degrees into (-180, 180]."""
    return 180 - np.mod(180 - np.asarray(degrees, np.float64), 360)


def upright(angles: ArrayLike) -> Floats:
    """Name the same rotations by the triples of "directmhp".

    Labels of other conventions name a head that is turned away by a pitch and a roll beyond 90,
    and count on beyond 180. No rotation is made in between: profiles keep their pitch and roll.

    Args:
        angles: (..., 3) pitch, yaw, roll in degrees.

    Returns:
        (..., 3) degrees with |pitch| <= 90, |yaw| and |roll| <= 180; what is so already unchanged.

    Example:
        >>> upright([170, 10, 175]).tolist()
        [-10.0, 170.0, -5.0]
    """
    stated = _triples(angles)
    within = wrap(stated)
    turned = wrap([180, 180, 180] + within * [1, -1, 1])
    same = np.where(np.abs(within[..., :1]) > 90, turned, within)
    return np.where((np.abs(stated) <= (90, 180, 180)).all(-1, keepdims=True), stated, same)


def is_rotation(matrix: ArrayLike, tolerance: float = 1e-3) -> NDArray[np.bool_]:
    """Say which of (..., 3, 3) are rotations: orthonormal and no mirror image."""
    square = _matrices(matrix)
    with np.errstate(invalid="ignore"):
        product = np.swapaxes(square, -1, -2) @ square
        orthonormal = (np.abs(product - np.eye(3)) <= tolerance).all((-1, -2))
        return np.asarray(orthonormal & (np.linalg.det(square) > 0))


def nearest_rotation(matrix: ArrayLike) -> Floats:
    """Return the rotation nearest to each of (..., 3, 3) in the Frobenius norm; NaN for NaN."""
    square = _matrices(matrix)
    known = np.isfinite(square).all((-1, -2), keepdims=True)
    u, _, vt = np.linalg.svd(np.where(known, square, np.eye(3)))
    u[..., 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return np.where(known, u @ vt, np.nan)


def _known(convention: str) -> None:
    known = ", ".join(CONVENTIONS)
    require(convention in CONVENTIONS, f"unknown convention {convention!r}; known: {known}")


def _triples(values: ArrayLike) -> Floats:
    numbers = np.asarray(values, np.float64)
    if numbers.shape[-1:] != (3,):
        raise ValueError(f"the last axis must be 3, got shape {numbers.shape}")
    return numbers


def _matrices(values: ArrayLike) -> Floats:
    matrix = np.asarray(values, np.float64)
    if matrix.shape[-2:] != (3, 3):
        raise ValueError(f"the last two axes must be 3 x 3, got shape {matrix.shape}")
    return matrix


def _in_radians(angles: Floats, convention: str) -> Floats:
    return angles if convention == "300w-lp" else np.radians(angles)


def _about(axis: int, angle: Floats) -> Floats:
    """Rotations (..., 3, 3) by `angle` radians about the x (0), y (1) or z (2) axis."""
    matrix = np.zeros((*np.shape(angle), 3, 3))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = np.where(np.isnan(angle), np.nan, 1.0)
    matrix[..., first, first] = matrix[..., second, second] = np.cos(angle)
    matrix[..., second, first] = np.sin(angle)
    matrix[..., first, second] = -np.sin(angle)
    return matrix


def _angles(matrix: Floats, *, upright: bool) -> Floats:
    """Pitch, yaw, roll in radians; |pitch| <= pi / 2 if `upright`, else |yaw| <= pi / 2."""
    m = matrix
    cosine = np.hypot(m[..., 0, 0], m[..., 0, 1])
    side = _pitch_side(m, cosine) if upright else np.ones(cosine.shape)
    yaw = -np.arctan2(m[..., 0, 2], side * cosine)
    upward = side * m[..., 2, 2]
    # Where the side was chosen by the roll, what is left of the pitch's cosine may be below 0.
    upward = np.maximum(upward, 0.0) if upright else upward
    pitch = np.arctan2(-side * m[..., 1, 2], upward)
    roll = np.arctan2(-side * m[..., 0, 1], side * m[..., 0, 0])
    both = np.arctan2(m[..., 1, 0] + 0.0, m[..., 1, 1])  # roll + pitch, or roll - pitch
    locked = cosine < _LOCKED
    pitch = np.where(locked, np.sign(m[..., 0, 2]) * both / 2, pitch)
    roll = np.where(locked, both / 2, roll)
    yaw = np.where(locked, -np.sign(m[..., 0, 2]) * np.pi / 2, yaw)
    angles = np.stack([pitch, yaw, roll], axis=-1)
    unknown = np.isnan(m).any(-1).any(-1, keepdims=True)
    # Minus zero and -180 are spelled 0 and 180: equal poses give equal numbers.
    angles = np.where(angles <= -np.pi, np.pi, angles) + 0.0
    return np.where(unknown, np.nan, angles)


def _pitch_side(m: Floats, cosine: Floats) -> Floats:
    """Sign of cos(yaw) for which |pitch| <= 90; where both fit, for which |roll| is smaller.

    Both fit where the pitch's cosine, which m[2, 2] has times `cosine`, that of yaw, is about 0.
    """
    straight = np.abs(m[..., 2, 2]) <= _LOCKED * cosine
    return np.where(np.where(straight, m[..., 0, 0], m[..., 2, 2]) < 0, -1.0, 1.0)


def _skew(turn: Floats) -> Floats:
    """(..., 3) axis of a rotation times 2 sin(angle)."""
    return np.stack(
        [
            turn[..., 2, 1] - turn[..., 1, 2],
            turn[..., 0, 2] - turn[..., 2, 0],
            turn[..., 1, 0] - turn[..., 0, 1],
        ],
        axis=-1,
    )


def _trace(turn: Floats) -> Floats:
    return np.asarray(np.trace(turn, axis1=-2, axis2=-1))


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    safe = length > 1e-12
    return np.where(safe, vectors / np.where(safe, length, 1.0), np.nan)


def _from_vector(vector: Floats) -> Floats:
    """Rotation vectors (..., 3) to matrices, through unit quaternions."""
    angle = np.linalg.norm(vector, axis=-1)
    # np.sinc(x) is sin(pi x) / (pi x), exact at 0.
    axis = vector * (np.sinc(angle / (2 * np.pi)) / 2)[..., None]
    return _from_quaternion(np.concatenate([np.cos(angle / 2)[..., None], axis], axis=-1))


def _from_quaternion(q: Floats) -> Floats:
    w, x, y, z = np.moveaxis(q, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _to_quaternion(matrix: Floats) -> Floats:
    """Unit quaternions (..., 4) w, x, y, z with w >= 0.

    The products of a quaternion's parts are sums of the matrix's entries. Of the four rows of
    that table the one with the greatest norm is taken: none of its parts is then lost to
    rounding, at any angle.
    """
    m = matrix
    skew, trace = _skew(m), _trace(m)
    table = np.zeros((*m.shape[:-2], 4, 4))
    table[..., 0, 0] = 1 + trace
    table[..., 0, 1:] = table[..., 1:, 0] = skew
    table[..., 1:, 1:] = m + np.swapaxes(m, -1, -2)
    for part in range(3):
        table[..., part + 1, part + 1] = 1 - trace + 2 * m[..., part, part]
    norms = np.nan_to_num(np.linalg.norm(table, axis=-1))
    best = np.argmax(norms, axis=-1)[..., None, None]
    q = np.take_along_axis(table, best, axis=-2)[..., 0, :]
    q = _unit(q)
    return np.where(q[..., :1] < 0, -q, q)


def _to_vector(matrix: Floats) -> Floats:
    """Rotation vectors (..., 3), length 0..pi; of the two at pi the first part above 0."""
    q = _to_quaternion(matrix)
    length = np.linalg.norm(q[..., 1:], axis=-1)
    angle = 2 * np.arctan2(length, q[..., 0])
    # For tiny angles the vector is twice the quaternion's, and the quotient would be 0 / 0.
    scale = np.where(length > 1e-12, angle / np.where(length > 1e-12, length, 1.0), 2.0)
    vector = q[..., 1:] * scale[..., None]
    flip = (q[..., 0] == 0) & (_first_part(vector) < 0)
    return np.where(flip[..., None], -vector, vector) + 0.0


def _first_part(vector: Floats) -> Floats:
    """(...) the first part of each vector that is not 0, or 0."""
    place = np.argmax(vector != 0, axis=-1)[..., None]
    return np.take_along_axis(vector, place, axis=-1)[..., 0]
