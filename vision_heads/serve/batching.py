"""Pictures of many requests in few calls of the network.

Nothing waits for company: a runner that is free takes whatever lies there. While it works, the
next ones gather, so that batches grow with the load and a single request pays nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import require
from vision_heads.results import Result
from vision_heads.runtime.engines import Engine
from vision_heads.runtime.inputs import Buffers, Loaded
from vision_heads.runtime.request import Request
from vision_heads.runtime.tasks import Prepared, WholeTask, prepare

LARGEST = 8
"""Pictures a call, where the model file allows any number."""


@dataclass(slots=True)
class _Job:
    request: Request
    picture: Prepared
    result: Future[Result] = field(default_factory=Future)

    @property
    def key(self) -> tuple[int, int, tuple[str, ...]]:
        """Pictures with the same key can share a call; thresholds may differ."""
        return self.request.height, self.request.width, tuple(self.request.options)


class Batcher:
    """Runs pictures through an engine, several a call.

    Args:
        engine: what executes the network.
        largest: most pictures a call; a file made for fewer decides.
        runners: calls at the same time.
        called: told the number of pictures after each call, in the runner's thread.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        largest: int = LARGEST,
        runners: int = 1,
        called: Callable[[int], None] = lambda pictures: None,
    ) -> None:
        require(largest >= 1 and runners >= 1, "a batcher needs at least one picture and runner")
        self.largest = min(largest, engine.batch or largest)
        self._engine = engine
        self._called = called
        self._buffers: dict[tuple[int, int], Buffers] = {}
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"vh-batch-{number}", daemon=True)
            for number in range(runners)
        ]

    def start(self) -> None:
        """Begin to take what waits."""
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Pictures that no call has taken yet."""
        return len(self._jobs)

    def submit(self, image: NDArray[np.uint8], request: Request) -> Future[Result]:
        """Queue a picture; it is made ready in the calling thread.

        Args:
            image: BGR uint8 (H, W, 3).
            request: without slicing.

        Returns:
            Its result; a future cancelled in time costs no call.

        Raises:
            RuntimeError: the batcher is closed.
        """
        shape = request.height, request.width
        with self._changed:
            buffers = self._buffers.setdefault(shape, Buffers(*shape))
        job = _Job(request, prepare(Loaded(image), self._engine, buffers))
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._jobs.append(job)
            self._changed.notify()
        return job.result

    def close(self) -> None:
        """Let running calls end, and drop what waits; harmless when called twice."""
        with self._changed:
            self._closed = True
            left = list(self._jobs)
            self._jobs.clear()
            self._changed.notify_all()
        for job in left:
            job.result.cancel()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _work(self) -> None:
        while (jobs := self._take()) is not None:
            live = [job for job in jobs if job.result.set_running_or_notify_cancel()]
            if live:
                self._run(live)

    def _take(self) -> list[_Job] | None:
        """Wait for work; the oldest picture and those that can go with it, None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if self._closed:
                return None
            taken: list[_Job] = []
            left: deque[_Job] = deque()
            for job in self._jobs:
                fits = len(taken) < self.largest and (not taken or job.key == taken[0].key)
                (taken if fits else left).append(job)
            self._jobs = left
            if left:
                self._changed.notify()
            return taken

    def _run(self, jobs: list[_Job]) -> None:
        try:
            results = self._results(jobs)
        except BaseException as error:  # whoever waits must hear of it, whatever it is
            for job in jobs:
                job.result.set_exception(error)
            return
        for job, result in zip(jobs, results, strict=True):
            job.result.set_result(result)

    def _results(self, jobs: list[_Job]) -> list[Result]:
        request = jobs[0].request
        buffers = self._buffers[request.height, request.width]
        images = np.stack([job.picture.tensor for job in jobs])
        for job in jobs:
            buffers.give(job.picture.tensor)
        outputs = self._engine.run(images, list(request.options))
        self._called(len(jobs))
        found: list[Result] = []
        for row, job in enumerate(jobs):
            own = {name: array[row : row + 1] for name, array in outputs.items()}
            found += WholeTask(self._engine, job.request, [job.picture], buffers).finish([own])
        return found
