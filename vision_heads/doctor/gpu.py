"""NVIDIA's GPU, and whether driver, CUDA, cuDNN, TensorRT and ONNX Runtime fit each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from vision_heads.doctor import stack
from vision_heads.doctor.facts import DRIVERS, gpu_wheel, jetpack_of
from vision_heads.doctor.lines import Line, broken, joined, ok, warning
from vision_heads.doctor.system import ProbeError, System
from vision_heads.doctor.versions import Version, parse, requirement, show

ACCELERATED = {
    "TensorrtExecutionProvider": "TensorRT",
    "CUDAExecutionProvider": "CUDA",
    "OpenVINOExecutionProvider": "OpenVINO",
    "CoreMLExecutionProvider": "CoreML",
    "DmlExecutionProvider": "DirectML",
    "MIGraphXExecutionProvider": "MIGraphX",
}
"""Execution providers this package knows, and what they are called."""

OLDEST_TENSORRT = (8, 6)
"""As `runtime/tensorrt_modules.py` demands."""

GPU_WHEEL = "onnxruntime-gpu"
LITTLE_GPU_MEMORY = 1024
"""MiB below which CUDA's own libraries leave little for a network."""


def gpu(system: System) -> Iterator[Line]:
    """Name the GPU and its driver."""
    if stack.l4t(system):
        return  # the Jetson's own check tells
    try:
        found = stack.gpus(system)
    except ProbeError as error:
        yield broken("gpu", f"nvidia-smi: {error}", "sudo reboot; else install the driver again")
        return
    if not found:
        yield _without_driver(system)
        return
    listed = joined(f"{one.name}, {_memory(one)}, driver {show(one.driver)}" for one in found)
    tight = [one for one in found if one.free is not None and one.free < LITTLE_GPU_MEMORY]
    if tight:
        yield warning("gpu", f"{listed}: its memory is nearly full", "nvidia-smi shows who has it")
    else:
        yield ok("gpu", listed)


def libraries(system: System) -> Iterator[Line]:
    """List CUDA, cuDNN and TensorRT where there is a GPU for them."""
    if not _has_gpu(system):
        return
    for name, found in (("cuda", stack.cuda(system)), ("cudnn", stack.cudnn(system))):
        listed = joined(f"{show(version)} ({where})" for where, version in found.items())
        yield ok(name, listed or "none by itself; ONNX Runtime or torch may bring its own")
    found = stack.tensorrt(system)
    if not found:
        yield ok("tensorrt", "not installed; only .engine files need it")
        return
    yield _tensorrt(system, found)


def providers(system: System) -> Iterator[Line]:
    """Tell ONNX Runtime's execution providers, and run a small network on each."""
    try:
        answer = system.probe("providers", limit=120.0)
    except ProbeError as error:
        yield broken(
            "onnx runtime", str(error), "python -m pip install --force-reinstall onnxruntime"
        )
        return
    names = joined(ACCELERATED.get(name, name) for name in answer["available"])
    yield _processor(answer, names)
    for name, run in answer["runs"].items():
        if name in ACCELERATED:
            yield _provider(system, answer, name, run)
    if "CUDAExecutionProvider" not in answer["available"] and _has_gpu(system):
        yield warning(
            "onnx runtime on the gpu",
            "this ONNX Runtime is built without CUDA: the GPU stays idle",
            _gpu_install(system),
        )


def _processor(answer: dict[str, Any], names: str) -> Line:
    run = answer["runs"].get("CPUExecutionProvider", {"ran": False, "reason": "not offered"})
    found = f"ONNX Runtime {answer['version']}, with {names}"
    if run["ran"]:
        return ok("onnx runtime", found)
    return broken(
        "onnx runtime",
        f"{found}; does not run on the processor: {run['reason']}",
        "python -m pip install --force-reinstall onnxruntime",
    )


def _provider(system: System, answer: dict[str, Any], name: str, run: dict[str, Any]) -> Line:
    check = f"onnx runtime on {ACCELERATED[name]}"
    if run["ran"]:
        return ok(check, f"ran a small network, opened in {run['seconds']:.1f} s")
    if name == "TensorrtExecutionProvider" and not stack.tensorrt(system):
        # Every onnxruntime-gpu offers it, whether or not there is a TensorRT.
        return ok(check, "offered, but TensorRT is not installed; CUDA does without it")
    if name in ("CUDAExecutionProvider", "TensorrtExecutionProvider"):
        if not _has_gpu(system):
            return warning(
                check,
                "this ONNX Runtime is made for a GPU, and none is seen; the processor is used",
                f"python -m pip uninstall -y {GPU_WHEEL} && python -m pip install onnxruntime",
            )
        reason, mend = _misfit(system, answer)
        return broken(check, f"{reason}; ONNX Runtime says: {run['reason']}", mend)
    return warning(
        check, f"offered but does not run: {run['reason']}", "use --provider cpu meanwhile"
    )


def _misfit(system: System, answer: dict[str, Any]) -> tuple[str, str]:
    """Say why CUDA does not run, as far as versions tell, and what to do."""
    need, need_cudnn = _needs(system, answer)
    if stack.l4t(system):
        return "does not run on this Jetson", _gpu_install(system)
    if need is None:
        return "does not run", _gpu_install(system)
    drivers = [one.driver for one in _quiet_gpus(system)]
    oldest = DRIVERS.get(need, ())
    if drivers and min(drivers) < oldest and system.host.system == "Linux":
        return (
            f"it needs CUDA {need} and so driver {show(oldest)} or newer, not {show(min(drivers))}",
            f"install NVIDIA's driver {oldest[0]} or newer, or: {_older(min(drivers))}",
        )
    if need not in stack.majors(stack.cuda(system)):
        return f"it needs CUDA {need}, which is not here", _with_libraries(answer)
    if need_cudnn and need_cudnn not in stack.majors(stack.cudnn(system)):
        return f"it needs cuDNN {need_cudnn}, which is not here", _with_libraries(answer)
    return f"CUDA {need} and cuDNN {need_cudnn} are here, but do not work", _with_libraries(answer)


def _needs(system: System, answer: dict[str, Any]) -> tuple[int | None, int]:
    """Return the majors of CUDA and cuDNN that this ONNX Runtime is built for."""
    table = gpu_wheel(parse(answer["version"]))
    cudnn = table.cudnn if table else 0
    stated = parse(answer.get("cuda") or "")
    if stated:
        return stated[0], cudnn
    wheel = system.packages().get(GPU_WHEEL)
    for text in wheel.requires if wheel else ():
        entry = requirement(text)
        if entry and entry.name.startswith("nvidia-cuda-runtime"):
            number = re.search(r"(?:~=|>=|==)\s*(\d+)", entry.limits)
            if number:
                return int(number[1]), cudnn
    return (table.cuda if table else None), cudnn


def _older(driver: Version) -> str:
    """Return how to install an ONNX Runtime whose CUDA an older driver runs."""
    known = {major for major, oldest in DRIVERS.items() if driver >= oldest}
    limit = {12: '"onnxruntime-gpu[cuda,cudnn]>=1.21,<1.27"', 11: '"onnxruntime-gpu<1.19"'}
    best = next((limit[major] for major in (12, 11) if major in known), "")
    return f"python -m pip install {best}" if best else "use the processor: --provider cpu"


def _with_libraries(answer: dict[str, Any]) -> str:
    return f'python -m pip install "{GPU_WHEEL}[cuda,cudnn]=={answer["version"]}"'


def _gpu_install(system: System) -> str:
    """Return how to get an ONNX Runtime with CUDA on this machine."""
    release = jetpack_of(stack.l4t(system)) if stack.l4t(system) else None
    remove = "python -m pip uninstall -y onnxruntime onnxruntime-gpu && "
    if release is not None and release.wheels:
        return f"{remove}python -m pip install {GPU_WHEEL} --index-url {release.wheels}"
    if stack.l4t(system):
        return "install JetPack 6.1 or newer, for which there are builds of onnxruntime-gpu"
    drivers = [one.driver for one in _quiet_gpus(system)]
    if drivers and min(drivers) < DRIVERS[13]:
        return remove + _older(min(drivers))
    return f'{remove}python -m pip install "{GPU_WHEEL}[cuda,cudnn]"'


def _tensorrt(system: System, found: dict[str, Version]) -> Line:
    listed = joined(f"{show(version)} ({where})" for where, version in found.items())
    try:
        version = system.probe("imported", "tensorrt")["version"]
    except ProbeError as error:
        mend = "python -m pip install --force-reinstall tensorrt"
        if stack.l4t(system):
            mend = (
                "sudo apt install python3-libnvinfer, and make the virtual environment with "
                "--system-site-packages"
            )
        return broken("tensorrt", f"{listed}; Python cannot import it: {error}", mend)
    if parse(version) and parse(version) < OLDEST_TENSORRT:
        return broken(
            "tensorrt",
            f"{version} is older than {show(OLDEST_TENSORRT)}, from which .engine files run",
            "install JetPack 6 or newer"
            if stack.l4t(system)
            else "python -m pip install --upgrade tensorrt",
        )
    if not {"cuda-python", "cuda-bindings"} & set(system.packages()):
        return warning(
            "tensorrt",
            f"{listed}; .engine files need cuda-python too",
            f"python -m pip install {_cuda_python(system)}",
        )
    return ok("tensorrt", f"{listed}; Python imports {version}")


def _cuda_python(system: System) -> str:
    known = stack.majors(stack.cuda(system))
    return f'"cuda-python=={max(known)}.*"' if known else "cuda-python"


def _without_driver(system: System) -> Line:
    """Tell a machine without an NVIDIA GPU from one whose driver is missing."""
    if system.read("/proc/driver/nvidia/version") or system.glob("/dev/nvidia[0-9]*"):
        return broken(
            "gpu",
            "an NVIDIA driver is loaded, but there is no nvidia-smi",
            "in a container, start it with --gpus all; else install nvidia-utils",
        )
    for device in system.glob("/sys/bus/pci/devices/*/vendor"):
        kind = system.read(device.replace("/vendor", "/class")) or ""
        if (system.read(device) or "").strip() == "0x10de" and kind.startswith("0x03"):
            return warning(
                "gpu", "an NVIDIA GPU without a driver", "sudo ubuntu-drivers install, and reboot"
            )
    return ok("gpu", "no NVIDIA GPU; networks run on the processor")


def _has_gpu(system: System) -> bool:
    return bool(stack.l4t(system)) or bool(_quiet_gpus(system))


def _quiet_gpus(system: System) -> list[stack.Gpu]:
    try:
        return stack.gpus(system)
    except ProbeError:
        return []


def _memory(one: stack.Gpu) -> str:
    if one.total is None:
        return "shared memory"
    return f"{one.total} MiB" if one.free is None else f"{one.free} of {one.total} MiB free"
