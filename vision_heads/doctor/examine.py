"""Runs every check, each with a time limit, and lets none of them end the diagnosis."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from vision_heads.doctor import gpu, jetson, machine, model, packages, pictures
from vision_heads.doctor.lines import Line, broken
from vision_heads.doctor.system import LocalSystem, System

Check = Callable[[System], Iterable[Line]]

SECONDS = 240.0
"""Time a whole check gets; the commands and child processes in it have shorter limits, so this
only ends what hangs in the operating system, such as a folder on a lost network."""

GROUPS: tuple[tuple[str, tuple[Check, ...]], ...] = (
    (
        "machine",
        (
            machine.python,
            machine.platform,
            machine.processor,
            machine.threads,
            machine.memory,
            machine.disk,
        ),
    ),
    (
        "packages",
        (
            packages.requirements,
            packages.opencv_wheels,
            packages.runtime_wheels,
            packages.torch_pair,
            packages.conflicts,
            packages.imports,
        ),
    ),
    (
        "pictures",
        (
            pictures.opencv_build,
            pictures.picture_formats,
            pictures.video_pyav,
            pictures.video_opencv,
            pictures.gstreamer,
        ),
    ),
    ("gpu", (gpu.gpu, gpu.libraries, gpu.providers)),
    ("jetson", (jetson.release, jetson.power_mode, jetson.clocks, jetson.throttling)),
    ("model", (model.weights, model.detection)),
)
"""Checks by group, in the order they are shown."""


def diagnose(system: System | None = None, seconds: float = SECONDS) -> Iterator[Line]:
    """Look at everything, and yield a line as soon as it is known.

    A check that fails or hangs gives a line that is broken and says why; it never raises.

    Args:
        system: what to look at, this machine when None.
        seconds: time limit of one check.

    Example:
        >>> from vision_heads.doctor import Report, diagnose
        >>> report = Report(tuple(diagnose()))
        >>> report.sound, [line.mend for line in report.lines if line.status == "broken"]
    """
    system = LocalSystem() if system is None else system
    for group, checks in GROUPS:
        for check in checks:
            for line in _limited(check, system, seconds):
                yield replace(line, group=group)


def _limited(check: Check, system: System, seconds: float) -> list[Line]:
    """Run a check in a thread that can be left behind."""
    lines: list[Line] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            lines.extend(check(system))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name=f"vh-doctor-{check.__name__}", daemon=True)
    thread.start()
    thread.join(seconds)
    name = check.__name__.replace("_", " ")
    if thread.is_alive():
        return [broken(name, f"no answer within {seconds:g} s", "see whether a disk is lost")]
    if failure:
        what = f"{type(failure[0]).__name__}: {failure[0]}"
        return [broken(name, f"could not be looked at: {what}", "tell us, with this line")]
    return lines
