"""Our own pictures with exact labels: drone-like scenes, and people with head poses.

>>> from vision_heads.data.synthetic import render_scene
>>> scene = render_scene(7, 640, 360, kind="crossing")
>>> scene.image.shape, len(scene.boxes) == len(scene.labels)
((360, 640, 3), True)
>>> from vision_heads.data.synthetic import render_heads
>>> people = render_heads(7, 640, 360, group="few")
>>> people.rotations.shape == (len(people.boxes), 3, 3)
True

Figures measured on these pictures say nothing about real ones.
"""

from __future__ import annotations

from vision_heads.data.formats.visdrone import NAMES
from vision_heads.data.synthetic.heads import HeadScene, render_heads
from vision_heads.data.synthetic.people import GROUPS, Group
from vision_heads.data.synthetic.plan import KINDS, Kind
from vision_heads.data.synthetic.scene import Scene, View, render_clip, render_scene
from vision_heads.data.synthetic.write import CATEGORY_IDS, synthetic_split

__all__ = [
    "CATEGORY_IDS",
    "GROUPS",
    "KINDS",
    "NAMES",
    "Group",
    "HeadScene",
    "Kind",
    "Scene",
    "View",
    "render_clip",
    "render_heads",
    "render_scene",
    "synthetic_split",
]
