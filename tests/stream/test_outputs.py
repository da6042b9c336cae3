from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tests.media.clips import number_in, numbered
from vision_heads.errors import UserError
from vision_heads.geometry.rotations import from_euler
from vision_heads.media.frames import Frame
from vision_heads.media.video import find_videos, open_video
from vision_heads.results import Detections, Result
from vision_heads.stream import lines as text
from vision_heads.stream.guard import OutputBrokenError
from vision_heads.stream.seen import Event, Seen
from vision_heads.stream.snapshots import Snapshots, snapshot_name
from vision_heads.stream.video import VideoFiles


def seen(index=0, seconds=None, source="gate", image=None, track=None, pose=False):
    image = numbered(index) if image is None else image
    rotation = from_euler(np.array([[10.0, -20.0, 5.0], [np.nan] * 3])) if pose else None
    found = Detections(
        np.array([[10, 20, 50, 80], [1, 2, 3, 4.5]]), [0.9, 0.5], [0, 1], ("car", "van"), (4, 5),
        rotation, track,
    )  # fmt: skip
    moment = index / 25 if seconds is None else seconds
    frame = Frame(source, index, moment, 1.7e9 + moment, image)
    return Seen(frame, Result({"aerial": found}, image.shape[1], image.shape[0], source))


def full(tmp_path: Path, name: str) -> Path:
    """A file on a disk without room."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    path = tmp_path / name
    path.symlink_to("/dev/full")
    return path


def test_json_lines_are_as_documented_and_there_at_once(tmp_path):
    output = text.JsonLines(tmp_path / "deep" / "a.jsonl")
    output.frame(seen(3, track=[7, -1]))
    output.frame(seen(4, pose=True))
    first, second = map(json.loads, (tmp_path / "deep" / "a.jsonl").read_text().splitlines())
    assert first == {
        "source": "gate",
        "frame": 3,
        "time": 0.12,
        "received": 1700000000.12,
        "heads": {
            "aerial": [
                {"class": "car", "score": 0.9, "box": [10, 20, 50, 80], "track": 7},
                {"class": "van", "score": 0.5, "box": [1, 2, 3, 4.5], "track": None},
            ]
        },
    }
    poses = [record["euler"] for record in second["heads"]["aerial"]]
    assert poses == [[10, -20, 5], None]
    output.close()
    output.close()
    again = text.JsonLines(tmp_path / "deep" / "a.jsonl", append=True)
    again.frame(seen(5))
    again.close()
    assert len((tmp_path / "deep" / "a.jsonl").read_text().splitlines()) == 3


def test_csv_has_a_line_a_detection(tmp_path):
    for _ in range(2):
        output = text.CsvLines(tmp_path / "a.csv", append=True)
        output.frame(seen(3, track=[7, -1], pose=True))
        output.close()
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and tuple(rows[0]) == text.CSV_COLUMNS
    assert (rows[0]["track"], rows[1]["track"], rows[0]["yaw"], rows[1]["yaw"]) == (
        "7", "", "-20.0", "",
    )  # fmt: skip
    assert (rows[0]["frame"], rows[0]["class"], rows[0]["category_id"], rows[0]["x2"]) == (
        "3", "car", "4", "50.0",
    )  # fmt: skip


def test_mot_text(tmp_path):
    output = text.MotLines(tmp_path / "a.txt", ["gate", "yard"], ["aerial"])
    output.frame(seen(0, track=[7, -1]))
    output.frame(seen(0, source="yard"))
    output.end("gate")
    output.close()
    assert (tmp_path / "a-gate.txt").read_text() == (
        "1,7,10.00,20.00,40.00,60.00,0.90000,-1,-1,-1\n"
    )
    assert (tmp_path / "a-yard.txt").read_text().splitlines()[1].startswith("1,-1,1.00,2.00,2.00")
    assert text.inserted(Path("x/o.txt"), "s", "h") == Path("x/o-s-h.txt")


def test_tracks_are_kept_by_head_and_a_file_may_be_gone_on_with(tmp_path):
    frames = [seen(0, track=[0, 1]), seen(1, track=[2, -1])]
    for append in (False, True, True):
        output = text.MotLines(tmp_path / "a.txt", ["gate"], ["aerial", "street"], append=append)
        output.frame(frames.pop(0) if frames else seen(2, track=[3, 4]))
        output.close()
    ids = [line.split(",")[:2] for line in (tmp_path / "a-aerial.txt").read_text().splitlines()]
    assert ids == [["1", "0"], ["1", "1"], ["2", "2"], ["3", "3"], ["3", "4"]]
    assert (tmp_path / "a-street.txt").read_text() == ""
    text.MotLines(tmp_path / "a.txt", ["gate"], ["aerial", "street"]).close()
    assert (tmp_path / "a-aerial.txt").read_text() == ""


def test_the_end_of_a_source_closes_its_own_files_alone(tmp_path):
    output = text.MotLines(tmp_path / "a.txt", ["gate", "yard"], ["aerial"])
    output.end("gate")
    output.frame(seen(0, source="yard", track=[1, 2]))
    with pytest.raises(UserError, match=r"a-gate\.txt: is closed"):
        output.frame(seen(0, track=[1, 2]))
    output.close()
    assert len((tmp_path / "a-yard.txt").read_text().splitlines()) == 2


def test_a_full_disk_is_named_and_takes_nothing_along(tmp_path):
    output = text.JsonLines(full(tmp_path, "a.jsonl"))
    for _ in range(2):
        with pytest.raises(UserError, match=r"a\.jsonl: cannot be written: No space left"):
            output.frame(seen())
    output.close()


def test_a_line_that_did_not_fit_leaves_no_half(tmp_path, monkeypatch):
    output = text.JsonLines(tmp_path / "a.jsonl")
    output.frame(seen(0))
    write, calls = os.write, []

    def short(file, data):
        calls.append(len(data))
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write(file, bytes(data)[:10])

    monkeypatch.setattr(text.os, "write", short)
    with pytest.raises(UserError, match="No space left"):
        output.frame(seen(1))
    monkeypatch.setattr(text.os, "write", write)
    output.frame(seen(2))
    output.close()
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [record["frame"] for record in records] == [0, 2]


@pytest.mark.parametrize("kind", [text.JsonLines, text.CsvLines])
def test_a_deleted_file_is_begun_anew_and_a_folder_that_has_gone_is_said(tmp_path, kind):
    path = tmp_path / "out" / "a.txt"
    output = kind(path)
    output.frame(seen(0))
    path.unlink()
    output.frame(seen(1))
    second = path.read_text()
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(UserError, match=r"a\.txt: cannot be written: No such file"):
        output.frame(seen(2))
    path.parent.mkdir()
    output.frame(seen(3))
    output.close()
    fresh = kind(tmp_path / "fresh.txt")
    for index, written in ((1, second), (3, path.read_text())):
        fresh.frame(seen(index))
        fresh.close()
        assert written == (tmp_path / "fresh.txt").read_text()
        fresh = kind(tmp_path / "fresh.txt")
    fresh.close()


def test_a_reader_that_has_gone_does_not_come_back_unless_the_pipe_has_a_name(tmp_path):
    if not Path("/proc/self/fd").exists():
        pytest.skip("this system names no pipes in /proc")
    reader, writer = os.pipe()
    output = text.JsonLines(Path(f"/dev/fd/{writer}"))  # as /dev/stdout before "| head"
    os.close(reader)
    with pytest.raises(OutputBrokenError, match=f"/dev/fd/{writer}: its reader has gone"):
        output.frame(seen(0))
    output.close()
    os.close(writer)
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    output = text.JsonLines(tmp_path / "fifo")
    os.close(reader)
    with pytest.raises(UserError, match="fifo: cannot be written: Broken pipe") as caught:
        output.frame(seen(0))
    assert not isinstance(caught.value, OutputBrokenError)
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    output.frame(seen(1))
    assert json.loads(os.read(reader, 65536))["frame"] == 1
    output.close()
    os.close(reader)


@pytest.mark.parametrize("place", ["a.jpg", "a.mp4", "file/a.jsonl", "."])
def test_places_that_cannot_be_are_named(tmp_path, place, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(UserError):
        text.JsonLines(Path(place))


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_videos_keep_the_times_of_their_source(tmp_path, live, suffix):
    pytest.importorskip("av")
    times = [0, 0.04, 0.5, 0.54, 2.0]
    times = [moment + (0.75 if live else 0) for moment in times]  # the first frames were dropped
    output = VideoFiles(tmp_path / f"a{suffix}", ["gate"], live)
    for index, moment in enumerate(times):
        output.frame(seen(index, moment))
    output.end("gate")
    output.close()
    source = open_video(find_videos([str(tmp_path / f"a{suffix}")])[0])
    frames = [frame.time for frame in source]
    assert frames == pytest.approx([moment - times[0] for moment in times], abs=0.0011)
    assert source.end.reason == "finished", source.end


def test_a_clock_that_goes_back_squeezes_nothing_together(tmp_path):
    """Recordings that are put together begin again at 0: in the video one follows the other."""
    pytest.importorskip("av")
    output = VideoFiles(tmp_path / "a.mp4", ["gate"], False)
    for index, moment in enumerate([0, 0.04, 0.08, 5.0, 0.0, 0.04, 4.0, 3.99, 0.5, 0.6]):
        output.frame(seen(index, moment))
    output.close()
    frames = [frame.time for frame in open_video(find_videos([str(tmp_path / "a.mp4")])[0])]
    wanted = [0, 0.04, 0.08, 5.0, 5.04, 5.08, 9.04, 9.04, 9.08, 9.18]
    assert frames == pytest.approx(wanted, abs=0.0011)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_pause_longer_than_a_file_can_hold_squeezes_nothing_together(
    tmp_path, monkeypatch, codec, name
):
    """A camera that is off at night, then one whose clock is set."""
    if codec not in pytest.importorskip("av").codecs_available:
        pytest.skip(f"this build of PyAV has no {codec}")
    monkeypatch.setattr("vision_heads.stream.video.CODECS", (codec,))
    output = VideoFiles(tmp_path / name, ["gate"], True)
    for index, moment in enumerate([0, 0.04, 40_000, 40_000.04, 1.7e9, 1.7e9 + 0.04]):
        output.frame(seen(index, moment))
    output.close()
    frames = [frame.time for frame in open_video(find_videos([str(tmp_path / name)])[0])]
    nine = 9 * 3600
    wanted = [0, 0.04, nine + 0.04, nine + 0.08, 2 * nine + 0.08, 2 * nine + 0.12]
    assert frames == pytest.approx(wanted, abs=0.0011)


def test_what_is_drawn_is_in_the_video_whatever_its_size(tmp_path):
    pytest.importorskip("av")
    output = VideoFiles(tmp_path / "a.mp4", ["gate", "yard"], False)
    for source, shape in (("gate", (97, 129)), ("yard", (96, 128))):
        for index in range(5):
            picture = np.full((*shape, 3), 200, np.uint8)
            output.frame(seen(index, source=source, image=picture))
    output.frame(seen(5, source="yard", image=np.full((200, 200, 3), 200, np.uint8)))
    output.close()
    frames = list(open_video(find_videos([str(tmp_path / "a-gate.mp4")])[0]))
    assert len(frames) == 5 and frames[0].image.shape == (98, 130, 3)
    box = frames[4].image[22:78, 10:12].astype(int)
    assert np.abs(box - 200).max() > 40  # a line where the picture was plain
    frames = list(open_video(find_videos([str(tmp_path / "a-yard.mp4")])[0]))
    assert len(frames) == 6 and frames[5].image.shape == (96, 128, 3)


def test_the_video_says_how_its_colours_are_coded(tmp_path):
    av = pytest.importorskip("av")
    output = VideoFiles(tmp_path / "a.mp4", ["gate"], False)
    output.frame(seen(0, image=np.full((96, 128, 3), (30, 30, 200), np.uint8)))
    output.close()
    with av.open(str(tmp_path / "a.mp4")) as file:
        frame = next(file.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (6, 1)  # else players take HD for BT.709
    corner = frame.to_ndarray(format="bgr24")[-1, -1].astype(int)
    assert np.abs(corner - (30, 30, 200)).max() < 6


def test_without_h264_it_is_mpeg4_and_said(tmp_path, monkeypatch):
    av = pytest.importorskip("av")
    monkeypatch.setattr("vision_heads.stream.video.CODECS", ("mpeg4",))
    lines = []
    output = VideoFiles(tmp_path / "a.mp4", ["gate"], False, lines.append)
    for index in range(5):
        output.frame(seen(index))
    output.close()
    assert "no H.264 encoder" in lines[0]
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.streams.video[0].codec_context.name == "mpeg4"
        assert len(list(file.decode(video=0))) == 5


def test_a_video_on_a_full_disk_is_given_up_with_a_line(tmp_path):
    pytest.importorskip("av")
    output = VideoFiles(full(tmp_path, "a.mp4"), ["gate"], False)
    rng = np.random.default_rng(0)
    with pytest.raises(OutputBrokenError, match=r"a\.mp4: cannot be written: no space left"):
        for index in range(200):
            output.frame(seen(index, image=rng.integers(0, 255, (240, 320, 3), np.uint8)))
        output.close()


def test_a_video_that_is_deleted_meanwhile_is_given_up_with_a_line(tmp_path):
    pytest.importorskip("av")
    output = VideoFiles(tmp_path / "a.mp4", ["gate"], False)
    output.frame(seen(0))
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(OutputBrokenError, match=r"a\.mp4: cannot be written: it was deleted"):
        output.close()


@pytest.mark.parametrize("last", [False, True])
def test_a_fault_of_the_encoder_is_a_line_too(tmp_path, last):
    av = pytest.importorskip("av")

    def fail(frame=None):
        if last == (frame is None):
            raise av.error.PermissionError(1, "Operation not permitted")
        return []

    output = VideoFiles(tmp_path / "a.mp4", ["gate"], False)
    output.frame(seen(0))
    output._open["gate"]._stream = SimpleNamespace(encode=fail)
    with pytest.raises(OutputBrokenError, match=r"a\.mp4: cannot be written: operation not"):
        output.end("gate") if last else output.frame(seen(1))
    output.close()


def test_a_size_that_no_encoder_takes_leaves_no_empty_video(tmp_path):
    pytest.importorskip("av")
    output = VideoFiles(tmp_path / "a.mp4", ["gate"], False)
    with pytest.raises(OutputBrokenError, match=r"a\.mp4: cannot be written"):
        output.frame(seen(0, image=np.zeros((2, 20_000, 3), np.uint8)))
    output.close()
    assert not list(tmp_path.iterdir())


def test_a_video_that_fails_keeps_no_other_from_being_finished(tmp_path):
    pytest.importorskip("av")
    output = VideoFiles(tmp_path / "a.mp4", ["gate", "yard", "door"], False)
    for source in ("gate", "yard", "door"):
        output.frame(seen(0, source=source))
    (tmp_path / "a-yard.mp4").unlink()
    with pytest.raises(OutputBrokenError, match=r"a-yard\.mp4: cannot be written"):
        output.close()
    for source in ("gate", "door"):
        assert len(list(open_video(find_videos([str(tmp_path / f"a-{source}.mp4")])[0]))) == 1


def test_a_video_that_cannot_be_opened_is_found_out_at_once(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "file").write_text("")
    for place, message in (("file/a.mp4", "cannot be written"), ("a.webm", "are written as")):
        with pytest.raises(UserError, match=message):
            VideoFiles(tmp_path / place, ["gate"], False)


def test_a_source_without_pictures_leaves_no_video_and_takes_none_away(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "old-gate.mp4").write_bytes(b"of yesterday")
    (tmp_path / "link-gate.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    before = sorted(tmp_path.iterdir())
    for name in ("new", "old", "link"):
        output = VideoFiles(tmp_path / f"{name}.mp4", ["gate", "yard"], True)
        output.end("gate")
        output.close()
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "old-gate.mp4").read_bytes() == b"of yesterday"
    output = VideoFiles(tmp_path / "old-gate.mp4", ["gate"], False)
    output.frame(seen(0))
    output.close()
    assert len(list(open_video(find_videos([str(tmp_path / "old-gate.mp4")])[0]))) == 1


@pytest.mark.parametrize(
    ("box", "shown"),
    [
        (None, (0, 0, 100, 80)),
        ((20, 10, 40, 50), (17, 4, 43, 56)),  # 15 % of its sides around it
        ((20.5, 10.5, 40.5, 50.5), (17, 4, 44, 57)),  # every pixel that it touches
        ((0, 0, 20, 20), (0, 0, 23, 23)),
        ((80, 60, 100, 80), (77, 57, 100, 80)),
        ((200, 200, 240, 240), (99, 79, 100, 80)),  # outside: at least one pixel
        ((-50, -50, -20, -20), (0, 0, 1, 1)),
        ((30, 30, 30, 30), (30, 30, 31, 31)),
    ],
)
def test_what_a_snapshot_shows_of_its_picture(tmp_path, monkeypatch, box, shown):
    image = np.arange(100 * 80 * 3, dtype=np.uint32).reshape(80, 100, 3).astype(np.uint8)
    saved = []
    monkeypatch.setattr(
        "vision_heads.stream.snapshots.save_jpeg", lambda path, crop: saved.append(crop)
    )
    Snapshots(tmp_path / "deep" / "shots").event(Event("k", "gate", box=box), image)
    x1, y1, x2, y2 = shown
    np.testing.assert_array_equal(saved[0], image[y1:y2, x1:x2])
    assert (tmp_path / "deep" / "shots").is_dir()


def test_snapshots_show_the_object(tmp_path):
    image = np.zeros((100, 200, 3), np.uint8)
    image[40:60, 100:140] = 255
    output = Snapshots(tmp_path / "shots")
    shot = seen(12, image=image)
    event = Event.at("zone_entered", shot.frame, head="aerial", box=(100, 40, 140, 60))
    output.event(event, image)
    output.event(Event("source_lost", "gate"), None)
    (file,) = (tmp_path / "shots").rglob("*.jpg")
    assert file == tmp_path / "shots" / snapshot_name(event)
    saved = cv2.imread(str(file))
    assert saved.shape == (26, 52, 3) and saved[13, 26].min() > 200 and saved[0, 0].max() < 60
    outside = Event.at("x", shot.frame, box=(190, 90, 300, 400))
    output.event(outside, image)
    assert (tmp_path / "shots" / snapshot_name(outside)).is_file()


def test_events_are_plain_records(tmp_path):
    event = Event.at("line_crossed", seen(12).frame, head="aerial", track=3, data={"line": "door"})
    output = text.EventLines(tmp_path / "events.jsonl")
    output.event(event, None)
    output.close()
    record = json.loads((tmp_path / "events.jsonl").read_text())
    assert record == {
        "id": event.id, "event": "line_crossed", "source": "gate", "received": 1700000000.48,
        "time": 0.48, "frame": 12, "head": "aerial", "track": 3, "line": "door",
    }  # fmt: skip


def test_numbers_survive_coding(tmp_path):
    """The clips of these tests can tell frames apart: else the tests above prove nothing."""
    pytest.importorskip("av")
    output = VideoFiles(tmp_path / "a.mp4", ["gate"], False)
    for index in range(6):
        plain = seen(index)
        plain.result.heads.clear()
        output.frame(plain)
    output.close()
    frames = open_video(find_videos([str(tmp_path / "a.mp4")])[0])
    assert [number_in(frame.image) for frame in frames] == list(range(6))
