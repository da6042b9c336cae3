"""What the lines say about OpenCV's build and codecs."""

from __future__ import annotations

import pytest

from tests.doctor.fake import FakeSystem, by_check, orin
from vision_heads.doctor import pictures
from vision_heads.doctor.system import ProbeError, Ran

BUILD = {
    "version": "5.0.0",
    "features": {"FFmpeg": True, "GStreamer": False, "V4L": True},
    "windows": "QT5",
}


def codec(encoder: str = "", decoded: bool = True, reason: str = "") -> dict:
    return {"encoder": encoder, "decoded": decoded, "reason": reason}


def test_build():
    line = by_check(pictures.opencv_build(FakeSystem(probes={"opencv_build": BUILD})))[
        "opencv build"
    ]
    assert line.status == "ok" and "GStreamer no" in line.found and "QT5" in line.found
    headless = BUILD | {"windows": "none"}
    line = by_check(pictures.opencv_build(FakeSystem(probes={"opencv_build": headless})))[
        "opencv build"
    ]
    assert line.status == "ok" and "vh stream --show" in line.found


def test_a_build_without_webcams_is_a_warning():
    build = BUILD | {"features": BUILD["features"] | {"V4L": False}}
    line = by_check(pictures.opencv_build(FakeSystem(probes={"opencv_build": build})))
    assert line["opencv build"].status == "warning" and "webcams" in line["opencv build"].found


GST = {"gst-launch-1.0 --version": "gst-launch-1.0 version 1.20.3\nGStreamer 1.20.3\n"}
THERE = {f"gst-inspect-1.0 --exists {name}": "" for name in (*pictures.PIPELINE, *pictures.CSI)}


def gstreamer(system):
    return by_check(pictures.gstreamer(system))["gstreamer"]


def test_gstreamer():
    assert gstreamer(FakeSystem()).status == "ok"
    assert gstreamer(FakeSystem(commands=GST | THERE)).found == "1.20.3, with videoconvert, y4menc"
    line = gstreamer(FakeSystem(commands=GST))
    assert line.status == "warning" and "without videoconvert, y4menc" in line.found


def test_a_jetson_wants_gstreamer_for_its_cameras():
    assert "CSI" in gstreamer(orin()).found and gstreamer(orin()).status == "warning"
    assert gstreamer(orin(commands=GST | THERE)).status == "ok"
    lacking = GST | THERE | {"gst-inspect-1.0 --exists nvarguscamerasrc": Ran(1, "")}
    line = gstreamer(orin(commands=lacking))
    assert line.status == "warning" and "nvidia-l4t-gstreamer" in line.mend


@pytest.mark.parametrize(
    ("formats", "status"),
    [
        ({"jpg": "both", "png": "both", "webp": "both"}, "ok"),
        ({"jpg": "both", "png": "both", "webp": "cannot be written"}, "ok"),
        ({"jpg": "cannot be read back", "png": "both"}, "broken"),
    ],
)
def test_picture_formats(formats, status):
    system = FakeSystem(probes={"picture_formats": {"formats": formats}})
    line = by_check(pictures.picture_formats(system))["picture formats"]
    assert line.status == status
    assert all(name in line.found for name in formats)


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({}, "ok", "H.264 both (libx264)"),
        ({"H.264": codec()}, "warning", "H.264 reads only"),
        (
            {"HEVC": codec(decoded=False, reason="no decoder")},
            "broken",
            "HEVC neither (no decoder)",
        ),
    ],
)
def test_video_codecs(change, status, words):
    codecs = {"H.264": codec("libx264"), "HEVC": codec(), "MJPEG": codec("mjpeg")} | change
    system = FakeSystem(
        installed={"av": "18.1.0"},
        probes={"video_pyav": {"ffmpeg": "libavcodec 62", "codecs": codecs}},
    )
    line = by_check(pictures.video_pyav(system))["videos (PyAV)"]
    assert line.status == status and words in line.found


def test_without_pyav_the_line_says_what_brings_it():
    line = by_check(pictures.video_pyav(FakeSystem()))["videos (PyAV)"]
    assert line.status == "ok" and "vision-heads[stream]" in line.found


def test_opencv_without_mjpeg_is_a_warning():
    system = FakeSystem(probes={"video_opencv": {"codecs": {"MJPEG": "cannot be written"}}})
    assert by_check(pictures.video_opencv(system))["videos (OpenCV)"].status == "warning"


@pytest.mark.parametrize(
    "check",
    [pictures.opencv_build, pictures.picture_formats, pictures.video_pyav, pictures.video_opencv],
)
def test_a_probe_that_fails_is_named(check):
    error = ProbeError("crashed by signal 11")
    names = ("opencv_build", "picture_formats", "video_pyav", "video_opencv")
    system = FakeSystem(installed={"av": "18"}, probes=dict.fromkeys(names, error))
    (line,) = check(system)
    assert line.status != "ok" and "signal 11" in line.found and line.mend
