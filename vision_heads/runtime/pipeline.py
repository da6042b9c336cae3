"""Reading, inference and decoding of many pictures at once, in order and in constant memory.

    files -> readers: decode, letterbox -> runners: network -> the caller's thread: NMS

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

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import require
from vision_heads.media.images import ImageError
from vision_heads.results import Failure, Result
from vision_heads.runtime.engines import Engine
from vision_heads.runtime.inputs import Buffers, Loaded, Picture, load_picture
from vision_heads.runtime.request import Request
from vision_heads.runtime.tasks import Prepared, SlicedTask, Task, WholeTask, prepare


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """How to spread cores: `parallel` calls of the network with `threads` threads each."""

    threads: int
    parallel: int


def plan_threads(cores: int | None, pictures: int, *, share: bool = True) -> ThreadPlan:
    """Divide cores among calls of the network.

    One call a core does more a second than one call on all cores, which wait for each other at
    every layer; but each call needs memory of its own, hence at most four.

    Args:
        cores: to use, None for all this process may run on.
        pictures: to work on; a single one gets all cores.
        share: False where calls at the same time are of no use.
    """
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    total = max(cores or 1, 1)
    parallel = min(total, pictures, 4) if share else 1
    return ThreadPlan(max(total // max(parallel, 1), 1), max(parallel, 1))


@dataclass(slots=True)
class _Pending:
    """Some pictures in order: those that could be read are in the task."""

    items: list[Prepared | Loaded | Failure]
    task: Task | None
    outputs: Future[dict[str, NDArray[np.float32]]] | None

    def results(self) -> Iterator[Result | Failure]:
        found: Iterator[Result] = iter(())
        if self.task is not None and self.outputs is not None:
            found = iter(self.task.finish(self.outputs.result()))
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
    require(readers >= 1, f"readers must be at least 1, got {readers}")
    require(parallel >= 1, f"parallel must be at least 1, got {parallel}")
    return _stream(engine, request, images, readers, parallel)


def _stream(
    engine: Engine, request: Request, images: Iterable[Picture], readers: int, parallel: int
) -> Generator[Result | Failure, None, None]:
    size = 1 if request.slicing else request.batch
    source = iter(images)
    buffers = Buffers(request.height, request.width)
    reading: deque[Future[Prepared | Loaded | Failure]] = deque()
    running: deque[_Pending] = deque()
    read_pool = ThreadPoolExecutor(readers, thread_name_prefix="vh-read")
    run_pool = ThreadPoolExecutor(parallel, thread_name_prefix="vh-run")

    def read_ahead() -> None:
        while len(reading) < size + readers:
            try:
                picture = next(source)
            except StopIteration:
                return
            reading.append(read_pool.submit(_read, picture, engine, request, buffers))

    try:
        read_ahead()
        while reading or running:
            # One batch waits behind the running ones, so that no runner is ever idle.
            while reading and len(running) <= parallel:
                batch = [reading.popleft() for _ in range(min(size, len(reading)))]
                read_ahead()
                running.append(
                    _start(engine, request, [item.result() for item in batch], buffers, run_pool)
                )
            yield from running.popleft().results()
    finally:
        for pool in (read_pool, run_pool):
            pool.shutdown(wait=True, cancel_futures=True)


def _start(
    engine: Engine,
    request: Request,
    items: list[Prepared | Loaded | Failure],
    buffers: Buffers,
    pool: ThreadPoolExecutor,
) -> _Pending:
    task: Task | None = None
    prepared = [item for item in items if isinstance(item, Prepared)]
    loaded = [item for item in items if isinstance(item, Loaded)]
    if prepared:
        task = WholeTask(engine, request, prepared, buffers)
    elif loaded and request.slicing is not None:
        task = SlicedTask(engine, request, request.slicing, loaded[0])
    return _Pending(items, task, pool.submit(task.infer) if task else None)


def _read(
    picture: Picture, engine: Engine, request: Request, buffers: Buffers
) -> Prepared | Loaded | Failure:
    try:
        loaded = load_picture(picture)
    except ImageError as error:
        return Failure(str(picture), str(error))
    return loaded if request.slicing else prepare(loaded, engine, request, buffers)
