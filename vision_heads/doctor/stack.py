"""NVIDIA's software on a machine, as its own files, commands and packages tell it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from vision_heads.doctor.system import ProbeError, System
from vision_heads.doctor.versions import Version, parse

QUERY = (
    "nvidia-smi",
    "--query-gpu=name,driver_version,memory.total,memory.free",
    "--format=csv,noheader,nounits",
)
RELEASE = "/etc/nv_tegra_release"
"""Only Jetson Linux has this file."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as nvidia-smi lists it; sizes in MiB, None where it does not tell."""

    name: str
    driver: Version
    total: int | None
    free: int | None


def gpus(system: System) -> list[Gpu]:
    """Return the GPUs that the driver shows.

    Raises:
        ProbeError: nvidia-smi is there and does not work; the text is what it says.
    """
    ran = system.run(QUERY, 20.0)
    if ran is None:
        return []
    lines = [line for line in ran.text.splitlines() if line.strip()]
    if ran.code:
        raise ProbeError(lines[0].strip() if lines else f"nvidia-smi ended with code {ran.code}")
    rows = [[cell.strip() for cell in line.split(",")] for line in lines]
    return [
        Gpu(row[0], parse(row[1]), _number(row[2]), _number(row[3]))
        for row in rows
        if len(row) == 4
    ]


def l4t(system: System) -> Version:
    """Return the version of Jetson Linux, () on anything else.

    The first line reads "# R36 (release), REVISION: 4.3, GCID: ..." on JetPack 6.2.
    """
    text = system.read(RELEASE) or ""
    found = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text)
    return parse(f"{found[1]}.{found[2]}") if found else ()


def cuda(system: System) -> dict[str, Version]:
    """Return the versions of CUDA that are installed, by where they were found."""
    found: dict[str, Version] = {}
    try:
        described = json.loads(system.read("/usr/local/cuda/version.json") or "{}")
        found["/usr/local/cuda"] = parse(described.get("cuda", {}).get("version", ""))
    except (ValueError, AttributeError):
        found["/usr/local/cuda"] = ()
    for nvcc in ("nvcc", "/usr/local/cuda/bin/nvcc"):
        ran = _quiet(system, nvcc, "--version")
        release = re.search(r"release (\d+\.\d+)", ran)
        if release:
            found.setdefault("nvcc", parse(release[1]))
    found |= _wheels(system, r"nvidia-cuda-runtime(-cu\d+)?")
    for version in _libraries(system, "libcudart"):
        found.setdefault(f"libcudart.so.{version[0]}", version)
    return {name: version for name, version in found.items() if version}


def cudnn(system: System) -> dict[str, Version]:
    """Return the versions of cuDNN that are installed, by where they were found."""
    found = _wheels(system, r"nvidia-cudnn(-cu\d+)?")
    for name, version in _debian(system, "libcudnn*"):
        found.setdefault(name, version)
    for version in _libraries(system, "libcudnn"):
        found.setdefault(f"libcudnn.so.{version[0]}", version)
    return found


def tensorrt(system: System) -> dict[str, Version]:
    """Return the versions of TensorRT that are installed, by where they were found."""
    found = _wheels(system, r"tensorrt(-cu\d+)?")
    for name, version in _debian(system, "libnvinfer*"):
        if re.fullmatch(r"libnvinfer\d+", name):
            found[name] = version
    for version in _libraries(system, "libnvinfer"):
        found.setdefault(f"libnvinfer.so.{version[0]}", version)
    return found


def majors(versions: dict[str, Version]) -> set[int]:
    """Return the first numbers of some versions."""
    return {version[0] for version in versions.values() if version}


def _wheels(system: System, pattern: str) -> dict[str, Version]:
    return {
        f"pip's {name}": parse(package.version)
        for name, package in system.packages().items()
        if re.fullmatch(pattern, name)
    }


def _debian(system: System, pattern: str) -> Iterator[tuple[str, Version]]:
    """Yield installed Debian packages whose names match, with their versions."""
    text = _quiet(
        system, "dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package} ${Version}\\n", pattern
    )
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "ii":
            yield words[1], parse(words[2])


def _libraries(system: System, name: str) -> list[Version]:
    """Return the versions of a library that the dynamic linker would find."""
    text = _quiet(system, "ldconfig", "-p") or _quiet(system, "/sbin/ldconfig", "-p")
    return sorted(map(parse, set(re.findall(rf"^\s*{name}\.so\.([\d.]+) ", text, re.M))))


def _quiet(system: System, *command: str) -> str:
    """Return what a command prints, "" when it is not there or fails."""
    try:
        ran = system.run(command)
    except ProbeError:
        return ""
    return ran.text if ran is not None and ran.code == 0 else ""


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
