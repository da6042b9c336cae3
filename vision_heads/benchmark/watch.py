"""What else the machine did while it was measured: other programs, throttling.

Linux tells all of it, other systems only their load.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

OTHERS = 0.1
"""Share of all cores that other programs may use before it is said."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters of the system at one moment; None where it does not tell.

    Attributes:
        wall: seconds.
        own: seconds of processor that this process used so far, all its threads.
        busy, stolen: seconds of processor that everybody used, and that a hypervisor took.
        throttled: seconds that a container's limit held this process back.
        hot: times that the processor slowed down for heat.
    """

    wall: float
    own: float
    busy: float | None
    stolen: float | None
    throttled: float | None
    hot: int | None


@dataclass(slots=True)
class Watch:
    """Looks before and after a measurement; `notes` says what would disturb it.

    Attributes:
        root: of the file system, for tests.
        cores: of the machine.
    """

    root: Path = Path("/")
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    load: float | None = None
    begin: Counters | None = None

    def start(self) -> None:
        """Take the counters before the measurement, and the load, which is not yet its own."""
        self.load = self._load()
        self.begin = self._counters()

    def notes(self) -> list[str]:
        """Say in a line each what disturbed the measurement since `start`; [] for nothing."""
        if self.begin is None:
            raise RuntimeError("notes before start")
        notes = []
        if self.load is not None and self.load > self.cores:
            notes.append(
                f"the machine was busy before it began: load {self.load:.1f} on {self.cores} cores"
            )
        notes += compare(self.begin, self._counters(), self.cores)
        cooling = self._cooling()
        if cooling:
            notes.append(f"the machine slows itself down now: {', '.join(cooling)}")
        return notes

    def _load(self) -> float | None:
        text = self._read("proc/loadavg").split()
        if text:
            return float(text[0])
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else None

    def _counters(self) -> Counters:
        busy, stolen = self._processor()
        return Counters(
            time.perf_counter(),
            time.process_time(),
            busy,
            stolen,
            self._throttled(),
            self._hot(),
        )

    def _processor(self) -> tuple[float | None, float | None]:
        """Return busy and stolen seconds: the first line of /proc/stat, see `man proc_stat`."""
        words = self._read("proc/stat").partition("\n")[0].split()[1:]
        if len(words) < 8:
            return None, None
        tick = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
        user, nice, system, _, _, irq, soft, stolen = (int(word) / tick for word in words[:8])
        return user + nice + system + irq + soft, stolen

    def _throttled(self) -> float | None:
        """Return seconds of throttling by control groups (cpu.stat of version 2 or 1)."""
        for line in self._read("proc/self/cgroup").splitlines():
            number, _, rest = line.partition(":")
            names, _, path = rest.partition(":")
            if number == "0" or "cpu" in names.split(","):
                place = "sys/fs/cgroup" if number == "0" else "sys/fs/cgroup/cpu"
                fields = dict(
                    pair.split() for pair in self._read(f"{place}{path}/cpu.stat").splitlines()
                )
                for name, unit in (("throttled_usec", 1e6), ("throttled_time", 1e9)):
                    if name in fields:
                        return int(fields[name]) / unit
        return None

    def _hot(self) -> int | None:
        pattern = "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/package_throttle_count"
        counts = [int(path.read_text()) for path in sorted(self.root.glob(pattern))]
        return max(counts, default=None)

    def _cooling(self) -> list[str]:
        """Name what slows down for heat now; fans do not count."""
        found = set()
        for state in self.root.glob("sys/class/thermal/cooling_device*/cur_state"):
            kind = self._read(state.with_name("type"))
            if self._read(state).strip() not in ("", "0") and "fan" not in kind.lower():
                found.add(kind.strip())
        return sorted(found)

    def _read(self, path: str | Path) -> str:
        try:
            return (self.root / path).read_text()
        except OSError:
            return ""


def compare(begin: Counters, end: Counters, cores: int) -> list[str]:
    """Say what happened between two looks, in a line each."""
    wall = max(end.wall - begin.wall, 1e-9)
    notes = []
    if begin.busy is not None and end.busy is not None:
        others = (end.busy - begin.busy - (end.own - begin.own)) / wall
        if others > OTHERS * cores:
            notes.append(
                f"other programs used {others:.1f} of {cores} cores meanwhile; ratios are to be "
                "trusted more than milliseconds"
            )
    if begin.stolen is not None and end.stolen is not None:
        stolen = (end.stolen - begin.stolen) / wall
        if stolen > OTHERS * cores:
            notes.append(f"the hypervisor took {stolen:.1f} of {cores} cores meanwhile")
    if begin.throttled is not None and end.throttled is not None:
        held = end.throttled - begin.throttled
        if held > 0.01 * wall:
            notes.append(
                f"the container's limit held this program back for {held:.1f} s; give --threads"
            )
    if begin.hot is not None and end.hot is not None and end.hot > begin.hot:
        notes.append(f"the processor slowed down for heat {end.hot - begin.hot} times meanwhile")
    return notes
