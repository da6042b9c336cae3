"""The one exception that means "the user can mend this"."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # the last: `ulimit -f`, FAT32


class UserError(Exception):
    """A mistake in what the user gave: a missing file, a bad label, an unknown name.

    The message is one line that names the file and the field. The command line prints it
    without a traceback and exits with 2; anything else is our fault and exits with 1.
    """


def require(condition: object, message: str) -> None:
    """Raise `UserError` with `message` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def missing_package(error: ImportError) -> str:
    """Return what an import lacks: a package's name, or the error's own words where it has none.

    Raises:
        ImportError: `error` itself, where a module of ours is what fails: no install mends that.
    """
    if (error.name or "").partition(".")[0] == "vision_heads":
        raise error
    return error.name or str(error)


def is_no_room(error: OSError) -> bool:
    """Whether a disk is full or may not be written: nobody's fault, so it needs no traceback."""
    return error.errno in _NO_ROOM


_NO_MEMORY = ("bad_alloc", "Insufficient memory", "Failed to allocate memory")


def is_no_memory(error: BaseException) -> bool:
    """Whether memory lacked; NumPy, OpenCV and ONNX Runtime each say it in their own way."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)


@contextmanager
def explain_no_room(where: object, advice: str = "") -> Iterator[None]:
    """Turn the error of a full or read-only disk into a message.

    Args:
        where: what is being written.
        advice: what follows the message.

    Raises:
        UserError: instead of such an `OSError`; any other passes.
    """
    try:
        yield
    except OSError as error:
        if not is_no_room(error):
            raise
        raise UserError(f"{where}: cannot be written ({error.strerror}){advice}") from error
