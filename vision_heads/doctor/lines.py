"""What a diagnosis is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warning", "broken"]
"""ok: works, or is not needed; warning: works, but not as well or not as one would think;
broken: something does not work until it is mended."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at.

    Attributes:
        check: what it is, e.g. "opencv wheels"; unique in its group.
        status: see `Status`.
        found: what there is, in a line.
        mend: the command, or the one thing to do, that mends it; "" where nothing is amiss.
        group: set by `diagnose`: machine, packages, pictures, gpu, jetson, model.
    """

    check: str
    status: Status
    found: str
    mend: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A whole diagnosis.

    Attributes:
        lines: in the order they were looked at.
    """

    lines: tuple[Line, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is broken."""
        return all(line.status != "broken" for line in self.lines)

    @property
    def counts(self) -> dict[Status, int]:
        """How many lines are ok, warnings and broken."""
        number = Counter(line.status for line in self.lines)
        return {"ok": number["ok"], "warning": number["warning"], "broken": number["broken"]}

    def to_dict(self) -> dict[str, Any]:
        """Return a plain record for JSON: sound, counts, lines."""
        return {
            "sound": self.sound,
            "counts": self.counts,
            "lines": [asdict(line) for line in self.lines],
        }


def ok(check: str, found: str) -> Line:
    """Return a line about something that works, or that nobody needs."""
    return Line(check, "ok", found)


def warning(check: str, found: str, mend: str) -> Line:
    """Return a line about something that works, but not as one would wish."""
    return Line(check, "warning", found, mend)


def broken(check: str, found: str, mend: str) -> Line:
    """Return a line about something that does not work."""
    return Line(check, "broken", found, mend)


def joined(parts: Iterable[str]) -> str:
    """Return the parts that are not empty, comma-separated."""
    return ", ".join(part for part in parts if part)
