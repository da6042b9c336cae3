"""OpenCV's build, and which pictures and videos can really be read and written here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from vision_heads.doctor.lines import Line, broken, joined, ok, warning
from vision_heads.doctor.stack import l4t
from vision_heads.doctor.system import ProbeError, System

NEEDED_PICTURES = ("jpg", "png")
"""Formats without which nothing of use is left."""

NEEDED_VIDEO = ("H.264", "HEVC", "MJPEG")
PIPELINE = ("videoconvert", "y4menc")
"""Elements of GStreamer that `media/video_gstreamer.py` puts at the end of every pipeline."""
CSI = ("nvarguscamerasrc", "nvvidconv")
"""Elements that read a Jetson's CSI cameras."""

GSTREAMER = (
    "sudo apt install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
)
CSI_MEND = (
    "sudo apt install nvidia-l4t-gstreamer nvidia-l4t-camera; in a container, start it with "
    "--runtime nvidia"
)
STREAM = 'python -m pip install --force-reinstall "vision-heads[stream]"'
OPENCV = "python -m pip install --force-reinstall --no-deps opencv-python"


def opencv_build(system: System) -> Iterator[Line]:
    """Tell what OpenCV was built with: videos, cameras, windows."""
    try:
        answer = system.probe("opencv_build")
    except ProbeError as error:
        yield broken("opencv build", str(error), OPENCV)
        return
    features = answer["features"]
    parts = [f"{name} {'yes' if there else 'no'}" for name, there in features.items()]
    found = f"OpenCV {answer['version']}: {joined(parts)}; windows: {answer['windows']}"
    if system.host.system == "Linux" and not features.get("V4L"):
        yield warning("opencv build", f"{found}; without V4L there are no webcams", OPENCV)
    elif answer["windows"] == "none":
        yield ok("opencv build", f"{found} (vh stream --show needs opencv-python)")
    else:
        yield ok("opencv build", found)


def picture_formats(system: System) -> Iterator[Line]:
    """Write and read back a small picture in each format."""
    try:
        formats: dict[str, str] = system.probe("picture_formats")["formats"]
    except ProbeError as error:
        yield broken("picture formats", str(error), OPENCV)
        return
    good = [name for name, state in formats.items() if state == "both"]
    bad = [f"{name} ({state})" for name, state in formats.items() if state != "both"]
    found = f"written and read: {joined(good)}" + (f"; not: {joined(bad)}" if bad else "")
    if any(formats.get(name) != "both" for name in NEEDED_PICTURES):
        yield broken("picture formats", found, OPENCV)
    else:
        yield ok("picture formats", found)


def video_pyav(system: System) -> Iterator[Line]:
    """Encode and decode a few frames with PyAV, which reads videos and cameras for `vh stream`."""
    if "av" not in system.packages():
        yield ok(
            "videos (PyAV)",
            'not installed; vh stream needs it: python -m pip install "vision-heads[stream]"',
        )
        return
    try:
        answer = system.probe("video_pyav")
    except ProbeError as error:
        yield broken("videos (PyAV)", str(error), STREAM)
        return
    codecs: dict[str, dict[str, Any]] = answer["codecs"]
    found = f"FFmpeg {answer['ffmpeg']}: {joined(_codec(n, c) for n, c in codecs.items())}"
    unread = [name for name in NEEDED_VIDEO if not codecs[name]["decoded"]]
    if unread:
        yield broken("videos (PyAV)", found, STREAM)
    elif not codecs["H.264"]["encoder"]:
        yield warning("videos (PyAV)", f"{found}; videos are written as MPEG-4 instead", STREAM)
    else:
        yield ok("videos (PyAV)", found)


def video_opencv(system: System) -> Iterator[Line]:
    """Encode and decode a few frames with OpenCV, which reads webcams (MJPEG)."""
    try:
        codecs: dict[str, str] = system.probe("video_opencv")["codecs"]
    except ProbeError as error:
        yield warning("videos (OpenCV)", str(error), OPENCV)
        return
    found = joined(f"{name} {state}" for name, state in codecs.items())
    if codecs.get("MJPEG") != "both":
        yield warning("videos (OpenCV)", f"{found}; webcams that send MJPEG may fail", OPENCV)
    else:
        yield ok("videos (OpenCV)", found)


def gstreamer(system: System) -> Iterator[Line]:
    """Look for what pipelines need: CSI cameras of a Jetson come by GStreamer alone."""
    jetson = bool(l4t(system))
    ran = system.run(("gst-launch-1.0", "--version"))
    if ran is None:
        if jetson:
            yield warning("gstreamer", "not installed; CSI cameras need it", GSTREAMER)
        else:
            yield ok("gstreamer", "not installed; only sources that are pipelines need it")
        return
    version = re.search(r"version ([\d.]+)", ran.text)
    found = version[1] if version else "of unknown version"
    wanted = PIPELINE + (CSI if jetson else ())
    missing = [name for name in wanted if not _element(system, name)]
    if missing:
        mend = GSTREAMER if set(missing) & set(PIPELINE) else CSI_MEND
        yield warning("gstreamer", f"{found}, without {joined(missing)}", mend)
    else:
        yield ok("gstreamer", f"{found}, with {joined(wanted)}")


def _element(system: System, name: str) -> bool:
    ran = system.run(("gst-inspect-1.0", "--exists", name), 30.0)
    return ran is not None and ran.code == 0


def _codec(name: str, codec: dict[str, Any]) -> str:
    if codec["encoder"]:
        return f"{name} both ({codec['encoder']})"
    return f"{name} reads only" if codec["decoded"] else f"{name} neither ({codec['reason']})"
