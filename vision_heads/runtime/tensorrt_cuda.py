"""The little of CUDA that running an engine needs: memory, copies, a stream, a recorded graph.

Everything that is taken from CUDA is given back when its owner is collected.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vision_heads.runtime.tensorrt_modules import CudaError, call


class Stream:
    """A queue of work on the GPU.

    Args:
        cuda: cuda-python's runtime module.
    """

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self.handle = call(cuda, "cudaStreamCreateWithFlags", cuda.cudaStreamNonBlocking)
        self._end = weakref.finalize(self, _release, cuda, "cudaStreamDestroy", self.handle)

    def wait(self) -> None:
        """Return when everything queued so far is done; `CudaError` if any of it failed."""
        call(self._cuda, "cudaStreamSynchronize", self.handle)

    def record(self, work: Callable[[], None]) -> Graph | None:
        """Record what `work` queues, without running it; None if it cannot be recorded.

        What depends on numbers that only the GPU knows (the count of boxes that NMS leaves, say)
        makes TensorRT wait in between, and a recording cannot.
        """
        cuda = self._cuda
        # Other threads may allocate meanwhile; only this thread must not.
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call(cuda, "cudaStreamBeginCapture", self.handle, mode)
        failed = False
        try:
            work()
        except (CudaError, RuntimeError):
            failed = True
        try:
            graph = call(cuda, "cudaStreamEndCapture", self.handle)
        except CudaError:
            return None
        if failed:
            _release(cuda, "cudaGraphDestroy", graph)
            return None
        return Graph(cuda, graph)


class Graph:
    """Recorded work that is queued again as one call.

    Args:
        cuda: cuda-python's runtime module.
        graph: what a stream recorded; belongs to this object from now on.
    """

    def __init__(self, cuda: Any, graph: Any) -> None:
        self._cuda = cuda
        try:
            self._ready = call(cuda, "cudaGraphInstantiate", graph, 0)
        finally:
            _release(cuda, "cudaGraphDestroy", graph)
        self._end = weakref.finalize(self, _release, cuda, "cudaGraphExecDestroy", self._ready)

    def launch(self, stream: Stream) -> None:
        """Queue the work."""
        call(self._cuda, "cudaGraphLaunch", self._ready, stream.handle)


class Buffer:
    """Memory of one tensor, on the GPU and, pinned, on the host: copies between them are direct.

    Args:
        cuda: cuda-python's runtime module.
        count: numbers it holds.
        dtype: of the numbers.

    Attributes:
        device: address on the GPU.
        host: array (count,), in pinned memory that is freed with this object: keep no view.
    """

    def __init__(self, cuda: Any, count: int, dtype: DTypeLike) -> None:
        self._cuda = cuda
        kind: np.dtype[Any] = np.dtype(dtype)
        size = max(count * kind.itemsize, 1)
        self.device = int(call(cuda, "cudaMalloc", size))
        self._free_device = weakref.finalize(self, _release, cuda, "cudaFree", self.device)
        address = int(call(cuda, "cudaHostAlloc", size, cuda.cudaHostAllocDefault))
        self._free_host = weakref.finalize(self, _release, cuda, "cudaFreeHost", address)
        self._address = address
        raw = (ctypes.c_byte * size).from_address(address)
        self.host: NDArray[Any] = np.frombuffer(memoryview(raw), kind, count)

    def upload(self, count: int, stream: Stream) -> None:
        """Queue the copy of the first `count` numbers to the GPU."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(self.device, self._address, count, kind, stream)

    def download(self, count: int, stream: Stream) -> None:
        """Queue the copy of the first `count` numbers from the GPU."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(self._address, self.device, count, kind, stream)

    def _copy(self, to: int, source: int, count: int, kind: Any, stream: Stream) -> None:
        size = count * self.host.itemsize
        call(self._cuda, "cudaMemcpyAsync", to, source, size, kind, stream.handle)


def _release(cuda: Any, function: str, handle: Any) -> None:
    """Give something back; at exit the driver may be gone already, and everything with it."""
    getattr(cuda, function)(handle)
