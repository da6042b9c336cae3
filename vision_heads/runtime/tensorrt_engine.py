"""Runs TensorRT engines: tensorrt and cuda-python, no torch.

A call copies its pictures into pinned memory and queues upload, network and downloads as one
recorded CUDA graph. Each call that runs at the same time as others has an execution context,
a stream and memory of its own, which the next call takes over.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError, require
from vision_heads.runtime.outputs import check_outputs, in_batches, output_names
from vision_heads.runtime.tensorrt_cuda import Buffer, Graph, Stream
from vision_heads.runtime.tensorrt_file import check_machine, precisions, read_engine
from vision_heads.runtime.tensorrt_modules import (
    call,
    cuda_runtime,
    machine,
    make_logger,
    tensorrt,
)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Tensor:
    """An input or output: its name, most of its numbers for one picture, and their type."""

    name: str
    shape: tuple[int, ...]  # of one picture, without the batch
    dtype: np.dtype[Any]


class TensorRTEngine:
    """Runs a file that `vh export --format engine` wrote on this machine.

    TensorRT computes all of its graph, so asking for some heads only saves their copies' decoding.
    `run` may be called from several threads at once.

    Args:
        path: the `.engine` file.
        graphs: record CUDA graphs: one launch a call instead of one for every layer. Where the
            engine cannot be recorded it runs without.

    Attributes:
        facts: what the file says of itself.
        batch: pictures a call, when the engine fixes it; None: any number.
        provider: "tensorrt".

    Raises:
        UserError: no readable engine, one for another GPU or TensorRT, or TensorRT, cuda-python, a
            GPU or a driver is missing; the message says what to do.
    """

    any_size = False
    provider = "tensorrt"

    def __init__(self, path: str | Path, *, graphs: bool = True) -> None:
        self.path = Path(path)
        self.facts, plan = read_engine(path)
        self.spec = self.facts.spec
        self._trt, self._cuda = tensorrt(), cuda_runtime()
        self._log = make_logger(self._trt)
        check_machine(self.facts, machine(self._trt, self._cuda), path)
        self._engine = self._load(plan)
        self._input, self._tensors = self._check_tensors()
        least, _, self._most = self.facts.batch
        self.batch: int | None = self._most if least == self._most else None
        self._least = least
        self._graphs = graphs
        self._free: deque[_Lane] = deque()
        self._opening = threading.Lock()

    def run(self, images: Floats, heads: Sequence[str] | None = None) -> dict[str, Floats]:
        """Execute the network; see `Engine.run`. Larger batches than the engine's are divided."""
        names = output_names(self.spec, heads)
        return in_batches(images, self._most, lambda rows: self._run_one(rows, names))

    def executed_precision(self) -> tuple[dict[str, dict[str, int]], str]:
        """Return how many layers of each sort run in each precision, and who runs them."""
        who = f"TensorRT {self.facts.tensorrt} on {self.facts.gpu}"
        return precisions(self.facts.layers), who

    def _run_one(self, images: Floats, names: Sequence[str]) -> dict[str, Floats]:
        count = len(images)
        lane = self._take()
        found = lane.run(images, max(count, self._least), names)
        # A lane whose work failed is not used again: nobody knows what state it is in.
        self._free.append(lane)
        return {name: values[:count] for name, values in found.items()}

    def _take(self) -> _Lane:
        call(self._cuda, "cudaSetDevice", 0)  # a thread's choice, not the process's
        try:
            return self._free.pop()
        except IndexError:
            with self._opening:
                return _Lane(self)

    def _load(self, plan: bytes) -> Any:
        if hasattr(self._trt, "init_libnvinfer_plugins"):  # the lean runtime has none
            self._trt.init_libnvinfer_plugins(self._log, "")
        self._runtime = self._trt.Runtime(self._log)
        if self.facts.dla is not None:
            self._runtime.DLA_core = self.facts.dla
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise UserError(
                f"{self.path}: TensorRT cannot load it: {self._log.reason()}. Build it again: "
                f"{self.facts.rebuild}"
            )
        return engine

    def _check_tensors(self) -> tuple[_Tensor, dict[str, _Tensor]]:
        """Compare inputs and outputs with what the spec promises."""
        engine, trt = self._engine, self._trt
        inputs, outputs = [], {}
        for place in range(engine.num_io_tensors):
            name = engine.get_tensor_name(place)
            shape = tuple(engine.get_tensor_shape(name))[1:]
            tensor = _Tensor(name, shape, np.dtype(trt.nptype(engine.get_tensor_dtype(name))))
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                inputs.append(tensor)
            else:
                outputs[name] = tensor
        wanted = (3, self.spec.input.height, self.spec.input.width)
        require(
            [tensor.shape for tensor in inputs] == [wanted] and inputs[0].dtype.kind == "f",
            f"{self.path}: input must be one float tensor (batch, {', '.join(map(str, wanted))}), "
            f"got {[(tensor.dtype.name, tensor.shape) for tensor in inputs]}",
        )
        check_outputs(self.spec, outputs, self.path)
        open_ended = [name for name, tensor in outputs.items() if -1 in tensor.shape]
        require(not open_ended, f"{self.path}: outputs of open size cannot be run: {open_ended}")
        return inputs[0], outputs


class _Lane:
    """What one call needs for itself: an execution context, a stream, buffers, recordings."""

    def __init__(self, owner: TensorRTEngine) -> None:
        self._owner = owner
        cuda, most = owner._cuda, owner._most
        self._context = owner._engine.create_execution_context()
        if self._context is None:
            raise UserError(
                f"{owner.path}: not enough GPU memory for another execution context: "
                f"{owner._log.reason()}"
            )
        self._stream = Stream(cuda)
        self._input = owner._input
        self._buffers: dict[str, Buffer] = {}
        for tensor in (owner._input, *owner._tensors.values()):
            buffer = Buffer(cuda, most * math.prod(tensor.shape), tensor.dtype)
            self._buffers[tensor.name] = buffer
            self._context.set_tensor_address(tensor.name, buffer.device)
        self._size = 0  # pictures the context is set to
        self._graph: Graph | None = None
        self._seen = 0  # calls of this size so far

    def run(self, images: Floats, size: int, names: Sequence[str]) -> dict[str, Floats]:
        """Run `size` pictures, the given ones and zeros behind them."""
        self._resize(size)
        host = self._buffers[self._input.name].host
        rows = host[: size * math.prod(self._input.shape)].reshape(size, *self._input.shape)
        rows[: len(images)] = images
        rows[len(images) :] = 0
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._queue()
        self._stream.wait()
        self._seen += 1
        # TensorRT settles what depends on sizes in the first call, which cannot be recorded; and
        # a size that does not come again is not worth it.
        if self._owner._graphs and self._seen == 2:
            self._graph = self._stream.record(self._queue)
        return {name: self._result(name, size) for name in names}

    def _resize(self, size: int) -> None:
        if size == self._size:
            return
        self._graph, self._seen = None, 0
        if not self._context.set_input_shape(self._input.name, (size, *self._input.shape)):
            raise RuntimeError(f"TensorRT takes no batch of {size}: {self._owner._log.reason()}")
        self._size = size

    def _queue(self) -> None:
        """Queue upload, network and downloads."""
        size = self._size
        self._buffers[self._input.name].upload(size * math.prod(self._input.shape), self._stream)
        if not self._context.execute_async_v3(int(self._stream.handle)):
            raise RuntimeError(f"TensorRT could not run: {self._owner._log.reason()}")
        for tensor in self._owner._tensors.values():
            self._buffers[tensor.name].download(size * math.prod(tensor.shape), self._stream)

    def _result(self, name: str, size: int) -> Floats:
        """A copy: the next call overwrites the buffer."""
        tensor = self._owner._tensors[name]
        values = self._buffers[name].host[: size * math.prod(tensor.shape)]
        return values.reshape(size, *tensor.shape).astype(np.float32)
