"""Short videos made for tests: a white bar counts the frames, so that each can be told."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vision_heads.media.video import OpenOptions, find_videos, open_video

BITS = 8


def numbered(number: int, width: int = 128, height: int = 96) -> NDArray[np.uint8]:
    """Black BGR picture whose upper half holds `number` in white blocks, high bit at the left."""
    image = np.zeros((height, width, 3), np.uint8)
    side = width // BITS
    for bit in range(BITS):
        if number >> (BITS - 1 - bit) & 1:
            image[: height // 2, bit * side : (bit + 1) * side] = 255
    return image


def number_in(image: NDArray[np.uint8]) -> int:
    """Read back what `numbered` wrote, also after lossy coding."""
    height, width = image.shape[:2]
    side = width // BITS
    middle = image[height // 4, side // 2 :: side, 1][:BITS]
    return int(sum((value > 127) << (BITS - 1 - bit) for bit, value in enumerate(middle)))


def write_clip(
    path: Path,
    times: Sequence[float],
    *,
    codec: str = "libx264",
    images: Sequence[NDArray[np.uint8]] | None = None,
    options: dict[str, str] | None = None,
    keyframes: int = 12,
    container: dict[str, str] | None = None,
) -> Path:
    """Write a numbered picture for each time in seconds."""
    av = pytest.importorskip("av")
    if codec not in av.codecs_available:
        codec = "mpeg4"
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=25)
        images = images or [numbered(index) for index in range(len(times))]
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        base = Fraction(1, 1000)
        stream.codec_context.time_base = stream.time_base = base
        stream.codec_context.gop_size = keyframes
        stream.options = {"preset": "ultrafast", "bf": "0"} if codec == "libx264" else {}
        stream.options = stream.options | (options or {})
        for moment, image in zip(times, images, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = round(moment * 1000), base
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def turn_clip(path: Path, degrees: int) -> None:
    """Write a rotation into an MP4's display matrix: degrees clockwise, as phones do."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version 0: times, ids, duration; layer...
    a, b, c, d = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    for place, value in zip((0, 4, 12, 16), (a, b, c, d), strict=True):
        start = matrix + place
        data[start : start + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(bytes(data))


def odd_words(path):
    """Make of a Matroska file one whose words are no UTF-8, and whose length is any text."""
    data = write_clip(path, [0, 0.04, 0.08]).read_bytes()
    assert b"Lavf" in data and b"00:00:00." in data
    path.write_bytes(data.replace(b"Lavf", b"L\xe4vf").replace(b"00:00:00.", b"ab:cd:ef."))
    return path


def frames_of(where: Path | str, **options):
    """Return all frames of a video, and the source that they came from."""
    (spec,) = find_videos([str(where)])
    source = open_video(spec, OpenOptions(**options))
    return list(source), source
