"""The one decoder of image files, for training, evaluation and detection alike."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError


class ImageError(UserError):
    """A picture that cannot be read: missing, truncated, or no picture at all."""


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read a picture upright (EXIF orientation applied).

    Args:
        path: an image file OpenCV can decode.

    Returns:
        BGR uint8, (height, width, 3).

    Raises:
        ImageError: the file is missing or not a whole picture.
    """
    path = Path(path)
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ImageError(f"{path}: not a readable picture")
    return image
