from __future__ import annotations

import threading
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.stream.fakes import Collect, FakeEngine, FakeSource, openers, request, until
from vision_heads.errors import UserError
from vision_heads.media.frames import End
from vision_heads.stream.analytics import Chain
from vision_heads.stream.guard import OutputBrokenError
from vision_heads.stream.pipeline import Pipeline
from vision_heads.stream.reader import stuck
from vision_heads.stream.seen import Event
from vision_heads.stream.settings import Pace, Settings

QUICK = Settings(retry_first=0.02, retry_most=0.05)


def start(engine=None, outputs=(), **more):
    engine = engine or FakeEngine()
    options = {key: more.pop(key) for key in ("batch",) if key in more}
    pipeline = Pipeline(engine, request(engine, **options), outputs=outputs, **more)
    pipeline.start()
    return pipeline


def test_files_lose_no_frame_and_keep_their_order():
    out = Collect()
    pipeline = start(FakeEngine(0.001), [out], parallel=3)
    for name in ("a", "b"):
        pipeline.add(name, False, lambda name=name: FakeSource(name, 60, first=1))
    assert pipeline.wait(20)
    pipeline.stop()
    for name in ("a", "b"):
        assert out.indices(name) == list(range(60))
        values = [round(float(s.result["aerial"].score[0]) * 255) for s in out.seen[name]]
        assert values == list(range(1, 61))  # each frame has its own result
        assert out.kinds(name) == ["source_ended"]
        stats = pipeline.stats()[name]
        assert (stats["received"], stats["shown"], stats["dropped"]) == (60, 60, 0)
        assert stats["end"] == "finished" and stats["latency_ms"]["p50"] > 0
    assert sorted(out.ended) == ["a", "b"] and out.closed == 1


def test_a_slow_output_holds_files_back_instead_of_filling_the_memory():
    out = Collect(delay=0.01)
    pipeline = start(outputs=[out])
    source = FakeSource("a", 200)
    pipeline.add("a", False, lambda: source)
    until(lambda: len(out.indices("a")) > 5)
    stats = pipeline.stats()["a"]
    assert stats["received"] - stats["shown"] < 12
    pipeline.stop()
    assert out.indices("a") == list(range(len(out.indices("a")))) and len(out.indices("a")) < 200


def test_live_sources_keep_the_newest_frame_only():
    out = Collect()
    pipeline = start(FakeEngine(0.05), [out])
    pipeline.add("cam", True, lambda: FakeSource("cam", 10_000, live=True, interval=0.005))
    time.sleep(1.0)
    ages = [time.time() - seen.frame.received for seen in out.seen["cam"][-1:]]
    pipeline.stop()
    stats = pipeline.stats()["cam"]
    assert stats["dropped"] > stats["shown"] > 5
    assert stats["latency_ms"]["p90"] < 300 and ages[0] < 0.5  # no delay has built up
    assert sorted(out.indices("cam")) == out.indices("cam")


def test_cameras_share_calls_of_the_network():
    engine = FakeEngine(0.03)
    out = Collect()
    pipeline = start(engine, [out], batch=4)
    for name in "abcd":
        pipeline.add(name, True, lambda name=name: FakeSource(name, 100, live=True, interval=0.01))
    time.sleep(0.6)
    pipeline.stop()
    assert max(engine.batches) == 4 and sum(size > 1 for size in engine.batches) > 5
    counts = [len(out.indices(name)) for name in "abcd"]
    assert min(counts) > 0.5 * max(counts)  # and share them fairly


def test_a_dead_camera_and_a_slow_output_do_not_slow_the_others():
    class Slow(Collect):
        def frame(self, seen):
            if seen.frame.source == "slow":
                time.sleep(0.3)
            super().frame(seen)

    out = Slow()
    pipeline = start(FakeEngine(0.001), [out], settings=QUICK)
    hung = threading.Event()
    pipeline.add("dead", True, lambda: FakeSource("dead", 0, live=True, end=End("failed", "no")))
    pipeline.add("hung", True, lambda: FakeSource("hung", 1, live=True, block=hung))
    pipeline.add("slow", True, lambda: FakeSource("slow", 999, live=True, interval=0.01))
    pipeline.add("good", True, lambda: FakeSource("good", 999, live=True, interval=0.01))
    time.sleep(1.0)
    begin = time.monotonic()
    pipeline.stop()
    assert time.monotonic() - begin < 4  # although "hung" does not come back
    assert "hung" in stuck() and "good" not in stuck()
    hung.set()
    assert len(out.indices("good")) > 50
    assert 1 < len(out.indices("slow")) < 10
    assert pipeline.stats()["hung"]["state"] == "ended"


def test_a_lost_source_is_opened_again_and_shows_nothing_old():
    lines, out = [], Collect()
    gaps = []

    class Watch:
        def update(self, seen):
            pass

        def gap(self, seconds):
            gaps.append((seconds, out.indices("cam")[-1]))

        def end(self):
            return [Event("farewell", "cam")]

    first = FakeSource("cam", 10, live=True, interval=0.01, end=End("failed", "x: gone"))
    missing = FakeSource("cam", 0, live=True, end=End("failed", "x: refused"))
    second = FakeSource("cam", 10_000, live=True, interval=0.01, first=100)
    pipeline = start(
        FakeEngine(0.02), [out], settings=QUICK, hooks=[lambda name: Watch()], report=lines.append
    )
    pipeline.add("cam", True, openers([first, missing, missing, second]))
    until(lambda: len(out.indices("cam")) > 12)
    pipeline.stop()
    stats = pipeline.stats()["cam"]
    assert stats["reconnects"] == 1 and stats["received"] == stats["shown"] + stats["dropped"]
    assert [line.split(" after")[0] for line in lines] == [
        "cam: lost: x: gone; trying again", "cam: back",
    ]  # fmt: skip
    assert out.kinds("cam")[:2] == ["source_lost", "source_resumed"]
    assert out.kinds("cam")[-2:] == ["farewell", "source_ended"]
    resumed = next(e for e, _ in out.events if e.kind == "source_resumed")
    after = [s for s in out.seen["cam"] if s.frame.index >= 10]
    assert all(s.frame.received >= resumed.received for s in after)
    assert all(s.result["aerial"].score[0] >= 100 / 255 for s in after)
    times = [seen.frame.time for seen in out.seen["cam"]]
    assert times == sorted(times) and out.indices("cam") == sorted(out.indices("cam"))
    ((away, last),) = gaps
    assert away > 0.02 and last < 10  # told before the first frame of the new connection
    gap = after[0].frame.time - out.seen["cam"][len(times) - len(after) - 1].frame.time
    assert gap >= away  # stream time went on meanwhile


def test_without_reconnect_a_live_source_ends():
    pipeline = start(settings=replace(QUICK, reconnect=False))
    pipeline.add("cam", True, lambda: FakeSource("cam", 3, live=True, end=End("failed", "gone")))
    assert pipeline.wait(5)
    pipeline.stop()
    assert pipeline.stats()["cam"]["message"] == "gone"


def test_stride_and_max_fps():
    for settings, wanted in (
        (Settings(stride=5), [0, 5, 10, 15]),
        (Settings(max_fps=12.5), list(range(0, 20, 2))),
        (Settings(max_fps=10), [0, 3, 5, 8, 10, 13, 15, 18]),
    ):
        out = Collect()
        pipeline = start(outputs=[out], settings=settings)
        pipeline.add("a", False, lambda: FakeSource("a", 20))
        assert pipeline.wait(5)
        pipeline.stop()
        assert out.indices("a") == wanted
        assert pipeline.stats()["a"]["skipped"] == 20 - len(wanted)


def test_a_clock_that_goes_back_leaves_nothing_out():
    """Recordings that are put together begin again at 0: their frames are due as before."""
    pace = Pace(Settings(max_fps=5))
    times = [n / 10 for n in range(50)] * 2
    assert [index for index, at in enumerate(times) if pace.takes(index, at)] == list(
        range(0, 100, 2)
    )
    trembling = Pace(Settings(max_fps=5))
    assert [t for t in (0.0, 0.2, 0.19, 0.3, 0.4) if trembling.takes(0, t)] == [0.0, 0.2, 0.4]


def test_a_camera_whose_clock_ran_ahead_goes_on_when_it_is_back():
    out = Collect()
    fast = FakeSource("cam", 100, live=True, end=End("failed", "gone"))  # 4 s in an instant
    second = FakeSource("cam", 10_000, live=True, interval=0.01)
    pipeline = start(outputs=[out], settings=replace(QUICK, max_fps=50))
    pipeline.add("cam", True, openers([fast, second]))
    until(lambda: len([s for s in out.seen.get("cam", []) if s.frame.index >= 100]) > 5, 3.0)
    pipeline.stop()
    times = [seen.frame.time for seen in out.seen["cam"] if seen.frame.index >= 100]
    assert times[0] >= 3.96 and all(later > time for time, later in pairwise(times))


def test_sources_come_and_go():
    out = Collect()
    pipeline = start(outputs=[out])
    opener = lambda: FakeSource("a", 9999, live=True, interval=0.01)  # noqa: E731
    pipeline.add("a", True, opener)
    with pytest.raises(UserError, match="a: there is a source of this name"):
        pipeline.add("a", True, opener)
    until(lambda: out.indices("a"))
    pipeline.remove("a")
    count = len(out.indices("a"))
    assert out.ended == ["a"] and pipeline.stats() == {}
    with pytest.raises(UserError, match="no source of this name"):
        pipeline.remove("a")
    pipeline.add("a", True, opener)
    until(lambda: len(out.indices("a")) > count)
    pipeline.stop()


def test_a_name_that_is_taken_leaves_the_hooks_of_its_source_alone():
    made = []
    pipeline = start(hooks=[lambda name: made.append(name) or Chain([])])
    source = FakeSource("a", 10_000, live=True, interval=0.01)
    pipeline.add("a", True, lambda: source)
    with pytest.raises(UserError, match="already"):
        pipeline.add("a", True, lambda: source)
    pipeline.stop()
    assert made == ["a"]


def test_an_output_that_fails_is_told_once_and_the_others_go_on():
    def full():
        raise UserError("x.jsonl: cannot be written: No space left on device")

    def broken():
        raise OutputBrokenError("x.mp4: cannot be written")

    lines, good = [], Collect()
    pipeline = start(outputs=[Collect(fail=full), good, Collect(fail=broken)], report=lines.append)
    pipeline.add("a", False, lambda: FakeSource("a", 30))
    assert pipeline.wait(5)
    pipeline.stop()
    assert good.indices("a") == list(range(30))
    assert [guard.failed for guard in pipeline.guards] == [True, False, True]
    assert sum("No space left" in line for line in lines) == 1
    assert sum("given up" in line for line in lines) == 1
    assert lines[-2:] == ["collected: 31 frames or events are missing in it"] * 2


def test_an_output_that_can_be_written_again_is_told_too(monkeypatch):
    from vision_heads.stream import guard

    monkeypatch.setattr(guard, "PAUSE", 0.0)
    wrong = iter([True] * 4)
    lines = []

    def fail():
        if next(wrong, False):
            raise UserError("x: full")

    output = Collect(fail=fail)
    watched = guard.Guard(output, lines.append, pause=0.0)
    for number in range(6):
        watched.call(lambda: output.frame(_Seen(number)))  # noqa: B023
    watched.close()
    assert [seen.frame.index for seen in output.seen["s"]] == [4, 5]
    assert lines[0].startswith("x: full") and "written again; 4 are missing" in lines[1]


class _Seen:
    def __init__(self, index):
        self.frame = type("F", (), {"source": "s", "index": index})()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc")])
def test_a_frame_that_memory_does_not_suffice_for_is_left_out(error):
    class Small(FakeEngine):
        def run(self, images, heads=None):
            if len(images) > 3 or (images.mean(axis=(1, 2, 3)) * 255 > 199.5).any():
                raise error
            return super().run(images, heads)

    lines, output = [], Collect()
    pipeline = start(Small(), [output], batch=4, report=lines.append)
    for name, first in (("a", 0), ("large", 195)):
        source = FakeSource(name, 10, first=first)
        pipeline.add(name, False, lambda source=source: source)
    assert pipeline.wait(10)
    pipeline.stop()
    assert output.indices("a") == list(range(10)) and output.indices("large") == list(range(5))
    stats = pipeline.stats()
    assert [stats[name]["failed"] for name in ("a", "large")] == [0, 5]
    assert {record["end"] for record in stats.values()} == {"finished"}
    told = [f"large: not enough memory for a frame; {n} are left out so far" for n in (1, 2, 4)]
    assert lines == told


def test_a_source_that_memory_does_not_suffice_for_is_opened_again():
    class Huge(FakeSource):
        def __iter__(self):
            raise MemoryError

    lines, output = [], Collect()
    pipeline = start(outputs=[output], settings=QUICK, report=lines.append)
    sources = [Huge("cam", 1, live=True), FakeSource("cam", 10_000, live=True, interval=0.01)]
    pipeline.add("cam", True, openers(sources))
    pipeline.add("file", False, lambda: Huge("file", 1))
    until(lambda: output.indices("cam"))
    pipeline.stop()
    assert "cam: cannot be opened: not enough memory to decode it; trying again" in lines
    assert pipeline.stats()["file"]["end"] == "failed"


def test_an_output_that_memory_does_not_suffice_for_is_tried_again():
    def fail():
        raise MemoryError

    lines, good = [], Collect()
    pipeline = start(outputs=[Collect(fail=fail), good], report=lines.append)
    pipeline.add("a", False, lambda: FakeSource("a", 5))
    assert pipeline.wait(5)
    pipeline.stop()
    assert good.indices("a") == list(range(5)) and pipeline.guards[0].failed
    assert "collected: not enough memory; the stream goes on, it is tried again" in lines[0]


def test_a_fault_of_ours_is_raised_where_it_is_waited_for():
    class Broken(FakeEngine):
        def run(self, images, heads=None):
            raise ZeroDivisionError("a fault")

    pipeline = start(Broken())
    pipeline.add("a", False, lambda: FakeSource("a", 5000))
    with pytest.raises(ZeroDivisionError):
        pipeline.wait(5)
    pipeline.stop()
    assert not [t for t in threading.enumerate() if t.name.startswith("vh-")]


def test_a_source_that_breaks_is_a_fault_and_one_that_cannot_be_made_is_not():
    def broken():
        raise ZeroDivisionError("a fault")

    def missing():
        raise UserError("videos need PyAV")

    pipeline = start()
    pipeline.add("a", False, missing)
    assert pipeline.wait(5)
    assert pipeline.stats()["a"]["message"] == "videos need PyAV"
    pipeline.add("b", True, broken)
    with pytest.raises(ZeroDivisionError):
        pipeline.wait(5)
    pipeline.stop()


def test_threads_are_gone_after_stop():
    pipeline = start(parallel=2)
    for name in "abc":
        pipeline.add(name, True, lambda name=name: FakeSource(name, 999, live=True, interval=0.01))
    time.sleep(0.1)
    pipeline.stop()
    assert not [t for t in threading.enumerate() if t.name.startswith("vh-")]


def test_a_source_with_too_many_tiles_ends_alone():
    engine, output = FakeEngine(), Collect()

    class Huge(FakeSource):
        def __iter__(self):
            for frame in super().__iter__():
                frame._pixels = np.zeros((3000, 3000, 3), np.uint8)
                yield frame

    pipeline = Pipeline(engine, request(engine, slicing=32), outputs=[output])
    pipeline.start()
    pipeline.add("small", False, lambda: FakeSource("small", 5))
    pipeline.add("file", False, lambda: Huge("file", 2))
    pipeline.add("live", True, lambda: Huge("live", 5, live=True, interval=0.01))
    assert pipeline.wait(30)
    pipeline.stop()
    stats = pipeline.stats()
    assert {name: record["end"] for name, record in stats.items()} == {
        "small": "finished", "file": "failed", "live": "failed"
    }  # fmt: skip
    assert stats["live"]["message"].startswith("live: 3000 x 3000 pixels make ")
    assert output.indices("small") == [0, 1, 2, 3, 4] and set(output.seen) == {"small"}


def test_an_event_of_another_frame_has_no_picture():
    """A stay that a camera's absence ended was shown by a cut-out of whatever came after it."""

    class Late:
        def update(self, seen):
            now = Event.at("now", seen.frame)
            seen.events += [now, Event("late", seen.frame.source, time=0.0, box=(0, 0, 9, 9))]

        def gap(self, seconds):
            """Nothing hangs on time here."""

        def end(self):
            return []

    engine, output = FakeEngine(), Collect()
    pipeline = Pipeline(engine, request(engine), hooks=[lambda _: Late()], outputs=[output])
    pipeline.start()
    pipeline.add("a", False, lambda: FakeSource("a", 2))
    assert pipeline.wait(10)
    pipeline.stop()
    pictures = [(event.kind, image is not None) for event, image in output.events]
    assert pictures[:4] == [("now", True), ("late", False)] * 2
