"""Reading, inference and decoding of many pictures at once, in order and in constant memory.

    files -> readers: decode, letterbox -> runners: network -> the caller's thread: NMS

Tiles of a large picture are cut out and looked through by the runners, side by side.

OpenCV, NumPy and ONNX Runtime let other Python threads run while they work. At most a few
batches exist at any moment, whatever the number of pictures: when the caller is slow, nothing
is read ahead.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vision_heads.errors import require
from vision_heads.media.images import ImageError
from vision_heads.results import Failure, Result
from vision_heads.runtime.checks import is_whole
from vision_heads.runtime.engines import Engine
from vision_heads.runtime.inputs import Buffers, Picture, load_picture
from vision_heads.runtime.request import Request
from vision_heads.runtime.tasks import (
    Prepared,
    SlicedTask,
    Task,
    Tiled,
    WholeTask,
    cut_up,
    prepare,
)


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """How to spread cores: `parallel` calls of the network with `threads` threads each."""

    threads: int
    parallel: int


def plan_threads(cores: int | None, calls: int | None, *, share: bool = True) -> ThreadPlan:
    """Divide cores among calls of the network.

    One call a core does more a second than one call on all cores, which wait for each other at
    every layer; but each call needs memory of its own, hence at most four.

    Args:
        cores: to use, None for all this process may run on.
        calls: of the network to come, None for many; a single one gets all cores.
        share: False where calls at the same time are of no use.
    """
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    total = max(cores or 1, 1)
    parallel = min(total, 4 if calls is None else calls, 4) if share else 1
    return ThreadPlan(max(total // max(parallel, 1), 1), max(parallel, 1))


_Item = Prepared | Tiled | Failure


@dataclass(slots=True)
class _Pending:
    """Some pictures in order: those that could be read are in the task."""

    items: list[_Item]
    task: Task | None
    outputs: list[Future[Any]]

    def results(self) -> Iterator[Result | Failure]:
        found: Iterator[Result | Failure] = iter(())
        if self.task is not None:
            outputs = [output.result() for output in self.outputs]
            try:
                found = iter(self.task.finish(outputs))
            except ImageError as error:  # too much was found in the tiles of a picture
                tiled = [item for item in self.items if isinstance(item, Tiled)]
                found = iter([Failure(item.loaded.source, str(error)) for item in tiled])
        for item in self.items:
            yield item if isinstance(item, Failure) else next(found)


def stream(
    engine: Engine,
    request: Request,
    images: Iterable[Picture],
    *,
    readers: int,
    parallel: int,
) -> Generator[Result | Failure, None, None]:
    """Run pictures through the engine; see `Predictor.stream`."""
    for name, count in (("readers", readers), ("parallel", parallel)):
        require(
            is_whole(count) and count >= 1,
            f"{name} must be a whole number of at least 1, got {count!r}",
        )
    # A path or an array is iterable too, letter by letter or row by row.
    require(
        isinstance(images, Iterable) and not isinstance(images, (str, bytes, np.ndarray)),
        f"images: expected several pictures, got {type(images).__name__}; "
        "call the predictor itself for one",
    )
    return _stream(engine, request, images, readers, parallel)


def _stream(
    engine: Engine, request: Request, images: Iterable[Picture], readers: int, parallel: int
) -> Generator[Result | Failure, None, None]:
    size = 1 if request.slicing else request.batch
    source = iter(images)
    buffers = Buffers(request.height, request.width)
    reading: deque[Future[_Item]] = deque()
    running: deque[_Pending] = deque()
    read_pool = ThreadPoolExecutor(readers, thread_name_prefix="vh-read")
    run_pool = ThreadPoolExecutor(parallel, thread_name_prefix="vh-run")
    fault: list[Exception] = []  # ends the stream, once the results of what came before are out

    def read_ahead() -> None:
        while not fault and len(reading) < size + readers:
            try:
                picture = next(source)
            except StopIteration:
                return
            except Exception as error:  # the caller's own
                fault.append(error)
                return
            reading.append(read_pool.submit(_read, picture, engine, request, buffers))

    def next_batch() -> list[_Item]:
        batch = [reading.popleft() for _ in range(min(size, len(reading)))]
        read_ahead()
        items: list[_Item] = []
        try:
            for item in batch:
                items.append(item.result())
        except Exception as error:
            fault[:] = [error]  # it comes before whatever reading ahead has met
            reading.clear()
        return items

    try:
        read_ahead()
        while reading or running:
            # One batch waits behind the running ones, so that no runner is ever idle.
            while reading and len(running) <= parallel:
                running.append(_start(engine, request, next_batch(), buffers, run_pool))
            yield from running.popleft().results()
        if fault:
            raise fault.pop()
    finally:
        for pool in (read_pool, run_pool):
            pool.shutdown(wait=True, cancel_futures=True)


def _start(
    engine: Engine,
    request: Request,
    items: list[_Item],
    buffers: Buffers,
    pool: ThreadPoolExecutor,
) -> _Pending:
    task: Task | None = None
    prepared = [item for item in items if isinstance(item, Prepared)]
    tiled = [item for item in items if isinstance(item, Tiled)]
    if prepared:
        task = WholeTask(engine, request, prepared, buffers)
    elif tiled and request.slicing is not None:
        task = SlicedTask(engine, request, request.slicing, tiled[0], buffers)
    parts = task.parts() if task else []
    return _Pending(items, task, [pool.submit(part) for part in parts])


def _read(picture: Picture, engine: Engine, request: Request, buffers: Buffers) -> _Item:
    try:
        loaded = load_picture(picture)
        if request.slicing is not None:
            return cut_up(loaded, request.slicing)
    except ImageError as error:
        # Only files have names; an array's text would be its pixels.
        source = str(picture) if isinstance(picture, (str, Path)) else ""
        return Failure(source, str(error))
    return prepare(loaded, engine, buffers)
