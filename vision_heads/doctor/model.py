"""The shipped weights, and a real detection with them."""

from __future__ import annotations

from collections.abc import Iterator

from vision_heads.doctor.lines import Line, broken, ok, warning
from vision_heads.doctor.system import ProbeError, System
from vision_heads.paths import assets

REINSTALL = "python -m pip install --force-reinstall --no-deps vision-heads"
LIST = "SHA256SUMS"


def weights(system: System) -> Iterator[Line]:
    """Compare the shipped weights with their SHA-256."""
    folder = str(assets("weights"))
    listed = system.read(f"{folder}/{LIST}")
    if listed is None:
        yield warning("shipped weights", f"{folder}: no {LIST}, nothing is compared", REINSTALL)
        return
    good = []
    for line in listed.splitlines():
        wanted, _, name = line.partition("  ")
        if not name:
            continue
        found = system.sha256(f"{folder}/{name}")
        if found is None:
            yield broken(f"weights {name}", f"{folder}/{name}: missing or not readable", REINSTALL)
        elif found != wanted:
            yield broken(
                f"weights {name}", f"{folder}/{name}: changed, its SHA-256 is {found}", REINSTALL
            )
        else:
            good.append(name)
    if good:
        yield ok("shipped weights", f"{', '.join(good)}: whole")


def detection(system: System) -> Iterator[Line]:
    """Detect on a demo picture with shipped weights."""
    try:
        answer = system.probe("detection")
    except ProbeError as error:
        yield broken("detection", str(error), "mend what is broken above, then try again")
        return
    if not answer["found"]:
        yield broken(
            "detection",
            f"{answer['model']} finds nothing in {answer['picture']}, where it should",
            REINSTALL,
        )
        return
    yield ok(
        "detection",
        f"{answer['model']} finds {answer['found']} objects in {answer['picture']}, "
        f"{1000 * answer['seconds']:.0f} ms",
    )
