"""The one exception that means "the user can mend this"."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user gave: a missing file, a bad label, an unknown name.

    The message is one line that names the file and the field. The command line prints it
    without a traceback and exits with 2; anything else is our fault and exits with 1.
    """


def require(condition: object, message: str) -> None:
    """Raise `UserError` with `message` unless `condition` holds."""
    if not condition:
        raise UserError(message)
