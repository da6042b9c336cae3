"""Which versions belong together. Each table names its source; nothing here is guessed.

Where a release has no row, checks say so and compare nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from vision_heads.doctor.versions import Version


class GpuWheel(NamedTuple):
    """What PyPI's onnxruntime-gpu is built for, from version `first` on: CUDA and cuDNN majors."""

    first: Version
    cuda: int
    cudnn: int


ORT_GPU = (
    GpuWheel((1, 27), 13, 9),
    GpuWheel((1, 19), 12, 9),
    GpuWheel((1, 15), 11, 8),
)
"""Newest first.

Sources: onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html (1.15 to 1.19: CUDA
11.8 with cuDNN 8, from 1.19 CUDA 12 with cuDNN 9 by default); the wheels' own Requires-Dist as pip
shows it (1.22 to 1.26: nvidia-cuda-runtime-cu12; 1.27 and later: CUDA 13), read in November 2026.
A wheel that names its CUDA itself is believed instead: other indexes carry other builds.
"""

DRIVERS: dict[int, Version] = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580,)}
"""Oldest Linux driver that runs any minor release of a CUDA major.

Source: "CUDA Toolkit Release Notes", table of minor version compatibility, docs.nvidia.com/cuda.
Jetson is not held to it: its driver is part of Jetson Linux.
"""


class JetPack(NamedTuple):
    """A release of NVIDIA's software for Jetson.

    Attributes:
        l4t: first version of Jetson Linux that it brings.
        name: of the release.
        cuda, tensorrt, cudnn: that it brings, as exactly as the source says; () where it does not.
        python: of its Ubuntu.
        wheels: index with builds of onnxruntime-gpu and torch for it, "" for none.
    """

    l4t: Version
    name: str
    cuda: Version
    tensorrt: Version
    cudnn: Version
    python: Version
    wheels: str = ""


_JP6 = "https://pypi.jetson-ai-lab.io/jp6/cu126"
_JP7 = "https://pypi.jetson-ai-lab.io/sbsa/cu130"

JETPACKS = (
    JetPack((39, 2), "JetPack 7.2", (13,), (), (), (3, 12), _JP7),
    JetPack((38, 4), "JetPack 7.1", (13, 0), (), (), (3, 12), _JP7),
    JetPack((38, 2), "JetPack 7.0", (13, 0), (10, 13), (9, 12), (3, 12), _JP7),
    JetPack((36, 5), "JetPack 6.2.2", (12, 6), (10, 3), (9, 3), (3, 10), _JP6),
    JetPack((36, 4, 4), "JetPack 6.2.1", (12, 6), (10, 3), (9, 3), (3, 10), _JP6),
    JetPack((36, 4, 3), "JetPack 6.2", (12, 6), (10, 3), (9, 3), (3, 10), _JP6),
    JetPack((36, 4), "JetPack 6.1", (12, 6), (10, 3), (9, 3), (3, 10), _JP6),
    JetPack((36, 3), "JetPack 6.0", (12, 2), (8, 6), (8, 9), (3, 10)),
    JetPack((35, 6), "JetPack 5.1.4", (11, 4), (8, 5), (8, 6), (3, 8)),
    JetPack((35, 5), "JetPack 5.1.3", (11, 4), (8, 5), (8, 6), (3, 8)),
    JetPack((35, 4, 1), "JetPack 5.1.2", (11, 4), (8, 5), (8, 6), (3, 8)),
    JetPack((35, 3, 1), "JetPack 5.1.1", (11, 4), (8, 5), (8, 6), (3, 8)),
    JetPack((35, 2, 1), "JetPack 5.1", (11, 4), (8, 5), (8, 6), (3, 8)),
)
"""Newest first.

Sources: developer.nvidia.com/embedded/jetpack-archive; NVIDIA's announcement of Jetson Linux 38.2
for JetPack 7.0; pytorch.org/TensorRT/getting_started/jetpack.html for JetPack 6.1 and 6.2. The
numbers of 7.1 and 7.2 beyond CUDA's major were not found in a source, so they are left open.
"""


def jetpack_of(l4t: Version) -> JetPack | None:
    """Return the release a version of Jetson Linux belongs to; None when it is in no row."""
    for release in JETPACKS:
        if l4t[:1] == release.l4t[:1] and l4t >= release.l4t:
            return release
    return None


def gpu_wheel(version: Version) -> GpuWheel | None:
    """Return what PyPI's onnxruntime-gpu of a version is built for; None when it is too old."""
    return next((wheel for wheel in ORT_GPU if version >= wheel.first), None)
