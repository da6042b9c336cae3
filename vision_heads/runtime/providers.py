"""Where ONNX Runtime computes: which of its execution providers, chosen in order and visibly.

ONNX Runtime itself falls back without a word a program could act on: where a library of CUDA is
missing it prints a line and runs on the CPU. So the choice is made here, one provider at a time,
and what became of it is asked of the session afterwards.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any

from vision_heads.errors import UserError, require


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider of ONNX Runtime.

    Attributes:
        name: as users write it.
        onnxruntime: as ONNX Runtime calls it.
        install: what brings it.
        packages: distributions whose versions matter to it.
    """

    name: str
    onnxruntime: str
    install: str
    packages: tuple[str, ...] = ()


PROVIDERS = (
    Provider(
        "tensorrt",
        "TensorrtExecutionProvider",
        "pip install onnxruntime-gpu tensorrt",
        ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    ),
    Provider("cuda", "CUDAExecutionProvider", "pip install onnxruntime-gpu[cuda,cudnn]"),
    Provider("migraphx", "MIGraphXExecutionProvider", "pip install onnxruntime-migraphx (ROCm)"),
    Provider(
        "openvino",
        "OpenVINOExecutionProvider",
        "pip install onnxruntime-openvino",
        ("openvino",),
    ),
    Provider("coreml", "CoreMLExecutionProvider", "pip install onnxruntime, on macOS"),
    Provider("directml", "DmlExecutionProvider", "pip install onnxruntime-directml, on Windows"),
    Provider("cpu", "CPUExecutionProvider", "pip install onnxruntime"),
)
"""In the order they are tried; one of them is always there, the last."""

NAMES = tuple(provider.name for provider in PROVIDERS)
_BY_NAME = {provider.name: provider for provider in PROVIDERS}
_DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-migraphx",
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What to try.

    Attributes:
        names: providers in the order to try them.
        requested: whether the user named one: then nothing else will do.
    """

    names: tuple[str, ...]
    requested: bool = False


@dataclass(frozen=True, slots=True)
class Availability:
    """A provider and whether it is there.

    Attributes:
        name: as users write it.
        onnxruntime: as ONNX Runtime calls it.
        present: whether the installed ONNX Runtime has it. That it works is known only when a
            session has been opened: a driver or a library may still be missing.
        versions: of the packages that matter to it, e.g. {"tensorrt": "10.3.0"}.
        install: what brings it.
    """

    name: str
    onnxruntime: str
    present: bool
    versions: Mapping[str, str]
    install: str


@dataclass(frozen=True, slots=True)
class Opened:
    """An open session.

    Attributes:
        session: of ONNX Runtime.
        name: of the provider it runs on.
        notes: a line for each provider that was tried before and would not do.
    """

    session: Any
    name: str
    notes: tuple[str, ...] = ()


def choose(requested: str | None, available: Sequence[str]) -> Choice:
    """Decide what to try.

    Args:
        requested: a name of `NAMES`, or None for the best that works.
        available: ONNX Runtime's names of what is installed (`get_available_providers()`).

    Raises:
        UserError: an unknown name, or one that this ONNX Runtime does not have.
    """
    if requested is None:
        there = [one.name for one in PROVIDERS if one.onnxruntime in available and _wanted(one)]
        return Choice(tuple(there) or ("cpu",))
    name = requested.lower()
    require(name in NAMES, f"--provider {requested}: must be one of {', '.join(NAMES)}")
    there = [one.name for one in PROVIDERS if one.onnxruntime in available]
    require(
        name in there,
        f"--provider {name}: this ONNX Runtime has {', '.join(there) or 'none'}; "
        f"{_BY_NAME[name].install}",
    )
    return Choice((name,), requested=True)


def open_session(
    choice: Choice,
    make: Callable[[Sequence[Any]], Any],
) -> Opened:
    """Open a session on the first provider of a choice that really takes it.

    Args:
        choice: what to try.
        make: opens a session, given ONNX Runtime's list of providers.

    Raises:
        UserError: the provider that was asked for did not come up.
        Exception: what `make` raises for the last provider there is.
    """
    notes: list[str] = []
    for place, name in enumerate(choice.names):
        last = place == len(choice.names) - 1
        session, reason = _attempt(name, make, last=last and not choice.requested)
        if session is not None:
            return Opened(session, name, tuple(notes))
        note = f"{name}: ONNX Runtime cannot use it here: {reason}"
        if choice.requested:
            raise UserError(f"--provider {note}")
        notes.append(note)
    raise AssertionError("the last provider is opened or raises")


def available() -> tuple[Availability, ...]:
    """Return every provider this package knows, in the order they are tried."""
    import onnxruntime  # noqa: PLC0415

    present = set(onnxruntime.get_available_providers())
    base = versions(_DISTRIBUTIONS)
    return tuple(
        Availability(
            one.name,
            one.onnxruntime,
            one.onnxruntime in present,
            base | versions(one.packages),
            one.install,
        )
        for one in PROVIDERS
    )


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of those of these distributions that are installed."""
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def session_settings(names: Sequence[str]) -> dict[str, Any]:
    """Return what providers, by ONNX Runtime's names, demand of a session's options."""
    # DirectML plans its memory itself (its documentation).
    return {"enable_mem_pattern": False} if "DmlExecutionProvider" in names else {}


def one_call_at_a_time(name: str) -> bool:
    """Whether a session of this provider must not run in two threads at once."""
    return name == "directml"


def _attempt(
    name: str, make: Callable[[Sequence[Any]], Any], *, last: bool
) -> tuple[Any | None, str]:
    """Return a session that runs on the provider, or None and why there is none."""
    wanted = _BY_NAME[name].onnxruntime
    if name == "cpu":
        return make([wanted]), ""
    said = io.StringIO()
    try:
        # ONNX Runtime's Python part prints its reasons before it tries again with the CPU.
        with contextlib.redirect_stdout(said):
            session = make([wanted, "CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no other base class
        if last:
            raise
        return None, _one_line(str(error))
    if wanted in session.get_providers():
        return session, ""
    return None, _one_line(said.getvalue()) or "it runs on the CPU instead (a library is missing)"


def _one_line(text: str) -> str:
    lines = [line.strip(" *") for line in text.splitlines()]
    return next((line for line in lines if line), "")


@lru_cache
def _wanted(provider: Provider) -> bool:
    """Whether to try a provider unasked.

    Every onnxruntime-gpu has a part for TensorRT, also where TensorRT is not installed: that is
    no failure to be reported at every start.
    """
    if provider.name != "tensorrt":
        return True
    return bool(ctypes.util.find_library("nvinfer") or versions(provider.packages))
