"""BIWI Kinect head pose: folders of frame_NNNNN_rgb.png and frame_NNNNN_pose.txt, with rgb.cal.

A pose file holds the head's 3x3 rotation and the place of its centre in millimetres, in the axes
of the depth camera: x right, y down, z away. `rgb.cal` holds the colour camera: 3x3 intrinsics, 4
distortions (zero), rotation and translation from the depth camera to it, and the picture's size.
The box is that of a head of average size around the projected centre, cut off at the border.

The rotation is taken as the file has it, as all published figures do, although the colour camera
is turned by about one degree against the depth camera.
Source: Fanelli et al., IJCV 2013, and the database's readme.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.formats.base import BadLabelsError, Part, Rows, Source, decode_text
from vision_heads.data.formats.folders import Pair, pair_files, read_pairs
from vision_heads.data.formats.heads import ellipsoid_box
from vision_heads.data.sample import Problem
from vision_heads.errors import require
from vision_heads.geometry.rotations import from_biwi, is_rotation, nearest_rotation, to_euler

NAMES = ("head",)
_PICTURE, _POSE = "_rgb", "_pose.txt"
_CALIBRATION_NUMBERS = 27


def read(source: Source) -> Part:
    """Read a part: the folder that holds the numbered folders; masks and depth are passed over."""
    names = source.names or NAMES
    require(len(names) == 1, f"names: biwi has one class, the card names {len(names)}")
    calibration = lru_cache(maxsize=None)(read_calibration)

    def rows_of(pair: Pair, size: tuple[int, int] | None, problems: list[Problem]) -> Rows | None:
        try:
            return parse(pair.label.read_bytes(), calibration(pair.label.parent), size)
        except FileNotFoundError:
            detail = f"no {pair.label}"
            problems.append(Problem("missing-annotation", pair.image, detail))
        except (BadLabelsError, OSError) as error:
            problems.append(Problem("bad-annotation", pair.image, f"{pair.label}: {error}"))
        return Rows.none()

    pairs = [
        pair
        for pair in pair_files(source, _POSE, None, lambda image: _pose_file(image, source))
        if pair.image.stem.endswith(_PICTURE)
    ]
    return read_pairs(source, pairs, rows_of, names, (1,), place_word="head")


def _pose_file(image: Path, source: Source) -> Path:
    folder = image.parent
    if source.annotations is not None and source.images is not None:
        inside = folder.is_relative_to(source.images)  # no folder when the pictures are listed
        folder = source.annotations / (folder.relative_to(source.images) if inside else ".")
    return folder / (image.stem.removesuffix(_PICTURE) + _POSE)


def read_calibration(folder: Path) -> NDArray[np.float64]:
    """Read `rgb.cal` of a folder.

    Returns:
        (3, 4) camera matrix: millimetres in the depth camera's axes to pixels times depth.

    Raises:
        BadLabelsError: it is not there or not 27 numbers.
    """
    file = folder / "rgb.cal"
    try:
        numbers = _numbers(file.read_bytes())
    except OSError as error:
        raise BadLabelsError(f"no camera: {file}: {error.strerror}") from error
    if len(numbers) < _CALIBRATION_NUMBERS - 2:
        raise BadLabelsError(f"{file}: {len(numbers)} numbers, not {_CALIBRATION_NUMBERS}")
    inner, turn = numbers[:9].reshape(3, 3), numbers[13:22].reshape(3, 3)
    return inner @ np.column_stack([turn, numbers[22:25]])


def parse(data: bytes, camera: NDArray[np.float64], size: tuple[int, int] | None) -> Rows:
    """Read one pose file.

    Args:
        data: the file.
        camera: (3, 4) as `read_calibration` gives it.
        size: (width, height) of the picture, to cut the box off at its border.

    Raises:
        BadLabelsError: it does not hold a rotation and a place before the camera.
    """
    numbers = _numbers(data)
    if len(numbers) != 12:
        raise BadLabelsError(f"{len(numbers)} numbers, not a 3x3 matrix and a place")
    matrix, place = numbers[:9].reshape(3, 3), numbers[9:]
    if not is_rotation(matrix, 1e-2):
        raise BadLabelsError("its matrix is no rotation")
    rotation = from_biwi(nearest_rotation(matrix))
    x, y, depth = camera @ [*place, 1.0]
    if depth <= 0:
        raise BadLabelsError("its head is behind the camera")
    box = ellipsoid_box((x / depth, y / depth), float(camera[0, 0] / depth), rotation)
    if size is not None:
        box = np.clip(box, 0, [*size, *size])
    rows = Rows.of([tuple(box.tolist())], [0], [False], [1], [])
    rows.euler = to_euler(rotation, "biwi")[None]
    return rows


def _numbers(data: bytes) -> NDArray[np.float64]:
    words = decode_text(data).split()
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError as error:
        raise BadLabelsError(str(error)) from error
    if not np.isfinite(numbers).all():
        raise BadLabelsError("holds a number that is not finite")
    return numbers
