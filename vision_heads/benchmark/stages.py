"""One model's way from files to results, with a clock at each stage.

Every stage is the function that `vh detect` itself calls; nothing is imitated.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from typing import Any

from vision_heads.benchmark.feeds import Feed
from vision_heads.runtime.engines import Engine
from vision_heads.runtime.inputs import Buffers, Loaded
from vision_heads.runtime.request import Request
from vision_heads.runtime.tasks import WholeTask, prepare

STAGES = ("decode", "preprocess", "network", "heads", "nms")
"""decode: of the image file or video frame, reading included; preprocess: letterbox, scaling, order
of axes; network: the model file; heads: candidates to results in the picture's pixels, without
NMS; nms: the calls that suppress overlapping boxes."""

TOTAL = "end to end"
"""All stages one after the other; `vh detect` on many pictures overlaps them and does more."""

FOUND = "found"

Times = dict[str, float]
"""Seconds a picture of each stage and of all; under "found", results a picture."""


@dataclass(slots=True)
class Contestant:
    """A model at one batch size.

    Attributes:
        name: for the report.
        engine: the open model.
        request: what is asked of it; holds the batch size.
        feed: its pictures.
        buffers: network inputs of its size, used again.
    """

    name: str
    engine: Engine
    request: Request
    feed: Feed
    buffers: Buffers

    def run(self) -> Times:
        """Take one batch all the way."""
        size, clock = self.request.batch, time.perf_counter
        begin = clock()
        pictures = [Loaded(self.feed.next()) for _ in range(size)]
        decoded = clock()
        prepared = [prepare(picture, self.engine, self.buffers) for picture in pictures]
        task = WholeTask(self.engine, self.request, prepared, self.buffers)
        ready = clock()
        outputs = [part() for part in task.parts()]
        computed = clock()
        with nms_clock() as nms:
            results = task.finish(outputs)
        end = clock()
        seconds = {
            "decode": decoded - begin,
            "preprocess": ready - decoded,
            "network": computed - ready,
            "heads": end - computed - nms.seconds,
            "nms": nms.seconds,
            TOTAL: end - begin,
        }
        times = {name: value / size for name, value in seconds.items()}
        return times | {FOUND: sum(map(len, results)) / size}


class Clock:
    """Seconds that calls took so far."""

    def __init__(self) -> None:
        self.seconds = 0.0


@contextmanager
def nms_clock() -> Iterator[Clock]:
    """Measure the NMS inside `decode`, which every kind of head calls by one name.

    That name is replaced meanwhile: a clock in the runtime itself would cost every user a little
    for the sake of this command. Not for use by several threads at once.
    """
    module: Any = import_module("vision_heads.heads.detect.decode")
    clock, real = Clock(), module.nms

    @wraps(real)
    def timed(*arguments: Any, **named: Any) -> Any:
        begin = time.perf_counter()
        try:
            return real(*arguments, **named)
        finally:
            clock.seconds += time.perf_counter() - begin

    module.nms = timed
    try:
        yield clock
    finally:
        module.nms = real


def column(times: Sequence[Times], name: str) -> list[float]:
    """Return one stage's seconds in all rounds."""
    return [one[name] for one in times]
