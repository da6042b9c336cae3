"""Where the shipped cards and weights lie, in a checkout and in a wheel alike; names of files."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import stat
import threading
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parent

DEMO = {"detect": "demo", "headpose": "demo-heads"}
"""Shipped data set, by kind of head, that commands use when none is named."""


def assets(kind: str) -> Path:
    """Return the folder of shipped `kind` ("datasets" or "weights").

    A wheel carries them inside the package; a checkout has them beside it.
    """
    inside = _PACKAGE / "_assets" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def printable(text: str) -> str:
    """Return text on one line that any terminal and file can hold.

    File names may hold line breaks, other control characters and bytes that are no UTF-8; these
    become escapes such as "\\n".
    """
    if text.isprintable():
        return text
    unfit = {"Cc", "Cs", "Zl", "Zp"}
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in unfit else c for c in text
    )


def composed(name: str) -> str:
    """Return a name with each letter and its accent as one character, to compare it by.

    macOS writes them as two: an umlaut looks alike, and is another name on other systems.
    """
    return unicodedata.normalize("NFC", name)


def spellings(name: str) -> list[str]:
    """Return a name as it stands, and as systems that compose its letters or do not spell it."""
    return list(dict.fromkeys([name, composed(name), unicodedata.normalize("NFD", name)]))


def as_on_disk(
    name: str, folders: Sequence[Path], look: Callable[[Path], bool] = Path.is_file
) -> str:
    r"""Return the name of a picture as this system spells it: Windows writes "images\\a.jpg".

    Elsewhere a name may hold a backslash: one that is in a folder as it stands is that. So is
    one that another system spelled with other characters for the same letters. `look` says
    whether there is what is meant.
    """
    if name.isascii() and "\\" not in name:
        return name
    slashed = name.replace("\\", "/")
    for spelling in [name, *spellings(slashed)]:
        if any(is_there(folder / spelling, look) for folder in folders):
            return spelling
    return slashed


def is_there(path: Path, look: Callable[[Path], bool] = Path.is_file) -> bool:
    """Say whether there is such a file, or what `look` wants; none has a name too long for one."""
    try:
        return look(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def is_stdout(path: str | Path) -> bool:
    """Whether a file is what standard output goes to: /dev/stdout, or its name; never /dev/null."""
    try:
        there, out, nowhere = os.stat(path), os.fstat(1), os.stat(os.devnull)  # noqa: PTH116
    except OSError:
        return False
    return os.path.samestat(there, out) and not os.path.samestat(there, nowhere)


def writing_mode(path: str | Path) -> Literal["ab", "wb"]:
    """Return the mode to open a file in: anew, but for standard output, which goes on.

    "wb" would empty the file of `vh ... --json /dev/stdout >> all.json`.
    """
    return "ab" if is_stdout(path) else "wb"


def decode_text(data: bytes) -> str:
    """Return the text of a file in UTF-8, with a byte order mark or without, or UTF-16 with one.

    The latter is what Windows' own programs write, such as `dir /b > list.txt` in PowerShell.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if marked else "utf-8-sig")


def read_text(path: Path) -> str:
    """Return what a text file holds, as `decode_text`; an `OSError` says what is in the way."""
    return decode_text(path.read_bytes())


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8 as `writing_mode` has it; an `OSError` says what is in the way."""
    with path.open(writing_mode(path)) as file:
        file.write(text.encode())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all; an `OSError` says what is in the way.

    It is written beside its place and renamed: on a full disk, or after a crash, one that was
    there before stays as it was. Pipes and devices are written to as they are.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    # Short, whatever the file's own name; threads may write into one folder.
    new = path.with_name(f".vh-{os.getpid()}-{threading.get_ident()}.new")
    try:
        new.write_bytes(data)
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def devices(folder: str | Path) -> set[str]:
    """Return the names in a folder of pipes and devices, whose reading may never end."""
    with os.scandir(folder) as entries:  # knows plain files as such without asking for each
        # Not through links: of one that leads to itself, the question is an error.
        return {
            e.name for e in entries if not e.is_file(follow_symlinks=False) and is_device(e.path)
        }


def is_device(path: str | Path) -> bool:
    """Say whether a name is that of a pipe or device, whose reading may never end."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:  # a link to nothing, or to itself
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
