"""Where commands may write, and where they print."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ParamSpec

from vision_heads.errors import UserError, require
from vision_heads.paths import is_stdout

Given = ParamSpec("Given")


def require_apart(written: Mapping[str, Path | None], read: Iterable[str | Path | None]) -> None:
    """Refuse a file in the place of another or of what is read: either would be lost.

    Args:
        written: by option.
        read: files and folders; names of what is shipped are none.
    """
    there = [path for path in read if path is not None and os.path.exists(path)]  # noqa: PTH110
    kept = {os.path.realpath(path) for path in there}
    taken: dict[str, str] = {}
    for option, path in written.items():
        if path is not None:
            require(str(path) != "-", f"{option} -: is no file's name; /dev/stdout is one")
            real = os.path.realpath(path)
            require(real not in kept, f"{option} {path}: is read, and would be replaced")
            require(real not in taken, f"{option} {path}: is what {taken.get(real)} writes")
            taken[real] = option


def require_writable(option: str, path: Path | None, *, folder: bool = False) -> None:
    """Refuse a place that cannot be written to, before hours of work; nothing is made there.

    Args:
        option: which names it.
        path: a file, or a `folder`; what is missing on the way to it will be made.
    """
    if path is None:
        return
    try:
        there = next((one for one in (path, *path.parents) if one.exists()), Path())
        if there == path:
            require(path.is_dir() == folder, f"{option} {path}: is {_a_folder(not folder)}")
        else:
            require(there.is_dir(), f"{option} {path}: {there} is {_a_folder(False)}")
    except OSError as error:
        raise UserError(f"{option} {path}: {error.strerror}") from error
    rights = os.W_OK | os.X_OK if there.is_dir() else os.W_OK
    require(os.access(there, rights), f"{option} {path}: {there.absolute()} may not be written to")


def _a_folder(folder: bool) -> str:
    return "a folder, not a file" if folder else "a file, not a folder"


def stdout_is_for(
    *options: str,
) -> Callable[[Callable[Given, None]], Callable[Given, None]]:
    """Make a command print to standard error where a file that it writes is standard output.

    What is printed for people would stand in the middle of what a program is to read.

    Args:
        options: names of the command's arguments that are such files.
    """

    def wrap(command: Callable[Given, None]) -> Callable[Given, None]:
        @functools.wraps(command)
        def run(*args: Given.args, **kwargs: Given.kwargs) -> None:
            files = [kwargs.get(option) for option in options]
            taken = any(isinstance(file, (str, Path)) and is_stdout(file) for file in files)
            with contextlib.redirect_stdout(sys.stderr) if taken else contextlib.nullcontext():
                command(*args, **kwargs)

        return run

    return wrap
