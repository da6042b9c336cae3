"""Where a run computes, and in which precision."""

from __future__ import annotations

import re

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

from vision_heads.errors import UserError


def make_accelerator(device: str, amp: str) -> Accelerator:
    """Set up accelerate for this process.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".
        amp: "auto", "off", "bf16" or "fp16".

    Raises:
        UserError: the device is not there, or cannot compute in that precision.
    """
    on_gpu = _wants_gpu(device)
    precision = {"off": "no", "auto": best_precision(on_gpu)}.get(amp, amp)
    if precision == "fp16" and not on_gpu:
        raise UserError("amp: fp16 needs a GPU; on a CPU use --amp bf16 or --amp off")
    if on_gpu and ":" in device:
        torch.cuda.set_device(device)
    # A process may run several trainings one after the other, each with its own precision.
    AcceleratorState._reset_state()
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(cpu=not on_gpu, mixed_precision=precision, kwargs_handlers=[unused])


def _wants_gpu(device: str) -> bool:
    if device == "auto":
        return torch.cuda.is_available()
    if device == "cpu":
        return False
    if not re.fullmatch(r"cuda(:[0-9]+)?", device):
        raise UserError(f"device: {device!r} is none of auto, cpu, cuda, cuda:N")
    if not torch.cuda.is_available():
        raise UserError(f"device: {device} asked for, but torch sees no GPU")
    there = torch.cuda.device_count()
    if ":" in device and int(device.partition(":")[2]) >= there:
        raise UserError(f"device: {device} asked for, but torch sees {there}, from cuda:0 on")
    return True


def best_precision(on_gpu: bool) -> str:
    """Return what `amp: auto` means on this machine: "bf16", "fp16" or "no"."""
    if on_gpu:
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if _cpu_is_faster_in_bf16() else "no"


def _cpu_is_faster_in_bf16() -> bool:
    """Whether bf16 pays on this CPU: emulated it is slower than FP32; Intel's needs AMX to pay.

    Virtual machines may hide AMX. torch before 2.10 does not tell the CPU's name.
    """

    def can(what: str) -> bool:
        return bool(getattr(torch.cpu, what, lambda: False)())

    if can("_is_amx_tile_supported"):
        return True
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return can("_is_avx512_bf16_supported") and "intel" not in str(known.get("cpu_name")).lower()
