"""From what a user names on the command line to the picture files it means."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vision_heads.errors import UserError, require
from vision_heads.media.images import IMAGE_SUFFIXES
from vision_heads.media.urls import is_url, redact_url
from vision_heads.paths import as_on_disk, devices, read_text

OUTPUT_MARK = ".vh-output"
"""Name of a file in folders that `vh detect` fills: pictures there are results, not sources."""

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts"}
    | {".webm", ".wmv"}
)
"""Suffixes of moving pictures, lower case: refused by name instead of by a decoder's error."""


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture to work on.

    Attributes:
        path: the file.
        name: what its results are called: its path below the folder that was searched, or its
            file name, without suffix, and unlike every other picture's.
    """

    path: str
    name: str


@dataclass(slots=True)
class Pictures:
    """Everything some sources mean.

    Attributes:
        files: in the order of the sources, those of a folder sorted; none comes twice.
        skipped: how many files in searched folders have no picture's suffix.
        repeated: how many times a file was named again.
        drawn: folders left out of a search because this program drew what is in them.
        unreadable: a line for each folder in a searched one that could not be opened.
    """

    files: list[PictureFile] = field(default_factory=list)
    skipped: int = 0
    repeated: int = 0
    drawn: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def find_pictures(sources: Sequence[str | Path]) -> Pictures:
    """Expand files, folders (searched through), glob patterns and `.txt` lists of paths.

    Lines of a list are paths relative to the list's folder, or absolute, also as Windows writes
    them; empty lines and lines that begin with # do not count. A file named outright is taken
    whatever its suffix. Searches follow links to folders, enter each folder once, and leave out
    those that `vh detect` has filled with drawings unless they are named outright.

    Raises:
        UserError: a source, or a line of a list, is nothing that exists; a folder or pattern
            holds no pictures; a source is a video or a stream.
    """
    found = Pictures()
    seen: set[str] = set()
    names: dict[str, int] = {}
    for source in sources:
        for path, name in _expand(str(source), found):
            key = os.path.abspath(path)  # noqa: PTH100  (a Path a picture costs memory)
            if key in seen:
                found.repeated += 1
                continue
            seen.add(key)
            found.files.append(PictureFile(path, _unique(name, names)))
    return found


def _expand(source: str, found: Pictures) -> Iterator[tuple[str, str]]:
    """Yield (path, name) of the pictures that one source means."""
    require(source, "the name of a source is empty")
    path = Path(source)
    _refuse_streams(source)
    with _named_errors(source):
        is_folder = path.is_dir()
    if is_folder:
        yield from _search(path, found)
    elif path.suffix.lower() == ".txt" and path.is_file():
        yield from _listed(path)
    elif path.is_file():
        _refuse_video(path)
        yield source, path.stem
    elif glob.has_magic(source):
        before = _left_out(found)
        matches = _without_drawings(source, found)
        pictures = [match for match in matches if Path(match).suffix.lower() in IMAGE_SUFFIXES]
        found.skipped += len(matches) - len(pictures)
        require(pictures, f"{source}: no pictures match{_instead(found, before)}")
        yield from ((match, Path(match).stem) for match in pictures)
    else:
        raise UserError(f"{source}: no such file or folder")


@contextmanager
def _named_errors(where: str) -> Iterator[None]:
    """Looking at a file fails where a folder above it is closed, or its name is too long."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}") from error


def _search(folder: Path, found: Pictures) -> Iterator[tuple[str, str]]:
    count, before = 0, _left_out(found)

    def report(error: OSError) -> None:
        require(str(error.filename) != str(folder), f"{folder}: {error.strerror}")
        found.unreadable.append(f"{error.filename}: {error.strerror}")

    entered = {os.path.realpath(folder)}
    for parent, folders, files in os.walk(folder, onerror=report, followlinks=True):
        folders[:] = [name for name in sorted(folders) if _enter(parent, name, entered, found)]
        endless = devices(parent)
        for file in sorted(files):
            if os.path.splitext(file)[1].lower() not in IMAGE_SUFFIXES:  # noqa: PTH122
                found.skipped += file != OUTPUT_MARK
                continue
            path = Path(parent, file)
            if file in endless:
                found.unreadable.append(f"{path}: a pipe or device, no picture")
                continue
            count += 1
            yield str(path), path.relative_to(folder).with_suffix("").as_posix()
    require(count, f"{folder}: no pictures in this folder{_instead(found, before)}")


def _left_out(found: Pictures) -> tuple[int, int, int]:
    return found.skipped, len(found.drawn), len(found.unreadable)


def _instead(found: Pictures, before: tuple[int, int, int]) -> str:
    """Say what a search met and did not take, for when it found nothing."""
    others = found.skipped - before[0]
    drawn, closed = found.drawn[before[1] :], found.unreadable[before[2] :]
    met = [f"{others} files of other suffixes"] if others else []
    met += [f"results of vh detect in {', '.join(drawn)}"] if drawn else []
    return (f", but {' and '.join(met)}" if met else "") + "".join(f"; {line}" for line in closed)


def _enter(parent: str, name: str, entered: set[str], found: Pictures) -> bool:
    """Whether to search a folder: not twice, however it is linked, and no drawings."""
    path = os.path.join(parent, name)  # noqa: PTH118
    if not _first_time(path, entered):
        return False
    if _has_drawings(path):
        found.drawn.append(str(Path(path)))
        return False
    return True


def _without_drawings(pattern: str, found: Pictures) -> list[str]:
    """Files that match, sorted, less those in folders of drawings that the pattern searched."""
    matches = sorted(_matches(pattern, found))
    named = set((_before_magic(pattern) / "x").parents)
    drawn: dict[Path, bool] = {}
    kept = []
    for match in matches:
        searched = [parent for parent in Path(match).parents if parent not in named]
        for parent in searched:
            if parent not in drawn:
                drawn[parent] = _has_drawings(parent)
        if not any(drawn[parent] for parent in searched) and not Path(match).is_dir():
            kept.append(match)
    found.drawn += [str(parent) for parent, marked in drawn.items() if marked]
    return kept


def _matches(pattern: str, found: Pictures) -> set[str]:
    """What a pattern matches; `glob` by itself goes round and round through links in `**`."""
    head, deep, tail = _at_stars(pattern)
    if not deep:
        return set(glob.glob(pattern))  # noqa: PTH207  (keeps the user's spelling)
    matches: set[str] = set()
    entered: set[str] = set()

    def report(error: OSError) -> None:
        found.unreadable.append(f"{error.filename}: {error.strerror}")

    for top in sorted(glob.glob(head)) if head else [""]:  # noqa: PTH207
        if not _first_time(top, entered):
            continue
        for parent, folders, _ in os.walk(top or ".", onerror=report, followlinks=True):
            folders[:] = [
                name
                for name in sorted(folders)
                if name[0] != "." and _first_time(os.path.join(parent, name), entered)  # noqa: PTH118
            ]
            below = parent if top else os.path.relpath(parent)
            folder = "" if below == "." else os.path.join(glob.escape(below), "")  # noqa: PTH118
            matches |= _matches(folder + (tail or "*"), found)
    return matches


def _at_stars(pattern: str) -> tuple[str, bool, str]:
    """What stands before a pattern's first `**`, whether it has one, and what follows."""
    match = re.search(r"(?:^|/)\*\*(?:/+|$)", pattern)
    if match is None:
        return pattern, False, ""
    before = pattern[: match.start()]
    return before + "/" * (match.group()[0] == "/"), True, pattern[match.end() :]


def _first_time(folder: str, entered: set[str]) -> bool:
    """Whether a folder is met for the first time, however it is linked."""
    real = os.path.realpath(folder)
    if real in entered:
        return False
    entered.add(real)
    return True


def _before_magic(pattern: str) -> Path:
    """Return the folder that a pattern names outright."""
    parts = []
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _has_drawings(folder: str | Path) -> bool:
    return Path(folder, OUTPUT_MARK).exists()


def _listed(path: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of pictures: {error}") from error
    count = 0
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        with _named_errors(f"{path}: line {number}: {text}"):
            file = path.parent / as_on_disk(text, [path.parent])
            require(file.is_file(), f"{path}: line {number}: no such file: {text}")
        _refuse_video(file)
        count += 1
        yield str(file), file.stem
    require(count, f"{path}: the list names no pictures")


def _refuse_video(path: Path) -> None:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise UserError(f"{path}: is a video; vh stream reads it")


def _refuse_streams(source: str) -> None:
    if is_url(source):
        raise UserError(f"{redact_url(source)}: is a stream or URL; vh stream reads it")


def _unique(name: str, taken: dict[str, int]) -> str:
    """Number a name that is taken; folders that differ in case only count as one.

    Args:
        name: that is wanted.
        taken: the last number tried of each name given so far, so that none is tried again.
    """
    key = name.casefold()
    candidate, number = name, taken.get(key, 1)
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{name}-{number}"
    taken[key] = number
    taken.setdefault(candidate.casefold(), 1)
    return candidate
