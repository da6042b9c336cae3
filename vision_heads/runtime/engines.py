"""What executes a network. Core installs run ONNX files; all else is imported when asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError, missing_package, require
from vision_heads.paths import assets
from vision_heads.runtime import providers
from vision_heads.runtime.checks import is_whole
from vision_heads.runtime.outputs import (
    Parts,
    check_outputs,
    filled,
    in_batches,
    output_names,
)
from vision_heads.runtime.prune import keep_outputs
from vision_heads.runtime.waiting import wait_setting
from vision_heads.spec import METADATA_KEY, ModelSpec

SUFFIXES = (".onnx", ".safetensors", ".engine", ".xml")
"""Model files this version runs, in the order a bare name is looked for."""

MAX_THREADS = 1024
"""Most threads of one engine: with many more, starting them takes minutes, or fails."""

Floats = NDArray[np.float32]


class Engine(Protocol):
    """Executes one model file. `run` may be called from several threads at once.

    Attributes:
        spec: the model's description, as its file carries it.
        batch: pictures a call, when the file fixes it; None: any number.
        any_size: True when `run` accepts any height and width that are multiples of 32.
    """

    spec: ModelSpec
    batch: int | None
    any_size: bool

    def run(self, images: Floats, heads: Sequence[str] | None = None) -> dict[str, Floats]:
        """Execute the network, or as much of it as the wanted heads need.

        Args:
            images: float32 (B, 3, H, W), RGB / 255, letterboxed; any B.
            heads: names of the heads whose outputs are wanted, None for all.

        Returns:
            "<head>/boxes" (B, K, 4) xyxy in network pixels, "<head>/scores" (B, K, classes),
            and whatever else the head's kind exports.
        """
        ...


class OnnxEngine:
    """Runs an ONNX file by ONNX Runtime.

    ONNX Runtime computes its whole graph whatever is asked of it. So each set of heads that is
    wanted gets a graph of its own, cut out of the file the first time.

    Args:
        path: an ONNX file written by `vh export`.
        threads: threads of one `run`, None for all cores. Threads of ONNX Runtime spin for
            a moment only: pictures are decoded on the same cores meanwhile.
        provider: where to compute, one of `providers.NAMES`, and nowhere else; None: the first of
            them that works here.
        io_binding: hand inputs and outputs over by ONNX Runtime's IO binding.

    Attributes:
        provider: where it computes, e.g. "cpu".
        providers: ONNX Runtime's names of what its sessions may use, in order.
        notes: a line for each provider that was there and did not come up.

    Raises:
        UserError: no ONNX file, one that `vh export` did not write, one whose inputs or outputs
            contradict its spec, or the provider that was asked for does not work.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        provider: str | None = None,
        io_binding: bool = False,
    ) -> None:
        self.path = Path(path)
        self._threads = threads
        self._bind = io_binding
        require(self.path.is_file(), f"{path}: no such file")
        # Kept, for the file may be another one by the time a part of it is wanted.
        self._model = self.path.read_bytes()
        choice = providers.choose(provider, _available())
        opened = _open_session(self._model, self.path, threads, choice)
        self._session, self.provider, self.notes = opened.session, opened.name, opened.notes
        self.providers = tuple(self._session.get_providers())
        # Parts go where the whole went: heads of one model do not differ in where they run.
        self._choice = providers.Choice((self.provider,), requested=True)
        alone = providers.one_call_at_a_time(self.provider)
        self._turn: AbstractContextManager[Any] = threading.Lock() if alone else nullcontext()
        try:
            text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: is damaged: its metadata is no text ({error})") from error
        require(
            text,
            f"{path}: carries no model description ({METADATA_KEY!r} in its metadata); "
            "write it with vh export",
        )
        self.spec = ModelSpec.from_json(text, str(path))
        self._input, self.batch, self.any_size = self._check_input()
        check_outputs(self.spec, {out.name for out in self._session.get_outputs()}, self.path)
        self._parts = Parts[Any](self.spec, self._session)

    def run(self, images: Floats, heads: Sequence[str] | None = None) -> dict[str, Floats]:
        """Execute the network; see `Engine.run`. A fixed batch is filled up with zeros."""
        names = output_names(self.spec, heads)
        session = self._parts.of(heads, self._cut_out)
        return in_batches(images, self.batch, lambda rows: self._run_one(session, rows, names))

    def _cut_out(self, outputs: set[str]) -> Any:
        part = keep_outputs(self._model, outputs)
        return _open_session(part, self.path, self._threads, self._choice).session

    def _run_one(self, session: Any, images: Floats, names: list[str]) -> dict[str, Floats]:
        with self._turn:
            run = self._run_bound if self._bind else self._run_plain
            outputs = run(session, filled(images, self.batch), names)
        return {name: output[: len(images)] for name, output in zip(names, outputs, strict=True)}

    def _run_plain(self, session: Any, images: Floats, names: list[str]) -> list[Floats]:
        outputs: list[Floats] = session.run(names, {self._input: images})
        return outputs

    def _run_bound(self, session: Any, images: Floats, names: list[str]) -> list[Floats]:
        binding = session.io_binding()
        binding.bind_cpu_input(self._input, np.ascontiguousarray(images))
        for name in names:
            binding.bind_output(name, "cpu")
        session.run_with_iobinding(binding)
        outputs: list[Floats] = binding.copy_outputs_to_cpu()
        return outputs

    def _check_input(self) -> tuple[str, int | None, bool]:
        inputs = self._session.get_inputs()
        wanted = (3, self.spec.input.height, self.spec.input.width)
        shape: Sequence[Any] = inputs[0].shape if inputs else ()
        good = (
            len(inputs) == 1
            and inputs[0].type == "tensor(float)"
            and len(shape) == 4
            and all(
                not isinstance(a, int) or a == b for a, b in zip(shape[1:], wanted, strict=True)
            )
        )
        require(
            good,
            f"{self.path}: input must be one float32 tensor (batch, {wanted[0]}, {wanted[1]}, "
            f"{wanted[2]}), got {[(i.type, i.shape) for i in inputs]}",
        )
        batch = shape[0] if isinstance(shape[0], int) else None
        any_size = not any(isinstance(side, int) for side in shape[2:])
        return inputs[0].name, batch, any_size


def open_engine(
    path: str | Path,
    *,
    threads: int | None = None,
    provider: str | None = None,
    io_binding: bool = False,
) -> Engine:
    """Open a model file, or shipped weights by name.

    Args:
        path: a `.onnx`, `.safetensors`, `.engine` (TensorRT) or `.xml` (OpenVINO) file, or a name
            such as "aerial-n".
        threads: CPU threads of one `run`, at most `MAX_THREADS`; None for all cores.
        provider: where ONNX Runtime computes, one of `providers.NAMES`, and an error if it cannot;
            None: the first that works.
        io_binding: use ONNX Runtime's IO binding.

    Raises:
        UserError: missing or unsuitable file, or what it needs is not installed or not there.
    """
    require(
        threads is None or (is_whole(threads) and 1 <= threads <= MAX_THREADS),
        f"threads must be a whole number of 1 to {MAX_THREADS}, got {threads!r}",
    )
    file = resolve_weights(path)
    if file.suffix == ".onnx":
        return OnnxEngine(file, threads=threads, provider=provider, io_binding=io_binding)
    only = _ONLY_PROVIDER.get(file.suffix)
    require(
        provider in (None, only),
        f"--provider {provider}: {file} runs by {only or 'torch'}; providers are for .onnx files",
    )
    if file.suffix == ".engine":
        from vision_heads.runtime.tensorrt_engine import TensorRTEngine  # noqa: PLC0415

        return TensorRTEngine(file)
    if file.suffix == ".xml":
        from vision_heads.runtime.openvino_engine import OpenvinoEngine  # noqa: PLC0415

        return OpenvinoEngine(file, threads=threads)
    try:
        module = import_module("vision_heads.torch_engine")
    except ImportError as error:
        needs = f"{file}: needs {missing_package(error)}"
        raise UserError(
            f'{needs}: pip install "vision-heads[train]", or use a .onnx file'
        ) from error
    engine: Engine = module.TorchEngine(file, threads=threads)
    return engine


_ONLY_PROVIDER = {".engine": "tensorrt", ".xml": "openvino"}
"""What runs files that are not ONNX Runtime's."""


def provider_of(engine: Engine) -> str:
    """Return what an engine computes by: a provider's name, or "torch"."""
    path = getattr(engine, "path", None)
    usual = "torch" if path is None else _ONLY_PROVIDER.get(Path(path).suffix, "torch")
    return str(getattr(engine, "provider", usual))


def describe_run(engine: Engine, *, always: bool = False) -> list[str]:
    """Return lines that say where an engine computes, if that is not what one would expect.

    Args:
        engine: any.
        always: say it also where it is the CPU and nothing better was there.
    """
    name, notes = provider_of(engine), tuple(getattr(engine, "notes", ()))
    if notes or always or name not in ("cpu", "torch", *_ONLY_PROVIDER.values()):
        return [*notes, f"running by {name}"]
    return []


def shares_cores(file: Path, provider: str | None) -> bool:
    """Whether several calls of a model file at once get more done than one: on a CPU, a core each.

    Args:
        file: a model file.
        provider: that was asked for, None for the first that works.

    Raises:
        UserError: the provider is unknown or not installed.
    """
    if file.suffix != ".onnx":
        return False
    return providers.choose(provider, _available()).names[0] == "cpu"


def resolve_weights(path: str | Path) -> Path:
    """Return the model file that a path or a shipped name means.

    Raises:
        UserError: it is neither; the message lists what there is.
    """
    require(str(path), "weights: the name is empty")
    file = Path(path)
    try:
        is_folder = file.is_dir()
    except OSError as error:  # a closed folder above it, or a name longer than any file's
        raise UserError(f"{path}: {error.strerror}") from error
    if file.suffix in SUFFIXES and file.is_file():
        return file
    require(not is_folder, f"{path}: is a folder; name a file in it ({', '.join(SUFFIXES)})")
    shipped = assets("weights")
    if str(path) == file.name:  # a bare name, with or without suffix
        suffixes = ("",) if file.suffix in SUFFIXES else SUFFIXES
        for suffix in suffixes:
            candidate = shipped / f"{path}{suffix}"
            if candidate.is_file():
                return candidate
    if file.suffix in SUFFIXES:
        raise UserError(f"{path}: no such file")
    if file.exists():
        raise UserError(
            f"{path}: cannot run {file.suffix or 'a file without suffix'}; "
            f"this version runs {', '.join(SUFFIXES)}"
        )
    names = sorted({found.stem for found in shipped.glob("*") if found.suffix in SUFFIXES})
    raise UserError(
        f"{path}: neither a file ({', '.join(SUFFIXES)}) nor shipped weights "
        f"({', '.join(names) or 'none are installed'})"
    )


def safetensors_of(model: str) -> Path:
    """Return the `.safetensors` file that a path or a shipped name means.

    Raises:
        UserError: there is none, or it is of another kind.
    """
    named = Path(model).suffix == "" and not Path(model).exists()
    file = resolve_weights(f"{model}.safetensors" if named else model)
    if file.suffix != ".safetensors":
        raise UserError(f"{file}: needs the weights it was made from (.safetensors)")
    return file


def _available() -> list[str]:
    import onnxruntime  # noqa: PLC0415  (half of the start-up time of a command that runs none)

    found: list[str] = onnxruntime.get_available_providers()
    return found


def _open_session(
    model: bytes, path: Path, threads: int | None, choice: providers.Choice
) -> providers.Opened:
    import onnxruntime  # noqa: PLC0415

    def make(names: Sequence[Any]) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = threads or 0
        options.add_session_config_entry(*wait_setting(onnxruntime.__version__))
        for name, value in providers.session_settings(names).items():
            setattr(options, name, value)
        return onnxruntime.InferenceSession(model, options, providers=list(names))

    try:
        return providers.open_session(choice, make)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # ONNX Runtime's own exceptions share no other base class
        reason = str(error).strip().splitlines() or ["unknown reason"]
        raise UserError(f"{path}: ONNX Runtime cannot open it: {reason[0]}") from error
