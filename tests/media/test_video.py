from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.media.clips import frames_of, number_in, numbered, odd_words, turn_clip, write_clip
from vision_heads.errors import UserError
from vision_heads.media.video import OpenOptions, find_videos, open_video

pytest.importorskip("av")


def test_a_file_gives_every_frame_with_the_containers_times(tmp_path):
    times = [0, 0.04, 0.08, 0.5, 0.52, 1.7, 1.74]  # a variable rate
    frames, source = frames_of(write_clip(tmp_path / "a.mp4", times))
    assert [frame.index for frame in frames] == list(range(7))
    assert [round(frame.time, 3) for frame in frames] == times
    assert [number_in(frame.image) for frame in frames] == list(range(7))
    assert {frame.source for frame in frames} == {"a"}
    assert all(abs(frame.received - time.time()) < 60 for frame in frames)
    assert source.end.reason == "finished" and source.end.message == ""


def test_times_begin_with_the_video(tmp_path):
    times = [5 + index / 10 for index in range(20)]
    frames, _ = frames_of(write_clip(tmp_path / "a.ts", times))
    assert [round(frame.time, 2) for frame in frames] == [index / 10 for index in range(20)]


def test_words_in_latin_1_do_not_keep_a_video_from_being_read(tmp_path):
    """Such a title, as of an old AVI, made of every file one that "cannot be opened"."""
    frames, source = frames_of(odd_words(tmp_path / "a.mkv"))
    assert len(frames) == 3 and source.end.reason == "finished"


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_the_rotation_flag_is_applied(tmp_path, degrees):
    image = np.zeros((96, 128, 3), np.uint8)
    image[:48, :64] = (0, 0, 255)  # red in the upper left corner
    path = write_clip(tmp_path / "a.mp4", [0, 0.04], images=[image] * 2)
    turn_clip(path, degrees)
    frames, _ = frames_of(path)
    turns = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
    wanted = cv2.rotate(image, turns[degrees])
    assert frames[0].image.shape == wanted.shape
    assert np.abs(frames[0].image.astype(int) - wanted).mean() < 12


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_file_that_is_cut_off_gives_what_is_there(tmp_path, suffix):
    container = {"movflags": "faststart"} if suffix == ".mp4" else {}
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(50)]
    times = [index / 25 for index in range(50)]
    path = write_clip(tmp_path / f"a{suffix}", times, images=images, container=container)
    assert frames_of(path)[1].end.reason == "finished"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames, source = frames_of(path)
    assert 10 < len(frames) < 40
    assert source.end.reason == "truncated"
    at = re.search(rf"{re.escape(path.name)}: .* at ([\d.]+) s", source.end.message)
    assert float(at.group(1)) == pytest.approx(len(frames) / 25, abs=0.05)


def test_a_file_with_a_hole_gives_what_is_before_it(tmp_path):
    times = [index / 25 for index in range(40)]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(40)]
    path = write_clip(tmp_path / "a.mp4", times, images=images)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    path.write_bytes(bytes(data))
    frames, source = frames_of(path)
    assert 10 < len(frames) < 30
    assert source.end.reason == "truncated" and "damaged at" in source.end.message


@pytest.mark.parametrize(
    ("name", "data"), [("a.mp4", b""), ("b.mp4", b"no video" * 99), ("c.mkv", b"\x1aE\xdf\xa3")]
)
def test_what_is_no_video_fails_with_a_line(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    frames, source = frames_of(path)
    assert frames == [] and source.end.reason == "failed"
    assert source.end.message.startswith(f"{path}: ") and "\n" not in source.end.message


def test_a_codec_that_nobody_knows_is_said(tmp_path):
    path = write_clip(tmp_path / "a.avi", [0, 0.04])
    data = path.read_bytes()
    begin = data.index(b"vids") + 4
    path.write_bytes(data.replace(data[begin : begin + 4], b"ZZZZ"))
    frames, source = frames_of(path)
    assert frames == [] and source.end.reason == "failed"
    assert source.end.message.endswith(
        "a.avi: its video is of a codec that this FFmpeg does not know"
    )


def test_gifs(shared_data, tmp_path):
    path = shared_data / "video" / "head-pose-face-detection-female-and-male.gif"
    frames, source = frames_of(path)
    assert len(frames) == 56 and source.end.reason == "finished"
    assert frames[0].image.shape == (270, 480, 3)
    assert frames[-1].time == pytest.approx(4.58) and frames[0].time == 0
    cut = tmp_path / "cut.gif"
    cut.write_bytes(path.read_bytes()[:200_000])
    frames, source = frames_of(cut)
    assert 0 < len(frames) < 56 and source.end.reason == "truncated"


def test_a_real_video(shared_data):
    frames, source = frames_of(shared_data / "video" / "car-detection.mp4")
    assert len(frames) == 377 and source.end.reason == "finished"
    assert frames[-1].time == pytest.approx(376 / 12.5)


def test_stopping_ends_the_iterator(tmp_path):
    path = write_clip(tmp_path / "a.mp4", [index / 25 for index in range(20)])
    (spec,) = find_videos([str(path)])
    source = open_video(spec)
    count = 0
    for _ in source:
        count += 1
        if count == 3:
            source.stop()
    assert count == 3 and source.end.reason == "stopped"


def test_sequences_are_sorted_by_their_numbers(tmp_path):
    for number in (1, 2, 10):
        cv2.imwrite(str(tmp_path / f"p{number}.png"), numbered(number))
    for where in (tmp_path, tmp_path / "*.png"):
        frames, source = frames_of(where, fps=10)
        assert [number_in(frame.image) for frame in frames] == [1, 2, 10]
        assert [frame.time for frame in frames] == [0, 0.1, 0.2]
        assert source.end.reason == "finished"
    (tmp_path / "p2.png").write_bytes(b"broken")
    (tmp_path / "p99.png").symlink_to("/dev/zero")  # which would fill the memory
    frames, source = frames_of(tmp_path, fps=10)
    assert [frame.index for frame in frames] == [0, 2] and source.damaged == 2
    assert "2 of 4 pictures cannot be read" in source.end.message
    assert len(frames_of(tmp_path / "p1.png")[0]) == 1


def test_lists_names_and_kinds(tmp_path):
    write_clip(tmp_path / "a.mp4", [0])
    (tmp_path / "b.sdp").write_text("v=0")
    (tmp_path / "list.txt").write_text(
        "# cameras\n\ngate=rtsp://u:secret@10.0.0.5/live?x=secret\na.mp4\nb.sdp\n/dev/video3\n",
        encoding="utf-16",
    )
    names = [str(tmp_path / "list.txt"), "http://10.0.0.6/v.mjpg", str(tmp_path / "a.mp4"), "0"]
    found = find_videos(names)
    assert [(spec.name, spec.kind, spec.live) for spec in found] == [
        ("gate", "network", True),
        ("a", "file", False),
        ("b", "network", True),
        ("camera3", "camera", True),
        ("10.0.0.6-v.mjpg", "network", True),
        ("a-2", "file", False),
        ("camera0", "camera", True),
    ]
    assert "secret" not in repr(found) and found[0].shown == "rtsp://***@10.0.0.5/live?x=***"
    assert find_videos(["http://h/film.mp4"])[0].live is False
    assert find_videos(["x=http://h/film.ts"])[0].live is True


def test_a_list_written_on_windows(tmp_path):
    (tmp_path / "clips").mkdir()
    for name in ("a", "b"):
        write_clip(tmp_path / f"clips/{name}.mp4", [0])
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"clips\\a.mp4\r\ngate=.\\clips\\b.mp4\r\n")
    found = [(spec.name, spec.where) for spec in find_videos([str(listed)])]
    assert found == [(n, f"{tmp_path}/clips/{f}.mp4") for n, f in (("a", "a"), ("gate", "b"))]
    listed.write_text("clips\\*.mp4\n")
    assert [spec.name for spec in find_videos([str(listed)])] == ["a", "b"]
    pipeline = "videotestsrc ! " + "identity ! " * 40 + r"x a=\"b\" ! appsink"
    listed.write_text(pipeline)
    assert find_videos([str(listed)])[0].where == pipeline


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["none.mp4"], "none.mp4: no such file"),
        (["a" * 300 + ".mp4"], "a.mp4: no such file"),
        (["gate=" + "a" * 300 + ".mp4"], "a.mp4: no such file"),
        (["long.txt"], "line 1: aaaa"),
        (["cam 5=none.mp4"], "a name before = has no blanks"),
        (["ftp://u:pw@h/x.mp4"], "ftp://***@h/x.mp4: cannot open ftp"),
        (["file:///etc/passwd"], "cannot open file://"),
        (["rtsp://"], "names no host"),
        ([" "], "is empty"),
        (["*.mp4"], "no videos or pictures match"),
        (["a=rtsp://x", "A=rtsp://y"], "two sources have this name"),
        (["list.txt"], "line 2: none.mp4: no such file"),
        (["empty.txt"], "names no sources"),
    ],
)
def test_mistakes_are_named(tmp_path, monkeypatch, sources, message):
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("rtsp://cam\nnone.mp4\n")
    Path("empty.txt").write_text("# nothing\n")
    Path("long.txt").write_text(f"gate={'a' * 300}.mp4\n")
    with pytest.raises(UserError) as error:
        find_videos(sources)
    assert message in str(error.value) and "pw" not in str(error.value)


def test_a_live_clock_that_is_set_back_goes_on():
    from vision_heads.media.video_network import Times

    times = Times(0.04)
    before = [times.at(1000 + 0.04 * i) for i in range(5)]
    after = [times.at(40 + 0.04 * i) for i in range(5)]
    assert np.diff(before + after) == pytest.approx([0.04] * 9)
    jitter = [times.at(moment) for moment in (40.18, 40.17, 40.25, None)]
    assert (np.diff([after[-1], *jitter]) > 0).all() and jitter[-1] - before[0] < 0.5


def test_a_live_clock_that_is_set_ahead_goes_on():
    """A camera without a battery begins in 1970, until it has asked for the time."""
    from vision_heads.media.video_network import Times

    now = [0.0]
    times = Times(0.04, lambda: now[0])
    moments = [0, 0.04, 1.7e9, 1.7e9 + 0.04, 1.7e9 + 10.04]  # the last is late and came in a burst
    found = [times.at(moment) for moment in moments]
    assert found == pytest.approx([0, 0.04, 0.08, 0.12, 10.12], abs=1e-6)
    now[0] += 5000  # no clock was set: nothing came for so long
    assert times.at(1.7e9 + 5010.04) == pytest.approx(5010.12, abs=1e-6)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_timeout_is_a_number_of_seconds(seconds):
    with pytest.raises(UserError, match="timeout must be"):
        OpenOptions(timeout=seconds)


class _Webcam:
    """Stands for OpenCV's camera: three pictures, then none."""

    def __init__(self, device):
        self.left = 3 if device == 0 else 0
        self.released = False

    def isOpened(self):  # noqa: N802
        return self.left > 0

    def set(self, *args):
        return True

    def read(self):
        self.left -= 1
        return self.left >= 0, numbered(self.left)

    def release(self):
        self.released = True


def test_webcams(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", _Webcam)
    frames, source = frames_of("0")
    assert [frame.index for frame in frames] == [0, 1, 2] and source.end.reason == "failed"
    assert "no more pictures" in source.end.message
    frames, source = frames_of("/dev/video7")
    assert frames == [] and source.end.message == "camera /dev/video7: cannot be opened"


def test_without_pyav_it_says_what_to_install(monkeypatch, tmp_path):
    path = write_clip(tmp_path / "a.mp4", [0])
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r'pip install "vision-heads\[stream\]"'):
        open_video(find_videos([str(path)])[0])
