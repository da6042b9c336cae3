"""Runs any number of sources through one network, each in its own order and at its own pace.

    source -> Reader -> lane.waiting -> runners: batches over lanes -> lane.flight -> output thread

Every lane has a thread that reads and a thread that runs hooks and outputs; the network has as
many runners as calls of it are of use at a time. A source that is dead, or whose output is slow,
holds up nobody else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from vision_heads.errors import is_no_memory, require
from vision_heads.media.frames import End
from vision_heads.media.images import ImageError
from vision_heads.results import Result
from vision_heads.runtime.engines import Engine
from vision_heads.runtime.inputs import Buffers, Loaded
from vision_heads.runtime.request import Request
from vision_heads.runtime.slicing import Slicing
from vision_heads.runtime.tasks import SlicedTask, WholeTask, cut_up, prepare
from vision_heads.stream.guard import Guard
from vision_heads.stream.hooks import HookMaker
from vision_heads.stream.lane import Job, Lane, Report, fair
from vision_heads.stream.outputs import Output
from vision_heads.stream.reader import Opener, Reader
from vision_heads.stream.seen import SOURCE_ENDED, Event, Seen
from vision_heads.stream.settings import Settings

PATIENCE = 2.0
"""Seconds that `stop` waits for a reader; one that is stuck in a call is then left behind."""


class Pipeline:
    """Sources in, everything that was seen out.

    Args:
        engine: executes the network; shared with others if they like.
        request: heads, thresholds, network size, batch (frames a call, over cameras), slicing.
        hooks: make the hooks of each source, in the order they run.
        outputs: take what was seen; closed by `stop`.
        settings: pace and patience.
        parallel: calls of the network at the same time.
        report: takes lines for the user (a source lost or back, an output that fails).

    Example:
        >>> pipeline = Pipeline(engine, request, outputs=[JsonLines(Path("seen.jsonl"))])
        >>> pipeline.start()
        >>> pipeline.add("gate", True, lambda: open_video(spec))
        >>> pipeline.wait()
        >>> pipeline.stop()
    """

    def __init__(
        self,
        engine: Engine,
        request: Request,
        *,
        hooks: Sequence[HookMaker] = (),
        outputs: Sequence[Output] = (),
        settings: Settings | None = None,
        parallel: int = 1,
        report: Report = lambda line: None,
    ) -> None:
        self._engine, self._request = engine, request
        self._makers, self._settings, self._report = hooks, settings or Settings(), report
        self.guards = [Guard(output, report) for output in outputs]
        self._change = threading.Condition()
        self._lanes: list[Lane] = []
        self._readers: dict[str, Reader] = {}
        self._writers: dict[str, threading.Thread] = {}
        self._buffers = Buffers(request.height, request.width)
        self._parallel = parallel
        self._runners: list[threading.Thread] = []
        self._turn = 0
        self._over = False
        self._fault: BaseException | None = None

    def start(self) -> None:
        """Start the runners; sources may be added before or after."""
        for number in range(self._parallel):
            runner = threading.Thread(target=self._run, name=f"vh-run-{number}", daemon=True)
            self._runners.append(runner)
            runner.start()

    def add(self, name: str, live: bool, opener: Opener) -> None:
        """Add a source and start reading it.

        Args:
            name: id, unique among the sources that are there.
            live: see `FrameSource`.
            opener: called in the reader's thread for every connection.

        Raises:
            UserError: there is a source of this name.
        """
        with self._change:
            require(name not in self._writers, f"{name}: there is a source of this name already")
            # Only now: makers that keep counts begin them anew for a name they know.
            hooks = [maker(name) for maker in self._makers]
            # What is in the network, and one or two whose results are being written.
            calls = self._parallel if live else self._parallel * self._request.batch
            depth = calls + (1 if live else 2)
            room = 1 if live else max(self._settings.waiting, calls)
            lane = Lane(name, live, self._change, hooks, room, depth)
            reader = Reader(lane, opener, self._settings, self._report, self._fail)
            writer = threading.Thread(
                target=self._write, args=(lane,), name=f"vh-out-{name}", daemon=True
            )
            self._lanes.append(lane)
            self._readers[name], self._writers[name] = reader, writer
        reader.start()
        writer.start()

    def remove(self, name: str) -> None:
        """End a source and forget it, once what is in the network has come out.

        Raises:
            UserError: there is none of this name.
        """
        with self._change:
            require(name in self._writers, f"{name}: there is no source of this name")
            reader, writer = self._readers[name], self._writers[name]
        self._end(name)
        reader.join(PATIENCE)
        writer.join()
        with self._change:
            self._lanes = [lane for lane in self._lanes if lane.name != name]
            del self._readers[name], self._writers[name]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every source has ended; returns whether they have.

        Raises:
            BaseException: what went wrong in a thread that is no user's mistake.
        """

        def over() -> bool:
            return self._fault is not None or all(lane.finished for lane in self._lanes)

        with self._change:
            done = self._change.wait_for(over, timeout)
        if self._fault is not None:
            raise self._fault
        return done

    def stop(self) -> None:
        """End every source, let out what is in the network, close the outputs.

        Returns within a few seconds even when a source is stuck in a read.
        """
        with self._change:
            names = list(self._writers)
        for name in names:
            self._end(name)
        until = time.monotonic() + PATIENCE
        for reader in list(self._readers.values()):
            reader.join(max(until - time.monotonic(), 0))
        for writer in list(self._writers.values()):
            writer.join()
        with self._change:
            self._over = True
            self._change.notify_all()
        for runner in self._runners:
            runner.join()
        for guard in self.guards:
            guard.close()

    def stats(self) -> dict[str, dict[str, Any]]:
        """Return each source's counts; see `Counters.to_dict`.

        With them come "state" (opening, running, lost, ended), "end" (the reason, null while it
        runs), "message" and "live".
        """
        with self._change:
            lanes = list(self._lanes)
        return {
            lane.name: {
                "live": lane.live,
                "state": "ended" if lane.finished else lane.state,
                "end": lane.end.reason if lane.end else None,
                "message": lane.end.message if lane.end else "",
                **lane.counters.to_dict(),
            }
            for lane in lanes
        }

    def _end(self, name: str) -> None:
        self._readers[name].stop()
        with self._change:
            lane = next(lane for lane in self._lanes if lane.name == name)
        lane.stop()

    def _run(self) -> None:
        """Take frames, one a camera as far as there are, and look at them in one call."""
        try:
            while jobs := self._take():
                results = self._look(jobs)
                with self._change:
                    for job, result in zip(jobs, results, strict=True):
                        job.settle(result)
                    self._change.notify_all()
        except BaseException as error:
            self._fail(error)

    def _take(self) -> list[Job]:
        with self._change:
            while True:
                if self._over or self._fault is not None:
                    return []
                # Runners share what is ready, so that none waits while another has it all.
                ready = sum(lane.ready for lane in self._lanes)
                share = -(-ready // self._parallel)
                most = max(min(self._request.batch, share), self._engine.batch or 1)
                jobs, self._turn = fair(self._lanes, self._turn, most)
                if jobs:
                    self._change.notify_all()
                    return jobs
                self._change.wait()

    def _look(self, jobs: Sequence[Job]) -> list[Result | None]:
        """Return each frame's result, None where there is none.

        Memory may lack for a moment, and other frames be smaller: no reason to end ten cameras.
        """
        try:
            return self._results(jobs)
        except Exception as error:
            if not is_no_memory(error):
                raise
        # Not before what the error holds is free.
        if len(jobs) > 1:
            return [result for job in jobs for result in self._look([job])]
        self._leave_out(jobs[0])
        return [None]

    def _leave_out(self, job: Job) -> None:
        assert job.frame is not None
        name = job.frame.source
        with self._change:
            counters = next(lane.counters for lane in self._lanes if lane.name == name)
            counters.failed += 1
            count = counters.failed
        if count.bit_count() == 1:  # the 1st, 2nd, 4th, 8th: a log must not fill either
            self._report(f"{name}: not enough memory for a frame; {count} are left out so far")

    def _results(self, jobs: Sequence[Job]) -> list[Result | None]:
        """Return each frame's result, None where its source has to be given up."""
        frames = [job.frame for job in jobs if job.frame is not None]
        loaded = [Loaded(frame.image, frame.source) for frame in frames]
        request = self._request
        if request.slicing is None:
            prepared = [prepare(one, self._engine, self._buffers) for one in loaded]
            task = WholeTask(self._engine, request, prepared, self._buffers)
            return [*task.finish([part() for part in task.parts()])]
        return [self._look_at_tiles(one, request.slicing) for one in loaded]

    def _look_at_tiles(self, frame: Loaded, slicing: Slicing) -> Result | None:
        try:
            tiles = cut_up(frame, slicing)
            task = SlicedTask(self._engine, self._request, slicing, tiles, self._buffers)
            return task.finish([part() for part in task.parts()])[0]
        except ImageError as error:  # too many tiles or boxes; the other sources may be smaller
            self._give_up(frame.source, str(error))
            return None

    def _give_up(self, name: str, reason: str) -> None:
        """End one source that cannot be worked on."""
        with self._change:
            for lane in self._lanes:
                if lane.name == name:
                    lane.end = End("failed", reason)  # even if all of it was read by now
                    lane.stop()
            reader = self._readers.get(name)
        if reader is not None:
            reader.stop()

    def _write(self, lane: Lane) -> None:
        """Run hooks and outputs of one source, in order."""
        try:
            while (job := lane.next_job()) is not None:
                if self._fault is not None:
                    return
                self._one(lane, job)
            end = lane.end or End("stopped")
            last = [event for hook in lane.hooks for event in hook.end()]
            data = {"reason": end.reason, "message": end.message}
            for event in (*last, Event(SOURCE_ENDED, lane.name, data=data)):
                self._tell(event, None)
            for guard in self.guards:
                guard.end(lane.name)
        except BaseException as error:
            self._fail(error)
        finally:
            with self._change:
                lane.end = lane.end or End("stopped")
                lane.counters.ended = time.monotonic()
                lane.finished = True
                self._change.notify_all()

    def _one(self, lane: Lane, job: Job) -> None:
        if job.gap is not None:
            for hook in lane.hooks:
                hook.gap(job.gap)
        if job.event is not None:
            self._tell(job.event, None)
        if job.frame is None or job.result is None:
            return
        if job.connection != lane.connection:
            lane.counters.dropped += 1  # from before the connection was lost
            return
        seen = Seen(job.frame, job.result)
        for hook in lane.hooks:
            hook.update(seen)
        for guard in self.guards:
            guard.call(lambda guard=guard: guard.output.frame(seen))  # type: ignore[misc]
        for event in seen.events:
            # What is told late has no picture: this one may be another scene, of another size.
            self._tell(event, seen if event.frame == seen.frame.index else None)
        lane.counters.shown += 1
        lane.counters.latency.add(time.time() - job.frame.received)

    def _tell(self, event: Event, seen: Seen | None) -> None:
        image = None if seen is None else seen.frame.image
        for guard in self.guards:
            guard.call(lambda guard=guard: guard.output.event(event, image))  # type: ignore[misc]

    def _fail(self, error: BaseException) -> None:
        """Remember a fault of ours and let everything end; `wait` raises it."""
        with self._change:
            self._fault = self._fault or error
            for lane in self._lanes:
                lane.stopping = True
                lane.waiting.clear()
                lane.flight.clear()
            self._change.notify_all()
