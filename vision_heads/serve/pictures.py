"""From the bytes of a request to a picture: every way in which that can go wrong has a name."""

from __future__ import annotations

import base64
import binascii
import json
from email.message import Message

import numpy as np
from numpy.typing import NDArray
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from vision_heads.media.headers import read_header
from vision_heads.media.images import ImageError, decode_image
from vision_heads.serve.limits import Limits
from vision_heads.serve.replies import ApiError

FIELD = "image"
"""Name of the multipart field, and of the JSON field."""


async def read_upload(request: Request) -> bytes:
    """Return the image file that a request holds; its size and time are the guard's to limit.

    Raises:
        ApiError: 400 when it cannot be read, 415 for content of another type.
    """
    kind = _content_type(request)
    try:
        if kind == "multipart/form-data":
            return await _from_form(request)
        if kind == "application/json":
            return _from_json(await request.body())
    except ClientDisconnect:
        raise ApiError(400, "the request ended before it was complete") from None
    raise ApiError(415, f"send multipart/form-data with a file {FIELD!r}, or application/json")


def decode_upload(data: bytes, limits: Limits) -> NDArray[np.uint8]:
    """Decode an image file of a stranger.

    Only formats whose headers are read here pass: others would have to be decoded to know how
    large they are.

    Returns:
        BGR uint8 (H, W, 3), upright.

    Raises:
        ApiError: 413 for too many pixels, 415 for other formats, 422 for broken files.
    """
    if not data:
        raise ApiError(422, f"{FIELD}: empty file")
    header = read_header(data)
    if header is None:
        raise ApiError(415, f"{FIELD}: not a JPEG, PNG, WebP or BMP file")
    if header.width * header.height > limits.pixels:
        raise ApiError(
            413,
            f"{FIELD}: {header.width} x {header.height} pixels are more than the limit of "
            f"{limits.pixels}",
        )
    try:
        return decode_image(data, FIELD, max_pixels=limits.pixels)
    except ImageError as error:
        raise ApiError(422, str(error)) from error


async def _from_form(request: Request) -> bytes:
    try:
        async with request.form(max_files=1, max_fields=1) as form:
            file = form.get(FIELD)
            if isinstance(file, UploadFile):
                return await file.read()
    except (FormParserError, UnicodeError):
        # What Starlette lets through: older versions, and text in an encoding that is none.
        raise ApiError(400, "the form is malformed") from None
    raise ApiError(400, f"the form has no file {FIELD!r}")


def _from_json(body: bytes) -> bytes:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not JSON") from None
    if not isinstance(content, dict) or not isinstance(content.get(FIELD), str):
        raise ApiError(422, f'{FIELD}: give the file in base64: {{"{FIELD}": "..."}}')
    unknown = sorted(set(content) - {FIELD})
    if unknown:
        raise ApiError(422, f"{FIELD}: is the only field of the body; options go into the URL")
    try:
        return base64.b64decode(content[FIELD], validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(422, f"{FIELD}: not base64") from None


def _content_type(request: Request) -> str:
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    return message.get_content_type() if message["content-type"] else ""


def wants_picture(accept: str) -> bool:
    """Tell whether an Accept header would rather have image/jpeg than application/json."""
    return _quality(accept, "image/jpeg") > _quality(accept, "application/json")


def _quality(accept: str, media_type: str) -> float:
    """Return the weight that the closest of the header's ranges gives to a type."""
    best, weight = -1, 0.0
    for part in accept.split(","):
        name, *options = (piece.strip().lower() for piece in part.split(";"))
        ranges = (f"{media_type.partition('/')[0]}/*", media_type)
        close = {"*/*": 0, ranges[0]: 1, ranges[1]: 2}.get(name, -1)
        if close > best:
            best, weight = close, 1.0
            for option in options:
                if option.startswith("q="):
                    try:
                        weight = float(option[2:])
                    except ValueError:
                        weight = 0.0
    return weight
