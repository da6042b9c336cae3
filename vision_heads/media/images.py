"""The one decoder of image files, for training, evaluation and detection alike."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError
from vision_heads.media.headers import Header, pnm_white, read_header

MAX_PIXELS = 2**28
"""Largest picture that is decoded, 16384 x 16384: a file's header may claim anything."""

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".dib", ".jpeg", ".jpg", ".jpe", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
)
"""Suffixes taken for pictures when a folder is searched, lower case."""

_HEIF_BRANDS = frozenset(
    {b"avif", b"avis", b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}
)
_MATROSKA = b"\x1a\x45\xdf\xa3"
_TIFF = (b"II*\0", b"MM\0*")
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


class ImageError(UserError):
    """A picture that cannot be read: missing, truncated, or no picture at all."""


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a picture upright (EXIF orientation applied).

    16-bit pictures are scaled to 8 bits, grey and palette ones become BGR, alpha is dropped.
    The orientation is read and applied here, not by OpenCV, whose versions differ in which
    formats they look for it.

    Args:
        path: an image file OpenCV can decode; the name may hold any Unicode.
        max_pixels: larger pictures are refused; see `decode_image`.

    Returns:
        BGR uint8, (height, width, 3), contiguous.

    Raises:
        ImageError: the file is missing, empty, truncated, too large or no picture.

    Example:
        >>> image = read_image("street.jpg")
        >>> height, width = image.shape[:2]
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # a null byte, or half of a character
        raise ImageError(f"{str(path)!r}: is no name of a file") from error
    return decode_image(data, str(path), max_pixels=max_pixels)


def decode_image(data: bytes, where: str, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a whole image file held in memory; `read_image` says what comes out.

    Args:
        data: the file's bytes.
        where: name for the error message.
        max_pixels: larger pictures are refused, before they are decoded if their format is one
            whose header is read here.

    Raises:
        ImageError: empty, truncated, too large or no picture.
    """
    if not data:
        raise ImageError(f"{where}: empty file")
    header = read_header(data)
    if header is not None:
        _check(header, where, max_pixels)
    try:
        image = _decode(data)
    except (cv2.error, MemoryError) as error:
        raise ImageError(f"{where}: {_unreadable(data)}") from error
    if image is None or image.dtype != np.uint8:
        raise ImageError(f"{where}: {_unreadable(data)}")
    if header is None:  # how large the picture is, only decoding has told
        _check(Header(image.shape[1], image.shape[0]), where, max_pixels)
    orientation = 1 if header is None else header.orientation
    return apply_orientation(image, orientation)  # type: ignore[arg-type]


def image_size(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return (width, height) of a picture as `read_image` would give it, upright.

    JPEG, PNG, WebP and BMP are read by their headers alone; other formats are decoded.

    Raises:
        ImageError: as `read_image`; damage behind a header is not looked for, except that a
            file cut off before its end is refused.
    """
    path = Path(path)
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            header = read_header(data)
    except ValueError as error:  # mmap refuses an empty file
        raise ImageError(f"{path}: empty file") from error
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from error
    if header is None:
        height, width = read_image(path, max_pixels=max_pixels).shape[:2]
        return width, height
    _check(header, str(path), max_pixels)
    return header.upright


def apply_orientation(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn a stored picture upright.

    Args:
        image: (H, W, 3).
        orientation: EXIF orientation 1..8.

    Returns:
        The picture upright; the same array for orientation 1.
    """
    if orientation in (5, 6, 7, 8):
        image = cv2.transpose(image)  # type: ignore[assignment]
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
    if orientation in flips:
        image = cv2.flip(image, flips[orientation])  # type: ignore[assignment]
    return image


def _decode(data: bytes) -> Any:
    """What OpenCV makes of a file, with white at 255; None when it makes nothing of it."""
    pixels = np.frombuffer(data, np.uint8)
    white = pnm_white(data)
    if white in {None, 255, 65535}:
        return cv2.imdecode(pixels, _FLAGS)
    image = cv2.imdecode(pixels, _FLAGS | cv2.IMREAD_ANYDEPTH)
    return image if image is None else cv2.convertScaleAbs(image, alpha=255 / max(white or 0, 1))


def _unreadable(data: bytes) -> str:
    """Say why OpenCV gave nothing, as far as the first bytes tell."""
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return "a HEIC or AVIF picture that this OpenCV cannot decode; convert it to JPEG or PNG"
    if data[4:8] == b"ftyp" or data[:4] == _MATROSKA or data[8:12] == b"AVI ":
        return "is a video; vh stream reads it"
    if data[:4] in _TIFF:
        return "a TIFF picture that is damaged, or not one of 8 or 16 bits; convert it"
    return "not a readable picture"


def _check(header: Header, where: str, max_pixels: int) -> None:
    if header.width <= 0 or header.height <= 0:
        raise ImageError(f"{where}: header says {header.width} x {header.height} pixels")
    if header.width * header.height > max_pixels:
        raise ImageError(
            f"{where}: {header.width} x {header.height} pixels are more than the limit of "
            f"{max_pixels}"
        )
    if not header.complete:
        raise ImageError(f"{where}: truncated, the file ends before the picture does")
