"""The build itself: parse, configure, build, inspect, write.

Everything here up to `build_serialized_network` is run in tests, against a stand-in for TensorRT's
Python API (tests/export/tensorrt_double.py).
"""

from __future__ import annotations

import hashlib
import shlex
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vision_heads.errors import UserError, require
from vision_heads.export.inspect import read_onnx
from vision_heads.export.nodes import Graph, read_graph
from vision_heads.export.operators import unsupported
from vision_heads.export.tensorrt.calibrate import CalibrationCache, make_calibrator
from vision_heads.export.tensorrt.layers import engine_layers, layers_with_nodes, pin_decoding
from vision_heads.export.tensorrt.options import EngineOptions, EngineReport
from vision_heads.export.tensorrt.types import typed_source
from vision_heads.runtime.tensorrt_file import (
    EngineFacts,
    LayerPrecision,
    Machine,
    json_path,
    write_engine,
)
from vision_heads.runtime.tensorrt_modules import (
    cuda_runtime,
    machine,
    make_logger,
    require_gpu,
    tensorrt,
    version_of,
)
from vision_heads.spec import METADATA_KEY, ModelSpec

USUAL_BATCH = (1, 4, 8)
"""Least, best and most pictures a call where neither the file nor the user says."""


def check_ready() -> Machine:
    """Find out before any long work whether an engine can be built here.

    Raises:
        UserError: TensorRT, cuda-python, a GPU or a driver is missing; says what to do.
    """
    trt, cuda = tensorrt(), cuda_runtime()
    require_gpu(cuda)
    return machine(trt, cuda)


def build_engine(
    source: Path, target: Path, options: EngineOptions, log: Callable[[str], None]
) -> EngineReport:
    """Build a TensorRT engine for this machine, with the model's description in and beside it.

    Args:
        source: an ONNX file of `vh export`.
        target: the engine, ending in .engine; it appears only when it is complete.
        options: how to build it.
        log: told what is done and what TensorRT warns of, a line each.

    Raises:
        UserError: a file or an option is wrong, something is missing on this machine, or TensorRT
            cannot build it; the message gives its reason.
    """
    source, target = Path(source), Path(target)
    require(target.suffix == ".engine", f"{target}: the file's name must end in .engine")
    require(target.parent.is_dir(), f"{target.parent}: no such folder")
    metadata = read_onnx(source).metadata
    require(METADATA_KEY in metadata, f"{source}: carries no model description; use vh export")
    spec = ModelSpec.from_json(metadata[METADATA_KEY], str(source))
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=".engine-", dir=target.parent) as folder:
        build = _Build(source, target, Path(folder), spec, options, log)
        plan = build.plan()
        facts = write_engine(target, build.facts(plan), plan)
    calibrated = 0 if build.calibrator is None else build.calibrator.used
    report = EngineReport(
        target,
        json_path(target),
        facts,
        target.stat().st_size,
        time.perf_counter() - begin,
        build.kept_fp32,
        min(calibrated, len(options.pictures)),
    )
    log(str(report))
    return report


class _Build:
    """One build; a step a method."""

    def __init__(
        self,
        source: Path,
        target: Path,
        folder: Path,
        spec: ModelSpec,
        options: EngineOptions,
        log: Callable[[str], None],
    ) -> None:
        self.source, self.target, self.folder = source, target, folder
        self.spec, self.options, self.log = spec, options, log
        self.trt, self.cuda = tensorrt(), cuda_runtime()
        self.here = machine(self.trt, self.cuda)
        self.logger = make_logger(self.trt, lambda line: log(f"TensorRT: {line}"))
        self.kept_fp32 = 0
        self.calibrator: Any = None
        self.on_gpu: tuple[str, ...] = ()
        self.graph: Graph = read_graph(self.source)
        self.typed, self.typing = typed_source(
            self.trt, self.source, self.graph, folder, options, log
        )
        if self.typed != self.source:
            self.graph = read_graph(self.typed)
        self.batch = self._batch()

    def plan(self) -> bytes:
        """Build; return TensorRT's serialized engine."""
        trt, log = self.trt, self.log
        for problem in unsupported(self.typed, self.here.tensorrt):
            log(f"TensorRT {self.here.tensorrt} is not documented to take {problem}")
        if hasattr(trt, "init_libnvinfer_plugins"):
            trt.init_libnvinfer_plugins(self.logger, "")
        builder = trt.Builder(self.logger)
        network = builder.create_network(self._network_flags())
        self._parse(network)
        config = builder.create_builder_config()
        self._configure(builder, network, config)
        cache = self._open_timing_cache(config)
        log(
            f"building for {self.here.gpu} with TensorRT {self.here.tensorrt}, "
            f"{self.options.precision}, batch {'-'.join(map(str, self.batch))}: minutes"
        )
        plan = builder.build_serialized_network(network, config)
        if self.calibrator is not None and self.calibrator.failure is not None:
            raise UserError(f"int8: calibration stopped: {self.calibrator.failure}")
        if plan is None:
            raise UserError(f"{self.source}: TensorRT cannot build it: {self.logger.reason()}")
        if cache is not None:
            self._keep_timing_cache(config, cache)
        return bytes(plan)

    def facts(self, plan: bytes) -> EngineFacts:
        """Describe the engine; its layers are asked of TensorRT."""
        return EngineFacts(
            spec=self.spec,
            source=self.source.name,
            source_sha256=_sha256(self.source),
            precision=self.options.precision,
            strongly_typed=self.typing.strong,
            batch=self.batch,
            dla=self.options.dla,
            tensorrt=self.here.tensorrt,
            gpu=self.here.gpu,
            capability=self.here.capability,
            driver=self.here.driver,
            cuda=self.here.cuda,
            layers=self._layers(plan),
            on_gpu=self.on_gpu,
            rebuild=self.options.rebuild or self._command(),
        )

    def _batch(self) -> tuple[int, int, int]:
        """Least, best and most pictures a call."""
        shapes = [shape for _, shape in self.graph.inputs.values()]
        size = (3, self.spec.input.height, self.spec.input.width)
        require(
            len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1:] == size,
            f"{self.source}: its input must be one tensor (batch, {', '.join(map(str, size))}), "
            f"got {shapes}",
        )
        fixed, asked = shapes[0][0], self.options.batch
        if fixed > 0:
            require(
                asked in (None, (fixed, fixed, fixed)),
                f"{self.source}: is made for {fixed} pictures a call; export it with "
                f"--dynamic-batch to build {asked}",
            )
            return fixed, fixed, fixed
        batch = asked or USUAL_BATCH
        require(
            self.options.dla is None or batch[0] == batch[2],
            f"dla: needs one batch size, not {batch}",
        )
        return batch

    def _network_flags(self) -> int:
        version, flags = version_of(self.trt), self.trt.NetworkDefinitionCreationFlag
        if version < (10, 0):
            return 1 << int(flags.EXPLICIT_BATCH)
        # From 11 on every network is, and the flag is on its way out.
        return 1 << int(flags.STRONGLY_TYPED) if self.typing.strong and version < (11, 0) else 0

    def _parse(self, network: Any) -> None:
        parser = self.trt.OnnxParser(network, self.logger)
        if parser.parse(self.typed.read_bytes()):
            return
        errors = [parser.get_error(number).desc() for number in range(parser.num_errors)]
        reason = " ".join((errors or [self.logger.reason()])[0].split())
        raise UserError(f"{self.source}: TensorRT {self.here.tensorrt} cannot read it: {reason}")

    def _configure(self, builder: Any, network: Any, config: Any) -> None:
        trt, options = self.trt, self.options
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or layers tell no precision
        if options.workspace_mib is not None:
            pool = trt.MemoryPoolType.WORKSPACE
            config.set_memory_pool_limit(pool, options.workspace_mib << 20)
        if options.level is not None:
            config.builder_optimization_level = options.level
        profile = self._add_profile(builder, network, config)
        if not self.typing.strong:
            self._set_flags(builder, network, config, profile)
        if options.dla is not None:
            self._use_dla(builder, network, config)

    def _add_profile(self, builder: Any, network: Any, config: Any) -> Any:
        """Say for which batches to tune, where the file leaves them open."""
        tensor = network.get_input(0)
        if tensor.shape[0] != -1:
            return None
        size = (3, self.spec.input.height, self.spec.input.width)
        profile = builder.create_optimization_profile()
        profile.set_shape(tensor.name, *((count, *size) for count in self.batch))
        config.add_optimization_profile(profile)
        return profile

    def _set_flags(self, builder: Any, network: Any, config: Any, profile: Any) -> None:
        trt, precision = self.trt, self.options.precision
        if precision == "fp32":
            return
        if not builder.platform_has_fast_fp16:
            self.log(f"{self.here.gpu} has no fast FP16: it will not be quicker than FP32")
        config.set_flag(trt.BuilderFlag.FP16)
        # Not "prefer": that would narrow decoding where it is quicker, and say nothing.
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
        int8 = precision == "int8"
        self.kept_fp32 = pin_decoding(trt, network, self.graph, int8=int8)
        if not int8:
            return
        if not builder.platform_has_fast_int8:
            self.log(f"{self.here.gpu} has no fast INT8: it will not be quicker than FP32")
        config.set_flag(trt.BuilderFlag.INT8)
        if not self.typing.quantized:
            self._calibrate(config, profile)

    def _calibrate(self, config: Any, profile: Any) -> None:
        options = self.options
        cache = CalibrationCache(
            options.calibration_cache,
            _sha256(self.source),
            options.pictures,
            options.method,
            self.here.tensorrt,
            self.log,
        )
        self.calibrator = make_calibrator(
            self.trt,
            self.cuda,
            self.spec,
            options.pictures,
            self.batch[1],
            options.method,
            cache,
        )
        config.int8_calibrator = self.calibrator
        if profile is not None:
            config.set_calibration_profile(profile)

    def _use_dla(self, builder: Any, network: Any, config: Any) -> None:
        """Put on the accelerator what it can do; the rest goes to the GPU and is reported."""
        trt, core = self.trt, self.options.dla
        cores = builder.num_DLA_cores
        require(
            cores,
            f"dla: {self.here.gpu} has no DLA core that TensorRT {self.here.tensorrt} can use",
        )
        require(core < cores, f"dla {core}: there are cores 0 to {cores - 1}")
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = core
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
        left = []
        for layer, node in layers_with_nodes(network):
            if not config.can_run_on_DLA(layer):
                config.set_device_type(layer, trt.DeviceType.GPU)
                left.append(node or layer.name)
        self.on_gpu = tuple(dict.fromkeys(left))
        self.log(f"dla {core}: {len(self.on_gpu)} of {len(self.graph.nodes)} nodes run on the GPU")

    def _open_timing_cache(self, config: Any) -> Path | None:
        path = self.options.timing_cache
        if path is None:
            return None
        path = Path(path)
        require(path.parent.is_dir(), f"{path.parent}: no such folder")
        known = path.read_bytes() if path.is_file() else b""
        # One of another GPU or TensorRT is refused, and would be of no use.
        if not config.set_timing_cache(config.create_timing_cache(known), False):
            self.log(f"{path}: a timing cache of another GPU or TensorRT; begun anew")
            config.set_timing_cache(config.create_timing_cache(b""), False)
        return path

    def _keep_timing_cache(self, config: Any, path: Path) -> None:
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(bytes(config.get_timing_cache().serialize()))
        part.replace(path)

    def _layers(self, plan: bytes) -> tuple[LayerPrecision, ...]:
        trt = self.trt
        runtime = trt.Runtime(self.logger)
        if self.options.dla is not None:
            runtime.DLA_core = self.options.dla
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise UserError(f"TensorRT cannot load what it built: {self.logger.reason()}")
        inspector = engine.create_engine_inspector()
        context = None
        if self.batch[0] != self.batch[2]:
            # With an open batch, formats are known only of a context that is set to a size.
            context = engine.create_execution_context()
            name = network_input(trt, engine)
            size = (3, self.spec.input.height, self.spec.input.width)
            context.set_input_shape(name, (self.batch[1], *size))
            inspector.execution_context = context
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        return engine_layers(text, self.graph)

    def _command(self) -> str:
        options = self.options
        words = ["vh", "export", self.source.name, "--format", "engine"]
        words += ["--precision", options.precision, "--output", self.target.name]
        return shlex.join(words)


def network_input(trt: Any, engine: Any) -> str:
    """Return the name of an engine's input."""
    names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
    return next(str(n) for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
