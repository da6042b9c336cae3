"""Finds TensorRT, CUDA and a GPU, or says in one line which of them is missing and how to get it.

Nothing is imported before it is asked for: the core install has none of these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from importlib import import_module
from typing import Any

from vision_heads.errors import UserError, require
from vision_heads.runtime.tensorrt_file import Machine

INSTALL = (
    'pip install "vision-heads[tensorrt]" (on a Jetson: sudo apt install python3-libnvinfer, '
    "and pip install cuda-python)"
)
_CUDA_MODULES = ("cuda.bindings.runtime", "cuda.cudart")
"""Where cuda-python has the runtime API: since 12.6, and before."""


class CudaError(RuntimeError):
    """A CUDA call failed; the message names the call and CUDA's reason."""


def tensorrt() -> Any:
    """Return the tensorrt module.

    Raises:
        UserError: it is not installed, cannot be loaded, or is older than 8.6.
    """
    try:
        module = import_module("tensorrt")
    except ImportError as error:
        raise UserError(f"TensorRT engines need tensorrt ({error}): {INSTALL}") from error
    except OSError as error:  # its shared libraries
        raise UserError(f"TensorRT cannot be loaded ({error}): {INSTALL}") from error
    require(
        version_of(module) >= (8, 6),
        f"TensorRT {module.__version__} is too old; 8.6 or newer is needed",
    )
    return module


def version_of(module: Any) -> tuple[int, int]:
    """Return major and minor version of a tensorrt module."""
    major, minor = str(module.__version__).split(".")[:2]
    return int(major), int(minor)


def cuda_runtime() -> Any:
    """Return cuda-python's runtime module; `UserError` when it is not installed."""
    for name in _CUDA_MODULES:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise UserError(f"TensorRT engines need cuda-python: {INSTALL}")


def call(cuda: Any, function: str, *arguments: Any) -> Any:
    """Call a function of cuda-python and return what it gives: one value, several, or None.

    Raises:
        CudaError: CUDA says no.
    """
    status, *values = getattr(cuda, function)(*arguments)
    if status != cuda.cudaError_t.cudaSuccess:
        _, text = cuda.cudaGetErrorString(status)
        reason = text.decode() if isinstance(text, bytes) else text
        raise CudaError(f"{function}: {reason}")
    return (values[0] if len(values) == 1 else tuple(values)) if values else None


def require_gpu(cuda: Any) -> None:
    """Raise `UserError` unless a GPU and a driver that fits are there."""
    try:
        count = call(cuda, "cudaGetDeviceCount")
    except CudaError as error:
        raise UserError(
            f"no usable NVIDIA GPU or driver ({error}); nvidia-smi, or vh doctor, says more"
        ) from error
    require(count, "no NVIDIA GPU; nvidia-smi, or vh doctor, says more")


def machine(trt: Any, cuda: Any) -> Machine:
    """Return what an engine must fit here: TensorRT's version and the first GPU.

    Raises:
        UserError: no GPU or no driver.
    """
    require_gpu(cuda)
    properties = call(cuda, "cudaGetDeviceProperties", 0)
    name = properties.name
    return Machine(
        str(trt.__version__),
        (name.decode() if isinstance(name, bytes) else str(name)).strip("\0 "),
        f"{properties.major}.{properties.minor}",
        _release(call(cuda, "cudaDriverGetVersion")),
        _release(call(cuda, "cudaRuntimeGetVersion")),
    )


def _release(number: int) -> str:
    """12060 -> 12.6, as CUDA counts its versions."""
    return f"{number // 1000}.{number % 1000 // 10}"


def make_logger(trt: Any, report: Callable[[str], None] | None = None) -> Any:
    """Return a TensorRT logger that keeps errors, as `.errors`, and reports warnings.

    Args:
        trt: the tensorrt module, whose class it must extend.
        report: gets each warning; None drops them.
    """
    serious = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=20)

        def log(self, severity: Any, message: str) -> None:
            if severity in serious:
                self.errors.append(" ".join(message.split()))
            elif severity == trt.ILogger.WARNING and report is not None:
                report(" ".join(message.split()))

        def reason(self) -> str:
            """The first error since the last call: later ones follow from it."""
            first = self.errors[0] if self.errors else "it gives no reason"
            self.errors.clear()
            return first

    return Log()
