"""300W-LP and AFLW2000-3D: pictures of one face each, a MATLAB file of the same name beside each.

`Pose_Para` holds pitch, yaw, roll in radians, then shift and scale. The box of the head is not in
the files: it is fitted to the 68 points (`pt3d_68`, or else `pt2d`) for the labelled pose, and
cut off at the picture's border, because our own box is no fault of the data.
Source: the data sets' files; checked on AFLW2000's `pt3d_68`, which `Pose_Para` turns as
`vision_heads.geometry.rotations` says.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.formats.base import BadLabelsError, Part, Rows, Source
from vision_heads.data.formats.folders import pair_files, read_folder
from vision_heads.data.formats.heads import ellipsoid_box, fit_landmarks
from vision_heads.data.formats.matlab import read_arrays
from vision_heads.errors import require
from vision_heads.geometry.rotations import from_euler

NAMES = ("head",)
_POINTS = 68
_POINT_FIELDS = ("pt3d_68", "pt2d")
_FULL_TURN = 2 * math.pi + 1e-6

Fields = dict[str, NDArray[np.float64] | None]


def read(source: Source) -> Part:
    """Read a part: a folder of pictures (300W-LP: of folders), .mat files beside them.

    Raises:
        UserError: there is no such folder.
    """
    names = source.names or NAMES
    require(len(names) == 1, f"names: 300w-lp has one class, the card names {len(names)}")
    folder = source.annotations
    require(folder is None or folder.is_dir(), f"{folder}: no such folder of .mat files")
    if folder is None:
        pairs = pair_files(source, ".mat", None, lambda image: image.with_suffix(".mat"))
    else:
        pairs = pair_files(source, ".mat", folder)
    return read_folder(source, pairs, parse, names, (1,), place_word="face")


def parse(data: bytes, size: tuple[int, int] | None) -> Rows:
    """Read one .mat file.

    Args:
        data: the file.
        size: (width, height) of the picture, to cut the box off at its border.

    Raises:
        BadLabelsError: it is no MATLAB file, or lacks a pose or points that fit it.
    """
    try:
        fields = read_arrays(data, ("Pose_Para", *_POINT_FIELDS))
    except ValueError as error:
        raise BadLabelsError(f"not a MATLAB file: {error}") from error
    pose = _array(fields, "Pose_Para").ravel()[:3]
    if len(pose) < 3 or not (np.abs(pose) <= _FULL_TURN).all():
        raise BadLabelsError("Pose_Para holds no pitch, yaw and roll")
    rotation = from_euler(pose, "300w-lp")
    centre, scale = fit_landmarks(_points(fields), rotation)
    if not scale > 0:
        raise BadLabelsError("its points are not of a face turned as Pose_Para says")
    box = ellipsoid_box(centre, scale, rotation)
    if size is not None:
        box = np.clip(box, 0, [*size, *size])
    rows = Rows.of([tuple(box.tolist())], [0], [False], [1], [])
    rows.euler = np.degrees(pose)[None]
    return rows


def _array(fields: Fields, name: str) -> NDArray[np.float64]:
    if name not in fields:
        raise BadLabelsError(f"has no {name}")
    found = fields[name]
    if found is None:
        raise BadLabelsError(f"{name} holds no numbers")
    return found


def _points(fields: Fields) -> NDArray[np.float64]:
    """(68, 2) pixels of the face's points."""
    for name in _POINT_FIELDS:
        if name in fields:
            points = _array(fields, name)
            if points.shape in {(2, _POINTS), (3, _POINTS)} and np.isfinite(points).all():
                return points[:2].T
    raise BadLabelsError("has no 68 points: neither pt3d_68 nor pt2d is 2 or 3 x 68 numbers")
