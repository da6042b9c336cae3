"""What sources that PyAV decodes share: opening, choosing the stream, making BGR pictures."""

from __future__ import annotations

import errno
import threading
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from vision_heads.errors import UserError
from vision_heads.media.frames import Pixels
from vision_heads.media.hosts import why_not_found
from vision_heads.media.images import MAX_PIXELS

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
"""Degrees counterclockwise, as containers give them, to OpenCV's names."""


def require_av() -> Any:
    """Import PyAV; `UserError` says how to install it when it is missing."""
    try:
        import av  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            f'videos and streams need PyAV ({error}): pip install "vision-heads[stream]"'
        ) from error
    return av


class SourceError(Exception):
    """A source cannot be read (on); its text is one line and may hold the URL's secrets."""


def video_stream(container: InputContainer) -> VideoStream:
    """Return the stream to decode: the best one that is no cover picture.

    Raises:
        SourceError: there is none, or its pictures are too large or cannot be decoded.
    """
    av = require_av()
    covers = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & covers]
    if not streams:
        raise SourceError("has no video in it")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise SourceError("its video is of a codec that this FFmpeg does not know")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:
        raise SourceError(f"{width} x {height} pixels are more than the limit of {MAX_PIXELS}")
    return stream


def reason_of(error: Exception) -> str:
    """Say in a few words what PyAV means; never with the file's name, which may hold secrets."""
    text = getattr(error, "strerror", None) or type(error).__name__
    return {
        "Invalid data found when processing input": "damaged or no video",
        "Immediate exit requested": "no data in time",
    }.get(text, text[:1].lower() + text[1:])


def opening_reason(error: Exception, where: str) -> str:
    """Say in a few words why a source cannot be opened; may look its host up, for a moment.

    FFmpeg calls it an input/output error when a host has no address.
    """
    missing = why_not_found(where) if getattr(error, "errno", None) == errno.EIO else ""
    return missing or reason_of(error)


def interval_of(stream: VideoStream) -> float:
    """Return the seconds a frame usually lasts; 0.04 where the container does not say."""
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    return float(1 / rate) if rate > 0 else 0.04


class Converter:
    """Turns decoded pictures into upright BGR arrays; for one source, any thread.

    The scaler is made once: making one a frame takes longer than converting it.
    """

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter  # noqa: PLC0415

        self._scaler = VideoReformatter()
        self._lock = threading.Lock()

    def __call__(self, frame: VideoFrame) -> Pixels:
        """Return BGR uint8 (H, W, 3), with the container's rotation flag applied."""
        with self._lock:
            picture = (
                self._scaler.reformat(frame, format="bgr24")
                .to_ndarray()
                .astype(np.uint8, copy=False)
            )
        turn = TURNS.get(round(frame.rotation / 90) * 90 % 360)
        if turn is not None:
            picture = np.asarray(cv2.rotate(picture, turn))
        return np.ascontiguousarray(picture, np.uint8)
