"""A machine made of files, commands and packages that a test writes down."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vision_heads.doctor.lines import Line
from vision_heads.doctor.system import Host, Package, ProbeError, Ran

LINUX = Host("Linux", "x86_64", "6.8.0", (3, 12, 3), "/usr/bin/python3", 8, 8)
JETSON = replace(LINUX, machine="aarch64", release="5.15.148-tegra", python=(3, 10, 12), cores=6)

# What a Jetson answers; formats as NVIDIA's Jetson Linux Developer Guide and JetPack show them.
RELEASE_62 = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n"
    "TARGET_USERSPACE_LIB_DIR=nvidia\n"
)
RELEASE_70 = (
    "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, "
    "DATE: Fri Aug 22 00:55:42 UTC 2025\n# KERNEL_VARIANT: oot\n"
)
NVPMODEL_CONF = (
    "< PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/devices/system/cpu/cpu0/online\n"
    "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n"
    "< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
    "< PM_CONFIG DEFAULT=1 >\n"
)
DPKG_62 = {
    "libcudnn*": "ii  libcudnn9-cuda-12 9.3.0.75-1\nun  libcudnn8 \n",
    "libnvinfer*": (
        "ii  libnvinfer10 10.3.0.30-1+cuda12.5\nii  libnvinfer-bin 10.3.0.30-1+cuda12.5\n"
    ),
}
NVCC_126 = (
    "nvcc: NVIDIA (R) Cuda compiler driver\nCopyright (c) 2005-2024 NVIDIA Corporation\n"
    "Cuda compilation tools, release 12.6, V12.6.68\nBuild cuda_12.6.r12.6/compiler.34714021_0\n"
)


@dataclass
class FakeSystem:
    """See `vision_heads.doctor.System`. An answer that is an exception is raised."""

    host: Host = LINUX
    files: dict[str, str] = field(default_factory=dict)
    commands: dict[str, Any] = field(default_factory=dict)
    installed: dict[str, Package | str] = field(default_factory=dict)
    probes: dict[str, Any] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)
    free: int = 50 << 30

    def read(self, path: str) -> str | None:
        return self.files.get(path)

    def glob(self, pattern: str) -> list[str]:
        return sorted(path for path in self.files if fnmatch.fnmatch(path, pattern))

    def run(self, command: Sequence[str], limit: float = 10.0) -> Ran | None:
        words = " ".join(command)
        for start, answer in self.commands.items():
            if words.startswith(start):
                return _answer(answer)
        if command[0] == "dpkg-query":
            text = self.commands.get(f"dpkg {command[-1]}", "")
            return Ran(0 if text else 1, text)
        return None

    def packages(self) -> Mapping[str, Package]:
        return {
            name: Package(found) if isinstance(found, str) else found
            for name, found in self.installed.items()
        }

    def sha256(self, path: str) -> str | None:
        return self.sums.get(path)

    def free_disk(self, path: str) -> int:
        return self.free

    def folders(self) -> Mapping[str, str]:
        return {"current folder": "/home/me", "temporary folder": "/tmp"}

    def probe(self, name: str, *arguments: str, limit: float = 60.0) -> dict[str, Any]:
        answer = self.probes.get(" ".join((name, *arguments)), ProbeError("not in this test"))
        return _answer(answer)


def _answer(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return Ran(0, answer) if isinstance(answer, str) else answer


def orin(**more: Any) -> FakeSystem:
    """Return an Orin Nano with JetPack 6.2, complete, at its default power mode."""
    cpu = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_"
    gpu = "/sys/class/devfreq/17000000.gpu"
    files = {
        "/etc/nv_tegra_release": RELEASE_62,
        "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit\0",
        "/usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}',
        "/etc/nvpmodel.conf": NVPMODEL_CONF,
        f"{cpu}min_freq": "729600\n",
        f"{cpu}max_freq": "1344000\n",
        gpu: "",
        f"{gpu}/min_freq": "306000000\n",
        f"{gpu}/max_freq": "918000000\n",
    }
    commands = {
        "nvpmodel -q": "NV Power Mode: 25W\n1\n",
        "/usr/local/cuda/bin/nvcc": NVCC_126,
        **{f"dpkg {pattern}": text for pattern, text in DPKG_62.items()},
    }
    return FakeSystem(
        JETSON,
        files | more.pop("files", {}),
        commands | more.pop("commands", {}),
        **more,
    )


def by_check(lines: Any) -> dict[str, Line]:
    """Return lines by name; a name that comes twice fails."""
    lines = list(lines)
    found = {line.check: line for line in lines}
    assert len(found) == len(lines), [line.check for line in lines]
    return found
