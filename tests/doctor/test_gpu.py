"""Driver, CUDA, cuDNN, TensorRT, ONNX Runtime: which do not fit, and what mends it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.doctor.fake import FakeSystem, by_check, orin
from vision_heads.doctor import gpu, stack
from vision_heads.doctor.system import Package, ProbeError, Ran

SMI = "nvidia-smi --query-gpu"
H200 = "NVIDIA H200, 580.159.03, 143771, 143000\n"
OLD = "NVIDIA GeForce RTX 3060, 535.183.01, 12288, 11000\n"
LDCONFIG = """\t3 libs found in cache `/etc/ld.so.cache'
\tlibcudart.so.12 (libc6,x86-64) => /usr/local/cuda/lib64/libcudart.so.12
\tlibcudnn.so.9 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcudnn.so.9
\tlibcudnn_ops.so.9 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcudnn_ops.so.9
"""
CPU = {"ran": True, "reason": "", "seconds": 0.0}
FAILED = {"ran": False, "reason": "its library does not load", "seconds": 0.0}


def answer(version: str = "1.31.1", cuda: Any = None, **runs: Any) -> dict[str, Any]:
    runs = {"CPUExecutionProvider": CPU} | runs
    return {"version": version, "available": list(runs), "cuda": cuda, "runs": runs}


def machine(smi: str = H200, probe: Any = None, **more: Any) -> FakeSystem:
    commands = {SMI: smi} if smi else {}
    probes = {"providers": probe or answer(CUDAExecutionProvider=FAILED)}
    return FakeSystem(
        commands=commands | more.pop("commands", {}), probes=probes | more.pop("probes", {}), **more
    )


def cuda_line(system: FakeSystem):
    return by_check(gpu.providers(system))["onnx runtime on CUDA"]


def test_gpus_as_nvidia_smi_lists_them():
    (one,) = stack.gpus(machine())
    assert (one.name, one.driver, one.total) == ("NVIDIA H200", (580, 159, 3), 143771)
    (thor,) = stack.gpus(machine("NVIDIA Thor, 580.00, [N/A], [N/A]\n"))
    assert thor.total is None
    assert by_check(gpu.gpu(machine()))["gpu"].status == "ok"


def test_a_gpu_without_memory_left_is_a_warning():
    assert by_check(gpu.gpu(machine("NVIDIA A2, 550.1, 15000, 300\n")))["gpu"].status == "warning"


def test_a_broken_driver_is_broken_with_its_words():
    said = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n"
    line = by_check(gpu.gpu(FakeSystem(commands={SMI: Ran(9, said)})))["gpu"]
    assert line.status == "broken" and "couldn't communicate" in line.found
    slow = FakeSystem(commands={SMI: ProbeError("nvidia-smi did not answer within 20 s")})
    assert "did not answer" in by_check(gpu.gpu(slow))["gpu"].found


def test_no_gpu_is_no_fault():
    line = by_check(gpu.gpu(FakeSystem()))["gpu"]
    assert line.status == "ok" and "processor" in line.found
    assert list(gpu.libraries(FakeSystem())) == []


def test_a_gpu_without_a_driver_is_seen_on_the_bus():
    device = "/sys/bus/pci/devices/0000:01:00.0"
    files = {f"{device}/vendor": "0x10de\n", f"{device}/class": "0x030000\n"}
    assert by_check(gpu.gpu(FakeSystem(files=files)))["gpu"].status == "warning"
    files[f"{device}/class"] = "0x040300\n"  # its sound
    assert by_check(gpu.gpu(FakeSystem(files=files)))["gpu"].status == "ok"


def test_a_container_without_the_tools():
    files = {"/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 580.1"}
    line = by_check(gpu.gpu(FakeSystem(files=files)))["gpu"]
    assert line.status == "broken" and "--gpus all" in line.mend


def test_where_versions_are_found():
    system = FakeSystem(
        commands={
            "ldconfig -p": LDCONFIG,
            "nvcc --version": "Cuda compilation tools, release 12.8, V1",
        },
        installed={"nvidia-cuda-runtime-cu12": "12.8.90", "nvidia-cudnn-cu12": "9.10.2.21"},
    )
    assert stack.cuda(system) == {
        "nvcc": (12, 8),
        "pip's nvidia-cuda-runtime-cu12": (12, 8, 90),
        "libcudart.so.12": (12,),
    }
    assert stack.majors(stack.cudnn(system)) == {9}
    assert stack.tensorrt(system) == {}


def test_cuda_that_really_runs_is_ok_whatever_versions_say():
    good = {"ran": True, "reason": "", "seconds": 0.4}
    assert cuda_line(machine(probe=answer(CUDAExecutionProvider=good))).status == "ok"


def test_a_driver_too_old_for_the_wheel():
    line = cuda_line(machine(OLD))
    assert line.status == "broken" and "CUDA 13" in line.found and "535.183.1" in line.found
    assert "onnxruntime-gpu[cuda,cudnn]" in line.mend and "<1.27" in line.mend


def test_a_driver_too_old_for_any():
    line = cuda_line(machine("Tesla K80, 390.157, 11441, 11441\n"))
    assert line.status == "broken" and "--provider cpu" in line.mend


@pytest.mark.parametrize(
    ("version", "stated", "requires", "needs"),
    [
        ("1.31.1", None, (), "CUDA 13"),
        ("1.22.0", None, (), "CUDA 12"),
        ("1.31.1", "12.8", (), "CUDA 12"),
        ("1.31.1", None, ('nvidia-cuda-runtime-cu12~=12.0; extra == "cuda"',), "CUDA 12"),
    ],
)
def test_the_cuda_that_a_wheel_needs(version, stated, requires, needs):
    probe = answer(version, stated, CUDAExecutionProvider=FAILED)
    system = machine(probe=probe, installed={"onnxruntime-gpu": Package(version, requires)})
    line = cuda_line(system)
    assert line.status == "broken" and f"needs {needs}, which is not here" in line.found
    assert line.mend == f'python -m pip install "onnxruntime-gpu[cuda,cudnn]=={version}"'


def test_cudnn_that_is_missing():
    probe = answer("1.22.0", CUDAExecutionProvider=FAILED)
    commands = {"ldconfig -p": LDCONFIG.replace("libcudnn.so.9", "libcudnn.so.8")}
    line = cuda_line(machine(probe=probe, commands=commands))
    assert "needs cuDNN 9" in line.found


def test_an_idle_gpu_is_a_warning():
    line = by_check(gpu.providers(machine(probe=answer())))["onnx runtime on the gpu"]
    assert line.status == "warning" and "onnxruntime-gpu[cuda,cudnn]" in line.mend
    old = by_check(gpu.providers(machine(OLD, probe=answer())))["onnx runtime on the gpu"]
    assert "<1.27" in old.mend


def test_a_wheel_for_gpus_without_a_gpu_is_a_warning():
    line = cuda_line(machine(""))
    assert line.status == "warning" and line.mend.endswith("pip install onnxruntime")


def test_tensorrt_that_nobody_installed_is_no_fault():
    probe = answer(CUDAExecutionProvider=CPU, TensorrtExecutionProvider=FAILED)
    lines = by_check(gpu.providers(machine(probe=probe)))
    assert lines["onnx runtime on TensorRT"].status == "ok"
    system = machine(probe=probe, installed={"tensorrt": "10.3.0"})
    assert by_check(gpu.providers(system))["onnx runtime on TensorRT"].status == "broken"


def test_a_runtime_that_does_not_run_at_all():
    bad = answer()
    bad["runs"]["CPUExecutionProvider"] = {"ran": False, "reason": "illegal", "seconds": 0}
    assert by_check(gpu.providers(machine("", probe=bad)))["onnx runtime"].status == "broken"
    line = by_check(gpu.providers(FakeSystem(probes={"providers": ProbeError("no answer")})))
    assert line["onnx runtime"].status == "broken"


def test_another_provider_that_does_not_run_is_a_warning():
    probe = answer(OpenVINOExecutionProvider=FAILED)
    line = by_check(gpu.providers(machine("", probe=probe)))["onnx runtime on OpenVINO"]
    assert line.status == "warning" and "--provider cpu" in line.mend


def test_tensorrt_needs_cuda_python_too():
    good = {"imported tensorrt": {"version": "10.3.0", "seconds": 1.0}}
    system = orin(probes=good, installed={"tensorrt": "10.3.0"})
    line = by_check(gpu.libraries(system))["tensorrt"]
    assert line.status == "warning" and line.mend == 'python -m pip install "cuda-python==12.*"'
    system = orin(probes=good, installed={"tensorrt": "10.3.0", "cuda-python": "12.6.2"})
    assert by_check(gpu.libraries(system))["tensorrt"].status == "ok"


def test_a_tensorrt_that_is_too_old():
    probes = {"imported tensorrt": {"version": "8.5.2.2", "seconds": 1.0}}
    system = machine(installed={"tensorrt": "8.5.2.2", "cuda-python": "12.1"}, probes=probes)
    line = by_check(gpu.libraries(system))["tensorrt"]
    assert line.status == "broken" and "8.6" in line.found


def test_tensorrt_of_jetpack_that_python_does_not_see():
    line = by_check(gpu.libraries(orin()))["tensorrt"]
    assert line.status == "broken" and "--system-site-packages" in line.mend


def test_a_jetson_gets_its_own_wheels():
    system = orin(probes={"providers": answer()})
    line = by_check(gpu.providers(system))["onnx runtime on the gpu"]
    assert line.status == "warning" and "jp6/cu126" in line.mend
    assert list(gpu.gpu(system)) == []
