"""What is tried in child processes: they may hang or crash without taking the diagnosis along.

    python -m vision_heads.doctor.probes NAME [ARGUMENT...]

prints one line of JSON last: what the function returned, or {"failed": reason}.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

SIDE, FRAMES = 128, 6
"""Size in pixels and number of the pictures that are encoded."""

_WANTED = {
    "numpy": "ndarray",
    "cv2": "imread",
    "onnxruntime": "InferenceSession",
    "torch": "Tensor",
}
"""An attribute that tells a real module from the folder that a half-removed package leaves."""


def imported(module: str) -> dict[str, Any]:
    """Import a module; return its version and how long that took."""
    begin = time.perf_counter()
    found = import_module(module)
    if module == "torchvision":
        import_module("torchvision.ops")
    seconds = time.perf_counter() - begin
    wanted = _WANTED.get(module)
    if wanted and not hasattr(found, wanted):
        raise ImportError(f"{module} has no {wanted}: its folder is incomplete")
    return {"version": str(getattr(found, "__version__", "of unknown version")), "seconds": seconds}


def opencv_build() -> dict[str, Any]:
    """Return OpenCV's version, and what it was built with, by its own account."""
    import cv2  # noqa: PLC0415

    rows: dict[str, str] = {}
    for line in cv2.getBuildInformation().splitlines():
        name, mark, value = line.strip().partition(":")
        if mark:
            rows.setdefault(name.strip(), value.strip())
    names = {"FFmpeg": "FFMPEG", "GStreamer": "GStreamer", "V4L": "v4l/v4l2"}
    features = {name: rows.get(key, "NO").startswith("YES") for name, key in names.items()}
    windows = next(
        (
            rows[key]
            for key in ("GUI", "QT", "GTK+", "Cocoa", "Win32 UI")
            if rows.get(key, "NO")[:2] != "NO"
        ),
        "none",
    )
    windows = "none" if windows in ("", "NONE") else windows.split(" ")[0]
    return {"version": cv2.__version__, "features": features, "windows": windows}


def picture_formats() -> dict[str, Any]:
    """Encode and decode a picture in memory, in each format: "both" or what does not work."""
    import cv2  # noqa: PLC0415

    picture = _pictures()[0]
    found = {}
    for suffix in ("jpg", "png", "webp", "tiff", "bmp"):
        try:
            good, data = cv2.imencode(f".{suffix}", picture)
            back = cv2.imdecode(data, cv2.IMREAD_COLOR) if good else None
        except cv2.error:
            good, back = False, None
        if not good:
            found[suffix] = "cannot be written"
        elif back is None or back.shape != picture.shape or _differ(picture, back) > 12:
            found[suffix] = "cannot be read back"
        else:
            found[suffix] = "both"
    return {"formats": found}


def video_pyav() -> dict[str, Any]:
    """Encode and decode a few frames in memory by each codec."""
    import av  # noqa: PLC0415

    encoders = {
        "H.264": ("h264", "mp4", ("libx264", "libopenh264", "h264_nvenc")),
        "HEVC": ("hevc", "mp4", ("libx265", "hevc_nvenc")),
        "MJPEG": ("mjpeg", "avi", ("mjpeg",)),
    }
    ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
    codecs = {
        name: _pyav(av, decoder, container, names)
        for name, (decoder, container, names) in encoders.items()
    }
    return {"ffmpeg": f"libavcodec {ffmpeg}", "codecs": codecs}


def _pyav(av: Any, decoder: str, container: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Try encoders until one's frames can be decoded; without one, see whether a decoder opens."""
    reason = ""
    for name in names:
        try:
            data = _pyav_encode(av, name, container)
        except Exception as error:  # each encoder fails in its own way
            reason = f"{name}: {error}"
            continue
        with av.open(io.BytesIO(data)) as opened:
            frames = [frame.to_ndarray(format="bgr24") for frame in opened.decode(video=0)]
        wrong = _compare(frames)
        return {"encoder": "" if wrong else name, "decoded": not wrong, "reason": wrong}
    try:
        av.codec.Codec(decoder, "r")
    except Exception as error:
        return {"encoder": "", "decoded": False, "reason": f"no decoder: {error}"}
    return {"encoder": "", "decoded": True, "reason": reason}


def _pyav_encode(av: Any, name: str, container: str) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format=container) as opened:
        stream = opened.add_stream(name, rate=Fraction(25))
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuvj420p" if name == "mjpeg" else "yuv420p"
        for picture in _pictures():
            opened.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        opened.mux(stream.encode(None))
    return target.getvalue()


def video_opencv() -> dict[str, Any]:
    """Write and read MJPEG in a temporary folder, and read the H.264 of the demo clip.

    pip's OpenCV never writes H.264; videos are written by PyAV.
    """
    import cv2  # noqa: PLC0415

    from vision_heads.paths import assets  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="vh-doctor-") as folder:
        file = Path(folder) / "mjpeg.avi"
        writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 25, (SIDE, SIDE))
        opened = writer.isOpened()
        for picture in _pictures() if opened else ():
            writer.write(picture)
        writer.release()
        codecs = {"MJPEG": "cannot be written"}
        if opened:
            codecs["MJPEG"] = _compare(_opencv_frames(cv2, file, FRAMES + 1)) or "both"
    clip = assets("datasets") / "demo" / "clip.mp4"
    if clip.is_file():
        codecs["H.264"] = "reads" if len(_opencv_frames(cv2, clip, 3)) == 3 else "cannot be read"
    return {"codecs": codecs}


def _opencv_frames(cv2: Any, file: Path, most: int) -> list[Any]:
    frames: list[Any] = []
    reader = cv2.VideoCapture(str(file))
    while len(frames) < most:
        good, frame = reader.read()
        if not good:
            break
        frames.append(frame)
    reader.release()
    return frames


def providers() -> dict[str, Any]:
    """Open a network of one operator on each execution provider, and run it."""
    import onnxruntime  # noqa: PLC0415

    if hasattr(onnxruntime, "preload_dlls") and "CUDAExecutionProvider" in (
        onnxruntime.get_available_providers()
    ):
        onnxruntime.preload_dlls()  # libraries that pip brought are found by nothing else
    try:
        about = import_module("onnxruntime.capi.build_and_package_info")
        cuda = getattr(about, "cuda_version", None)
    except ImportError:
        cuda = None
    available = onnxruntime.get_available_providers()
    return {
        "version": onnxruntime.__version__,
        "available": available,
        "cuda": cuda,
        "runs": {name: _run_on(onnxruntime, name) for name in available},
    }


def _run_on(onnxruntime: Any, name: str) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    begin = time.perf_counter()
    try:
        session = onnxruntime.InferenceSession(one_operator(), options, providers=[name])
        if name not in session.get_providers():
            # It falls back by itself, and says why only on its log.
            return {"ran": False, "reason": "its library does not load", "seconds": 0.0}
        seconds = time.perf_counter() - begin
        (answer,) = session.run(None, {"x": np.array([-1, 2], np.float32)})
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return {"ran": False, "reason": reason, "seconds": 0.0}
    if answer.tolist() != [0, 2]:
        return {"ran": False, "reason": f"wrong result {answer.tolist()}", "seconds": seconds}
    return {"ran": True, "reason": "", "seconds": seconds}


def one_operator() -> bytes:
    """Return an ONNX model y = max(x, 0) of two numbers; the core has no onnx package."""
    from vision_heads.runtime.wire import packed  # noqa: PLC0415

    shape = packed(2, packed(1, b"\x08\x02"))  # one dimension of 2
    kind = packed(2, packed(1, b"\x08\x01" + shape))  # a tensor of float32
    node = packed(1, b"x") + packed(2, b"y") + packed(4, b"Relu")
    graph = packed(1, node) + packed(2, b"g")
    graph += packed(11, packed(1, b"x") + kind) + packed(12, packed(1, b"y") + kind)
    return b"\x08\x08" + packed(8, packed(1, b"") + b"\x10\x0d") + packed(7, graph)


def detection() -> dict[str, Any]:
    """Detect on a demo picture with the shipped weights."""
    from vision_heads.paths import assets  # noqa: PLC0415
    from vision_heads.runtime.predictor import load  # noqa: PLC0415

    pictures = sorted((assets("datasets") / "demo" / "images").glob("*.jpg"))
    models = sorted(assets("weights").glob("*.onnx"))
    if not pictures or not models:
        raise FileNotFoundError("the demo pictures or the shipped weights are not installed")
    predictor = load(models[0])
    begin = time.perf_counter()
    result = predictor(pictures[0])
    return {
        "model": models[0].stem,
        "picture": pictures[0].name,
        "found": len(result),
        "seconds": time.perf_counter() - begin,
    }


def _pictures() -> list[Any]:
    """Return smooth pictures that differ, BGR uint8: codecs keep them nearly as they are."""
    import numpy as np  # noqa: PLC0415

    y, x = np.mgrid[:SIDE, :SIDE]
    return [
        np.stack([x, y, (x + y) // 2 + 8 * number], -1).astype(np.uint8) for number in range(FRAMES)
    ]


def _compare(frames: list[Any]) -> str:
    """Say what is wrong with decoded frames, "" when nothing is."""
    wanted = _pictures()
    if len(frames) != len(wanted):
        return f"{len(frames)} of {len(wanted)} frames come back"
    worst = max(_differ(a, b) for a, b in zip(wanted, frames, strict=True))
    return f"frames come back {worst:.0f} grey levels off" if worst > 12 else ""


def _differ(left: Any, right: Any) -> float:
    import numpy as np  # noqa: PLC0415

    return float(np.abs(left.astype(np.int16) - right.astype(np.int16)).mean())


PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    function.__name__: function
    for function in (
        imported,
        opencv_build,
        picture_formats,
        video_pyav,
        video_opencv,
        providers,
        detection,
    )
}


def main(arguments: list[str]) -> None:
    """Run one probe and print its answer."""
    name, *rest = arguments
    try:
        answer = PROBES[name](*rest)
    except Exception as error:  # whatever it is, it is the answer
        text = " ".join(str(error).split()) or type(error).__name__
        answer = {"failed": text}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
