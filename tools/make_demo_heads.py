"""Make datasets/demo-heads: six synthetic pictures of people, with boxes and rotations.

    python tools/make_demo_heads.py

Each is a pure function of its line in `PICTURES`; a test renders one anew and holds it against
what is shipped.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from vision_heads.data.synthetic.heads import HEAD_NAMES, render_heads
from vision_heads.data.synthetic.people import Group
from vision_heads.data.synthetic.write import save_scene, write_coco

FOLDER = Path(__file__).resolve().parent.parent / "datasets" / "demo-heads"
SIZE = (960, 540)
QUALITY = 88
PICTURES: tuple[tuple[str, int, Group], ...] = (
    ("01_portrait", 22, "portrait"),
    ("02_four", 25, "few"),
    ("03_tilted", 22, "few"),
    ("04_group_from_above", 20, "group"),
    ("05_rows", 21, "rows"),
    ("06_crowd", 25, "crowd"),
)


def main() -> None:
    """Render, label and say how large it all is."""
    images = FOLDER / "images"
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir(parents=True)
    samples = []
    for number, (name, seed, group) in enumerate(PICTURES, 1):
        scene = render_heads(seed, *SIZE, group=group)
        samples.append(save_scene(scene, images / f"{name}.jpg", number, QUALITY))
    write_coco(samples, FOLDER / "annotations.json", HEAD_NAMES, (1,))
    size = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())
    print(f"{len(samples)} pictures, {size / 1e6:.2f} MB in {FOLDER}")


if __name__ == "__main__":
    main()
