"""What was measured, as plain records and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_heads.benchmark.energy import Energy
from vision_heads.benchmark.feeds import Source
from vision_heads.benchmark.memory import Memory
from vision_heads.benchmark.spread import Ratio, Spread

TITLES = {
    "decode": "decode the picture",
    "preprocess": "preprocess",
    "network": "network",
    "heads": "decode the heads",
    "nms": "NMS",
}
"""Stages as tables call them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model at one batch size; times are of one picture.

    Attributes:
        name: unlike that of every other model.
        file, format, bytes: of the model.
        runs_on: what computes, e.g. "cpu", "cuda", "tensorrt" or "torch".
        batch: pictures a call.
        height, width: of the network's input.
        stages, total: times.
        found: results a picture, which NMS and the decoding of heads depend on.
        network_ratio, total_ratio: against the first model at this batch size; None for itself.
    """

    name: str
    file: Path
    format: str
    runs_on: str
    batch: int
    height: int
    width: int
    bytes: int
    stages: Mapping[str, Spread]
    total: Spread
    found: float
    network_ratio: Ratio | None
    total_ratio: Ratio | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain records."""
        ratios = {"network": self.network_ratio, "end to end": self.total_ratio}
        return {
            "name": self.name,
            "file": str(self.file),
            "format": self.format,
            "runs_on": self.runs_on,
            "batch": self.batch,
            "input": [self.height, self.width],
            "bytes": self.bytes,
            "found_a_picture": round(self.found, 2),
            "stages": {name: spread.to_dict() for name, spread in self.stages.items()},
            "end_to_end": self.total.to_dict(),
            "against_first": {
                name: None if ratio is None else ratio.to_dict() for name, ratio in ratios.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Report:
    """A whole measurement.

    Attributes:
        entries: a model and batch size each.
        memories, energies: of each entry; a text says why there is no figure.
        notes: what disturbed it, a line each; () for nothing.
        source: where pictures came from.
        runs, warm_up: rounds that counted, and that did not.
        threads: of the network, None for all cores.
        machine: what it ran on.
    """

    entries: tuple[Entry, ...]
    memories: tuple[Memory | str, ...]
    energies: tuple[Energy | str, ...]
    notes: tuple[str, ...]
    source: Source
    runs: int
    warm_up: int
    threads: int | None
    machine: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain records for JSON; what was not measured is null, and says why beside."""
        models = []
        rows = zip(self.entries, self.memories, self.energies, strict=True)
        for entry, memory, energy in rows:
            record = entry.to_dict()
            record["memory"] = memory.to_dict() if isinstance(memory, Memory) else None
            record["energy"] = energy.to_dict() if isinstance(energy, Energy) else None
            reasons = {"memory": memory, "energy": energy}
            record["not_measured"] = {
                name: why for name, why in reasons.items() if isinstance(why, str)
            }
            models.append(record)
        return {
            "machine": dict(self.machine),
            "source": {
                "kind": self.source.kind,
                "name": self.source.name,
                "files": len(self.source.files),
            },
            "runs": self.runs,
            "warm_up": self.warm_up,
            "threads": self.threads,
            "notes": list(self.notes),
            "models": models,
        }

    def to_markdown(self) -> str:
        """Return tables: models side by side, then each one's stages."""
        lines = [*self._conditions(), "", *table(*self._side_by_side())]
        for entry in self.entries:
            title = f"{entry.name}, batch {entry.batch}"
            lines += ["", f"### {title}", "", *table(*_stages(entry))]
        return "\n".join(lines) + "\n"

    def _conditions(self) -> Iterator[str]:
        machine = self.machine
        threads = "all" if self.threads is None else str(self.threads)
        packages = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "torch")
        versions = ", ".join(f"{name} {machine[name]}" for name in packages if name in machine)
        board = f"{machine['board']}, " if "board" in machine else ""
        yield (
            f"{board}{machine.get('processor', '?')}, {machine.get('cores', '?')} cores, "
            f"{machine.get('system', '?')}; {versions}."
        )
        yield (
            f"{self.runs} runs after {self.warm_up} of warming up, all models in turns, threads: "
            f"{threads}, {self.source.kind}: {self.source.name}. Times are of one picture, "
            "median [5 %, 95 %] of the runs; ratios are medians of the rounds' ratios [quartiles]."
        )
        for note in self.notes:
            yield f"**Note:** {note}."
        for what, values in (("Memory", self.memories), ("Energy", self.energies)):
            reasons = dict.fromkeys(value for value in values if isinstance(value, str))
            for reason in reasons:
                yield f"{what} was not measured: {reason}."

    def _side_by_side(self) -> tuple[list[str], list[list[str]]]:
        several = len({entry.name for entry in self.entries}) > 1
        powered = any(isinstance(energy, Energy) for energy in self.energies)
        held = any(isinstance(memory, Memory) for memory in self.memories)
        header = ["model", "on", "batch", "MB", "network ms", "end to end ms", "pictures/s"]
        header += [f"network x {self.entries[0].name}", "end to end x"] if several else []
        header += ["memory MB (of the model)"] if held else []
        header += ["W (idle)", "mJ a picture"] if powered else []
        rows = []
        for entry, memory, energy in zip(self.entries, self.memories, self.energies, strict=True):
            row = [
                entry.name,
                entry.runs_on,
                str(entry.batch),
                f"{entry.bytes / 1e6:.1f}",
                _milliseconds(entry.stages["network"]),
                _milliseconds(entry.total),
                _fps(entry.total),
            ]
            row += [_times(entry.network_ratio), _times(entry.total_ratio)] if several else []
            row += [_memory(memory)] if held else []
            row += _energy(energy) if powered else []
            rows.append(row)
        return header, rows


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _stages(entry: Entry) -> tuple[list[str], list[list[str]]]:
    whole = sum(spread.median for spread in entry.stages.values()) or 1.0
    rows = [
        [
            TITLES[name],
            f"{1000 * spread.median:.2f}",
            f"{1000 * spread.p5:.2f}",
            f"{1000 * spread.p95:.2f}",
            _fps(spread),
            f"{100 * spread.median / whole:.0f} %",
        ]
        for name, spread in entry.stages.items()
    ]
    total = entry.total
    times = [f"{1000 * value:.2f}" for value in (total.median, total.p5, total.p95)]
    rows.append(["end to end", *times, _fps(total), ""])
    return ["stage", "median ms", "5 %", "95 %", "pictures/s", "share"], rows


def _milliseconds(spread: Spread) -> str:
    return f"{1000 * spread.median:.2f} [{1000 * spread.p5:.2f} {1000 * spread.p95:.2f}]"


def _fps(spread: Spread) -> str:
    return "" if spread.fps is None else f"{spread.fps:.1f}"


def _times(ratio: Ratio | None) -> str:
    if ratio is None:
        return "1"
    return f"{ratio.median:.3f} [{ratio.low:.3f} {ratio.high:.3f}]"


def _memory(memory: Memory | str) -> str:
    if isinstance(memory, str):
        return "not measured"
    return f"{memory.peak / 1e6:.0f} ({memory.model / 1e6:.0f})"


def _energy(energy: Energy | str) -> list[str]:
    if isinstance(energy, str):
        return ["not measured"] * 2
    return [f"{energy.watts:.1f} ({energy.idle_watts:.1f})", f"{1000 * energy.joules:.1f}"]
