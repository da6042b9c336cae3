"""Python, platform, processor, memory, disk."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vision_heads.doctor.lines import Line, broken, joined, ok, warning
from vision_heads.doctor.system import System
from vision_heads.doctor.versions import show

OLDEST_PYTHON = (3, 10)
"""As in pyproject's requires-python."""

NO_MEMORY, LITTLE_MEMORY = 256 << 20, 1 << 30
"""Bytes below which nothing runs, and below which large pictures, tiles or training may not.
`vh detect` peaks at 413 MB (docs/speed.md)."""

NO_DISK, LITTLE_DISK = 64 << 20, 1 << 30
"""Bytes below which results cannot be written, and below which videos and training may fill it."""

_X86 = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")
_ARM = {
    "asimd": "NEON",
    "asimdhp": "half precision",
    "asimddp": "int8 dot product",
    "i8mm": "int8 matrix product",
    "bf16": "bf16",
    "sve": "SVE",
}
_UNLIMITED = 1 << 60
"""Version 1 of cgroups writes a number near 2**63 for no limit."""


def python(system: System) -> Iterator[Line]:
    """Check that Python is one this package runs on."""
    version = show(system.host.python)
    if system.host.python < OLDEST_PYTHON:
        yield broken(
            "python",
            f"{version} is older than {show(OLDEST_PYTHON)}",
            f"make a virtual environment with Python {show(OLDEST_PYTHON)} or newer",
        )
    else:
        yield ok("python", f"{version}, {system.host.executable}")


def platform(system: System) -> Iterator[Line]:
    """Name the system, and whether this is a container."""
    host = system.host
    release = re.search(r'^PRETTY_NAME="?([^"\n]+)', system.read("/etc/os-release") or "", re.M)
    inside = "/.dockerenv" in system.glob("/.dockerenv") or "/run/.containerenv" in system.glob(
        "/run/.containerenv"
    )
    name = joined([release[1] if release else "", f"{host.system} {host.release}", host.machine])
    yield ok("platform", name + (", in a container" if inside else ""))


def processor(system: System) -> Iterator[Line]:
    """Name what the processor can do that matters for networks."""
    text = system.read("/proc/cpuinfo") or ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    flags = set((_field(text, "flags") or _field(text, "Features")).split())
    name = model[1].strip() if model else system.host.machine
    if not flags:
        yield ok("processor", f"{name}; what it can do is not readable on this system")
        return
    if system.host.machine in ("x86_64", "AMD64", "i686"):
        known = [flag for flag in _X86 if flag in flags]
        if "avx2" not in flags:
            yield warning(
                "processor",
                f"{name}: no AVX2 ({joined(known) or 'not even AVX'}); networks run several times "
                "slower",
                "in a virtual machine, pass the host's processor through (for QEMU: -cpu host)",
            )
            return
        fast = (
            "int8 is fast"
            if flags & {"avx512_vnni", "avx_vnni", "amx_int8"}
            else "no VNNI: int8 is slow"
        )
        yield ok("processor", f"{name}: {joined(known)}; {fast}")
        return
    known = [word for flag, word in _ARM.items() if flag in flags]
    fast = "" if "asimddp" in flags else "; no int8 dot product: int8 is slow"
    yield ok("processor", f"{name}: {joined(known)}{fast}")


def threads(system: System) -> Iterator[Line]:
    """Compare the cores that are seen with those that may really be used."""
    host, limit = system.host, cpu_limit(system)
    shown = f"{host.allowed} of {host.cores} cores"
    if limit is None or limit >= host.allowed:
        yield ok("threads", f"{shown} may be used")
        return
    whole = max(int(limit), 1)
    yield warning(
        "threads",
        f"{shown} are seen, but the container may use {limit:g}: more threads wait for each other",
        f"give commands --threads {whole}, or start the container with --cpuset-cpus",
    )


def memory(system: System) -> Iterator[Line]:
    """Check the memory that is free, also below a container's limit."""
    text = system.read("/proc/meminfo") or ""
    total, free = _kilobytes(text, "MemTotal"), _kilobytes(text, "MemAvailable")
    if total is None or free is None:
        yield ok("memory", "not readable on this system")
        return
    room, limited = _room(system), ""
    if room is not None and room < free:
        free, limited = room, " below the container's limit"
    found = f"{_size(free)} free{limited}, {_size(total)} in all"
    if free < NO_MEMORY:
        yield broken("memory", found, "end other programs, or raise the container's limit")
    elif free < LITTLE_MEMORY:
        yield warning(
            "memory",
            f"{found}: large pictures and several models may not fit",
            "end other programs, or give commands --threads 1",
        )
    else:
        yield ok("memory", found)


def disk(system: System) -> Iterator[Line]:
    """Check the space where results and temporary files go."""
    for name, folder in system.folders().items():
        free = system.free_disk(folder)
        found = f"{_size(free)} free in {folder}"
        mend = "delete files there" + (
            ", or set TMPDIR to another folder" if name.startswith("temp") else ", or use --out"
        )
        if free < NO_DISK:
            yield broken(name, found, mend)
        elif free < LITTLE_DISK:
            yield warning(name, f"{found}: videos and training may fill it", mend)
        else:
            yield ok(name, found)


def cpu_limit(system: System) -> float | None:
    """Return how many cores' time a container may use, None where nothing limits it.

    Source: "Control Group v2", cpu.max, and "CFS Bandwidth Control", docs.kernel.org. A limit of a
    group holds for those below it, so the least one on the way up counts.
    """
    limits = []
    for folder in _groups(system, ""):
        quota, _, period = (system.read(f"{folder}/cpu.max") or "").strip().partition(" ")
        if quota.isdecimal() and period.isdecimal():
            limits.append(int(quota) / int(period))
    for folder in _groups(system, "cpu"):
        text = (system.read(f"{folder}/cpu.cfs_quota_us") or "").strip()
        every = (system.read(f"{folder}/cpu.cfs_period_us") or "").strip()
        if text.isdecimal() and every.isdecimal():  # -1 means no limit
            limits.append(int(text) / int(every))
    return min(limits, default=None)


def _room(system: System) -> int | None:
    """Return the bytes left below the limits of the groups this process is in."""
    rooms = []
    names = {"": ("memory.max", "memory.current")}
    names["memory"] = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for controller, (most, used) in names.items():
        for folder in _groups(system, controller):
            limit = (system.read(f"{folder}/{most}") or "").strip()
            now = (system.read(f"{folder}/{used}") or "").strip()
            if limit.isdecimal() and now.isdecimal() and int(limit) < _UNLIMITED:
                rooms.append(max(int(limit) - int(now), 0))
    return min(rooms, default=None)


def _groups(system: System, controller: str) -> list[str]:
    """Return the folders of this process's group and those above it; "" means version 2."""
    base = "/sys/fs/cgroup" + (f"/{controller}" if controller else "")
    for line in (system.read("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller in names.split(","):
            parts = [part for part in path.split("/") if part]
            ways = ["/".join(parts[:count]) for count in range(len(parts), -1, -1)]
            return [f"{base}/{way}".rstrip("/") for way in ways]
    return []


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.M)
    return found[1] if found else ""


def _kilobytes(text: str, name: str) -> int | None:
    found = re.search(rf"^{name}:\s*(\d+) kB", text, re.M)
    return int(found[1]) << 10 if found else None


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"
