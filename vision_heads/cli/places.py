"""Where commands may write."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from vision_heads.errors import require


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
