"""The whole measurement: open the models, race them, and say what came of it."""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from vision_heads.benchmark import energy, memory
from vision_heads.benchmark.feeds import Feed, Source, demo_source
from vision_heads.benchmark.race import race
from vision_heads.benchmark.report import Entry, Report
from vision_heads.benchmark.spread import Ratio, Spread
from vision_heads.benchmark.stages import FOUND, STAGES, TOTAL, Contestant, Times, column
from vision_heads.benchmark.watch import Watch
from vision_heads.errors import require
from vision_heads.heads.base import DecodeOptions
from vision_heads.runtime.engines import Engine, open_engine, provider_of, resolve_weights
from vision_heads.runtime.inputs import Buffers
from vision_heads.runtime.request import make_request

FEWEST_RUNS = 10
"""Below that, the 5th and 95th percentiles are the extremes and a median is luck."""

Bar = Callable[[int, str], AbstractContextManager[Callable[[], None]]]
"""Shows progress: total and unit to a context that gives a function to call after each step."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure.

    Attributes:
        runs: rounds that count, at least `FEWEST_RUNS`.
        warm_up: rounds before them.
        batches: pictures a call; () for what each file fixes, else 1.
        threads: of the network, None for all cores.
        provider: of ONNX Runtime, as `--provider` takes it; None for the best there is.
        imgsz: height and width, where the file allows any.
        heads: names of the heads to run, None for all.
        conf: lowest score that counts; lower ones leave more to NMS.
        memory: whether to measure memory, in processes of their own.
    """

    runs: int = 50
    warm_up: int = 5
    batches: tuple[int, ...] = ()
    threads: int | None = None
    provider: str | None = None
    imgsz: tuple[int, int] | None = None
    heads: tuple[str, ...] | None = None
    conf: float = 0.25
    memory: bool = True

    def __post_init__(self) -> None:
        require(self.runs >= FEWEST_RUNS, f"runs must be at least {FEWEST_RUNS}, got {self.runs}")
        require(self.warm_up >= 0, f"warm_up must be at least 0, got {self.warm_up}")
        require(
            all(batch >= 1 for batch in self.batches),
            f"batches must be at least 1, got {self.batches}",
        )


def bench(
    models: Sequence[str | Path],
    source: Source | None,
    settings: Settings,
    bar: Bar | None = None,
) -> Report:
    """Time models on the same pictures, in turns.

    Args:
        models: files or shipped names; ratios are against the first.
        source: where pictures come from, see `feeds.find_source`; None for the demo pictures
            that suit the heads.
        settings: how to measure.
        bar: shows progress.

    Raises:
        UserError: a model that cannot be opened, or not with these settings; a picture that
            cannot be read.
    """
    require(models, "no model is given")
    files = [resolve_weights(model) for model in models]
    require(
        settings.provider is None or any(file.suffix == ".onnx" for file in files),
        f"--provider {settings.provider}: is for .onnx files, and none is given",
    )
    engines = [open_model(file, settings.threads, settings.provider) for file in files]
    source = _demo(engines, settings) if source is None else source
    names = unlike([file.name for file in files])
    contestants = _contestants(names, engines, source, settings)
    which = [names.index(one.name) for one in contestants]
    show = bar or (lambda total, unit: nullcontext(lambda: None))
    watch = Watch()
    watch.start()
    with show((settings.runs + settings.warm_up) * len(contestants), "runs") as step:
        times = race(
            [one.run for one in contestants],
            settings.runs,
            warm_up=settings.warm_up,
            step=step,
        )
    notes = watch.notes()
    powers = _energy(contestants)
    memories = _memory([files[index] for index in which], contestants, source, settings, show)
    entries = tuple(
        _entry(one, engines[index], files[index], own, _first(times, which, contestants, number))
        for number, (one, index, own) in enumerate(zip(contestants, which, times, strict=True))
    )
    for name, engine in zip(names, engines, strict=True):
        notes += [f"{name}: {note}" for note in getattr(engine, "notes", ())]
    return Report(
        entries=entries,
        memories=tuple(memories),
        energies=tuple(powers),
        notes=tuple(notes),
        source=source,
        runs=settings.runs,
        warm_up=settings.warm_up,
        threads=settings.threads,
        machine=describe_machine(),
    )


def _demo(engines: Sequence[Engine], settings: Settings) -> Source:
    """Return the shipped pictures that suit the heads that run."""
    return demo_source(
        head.kind
        for engine in engines
        for head in engine.spec.heads
        if settings.heads is None or head.name in settings.heads
    )


def _contestants(
    names: Sequence[str], engines: Sequence[Engine], source: Source, settings: Settings
) -> list[Contestant]:
    """Return one for each model and batch, each with a feed of its own."""
    return [
        contestant(
            name, engine, source.feed(), batch, settings.imgsz, settings.heads, settings.conf
        )
        for name, engine in zip(names, engines, strict=True)
        for batch in settings.batches or (engine.batch or 1,)
    ]


def open_model(model: str | Path, threads: int | None, provider: str | None) -> Engine:
    """Open a model of any format this version runs; `provider` is for .onnx files alone."""
    file = resolve_weights(model)
    return open_engine(file, threads=threads, provider=provider if file.suffix == ".onnx" else None)


def contestant(
    name: str,
    engine: Engine,
    feed: Feed,
    batch: int,
    imgsz: Sequence[int] | None,
    heads: Sequence[str] | None,
    conf: float,
) -> Contestant:
    """Make a contestant of an open model.

    Args:
        name: in the report.
        engine: the model.
        feed: gives its pictures.
        batch: pictures a call.
        imgsz: height and width; None: the model's own.
        heads: which run; None: all.
        conf: lowest score that counts.

    Raises:
        UserError: the file does not take such batches, sizes or heads.
    """
    require(
        engine.batch in (None, batch),
        f"{name}: takes {engine.batch} pictures a call, not {batch}; export it with "
        "--dynamic-batch",
    )
    size = None if imgsz is None else (imgsz[0], imgsz[1])
    iou = engine.spec.nms.iou if engine.spec.nms is not None else DecodeOptions().iou
    request = make_request(
        engine,
        DecodeOptions(conf=conf, iou=iou),
        heads=heads,
        imgsz=size,
        batch=batch,
        merge={},
    )
    return Contestant(name, engine, request, feed, Buffers(request.height, request.width))


def unlike(names: Sequence[str]) -> list[str]:
    """Return names of which no two are the same: the second of a name gets " (2)"."""
    counts: Counter[str] = Counter()
    found = []
    for name in names:
        counts[name] += 1
        found.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return found


def describe_machine() -> dict[str, str]:
    """Return what a reader must know of the machine to compare figures."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    board = Path("/proc/device-tree/model")
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {
        "processor": model[1].strip() if model else platform.processor() or platform.machine(),
        "cores": str(allowed),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
    if board.is_file():
        found["board"] = board.read_text(errors="replace").strip("\0 \n")
    return found | dict(_versions())


def _versions() -> Iterator[tuple[str, str]]:
    names = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "torch", "opencv-python")
    for name in (*names, "vision-heads"):
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _first(
    times: Sequence[list[Times]],
    which: Sequence[int],
    contestants: Sequence[Contestant],
    number: int,
) -> list[Times] | None:
    """Return the first model's times at the same batch size; None for itself."""
    if which[number] == 0:
        return None
    size = contestants[number].request.batch
    for index, other in enumerate(contestants):
        if which[index] == 0 and other.request.batch == size:
            return times[index]
    return None


def _entry(
    one: Contestant, engine: Engine, file: Path, times: list[Times], first: list[Times] | None
) -> Entry:
    return Entry(
        name=one.name,
        file=file,
        format=file.suffix.lstrip("."),
        runs_on=provider_of(engine),
        batch=one.request.batch,
        height=one.request.height,
        width=one.request.width,
        bytes=_size(file),
        stages={stage: Spread.of(column(times, stage)) for stage in STAGES},
        total=Spread.of(column(times, TOTAL)),
        found=sum(column(times, FOUND)) / len(times),
        network_ratio=_ratio(times, first, "network"),
        total_ratio=_ratio(times, first, TOTAL),
    )


def _ratio(times: list[Times], first: list[Times] | None, stage: str) -> Ratio | None:
    if first is None:
        return None
    return Ratio.of(column(times, stage), column(first, stage))


def _size(file: Path) -> int:
    """Return a model's bytes, with the weights that OpenVINO puts beside its .xml."""
    beside = file.with_suffix(".bin")
    extra = beside.stat().st_size if file.suffix == ".xml" and beside.is_file() else 0
    return file.stat().st_size + extra


def _energy(contestants: Sequence[Contestant]) -> list[energy.Energy | str]:
    if not energy.available():
        return [energy.ABSENT] * len(contestants)
    return energy.measure([_counted(one) for one in contestants])


def _counted(one: Contestant) -> Callable[[], int]:
    def run() -> int:
        one.run()
        return one.request.batch

    return run


def _memory(
    files: Sequence[Path],
    contestants: Sequence[Contestant],
    source: Source,
    settings: Settings,
    show: Bar,
) -> list[memory.Memory | str]:
    if not settings.memory:
        return ["not asked for"] * len(files)
    found: list[memory.Memory | str] = []
    with show(len(files), "memory") as step:
        for file, one in zip(files, contestants, strict=True):
            job = memory.Job(
                str(file),
                one.request.batch,
                settings.threads,
                settings.provider,
                settings.imgsz,
                settings.heads,
                tuple(str(path) for path in source.files[: one.request.batch]),
                source.kind,
                settings.conf,
            )
            found.append(memory.measure(job))
            step()
    return found
