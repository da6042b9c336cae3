"""How the threads of one network call wait for the next kernel."""

from __future__ import annotations

SPIN_MICROSECONDS = 50
"""Longer than most gaps between kernels, too short to be seen in a program's CPU time."""
_FIRST = (1, 26)
"""ONNX Runtime that takes a time; others would ignore it and spin for milliseconds."""


def wait_setting(version: str) -> tuple[str, str]:
    """Return the entry of ONNX Runtime's session configuration that says how threads wait.

    They watch for work for a moment before they sleep: waking costs more than many a kernel takes
    (docs/decisions.md has the measurement). Spinning on would take the cores from the threads that
    read pictures meanwhile. Where no time can be given they sleep at once.

    Args:
        version: of ONNX Runtime, e.g. "1.31.1".
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) >= _FIRST:
        return "session.intra_op.spin_duration_us", str(SPIN_MICROSECONDS)
    return "session.intra_op.allow_spinning", "0"
