"""A stand-in for cuda-python: memory, streams and graphs; see tensorrt_double.py."""

from __future__ import annotations

import ctypes
import enum
import threading
from types import ModuleType, SimpleNamespace

import numpy as np

STATUS = enum.IntEnum(
    "cudaError_t",
    {
        "cudaSuccess": 0,
        "cudaErrorInvalidValue": 1,
        "cudaErrorMemoryAllocation": 2,
        "cudaErrorInsufficientDriver": 35,
        "cudaErrorNoDevice": 100,
        "cudaErrorStreamCaptureInvalidated": 901,
    },
)
_TEXTS = {
    1: b"invalid argument",
    2: b"out of memory",
    35: b"CUDA driver version is insufficient for CUDA runtime version",
    100: b"no CUDA-capable device is detected",
    901: b"operation failed due to a previous error during capture",
}


class Cuda(ModuleType):
    """cuda.bindings.runtime."""

    cudaError_t = STATUS  # noqa: N815
    cudaMemcpyKind = enum.IntEnum(  # noqa: N815
        "cudaMemcpyKind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2}
    )
    cudaStreamCaptureMode = enum.IntEnum(  # noqa: N815
        "cudaStreamCaptureMode", {"cudaStreamCaptureModeThreadLocal": 1}
    )
    cudaStreamNonBlocking = 1  # noqa: N815
    cudaHostAllocDefault = 0  # noqa: N815

    def __init__(self, *, name="Orin", capability=(8, 7), problem=None):
        super().__init__("cuda.bindings.runtime")
        self.name, self.capability, self.problem = name, capability, problem
        self.memory = {"device": {}, "host": {}}
        self.streams, self.next = {}, 1000
        self.most_bytes = 1 << 40
        self.counts = {"launched": 0, "executed": 0, "captured": 0}
        self.lock = threading.Lock()

    def cudaGetErrorString(self, status):  # noqa: N802
        return STATUS.cudaSuccess, _TEXTS[int(status)]

    def cudaGetDeviceCount(self):  # noqa: N802
        return (self.problem, None) if self.problem else (STATUS.cudaSuccess, 1)

    def cudaGetDeviceProperties(self, device):  # noqa: N802
        assert device == 0
        name = self.name.encode() + bytes(8)
        major, minor = self.capability
        return STATUS.cudaSuccess, SimpleNamespace(name=name, major=major, minor=minor)

    def cudaDriverGetVersion(self):  # noqa: N802
        return STATUS.cudaSuccess, 12060

    def cudaRuntimeGetVersion(self):  # noqa: N802
        return STATUS.cudaSuccess, 12060

    def cudaSetDevice(self, device):  # noqa: N802
        return (STATUS.cudaSuccess if device == 0 else STATUS.cudaErrorInvalidValue,)

    def cudaMalloc(self, size):  # noqa: N802
        return self._take("device", size)

    def cudaHostAlloc(self, size, flags):  # noqa: N802
        return self._take("host", size)

    def cudaFree(self, address):  # noqa: N802
        return self._give("device", address)

    def cudaFreeHost(self, address):  # noqa: N802
        return self._give("host", address)

    def cudaStreamCreateWithFlags(self, flags):  # noqa: N802
        with self.lock:
            self.next += 1
            stream = self.streams[self.next] = SimpleNamespace(
                queue=[], recording=None, broken=False
            )
            assert stream
            return STATUS.cudaSuccess, self.next

    def cudaStreamDestroy(self, handle):  # noqa: N802
        del self.streams[handle]
        return (STATUS.cudaSuccess,)

    def cudaMemcpyAsync(self, to, source, size, kind, handle):  # noqa: N802
        places = ("device", "host") if kind == 1 else ("host", "device")
        for place, address in zip(places, (to, source), strict=True):
            held = self.memory[place].get(address)
            if held is None or len(held) < size:
                return (STATUS.cudaErrorInvalidValue,)
        self.put(handle, lambda: ctypes.memmove(to, source, size))
        return (STATUS.cudaSuccess,)

    def cudaStreamSynchronize(self, handle):  # noqa: N802
        stream = self.streams[handle]
        if stream.recording is not None:
            stream.broken = True
            return (STATUS.cudaErrorStreamCaptureInvalidated,)
        for work in stream.queue:
            work()
        stream.queue.clear()
        return (STATUS.cudaSuccess,)

    def cudaStreamBeginCapture(self, handle, mode):  # noqa: N802
        self.streams[handle].recording = []
        return (STATUS.cudaSuccess,)

    def cudaStreamEndCapture(self, handle):  # noqa: N802
        stream = self.streams[handle]
        graph, stream.recording = stream.recording, None
        if stream.broken:
            stream.broken = False
            return STATUS.cudaErrorStreamCaptureInvalidated, None
        self.counts["captured"] += 1
        return STATUS.cudaSuccess, graph

    def cudaGraphInstantiate(self, graph, flags):  # noqa: N802
        assert flags == 0
        return STATUS.cudaSuccess, list(graph)

    def cudaGraphLaunch(self, graph, handle):  # noqa: N802
        self.counts["launched"] += 1
        self.streams[handle].queue += graph
        return (STATUS.cudaSuccess,)

    def cudaGraphDestroy(self, graph):  # noqa: N802
        graph.clear()
        return (STATUS.cudaSuccess,)

    cudaGraphExecDestroy = cudaGraphDestroy  # noqa: N815

    def put(self, handle, work):
        """Queue work on a stream, or record it."""
        stream = self.streams[handle]
        (stream.queue if stream.recording is None else stream.recording).append(work)

    def array(self, address, shape, dtype):
        """View device memory."""
        held = self.memory["device"][address]
        count = int(np.prod(shape))
        return np.frombuffer(held, dtype, count).reshape(shape)

    def _take(self, place, size):
        with self.lock:
            used = sum(map(len, self.memory["device"].values()))
            if place == "device" and used + size > self.most_bytes:
                return STATUS.cudaErrorMemoryAllocation, None
            held = (ctypes.c_byte * size)(*([85] * min(size, 64)))  # nobody may count on zeros
            address = ctypes.addressof(held)
            self.memory[place][address] = held
            return STATUS.cudaSuccess, address

    def _give(self, place, address):
        with self.lock:
            held = self.memory[place].pop(address, None)
        return (STATUS.cudaSuccess if held is not None else STATUS.cudaErrorInvalidValue,)
