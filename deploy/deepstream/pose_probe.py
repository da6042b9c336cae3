"""Print every head and how it is turned, behind nvinfer in a DeepStream 7 pipeline.

    python3 pose_probe.py file:///data/people.mp4 config_infer_primary_vision_heads.txt

Needs DeepStream's Python bindings (pyds) and PyGObject besides the core of vision_heads. The
configuration must name the parser NvDsInferParseCustomVisionHeadsPose, as `configure.py` writes
it for a model with head poses: the rotation is then where an instance mask would be.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_heads.geometry.rotations import to_euler

PIPELINE = (
    "uridecodebin uri={uri} ! mux.sink_0 nvstreammux name=mux batch-size=1 width={width} "
    "height={height} ! nvinfer name=infer config-file-path={config} ! fakesink sync=false"
)


def rotation_of(mask: ArrayLike) -> NDArray[np.float32] | None:
    """Return an object's rotation, (3, 3) in image axes; None for an object without one.

    Args:
        mask: what `NvOSD_MaskParams.get_mask_array()` gives: 9 floats in any shape, or none.
    """
    values = np.asarray(mask, np.float32).reshape(-1)
    return values.reshape(3, 3) if values.size == 9 else None


def line_of(frame: int, label: str, score: float, box: ArrayLike, mask: ArrayLike) -> str:
    """Describe one object: frame, label, score, box (left, top, width, height), angles."""
    left, top, width, height = np.asarray(box, float)
    text = f"{frame} {label} {score:.3f} {left:.1f} {top:.1f} {width:.1f} {height:.1f}"
    rotation = rotation_of(mask)
    if rotation is None:
        return text
    pitch, yaw, roll = to_euler(rotation)
    return f"{text} pitch {pitch:.1f} yaw {yaw:.1f} roll {roll:.1f}"


def _listed(start: Any, cast: Any) -> Iterator[Any]:
    """Walk one of DeepStream's linked lists."""
    while start is not None:
        yield cast(start.data)
        start = start.next


def probe(pyds: Any, buffer: Any) -> None:
    """Print the objects of every frame of a batch."""
    batch = pyds.gst_buffer_get_nvds_batch_meta(hash(buffer))
    for frame in _listed(batch.frame_meta_list, pyds.NvDsFrameMeta.cast):
        for found in _listed(frame.obj_meta_list, pyds.NvDsObjectMeta.cast):
            rect, mask = found.rect_params, found.mask_params
            box = rect.left, rect.top, rect.width, rect.height
            # An object without a mask has no array either.
            values = mask.get_mask_array() if mask.size else ()
            print(line_of(frame.frame_num, found.obj_label, found.confidence, box, values))


def main() -> None:
    """Build the pipeline, run it to its end."""
    import gi

    gi.require_version("Gst", "1.0")
    import pyds
    from gi.repository import GLib, Gst

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("uri")
    parser.add_argument("config")
    parser.add_argument("--width", type=int, default=1920, help="nvstreammux scales to this")
    parser.add_argument("--height", type=int, default=1080)
    given = parser.parse_args()
    Gst.init(None)
    pipeline = Gst.parse_launch(PIPELINE.format(**vars(given)))

    def on_buffer(_pad: Any, info: Any) -> Any:
        probe(pyds, info.get_buffer())
        return Gst.PadProbeReturn.OK

    source = pipeline.get_by_name("infer").get_static_pad("src")
    source.add_probe(Gst.PadProbeType.BUFFER, on_buffer)
    loop = GLib.MainLoop()
    bus = pipeline.get_bus()
    bus.add_signal_watch()
    failures = []

    def on_message(_bus: Any, message: Any) -> None:
        if message.type == Gst.MessageType.ERROR:
            failures.append(message.parse_error()[0].message)
        if message.type in (Gst.MessageType.ERROR, Gst.MessageType.EOS):
            loop.quit()

    bus.connect("message", on_message)
    pipeline.set_state(Gst.State.PLAYING)
    try:
        loop.run()
    finally:
        pipeline.set_state(Gst.State.NULL)
    if failures:
        raise SystemExit(f"pose_probe: {failures[0]}")


if __name__ == "__main__":
    main()
