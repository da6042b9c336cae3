"""Numbers for Prometheus, in its text format (version 0.0.4)."""

from __future__ import annotations

import threading
import time as clock
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PICTURES = (1, 2, 4, 8, 16, 32)
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """A number that is read when it is asked for.

    Attributes:
        name: of the metric, with its unit.
        kind: counter or gauge.
        text: what it means.
        values: (labels, number) of each series.
    """

    name: str
    kind: str
    text: str
    values: Sequence[tuple[Labels, float]]


class Counter:
    """Counts up, by labels; any thread."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text
        self._lock = threading.Lock()
        self._values: dict[Labels, float] = {}

    def add(self, amount: float = 1, **labels: str) -> None:
        """Count `amount` more."""
        key = tuple(labels.items())
        with self._lock:
            self._values[key] = self._values.get(key, 0) + amount

    def lines(self) -> Iterable[str]:
        """Yield the metric's text, line by line."""
        with self._lock:
            values = list(self._values.items())
        yield from _lines(Sample(self.name, "counter", self.text, values))


class Histogram:
    """Counts values up to each of some bounds; any thread."""

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self.name, self.text, self._bounds = name, text, bounds
        self._lock = threading.Lock()
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def add(self, value: float, **labels: str) -> None:
        """Count a value."""
        key = tuple(labels.items())
        with self._lock:
            counts = self._counts.setdefault(key, [0] * (len(self._bounds) + 1))
            counts[bisect_left(self._bounds, value)] += 1
            self._sums[key] = self._sums.get(key, 0.0) + value

    def lines(self) -> Iterable[str]:
        """Yield the metric's text, line by line."""
        with self._lock:
            items = [(key, list(counts), self._sums[key]) for key, counts in self._counts.items()]
        yield f"# HELP {self.name} {self.text}"
        yield f"# TYPE {self.name} histogram"
        for key, counts, total in items:
            count = 0
            for bound, number in zip((*self._bounds, float("inf")), counts, strict=True):
                count += number
                yield f"{self.name}_bucket{_labels((*key, ('le', _number(bound))))} {count}"
            yield f"{self.name}_sum{_labels(key)} {_number(total)}"
            yield f"{self.name}_count{_labels(key)} {count}"


class Metrics:
    """Everything the service counts.

    Args:
        samples: called at each reading for what others count.
    """

    def __init__(self, samples: Callable[[], Iterable[Sample]] = tuple) -> None:
        self.samples = samples
        self.requests = Counter("vh_requests_total", "Requests answered, by route and status.")
        self.seconds = Histogram(
            "vh_request_seconds",
            "Time to answer; connections that stay open not included.",
            SECONDS,
        )
        self.pictures = Histogram(
            "vh_batch_pictures", "Pictures of requests in a call of the network.", PICTURES
        )
        self.frames_sent = Counter("vh_frames_sent_total", "Pictures sent to watchers.")

    def text(self) -> str:
        """Return everything in Prometheus' text format."""
        lines: list[str] = []
        for metric in (self.requests, self.seconds, self.pictures, self.frames_sent):
            lines += metric.lines()
        for sample in self.samples():
            lines += _lines(sample)
        return "\n".join(lines) + "\n"


class Meter:
    """Counts what is answered: a layer around the service.

    Routes stand for paths: paths are the clients' to choose, and would fill the memory.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = clock.perf_counter(), "500"

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.add(method=method, route=route, status=status)
            if not route.endswith(("/events", "/mjpeg")):
                self._metrics.seconds.add(clock.perf_counter() - begin, route=route)


def by_stream(name: str, kind: str, text: str, values: Mapping[str, float]) -> Sample:
    """Return a metric with one number a stream."""
    return Sample(name, kind, text, [((("stream", key),), value) for key, value in values.items()])


def _lines(sample: Sample) -> Iterable[str]:
    yield f"# HELP {sample.name} {sample.text}"
    yield f"# TYPE {sample.name} {sample.kind}"
    for labels, value in sample.values:
        yield f"{sample.name}{_labels(labels)} {_number(value)}"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
