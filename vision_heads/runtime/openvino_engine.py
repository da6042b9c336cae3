"""Runs OpenVINO's files (.xml with .bin beside it), on Intel's and other CPUs and GPUs."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_heads._openvino import openvino
from vision_heads.errors import UserError, require
from vision_heads.runtime.outputs import (
    MAX_PARTS,
    Parts,
    check_outputs,
    filled,
    in_batches,
    output_names,
)
from vision_heads.spec import METADATA_KEY, ModelSpec

Floats = NDArray[np.float32]

PRECISION_KEY = "precision"
HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}
"""OpenVINO's name of the type that what is not quantised is computed in."""

_KINDS = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "i8": "int8", "u8": "int8"}
_PLUMBING = frozenset({"Const", "Constant", "Input", "Output", "Parameter", "Result", "Reorder"})


class OpenvinoEngine:
    """Runs a model that `vh export --format openvino` wrote.

    Left alone, OpenVINO computes in bfloat16 wherever the CPU can, whatever the file holds. Here
    it computes in the precision that the file was exported, and judged, for.

    Args:
        path: the .xml file.
        threads: of one `run`, None for all cores.
        device: OpenVINO's name of it, e.g. "CPU" or "GPU".

    Attributes:
        precision: the file was exported for: "float32", "bfloat16", "float16" or "int8".

    Raises:
        UserError: openvino is not installed, there is no such file or device, or the file is
            none that `vh export` wrote.
    """

    def __init__(
        self, path: str | Path, *, threads: int | None = None, device: str = "CPU"
    ) -> None:
        self.path = Path(path)
        self.device = device
        require(self.path.is_file(), f"{path}: no such file")
        weights = self.path.with_suffix(".bin")
        require(weights.is_file(), f"{path}: its weights {weights.name} must lie beside it")
        self._package = openvino()
        self._core = self._package.Core()
        self._settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None and device == "CPU":
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._model = self._read()
        self.spec = ModelSpec.from_json(self._text("spec"), str(path))
        self.precision = self._text(PRECISION_KEY)
        require(self.precision in HINTS, f"{path}: {PRECISION_KEY}: unknown {self.precision!r}")
        self._settings["INFERENCE_PRECISION_HINT"] = HINTS[self.precision]
        self.batch, self.any_size = self._check_input()
        present = {name for output in self._model.outputs for name in output.get_names()}
        check_outputs(self.spec, present, self.path)
        self._own = threading.local()
        self._whole = self._compile(self._model)
        self._parts = Parts[Any](self.spec, self._whole)

    def run(self, images: Floats, heads: Sequence[str] | None = None) -> dict[str, Floats]:
        """Execute the network; see `vision_heads.runtime.engines.Engine.run`.

        A fixed batch is filled up with zeros.
        """
        names = output_names(self.spec, heads)
        compiled = self._parts.of(heads, self._cut_out)
        return in_batches(images, self.batch, lambda rows: self._run_one(compiled, rows, names))

    def executed_precision(self) -> tuple[dict[str, dict[str, int]], str]:
        """Return the layers by type and by the precision they are computed in, and by whom."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for layer in self._whole.get_runtime_model().get_ops():
            about = layer.get_rt_info()
            name, kind = (str(about[key].astype(str)) for key in ("layerType", "runtimePrecision"))
            if name not in _PLUMBING and kind in _KINDS:
                counts[name][_KINDS[kind]] += 1
        ordered = sorted(counts.items(), key=lambda item: -sum(item[1].values()))
        return {name: dict(row) for name, row in ordered}, f"OpenVINO ({self.device})"

    def _read(self) -> Any:
        try:
            return self._core.read_model(str(self.path))
        except RuntimeError as error:
            raise UserError(f"{self.path}: OpenVINO cannot read it: {_reason(error)}") from error

    def _compile(self, model: Any) -> Any:
        try:
            return self._core.compile_model(model, self.device, self._settings)
        except RuntimeError as error:
            raise UserError(
                f"{self.path}: OpenVINO cannot compile it for {self.device}: {_reason(error)}"
            ) from error

    def _cut_out(self, outputs: set[str]) -> Any:
        part = self._model.clone()
        for result in list(part.get_results()):
            if not outputs & result.input_value(0).get_names():
                part.remove_result(result)
        return self._compile(part)

    def _run_one(self, compiled: Any, images: Floats, names: Sequence[str]) -> dict[str, Floats]:
        request = self._request(compiled)
        request.infer({0: np.ascontiguousarray(filled(images, self.batch))})
        # The request's memory is written again by the next run.
        count = len(images)
        return {name: request.get_tensor(name).data[:count].copy() for name in names}

    def _request(self, compiled: Any) -> Any:
        """Return this thread's own request: one must not be run by two threads at once."""
        mine: OrderedDict[int, tuple[Any, Any]] | None = getattr(self._own, "requests", None)
        if mine is None:
            mine = self._own.requests = OrderedDict()
        key = id(compiled)
        if key not in mine:
            mine[key] = (compiled, compiled.create_infer_request())
            if len(mine) > MAX_PARTS + 1:
                mine.popitem(last=False)
        return mine[key][1]

    def _text(self, key: str) -> str:
        path = [METADATA_KEY, key]
        if not self._model.has_rt_info(path):
            raise UserError(
                f"{self.path}: carries no model description; write it with "
                "vh export --format openvino"
            )
        return str(self._model.get_rt_info(path).astype(str))

    def _check_input(self) -> tuple[int | None, bool]:
        inputs = self._model.inputs
        require(len(inputs) == 1, f"{self.path}: has {len(inputs)} inputs, not one")
        shape = inputs[0].get_partial_shape()
        size = (3, self.spec.input.height, self.spec.input.width)
        good = len(shape) == 4 and all(
            side.is_dynamic or side.get_length() == wanted
            for side, wanted in zip(list(shape)[1:], size, strict=True)
        )
        require(
            good, f"{self.path}: input must be (batch, {', '.join(map(str, size))}), is {shape}"
        )
        batch = None if shape[0].is_dynamic else int(shape[0].get_length())
        return batch, all(side.is_dynamic for side in list(shape)[2:])


def _reason(error: Exception) -> str:
    """Return the last line of OpenVINO's message, which says what failed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "unknown reason"
