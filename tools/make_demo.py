"""Make datasets/demo: a dozen synthetic pictures with labels, and one clip.

    pip install av            # encodes the clip as H.264, which every player has
    python tools/make_demo.py

The pictures are our own (`vision_heads.data.synthetic`), so they may be shipped. Each is a pure
function of its line in `PICTURES`; a test renders one anew and holds it against what is shipped.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from vision_heads.data.synthetic import Kind, Scene, View, render_clip, render_scene
from vision_heads.data.synthetic.write import save_scene, write_coco
from vision_heads.errors import UserError

FOLDER = Path(__file__).resolve().parent.parent / "datasets" / "demo"
SIZE = (960, 540)
QUALITY = 88
CLIP = "clip.mp4"
CLIP_SIZE = (640, 360)
CLIP_SECONDS, CLIP_FPS = 5, 15


@dataclass(frozen=True)
class Picture:
    """One picture of the demo set."""

    name: str
    seed: int
    kind: Kind
    view: View


PICTURES = (
    Picture("01_crossing_tilted", 3, "crossing", View(altitude=48, tilt=42, busy=1.6)),
    Picture("02_crossing_from_above", 14, "crossing", View(altitude=75, tilt=0, busy=1.5)),
    Picture("03_street_low", 52, "street", View(altitude=32, tilt=38, busy=1.8)),
    Picture("04_street_far", 12, "street", View(altitude=85, tilt=52, busy=1.5)),
    Picture("05_parking_from_above", 6, "parking", View(altitude=70, tilt=3)),
    Picture("06_parking_tilted", 12, "parking", View(altitude=40, tilt=48)),
    Picture("07_square_crowd", 9, "square", View(altitude=34, tilt=40, busy=4)),
    Picture("08_square_low", 50, "square", View(altitude=26, tilt=35, busy=5)),
    Picture("09_suburb_high", 8, "suburb", View(altitude=130, tilt=12)),
    Picture("10_suburb_tilted", 17, "suburb", View(altitude=55, tilt=50)),
    Picture("11_highway", 52, "highway", View(altitude=80, tilt=40, busy=3)),
    Picture("12_high_above", 50, "crossing", View(altitude=170, tilt=0, busy=1.6)),
)


def draw_picture(picture: Picture) -> Scene:
    """Render one picture of the demo set."""
    return render_scene(picture.seed, *SIZE, kind=picture.kind, view=picture.view)


def write_pictures(folder: Path) -> int:
    """Write the pictures and their labels; return the bytes of the pictures."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    samples = []
    for number, picture in enumerate(PICTURES, start=1):
        file = images / f"{picture.name}.jpg"
        samples.append(save_scene(draw_picture(picture), file, number, QUALITY))
        print(f"{file.name}: {len(samples[-1].boxes)} boxes, {file.stat().st_size} bytes")
    write_coco(samples, folder / "annotations.json")
    return sum(sample.image.stat().st_size for sample in samples)


def write_clip(file: Path) -> int:
    """Encode the clip as H.264 with yuv420p and its index in front; return its bytes."""
    try:
        import av  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError("the clip is encoded by PyAV: pip install av") from error
    frames = render_clip(
        2,
        CLIP_SECONDS,
        CLIP_FPS,
        CLIP_SIZE,
        kind="crossing",
        view=View(altitude=42, tilt=38, busy=1.5),
    )
    with av.open(str(file), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=CLIP_FPS)
        stream.width, stream.height = CLIP_SIZE
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, CLIP_FPS)
        # One thread: x264's output depends on how many there are.
        stream.options = {"crf": "25", "preset": "slow", "threads": "1"}
        for scene in frames:
            frame = av.VideoFrame.from_ndarray(scene.image, format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.stat().st_size


def check_clip(file: Path) -> int:
    """Read the clip back with OpenCV, as `vh detect` does; return its frames."""
    reader = cv2.VideoCapture(str(file))
    count = 0
    while True:
        good, frame = reader.read()
        if not good:
            break
        if frame.shape[:2] != CLIP_SIZE[::-1] or float(np.std(frame)) < 5:
            raise RuntimeError(f"{file}: frame {count} came back wrong")
        count += 1
    if count != CLIP_SECONDS * CLIP_FPS:
        raise RuntimeError(f"{file}: {count} frames came back of {CLIP_SECONDS * CLIP_FPS}")
    return count


def main() -> None:
    """Make the whole set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--skip-clip", action="store_true", help="pictures and labels only")
    chosen = parser.parse_args()
    try:
        print(f"pictures: {write_pictures(chosen.folder)} bytes")
        if not chosen.skip_clip:
            size = write_clip(chosen.folder / CLIP)
            print(f"{CLIP}: {size} bytes, {check_clip(chosen.folder / CLIP)} frames")
    except UserError as error:
        print(f"make_demo: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
