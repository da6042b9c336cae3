"""Running means of the losses of an epoch."""

from __future__ import annotations

from collections.abc import Mapping


class Meters:
    """Sums and counts by name; part of the resumable state."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Take in one step's values."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Return the means so far."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Return JSON values."""
        return {"sums": self.sums, "counts": dict(self.counts)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Mapping[str, float]]) -> Meters:
        """Restore what `to_dict` gave."""
        meters = cls()
        meters.sums = dict(record["sums"])
        meters.counts = {name: int(value) for name, value in record["counts"].items()}
        return meters
