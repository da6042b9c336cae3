"""Draw docs/images/head-pose.jpg: what pitch, yaw and roll mean, on rendered heads.

python -m tools.draw_convention
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.data.synthetic.head_looks import draw_look
from vision_heads.data.synthetic.heads import render_people
from vision_heads.data.synthetic.people import Person
from vision_heads.geometry.rotations import from_euler
from vision_heads.media.draw import contact_sheet, draw_axes

FILE = Path(__file__).resolve().parent.parent / "docs" / "images" / "head-pose.jpg"
SIDE = 260
LOOK = 8
SCENE = 11
POSES: tuple[tuple[tuple[int, int, int], str], ...] = (
    ((0, 0, 0), "looks at the camera"),
    ((35, 0, 0), "pitch up"),
    ((-35, 0, 0), "pitch down"),
    ((0, 0, 30), "roll clockwise"),
    ((0, 45, 0), "yaw to the picture's left"),
    ((0, 90, 0), "profile"),
    ((0, 135, 0), "turned away"),
    ((0, 180, 0), "back of the head"),
)


def cell(angles: tuple[int, int, int], text: str) -> NDArray[np.uint8]:
    """Render one head with its axes and a caption, BGR uint8 (SIDE + 44, SIDE, 3)."""
    rotation = from_euler(angles)
    size = 0.5 * SIDE
    look = draw_look(np.random.default_rng(LOOK), size * 3)
    middle = (SIDE / 2, 0.46 * SIDE)
    person = Person(*middle, size, rotation, from_euler([0, angles[1], 0]), 8.0, look)
    scene = render_people([person], SIDE, SIDE, np.random.default_rng(SCENE))
    drawn = draw_axes(scene.image, scene.boxes, scene.rotations)
    bar = np.full((44, SIDE, 3), 250, np.uint8)
    ink, font = (24, 24, 24), cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(bar, f"[{angles[0]}, {angles[1]}, {angles[2]}]", (8, 18), font, 0.5, ink, 1, 16)
    cv2.putText(bar, text, (8, 37), font, 0.48, ink, 1, 16)
    return np.vstack([drawn, bar])


def main() -> None:
    """Write the picture."""
    sheet = contact_sheet([cell(*pose) for pose in POSES], 4, SIDE)
    done, data = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not done:
        raise RuntimeError("OpenCV cannot encode a JPEG")
    FILE.write_bytes(data.tobytes())
    print(f"{FILE}: {len(data)} bytes")


if __name__ == "__main__":
    main()
