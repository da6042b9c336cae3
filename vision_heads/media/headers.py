"""Size, orientation and completeness of image files, from their headers alone.

OpenCV decodes; this module says what it will give before it does, so that a size costs no
decoding, a header that claims a gigantic picture costs no memory, and a file that was cut off
is not taken for a half-grey picture. Formats not known here give None and are left to OpenCV.
"""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass

Bytes = bytes | mmap.mmap
_ORIENTATION = 0x0112
_GAP = rb"(?:\s|#[^\n]*\n)+"
_PNM = re.compile(rb"P[56]" + (_GAP + rb"\d+") * 2 + _GAP + rb"(\d+)")


@dataclass(frozen=True, slots=True)
class Header:
    """What an image file says of itself.

    Attributes:
        width, height: as stored, in pixels, before orientation.
        orientation: EXIF orientation 1..8; 1 is upright, 5..8 swap width and height.
        complete: False when the file ends before the picture does.
    """

    width: int
    height: int
    orientation: int = 1
    complete: bool = True

    @property
    def upright(self) -> tuple[int, int]:
        """(width, height) once the orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(data: Bytes) -> Header | None:
    """Read the header of a JPEG, PNG, WebP or BMP file.

    Args:
        data: the whole file.

    Returns:
        None when the format is another one, or the header itself is broken.
    """
    for magic, reader in _READERS:
        if data[: len(magic)] == magic:
            try:
                return reader(data)
            except (struct.error, IndexError):
                return None  # cut off inside the header; OpenCV refuses such a file itself
    return None


def pnm_white(data: Bytes) -> int | None:
    """Return the value that stands for white in a binary PGM or PPM file, None for all others.

    Cameras write pictures of 10 or 12 bits this way. OpenCV takes no notice of it.
    """
    match = _PNM.match(data)
    return int(match[1]) if match else None


def _jpeg(data: Bytes) -> Header | None:
    size: tuple[int, int] | None = None
    orientation = 1
    at = 2
    while at < len(data):
        if data[at] != 0xFF:
            return None
        while data[at] == 0xFF:  # any number of fill bytes may stand before a marker
            at += 1
        marker = data[at]
        at += 1
        if marker in {0x01, *range(0xD0, 0xD9)}:  # markers without a length
            continue
        if marker == 0xDA:  # start of scan: only compressed data from here to the end marker
            if size is None:
                return None
            complete = data[-2:] == b"\xff\xd9" or data.rfind(b"\xff\xd9", at) >= 0
            return Header(*size, orientation, complete)
        (length,) = struct.unpack_from(">H", data, at)
        if marker in {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack_from(">HH", data, at + 3)
            size = (width, height)
        elif marker == 0xE1 and data[at + 2 : at + 8] == b"Exif\0\0":
            orientation = _exif_orientation(data[at + 8 : at + length])
        at += length
    # The file ends among its headers, before any scan.
    return Header(*size, orientation, complete=False) if size else None


def _png(data: Bytes) -> Header:
    width, height = struct.unpack_from(">II", data, 16)
    orientation, at = 1, 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length])
        if kind == b"IEND":
            return Header(width, height, orientation)
        at += 12 + length
    return Header(width, height, orientation, complete=False)


def _webp(data: Bytes) -> Header | None:
    if data[8:12] != b"WEBP":
        return None
    (length,) = struct.unpack_from("<I", data, 4)
    complete = len(data) >= length + 8
    size: tuple[int, int] | None = None
    orientation, at = 1, 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        body = at + 8
        if kind == b"VP8X":
            size = (_int24(data, body + 4) + 1, _int24(data, body + 7) + 1)
        elif kind == b"VP8 " and size is None:
            width, height = struct.unpack_from("<HH", data, body + 6)
            size = (width & 0x3FFF, height & 0x3FFF)
        elif kind == b"VP8L" and size is None:
            (bits,) = struct.unpack_from("<I", data, body + 1)
            size = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        elif kind == b"EXIF":
            exif = data[body : body + length]
            orientation = _exif_orientation(exif.removeprefix(b"Exif\0\0"))
        at = body + length + (length & 1)
    return Header(*size, orientation, complete) if size else None


def _bmp(data: Bytes) -> Header:
    start, header_length = struct.unpack_from("<II", data, 10)
    if header_length == 12:
        width, height, _planes, bits = struct.unpack_from("<HHHH", data, 18)
        packing = 0
    else:
        width, height, _planes, bits, packing = struct.unpack_from("<iiHHI", data, 18)
    width, height = abs(width), abs(height)  # a negative height means rows from the top
    # Rows of plain pixels begin at whole words; how long packed ones are, only decoding tells.
    rows = (width * bits + 31) // 32 * 4 * (height - 1) + (width * bits + 7) // 8
    needed = start + rows if packing in {0, 3} else 0
    return Header(width, height, complete=len(data) >= needed)


def _int24(data: Bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _exif_orientation(tiff: bytes) -> int:
    """Return tag 0x0112 of the first directory of a TIFF block, 1 when absent or invalid."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(entries):
            tag, _kind, _count, value = struct.unpack_from(
                order + "HHIH", tiff, start + 2 + 12 * entry
            )
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1  # a damaged EXIF block says nothing; the picture itself may be whole
    return 1


_READERS = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"RIFF", _webp),
    (b"BM", _bmp),
)
