"""From what a user names on the command line to sources of moving pictures."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vision_heads.errors import UserError, require
from vision_heads.media.frames import FrameSource
from vision_heads.media.images import IMAGE_SUFFIXES
from vision_heads.media.sources import VIDEO_SUFFIXES
from vision_heads.media.urls import HIDDEN, is_url, redact_url, scheme_of
from vision_heads.paths import as_on_disk, is_there, read_text

Kind = Literal["file", "sequence", "camera", "network", "gstreamer"]

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https", "udp", "rtp", "tcp", "srt", "rtmp", "rtmps")
"""Schemes of URLs that are opened."""

_NAMED = re.compile(r"([A-Za-z0-9][\w.-]{0,63})=(.+)", re.DOTALL)
_CAMERA = re.compile(r"\d{1,3}|/dev/video\d+")
_ENDLESS = frozenset({".ts"})
"""Suffixes of files that, over HTTP, are usually a live stream."""


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """A source that can be opened, as often as need be.

    Attributes:
        name: id of the source: what the user called it, else made from its file or host.
        kind: what opens it.
        live: frames come by themselves; it is opened again when it is lost.
        where: path, pattern, camera, pipeline or URL **with its credentials**: not to be shown.
    """

    name: str
    kind: Kind
    live: bool
    where: str = field(repr=False)

    @property
    def shown(self) -> str:
        """`where` without credentials; of a pipeline, its elements' names alone."""
        if self.kind == "gstreamer":
            parts = re.split(r"\s!\s", self.where)
            return " ! ".join(re.split(r"[\s,]", part.strip())[0] for part in parts)
        return redact_url(self.where)


DAY = 86_400.0
"""Seconds; FFmpeg counts microseconds in whole numbers, and none of them is infinite."""


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How sources are opened.

    Attributes:
        fps: pictures a second of image sequences.
        transport: how RTSP cameras send: tcp, or udp (less delay, loses packets).
        timeout: seconds after which opening or reading a live source counts as stalled.
    """

    fps: float = 25.0
    transport: Literal["tcp", "udp"] = "tcp"
    timeout: float = 5.0

    def __post_init__(self) -> None:
        require(0 < self.fps <= 1000, f"fps must be above 0 and at most 1000, got {self.fps}")
        require(
            self.transport in ("tcp", "udp"), f"transport must be tcp or udp, got {self.transport}"
        )
        require(
            0 < self.timeout <= DAY,
            f"timeout must be above 0 and at most {DAY:g} seconds, got {self.timeout}",
        )


def find_videos(sources: Sequence[str]) -> list[VideoSpec]:
    """Tell what each source is; nothing is opened but lists.

    A source is a video file or GIF, a folder or pattern of pictures (an image sequence), a
    pattern of video files, a camera's number or /dev/videoN, a URL (`NETWORK_SCHEMES`), an .sdp
    file, a GStreamer pipeline ("element ! element"), or a .txt list of these, one a line; empty
    lines and lines that begin with # do not count, and paths in it are relative to the list's
    folder. Any of them may be `name=source`.

    Raises:
        UserError: a source is nothing that exists, or two have the same name by the user's wish.
    """
    found = [pair for source in sources for pair in _expand(source, Path())]
    taken: set[str] = set()
    for named, spec in found:
        if named:
            require(spec.name.casefold() not in taken, f"{spec.name}: two sources have this name")
            taken.add(spec.name.casefold())
    return [spec if named else _unique(spec, taken) for named, spec in found]


def open_video(spec: VideoSpec, options: OpenOptions | None = None) -> FrameSource:
    """Return a source of frames; nothing is opened before it is iterated.

    Raises:
        UserError: it needs a package that is not installed.
    """
    options = options or OpenOptions()
    if spec.kind == "sequence":
        from vision_heads.media.video_sequence import SequenceSource  # noqa: PLC0415

        return SequenceSource(spec, options)
    if spec.kind == "camera":
        from vision_heads.media.video_camera import CameraSource  # noqa: PLC0415

        return CameraSource(spec)
    if spec.kind == "gstreamer":
        from vision_heads.media.video_gstreamer import GstreamerSource  # noqa: PLC0415

        return GstreamerSource(spec, options)
    if spec.live:
        from vision_heads.media.video_network import NetworkSource  # noqa: PLC0415

        return NetworkSource(spec, options)
    from vision_heads.media.video_file import FileSource  # noqa: PLC0415

    return FileSource(spec, options)


def pictures_of(where: str) -> list[Path]:
    """Return the pictures of a folder (not below it) or pattern, 2 before 10.

    Raises:
        UserError: there are none.
    """
    path = Path(where)
    try:
        if path.is_dir():
            files = list(path.iterdir())
        elif path.is_file():
            files = [path]
        else:
            files = [Path(match) for match in glob.glob(where, recursive=True)]  # noqa: PTH207
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}") from error
    pictures = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    require(pictures, f"{where}: no pictures here; name videos by a pattern such as folder/*.mp4")
    return sorted(pictures, key=_natural)


def _expand(source: str, base: Path, *, listed: bool = False) -> Iterator[tuple[bool, VideoSpec]]:
    """Yield (whether the user named it, spec) of what one source means."""
    require(source.strip(), "the name of a source is empty")
    match = _NAMED.fullmatch(source)
    name = ""
    if match and not is_there(base / source, Path.exists):
        name, source = match.group(1), match.group(2)
    specs = list(_specs(source.strip(), base, listed))
    require(not name or len(specs) == 1, f"{name}: names {len(specs)} sources at once")
    for named, spec in specs:
        if name:
            yield True, VideoSpec(name, spec.kind, spec.live, spec.where)
        else:
            yield named, spec


def _specs(source: str, base: Path, listed: bool) -> Iterator[tuple[bool, VideoSpec]]:
    if is_url(source):
        yield False, _network(source)
        return
    if _CAMERA.fullmatch(source):
        yield False, VideoSpec(f"camera{source.removeprefix('/dev/video')}", "camera", True, source)
        return
    if listed and " ! " not in source:  # in a pipeline a backslash is what it is
        source = as_on_disk(source, [base])
    path = base / source
    where, suffix = str(path), path.suffix.lower()
    # A pipeline may be longer than any name.
    is_folder, is_file = is_there(path, Path.is_dir), is_there(path)
    if is_folder:
        pictures_of(where)
        yield False, VideoSpec(_plain(path.resolve().name), "sequence", False, where)
    elif is_file and suffix == ".txt":
        require(not listed, f"{path}: a list inside a list")
        yield from _listed(path)
    elif is_file:
        kind: Kind = "sequence" if suffix in IMAGE_SUFFIXES else "file"
        if suffix == ".sdp":
            yield False, VideoSpec(_plain(path.stem), "network", True, where)
        else:
            yield False, VideoSpec(_plain(path.stem), kind, False, where)
    elif " ! " in source:
        yield False, VideoSpec(_plain(source.partition(" ")[0]), "gstreamer", True, source)
    elif glob.has_magic(source):
        yield from ((False, spec) for spec in _matches(where))
    else:
        hint = "; a name before = has no blanks" if re.match(r"[^=/]*\s[^=/]*=", source) else ""
        raise UserError(f"{source}: no such file or folder{hint}")


def _matches(pattern: str) -> Iterator[VideoSpec]:
    matches = sorted(map(Path, glob.glob(pattern, recursive=True)), key=_natural)  # noqa: PTH207
    videos = [path for path in matches if path.suffix.lower() in VIDEO_SUFFIXES]
    pictures = any(path.suffix.lower() in IMAGE_SUFFIXES for path in matches)
    require(videos or pictures, f"{pattern}: no videos or pictures match")
    require(not (videos and pictures), f"{pattern}: matches both videos and pictures")
    if pictures:
        yield VideoSpec(_plain(Path(pattern).parent.name) or "pictures", "sequence", False, pattern)
    for path in videos:
        yield VideoSpec(_plain(path.stem), "file", False, str(path))


def _listed(path: Path) -> Iterator[tuple[bool, VideoSpec]]:
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of sources: {error}") from error
    count = 0
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            yield from _expand(text, path.parent, listed=True)
        except UserError as error:
            raise UserError(f"{path}: line {number}: {error}") from error
        count += 1
    require(count, f"{path}: the list names no sources")


def _network(url: str) -> VideoSpec:
    scheme = scheme_of(url)
    shown = redact_url(url)
    require(
        scheme in NETWORK_SCHEMES,
        f"{shown}: cannot open {scheme}:// sources; there are {', '.join(NETWORK_SCHEMES)}",
    )
    address = re.split(r"[?#]", shown.partition("://")[2].rpartition("@")[2])[0]
    require(address.strip("/*"), f"{shown}: names no host")
    suffix = Path(address).suffix.lower()
    is_file = scheme.startswith("http") and suffix in VIDEO_SUFFIXES - _ENDLESS
    name = _plain(address.replace(HIDDEN, "")) or scheme
    return VideoSpec(name, "file" if is_file else "network", not is_file, url)


def _plain(text: str) -> str:
    """Make a name of letters, digits, dots, dashes: names become parts of file names."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-._")[:60] or "source"


def _unique(spec: VideoSpec, taken: set[str]) -> VideoSpec:
    candidate, number = spec.name, 1
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{spec.name}-{number}"
    taken.add(candidate.casefold())
    return VideoSpec(candidate, spec.kind, spec.live, spec.where)


def _natural(path: Path) -> tuple[object, ...]:
    """Sort numbers in names by their value: 2 before 10."""
    parts = re.split(r"(\d+)", str(path))
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)
