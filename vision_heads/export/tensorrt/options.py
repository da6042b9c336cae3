"""What can be asked of a build, and what is said of it afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from vision_heads.errors import require
from vision_heads.runtime.tensorrt_file import EngineFacts, Precision, precisions

NAMES: dict[Precision, str] = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
"""Precisions as they are asked for, and as layers report them."""

Method = Literal["minmax", "entropy"]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to build an engine.

    Attributes:
        precision: "fp32", "fp16" or "int8". Decoding runs in FP32 in any case, the heads' last
            convolutions never in INT8.
        batch: least, best and most pictures a call, where the ONNX file leaves the batch open;
            the engine is fastest at the best. (1, 4, 8) if None.
        workspace_mib: most GPU memory that kernels may use besides; None: what TensorRT likes.
        timing_cache: file in which measured kernel times are kept, so that the next build is
            quicker; made if it is not there.
        dla: core of the deep learning accelerator to run on (Jetson Xavier, Orin); what it cannot
            do runs on the GPU and is reported.
        pictures: calibration pictures for INT8, where the ONNX file is not quantized itself.
        calibration_cache: file in which what calibration found is kept; made if it is not there,
            and not used for another model or other pictures.
        method: of calibration, "minmax" or "entropy".
        level: TensorRT's optimization level, 0 (quick build) to 5 (quick engine); None: its own.
        rebuild: the command that builds this engine, for the message that refuses it elsewhere.
    """

    precision: Precision = "fp16"
    batch: tuple[int, int, int] | None = None
    workspace_mib: int | None = None
    timing_cache: Path | None = None
    dla: int | None = None
    pictures: Sequence[Path] = ()
    calibration_cache: Path | None = None
    method: Method = "minmax"
    level: int | None = None
    rebuild: str | None = None

    def __post_init__(self) -> None:
        """Check everything that needs neither file nor GPU."""
        require(
            self.precision in NAMES,
            f"precision {self.precision}: an engine's is one of {', '.join(NAMES)}",
        )
        require(
            self.method in get_args(Method),
            f"method {self.method}: TensorRT calibrates by {' or '.join(get_args(Method))}",
        )
        if self.batch is not None:
            good = len(self.batch) == 3 and 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]
            require(
                good,
                f"batch {self.batch}: must be the least, best and most pictures a call, in "
                "rising order",
            )
        require(
            self.workspace_mib is None or self.workspace_mib >= 1,
            f"workspace {self.workspace_mib} MiB: must be at least 1",
        )
        require(self.level is None or 0 <= self.level <= 5, f"level {self.level}: must be 0 to 5")
        if self.dla is not None:
            require(self.dla >= 0, f"dla {self.dla}: must be the number of a core, from 0")
            require(
                self.precision != "fp32", "dla: the accelerator computes in fp16 or int8, not fp32"
            )


@dataclass(frozen=True, slots=True)
class EngineReport:
    """A build.

    Attributes:
        path: the engine.
        json_path: its description, beside it.
        facts: that description; `facts.layers` has the precision of every layer.
        size: of the engine, bytes.
        seconds: that the build took.
        kept_fp32: layers that were told to run in FP32 (decoding), where flags decide.
        calibrated_on: pictures INT8 was calibrated on; 0 if the graph was quantized already, or a
            calibration cache was used.
    """

    path: Path
    json_path: Path
    facts: EngineFacts
    size: int
    seconds: float
    kept_fp32: int = 0
    calibrated_on: int = 0

    @property
    def precisions(self) -> dict[str, dict[str, int]]:
        """How many layers of each operator run in each precision."""
        return precisions(self.facts.layers)

    @property
    def used(self) -> bool:
        """Whether any convolution really runs in the precision that was asked for."""
        wanted = NAMES[self.facts.precision]
        return wanted in self.precisions.get("Conv", {})

    def __str__(self) -> str:
        """Return one line: where, how large, how long, and what the convolutions run in."""
        row = self.precisions.get("Conv", {})
        convolutions = ", ".join(f"{number} {name}" for name, number in row.items())
        dla = f", {len(self.facts.on_gpu)} layers off the DLA" if self.facts.on_gpu else ""
        return (
            f"{self.path}: {self.size / 1e6:.1f} MB, built in {self.seconds:.0f} s by TensorRT "
            f"{self.facts.tensorrt} on {self.facts.gpu}; convolutions: "
            f"{convolutions or 'unknown'}{dla}"
        )
