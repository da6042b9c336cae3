"""GStreamer pipelines: by GStreamer itself where it is installed, and by a program that acts it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from vision_heads.errors import UserError
from vision_heads.media import video_gstreamer
from vision_heads.media.video import OpenOptions, find_videos, open_video
from vision_heads.media.video_gstreamer import pipeline_of

CSI = (
    "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1 "
    "! nvvidconv ! video/x-raw,format=I420"
)


@pytest.fixture
def acted(monkeypatch, tmp_path):
    """Return a function that puts a Python program in the place of gst-launch-1.0.

    Its code finds the pipeline in `words`, and writes to `out` what the pipeline would.
    """

    def act(code):
        program = tmp_path / "gst-launch-1.0"
        head = (
            f"#!{sys.executable}\nimport os, re, sys, time\nwords = sys.argv[1:]\n"
            "number = next(int(w[3:]) for w in words if re.fullmatch(r'fd=\\d+', w))\n"
            "out = os.fdopen(number, 'wb', 0)\n"
        )
        program.write_text(head + code)
        program.chmod(0o755)
        monkeypatch.setattr(video_gstreamer, "PROGRAM", str(program))

    return act


def opened(pipeline=CSI, **options):
    (spec,) = find_videos([pipeline])
    return open_video(spec, OpenOptions(**options))


def i420(image):
    return cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).tobytes()


def test_a_pipeline_is_a_live_source_with_a_name():
    (plain,) = find_videos([CSI])
    assert (plain.name, plain.kind, plain.live) == ("nvarguscamerasrc", "gstreamer", True)
    (gate,) = find_videos([f"gate={CSI}"])
    assert (gate.name, gate.where) == ("gate", CSI)
    first, second = find_videos([CSI, CSI.replace("sensor-id=0", "sensor-id=1")])
    assert {first.name, second.name} == {"nvarguscamerasrc", "nvarguscamerasrc-2"}


def test_lists_may_hold_pipelines_and_files_may_be_called_like_one(tmp_path):
    (tmp_path / "cameras.txt").write_text(f"# two\nfront={CSI}\n{CSI}\n")
    assert [spec.name for spec in find_videos([str(tmp_path / "cameras.txt")])] == [
        "front", "nvarguscamerasrc"
    ]  # fmt: skip
    (tmp_path / "a ! b.mp4").write_bytes(b"")
    (spec,) = find_videos([str(tmp_path / "a ! b.mp4")])
    assert spec.kind == "file"


def test_nothing_but_names_of_elements_is_shown():
    where = 'rtspsrc location="rtsp://u:hunter2@h/x?token=abc" user-pw=hunter2 ! decodebin'
    (spec,) = find_videos([where])
    assert spec.shown == "rtspsrc ! decodebin"
    assert "hunter2" not in repr(spec) and "token" not in spec.name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a x=1 ! b ! appsink drop=1", ["a", "x=1", "!", "b"]),
        ('a name="my cam" ! b', ["a", "name=my cam", "!", "b"]),
        ("a ! appsinkfilter", ["a", "!", "appsinkfilter"]),
    ],
)
def test_words_of_a_pipeline(text, words):
    assert pipeline_of(text) == words


@pytest.mark.parametrize("text", ["! a ! b", "a ! b !", 'a x="1 ! b', "", "! appsink"])
def test_broken_pipelines_are_refused(text):
    with pytest.raises(UserError, match=r"^GStreamer pipeline: "):
        pipeline_of(text)


def test_pictures_come_out_as_they_went_in(acted, tmp_path):
    coarse = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), np.uint8)
    images = [np.kron(tile, np.ones((8, 8, 1), np.uint8)) for tile in coarse]
    data = b"".join(b"FRAME\n" + i420(image) for image in images)
    (tmp_path / "frames").write_bytes(b"YUV4MPEG2 W64 H48 Ip F30:1 A1:1 C420jpeg XA=B\n" + data)
    acted(
        f"data = open({str(tmp_path / 'frames')!r}, 'rb').read()\n"
        f"open({str(tmp_path / 'words')!r}, 'w').write(' '.join(words))\n"
        "for start in range(0, len(data), 1000):\n    out.write(data[start : start + 1000])\n"
    )
    source = opened(f"{CSI} ! appsink")
    frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert frames[0].time == 0 and all(abs(frame.received - time.time()) < 60 for frame in frames)
    for frame, image in zip(frames, images, strict=True):
        expected = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), cv2.COLOR_YUV2BGR_I420)
        np.testing.assert_array_equal(frame.image, expected)
    assert (source.end.reason, source.end.message) == ("finished", "")
    words = (tmp_path / "words").read_text()
    assert words.startswith("-q nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),")
    assert "appsink" not in words and "format=I420 ! videoconvert !" in words
    assert words.endswith("sync=false") and " ! y4menc ! fdsink fd=" in words


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("padded", [False, True])
def test_rows_may_be_padded_as_in_gstreamers_memory(acted, tmp_path, padded, frames):
    """y4menc of 1.22 writes rows that are multiples of 4 bytes, as videoconvert made them."""
    image = np.random.default_rng(1).integers(0, 256, (6, 10, 3), np.uint8)
    planes = i420(image)
    bright = np.frombuffer(planes, np.uint8, 60).reshape(6, 10)
    colour = np.frombuffer(planes, np.uint8, offset=60).reshape(6, 5)
    if padded:
        bright, colour = np.pad(bright, ((0, 0), (0, 2))), np.pad(colour, ((0, 0), (0, 3)))
    frame = b"FRAME\n" + bright.tobytes() + colour.tobytes()
    (tmp_path / "frames").write_bytes(b"YUV4MPEG2 W10 H6 C420jpeg\n" + frame * frames)
    acted(f"out.write(open({str(tmp_path / 'frames')!r}, 'rb').read())\n")
    source = opened()
    found = [frame.image for frame in source]
    assert len(found) == frames and source.end.reason == "finished", source.end
    expected = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), cv2.COLOR_YUV2BGR_I420)
    for one in found:
        np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('WARNING: erroneous pipeline: no element \"nvarguscamerasrc\"', file=sys.stderr)",
         'WARNING: erroneous pipeline: no element "nvarguscamerasrc"'),
        ("print('ERROR: cannot open rtsp://u:pw@h/x', file=sys.stderr)", "cannot open rtsp://***@h/x"),
        ("out.write(b'RIFF' + bytes(4000))", "sends no pictures"),
        ("out.write(b'YUV4MPEG2 W64 H48 C444\\n')", "sends no pictures"),
        ("out.write(b'YUV4MPEG2 W63 H48\\n')", "63 x 48 pixels: both must be even"),
        ("out.write(b'YUV4MPEG2 W640000 H480000\\n')", "are more than the limit of"),
        ("out.write(b'YUV4MPEG2 W64 H48\\nNONSENSE\\n')", "sends no pictures"),
        ("time.sleep(60)", "no picture for 0.3 s"),
        ("out.write(b'YUV4MPEG2 W64 H48\\nFRAME\\nabc'); time.sleep(60)", "no picture for 0.3 s"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_said_without_secrets(acted, code, message):
    acted(code)
    source = opened(timeout=5.0 if "sleep" not in code else 0.3)
    assert not list(source)
    assert source.end.reason == "failed"
    assert source.end.message.startswith("nvarguscamerasrc ! video/x-raw(memory:NVMM) ! nvvidconv")
    assert message in source.end.message and "\n" not in source.end.message


def test_stopping_ends_the_process_soon(acted, tmp_path):
    acted(
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "out.write(b'YUV4MPEG2 W2 H2\\n' + (b'FRAME\\n' + bytes(6)) * 3)\ntime.sleep(60)\n"
    )
    source = opened(timeout=30.0)
    frames = iter(source)
    assert next(frames).image.shape == (2, 2, 3)
    threading.Timer(0.3, source.stop).start()
    begin = time.monotonic()
    assert len(list(frames)) == 2
    assert time.monotonic() - begin < 5
    assert source.end.reason == "stopped"
    pid = int((tmp_path / "pid").read_text())
    done = subprocess.run(["ps", "-p", str(pid), "-o", "stat="], capture_output=True, check=False)
    assert done.stdout.strip() in (b"", b"Z")


def test_a_source_that_is_abandoned_leaves_no_process(acted, tmp_path):
    acted(
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "out.write(b'YUV4MPEG2 W8 H2\\n' + b'FRAME\\n' + bytes(24))\ntime.sleep(60)\n"
    )
    frames = iter(opened())
    next(frames)
    frames.close()
    with pytest.raises(ProcessLookupError):
        __import__("os").kill(int((tmp_path / "pid").read_text()), 0)


def test_a_missing_gstreamer_is_named(monkeypatch):
    monkeypatch.setattr(video_gstreamer, "PROGRAM", "gst-launch-that-is-not-here")
    with pytest.raises(UserError, match="needs gst-launch-that-is-not-here: apt install"):
        opened()


def test_gstreamer_itself_gives_the_colours_it_was_told():
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("no gst-launch-1.0 here: GStreamer's own pictures are not read")
    red = "videotestsrc num-buffers=3 pattern=solid-color foreground-color=0xffe02010"
    for caps, width in (
        ("video/x-raw,format=I420,width=64,height=48,colorimetry=bt709", 64),
        ("video/x-raw,format=NV12,width=66,height=48", 66),
        ("video/x-raw,format=BGRx,width=64,height=48", 64),
    ):
        source = opened(f"{red} ! {caps} ! appsink", timeout=20.0)
        frames = list(source)
        assert len(frames) == 3, source.end
        assert source.end.reason == "finished"
        assert frames[0].image.shape == (48, width, 3)
        difference = np.abs(frames[0].image.astype(int) - (0x10, 0x20, 0xE0))
        assert difference.max() <= 6, caps
    source = opened("nosuchelement ! fakesrc")
    assert not list(source)
    assert "no element" in source.end.message
