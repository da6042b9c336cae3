"""Milliseconds of a network and of each stage of its neck, by ONNX Runtime on the CPU.

What is timed are graphs as `vh export` writes them, with the weights a network starts with: the
numbers in it do not change its speed.
"""

from __future__ import annotations

import inspect
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vision_heads.export.graph import without_splits
from vision_heads.export.onnx import export_onnx
from vision_heads.network import Network, fuse
from vision_heads.runtime.engines import OnnxEngine
from vision_heads.runtime.waiting import wait_setting
from vision_heads.spec import ModelSpec

WARM, SECONDS, FEWEST, MOST = 3, 1.0, 10, 200
"""Runs before timing; how long to time; fewest and most runs."""


def time_model(spec: ModelSpec, threads: int | None = None) -> float:
    """Return the median milliseconds of a model for one picture of its input size.

    Args:
        spec: the model.
        threads: of ONNX Runtime; None for all cores.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export_onnx(Network(spec), file)
        # Stages are timed on the CPU, also where ONNX Runtime has something faster.
        engine = OnnxEngine(file, threads=threads, provider="cpu")
        images = _random(1, 3, spec.input.height, spec.input.width)
        return _median(lambda: engine.run(images))


def time_stages(spec: ModelSpec, threads: int | None = None) -> dict[str, float]:
    """Return the median milliseconds of one copy of each neck stage, each on its own.

    Args:
        spec: the model; its branches do not matter.
        threads: of ONNX Runtime; None for all cores.
    """
    network = Network(spec.model_copy(update={"branches": {}}))
    without_splits(fuse(network.requires_grad_(False)))
    images = torch.from_numpy(_random(1, 3, spec.input.height, spec.input.width))
    return {stage: _time_stage(network, stage, images, threads) for stage in network.spec.stages}


class _Flat(nn.Module):
    """A stage whose maps are arguments of their own, as exporters want them."""

    def __init__(self, stage: nn.Module, down: bool) -> None:
        super().__init__()
        self.stage, self.down = stage, down

    def forward(self, first: Tensor, *others: Tensor) -> Any:
        return self.stage(first, *others) if self.down else self.stage(first, list(others))


def _time_stage(network: Network, stage: str, images: Tensor, threads: int | None) -> float:
    import onnxruntime  # noqa: PLC0415

    module, down = network.neck.copy_of(stage, 0), stage.startswith("down")
    given: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        given.extend((inputs[0], inputs[1]) if down else (inputs[0], *inputs[1]))

    hook = module.register_forward_pre_hook(keep)
    with torch.inference_mode():
        network.features(images)
    hook.remove()
    names = [f"map{number}" for number in range(len(given))]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    # As `OnnxEngine` runs the whole, so that the parts add up.
    options.add_session_config_entry(*wait_setting(onnxruntime.__version__))
    graph = _traced(_Flat(module, down), [tensor.clone() for tensor in given], names)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    feed = {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)}
    return _median(lambda: session.run(None, feed))


def _traced(module: nn.Module, inputs: list[Tensor], names: list[str]) -> bytes:
    # torch before 2.5 knows no other exporter and not the word.
    named = "dynamo" in inspect.signature(torch.onnx.export).parameters
    tracing: dict[str, Any] = {"dynamo": False} if named else {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what tracing might not generalise to
        file = Path(folder) / "stage.onnx"
        torch.onnx.export(
            module.eval(), tuple(inputs), str(file), input_names=names, opset_version=17, **tracing
        )
        return file.read_bytes()


def _median(run: Callable[[], object]) -> float:
    for _ in range(WARM):
        run()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < FEWEST or (time.perf_counter() - begin < SECONDS and len(times) < MOST):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def _random(*shape: int) -> Any:
    return np.random.default_rng(0).random(shape, dtype=np.float32)
