"""People whose heads are turned in any direction, with exact boxes and rotations.

Every person is a shaded 3D head on a neck and shoulders, seen from a random side under a random
light: faces, profiles and backs of heads alike. The label's rotation is as seen in the picture,
relative to the line of sight to that head.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.data.sample import REGION
from vision_heads.data.synthetic.backdrop import paint_backdrop, through_lens
from vision_heads.data.synthetic.head_shape import (
    BODY,
    HEAD,
    TEXTURE,
    body_mesh,
    fall_meshes,
    head_mesh,
)
from vision_heads.data.synthetic.people import GROUPS, OVER, Group, Person, draw_people
from vision_heads.data.synthetic.surface import Floats, Fragment, Mesh, paint
from vision_heads.errors import require

HEAD_NAMES = ("head",)

_LEAST_VISIBLE = 0.35
"""Share of a head's pixels that must be visible; less: an area that is not judged."""
_LEAST_SIDE = 5.0
"""Pixels; smaller heads are not judged either."""


@dataclass(slots=True)
class Surface:
    """What each sub-pixel shows of which head; `OVER` sub-pixels a side of each pixel.

    Attributes:
        owner: (OVER * H, OVER * W) int32, row of the head in the scene's boxes; -1 off heads.
        places: (OVER * H, OVER * W, 3) float32, the point that is seen in that head's own axes, in
            head heights from its middle (normalised object coordinates, arXiv 1901.02970); NaN
            where there is no head.
    """

    owner: NDArray[np.int32]
    places: NDArray[np.float32]


@dataclass(slots=True)
class HeadScene:
    """A rendered picture and its labels.

    Attributes:
        image: (H, W, 3) BGR uint8.
        boxes: (N, 4) float32 xyxy pixels, of each head's visible part: hair and hat included,
            hair below the chin, neck and ears' surroundings not.
        labels: (N,) int64, all 0.
        rotations: (N, 3, 3) float32, known for every head.
        ignore_boxes: (K, 4) of heads that are mostly hidden or too small to judge.
        ignore_labels: (K,) `REGION`.
        kind: the group that was drawn.
        surface: what each sub-pixel shows, if it was asked for.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    rotations: NDArray[np.float32]
    ignore_boxes: NDArray[np.float32]
    ignore_labels: NDArray[np.int64]
    kind: str
    surface: Surface | None = None


@dataclass(frozen=True, slots=True)
class Painted:
    """Where a person was painted, and of how many sub-pixels the head is, hidden ones included."""

    rows: slice
    columns: slice
    pixels: int


@dataclass(frozen=True, slots=True)
class Light:
    """Light of a scene: direction it comes from (3,), its strength, the rest, its colour."""

    direction: Floats
    key: float
    ambient: float
    color: Floats


def render_heads(
    seed: int,
    width: int = 640,
    height: int = 360,
    *,
    group: Group | None = None,
    surface: bool = False,
) -> HeadScene:
    """Render a picture of people; a pure function of its arguments.

    Args:
        seed: 0 or more.
        width, height: pixels, 64..4096.
        group: how many people; drawn when None.
        surface: tell also what each sub-pixel shows of a head.

    Raises:
        UserError: a value is out of range.
    """
    require(seed >= 0, f"seed: must be 0 or more, got {seed}")
    require(64 <= width <= 4096, f"width: must be 64..4096, got {width}")
    require(64 <= height <= 4096, f"height: must be 64..4096, got {height}")
    require(group is None or group in GROUPS, f"group: one of {', '.join(GROUPS)}, got {group!r}")
    rng = np.random.default_rng([4242, seed])
    drawn = GROUPS[int(rng.choice(5, p=[0.16, 0.26, 0.26, 0.16, 0.16]))]
    chosen = group or drawn
    people = draw_people(chosen, width, height, rng)
    return render_people(people, width, height, rng, chosen, surface=surface)


def render_people(
    people: list[Person],
    width: int,
    height: int,
    rng: np.random.Generator,
    kind: str = "given",
    *,
    surface: bool = False,
) -> HeadScene:
    """Render given people, the smallest first: who is larger is nearer.

    Args:
        people: where they are and how they are turned.
        width, height: of the picture in pixels.
        rng: decides background, light and lens.
        kind: noted in the result.
        surface: tell also what each sub-pixel shows of a head.
    """
    canvas = paint_backdrop(width * OVER, height * OVER, rng)
    owner = np.full(canvas.shape[:2], -1, np.int32)
    places = np.full(canvas.shape, np.nan, np.float32) if surface else None
    light = _draw_light(rng)
    order = sorted(range(len(people)), key=lambda index: people[index].size)
    painted = [
        _paint_person(canvas, owner, places, people[index], number, light)
        for number, index in enumerate(order)
    ]
    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    smallest = min((person.size for person in people), default=100.0)
    image = through_lens(np.asarray(image, np.uint8), rng, smallest)
    return _label(image, owner, places, [people[index] for index in order], painted, kind)


def _draw_light(rng: np.random.Generator) -> Light:
    direction = np.array([rng.normal(0, 0.8), -abs(rng.normal(0.5, 0.5)), rng.uniform(0.15, 1)])
    direction /= np.linalg.norm(direction)
    ambient = rng.uniform(0.42, 0.8)
    warm = rng.normal(0, 0.05)
    return Light(
        direction.astype(np.float32),
        float((1.12 - ambient) * rng.uniform(0.9, 1.25)),
        float(ambient),
        np.array([1 - warm, 1, 1 + warm], np.float32) * np.float32(rng.uniform(0.85, 1.2)),
    )


def person_meshes(person: Person) -> list[Mesh]:
    """Return a person's parts as seen, in head heights about the middle of the head."""
    build = person.look.build
    detail = int(np.clip(8 + person.size * OVER / 14, 10, 30))
    nothing = np.zeros(3)
    parts = [part.moved(person.rotation, nothing) for part in head_mesh(build, detail)]
    # The neck holds the head behind and below its middle.
    root = person.rotation @ np.array([0.0, 0.34, -0.1]) + person.body @ np.array([0, 0.28, -0.04])
    parts += [part.moved(person.body, root) for part in body_mesh(build, detail)]
    if build.long:
        parts += [part.moved(person.rotation, nothing) for part in fall_meshes(build, detail)]
    return parts


def _paint_person(
    canvas: NDArray[np.uint8],
    owner: NDArray[np.int32],
    places: NDArray[np.float32] | None,
    person: Person,
    number: int,
    light: Light,
) -> Painted:
    """Paint a person over those behind."""
    parts = person_meshes(person)
    flats = [_project(part.points, person) for part in parts]
    fragment = paint(parts, flats, canvas.shape[1], canvas.shape[0])
    shown = fragment.tags >= 0
    rows = slice(fragment.top, fragment.top + shown.shape[0])
    columns = slice(fragment.left, fragment.left + shown.shape[1])
    color = _shade(fragment, shown, person, light)
    canvas[rows, columns][shown] = color
    owner[rows, columns][shown] = np.where(fragment.tags[shown] == HEAD, number, -1)
    if places is not None:
        places[rows, columns][shown] = _on_head(fragment, shown, person)
    return Painted(rows, columns, int((fragment.tags == HEAD).sum()))


def _on_head(fragment: Fragment, shown: NDArray[np.bool_], person: Person) -> Floats:
    """Return (S, 3), the place on the head that each shown sub-pixel sees; NaN off the head."""
    y, x = np.nonzero(shown)
    z = fragment.depth[shown]
    seen = np.stack([x + fragment.left, y + fragment.top], 1) + 0.5
    seen = (seen - np.array([person.x, person.y]) * OVER) / _scale(z[:, None], person)
    places = np.concatenate([seen, z[:, None]], 1) @ person.rotation
    places[fragment.tags[shown] != HEAD] = np.nan
    return np.asarray(places, np.float32)


def _project(points: Floats, person: Person) -> Floats:
    """Points (V, 3) in head heights to sub-pixels (V, 2)."""
    flat = points[:, :2] * _scale(points[:, 2:], person) + np.array([person.x, person.y]) * OVER
    return np.asarray(flat, np.float32)


def _scale(depth: Floats, person: Person) -> Floats:
    """Return the sub-pixels of a head height at each depth, head heights towards the viewer."""
    # Nothing comes nearer than a quarter of the way to the camera.
    away = np.maximum(person.distance - depth, 0.75 * person.distance)
    return np.asarray(person.size * OVER * person.distance / away)


def _shade(
    fragment: Fragment, shown: NDArray[np.bool_], person: Person, light: Light
) -> NDArray[np.uint8]:
    texture = person.look.texture
    uv = fragment.uv
    fine = texture.shape[1] / TEXTURE[1]
    base = cv2.remap(
        texture,
        uv[..., 0] * fine - 0.5,
        uv[..., 1] * fine - 0.5,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )[shown]
    normals = fragment.normals[shown]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    facing = normals @ light.direction
    # Wrapped a little beyond the edge of the shadow, as skin does.
    lit = np.clip((facing + 0.25) / 1.25, 0, 1)
    sky = 0.85 - 0.15 * normals[:, 1]
    strength = light.ambient * sky + light.key * lit
    half = light.direction + np.array([0, 0, 1], np.float32)
    gloss = np.clip(normals @ (half / np.linalg.norm(half)), 0, 1)
    for _ in range(3):
        gloss *= gloss
    gloss = gloss * gloss * gloss * np.float32(22 * light.key)  # the 24th power
    body = fragment.tags[shown] == BODY
    if body.any():
        # The head's shadow on neck and chest.
        rows = np.arange(fragment.top, fragment.top + shown.shape[0], dtype=np.float32) / OVER
        dark = np.clip(0.5 + 0.45 * ((rows - person.y) / person.size - 0.35), 0.5, 1)
        strength[body] *= np.broadcast_to(dark[:, None], shown.shape)[shown][body]
        gloss[body] = 0
    color = base * strength[:, None] + gloss[:, None]
    return np.clip(color * light.color, 0, 255).astype(np.uint8)


def _label(
    image: NDArray[np.uint8],
    owner: NDArray[np.int32],
    places: NDArray[np.float32] | None,
    people: list[Person],
    painted: list[Painted],
    kind: str,
) -> HeadScene:
    boxes: list[Floats] = []
    rotations: list[Floats] = []
    aside: list[Floats] = []
    rows = np.full(len(people) + 1, -1, np.int32)  # the last is for no head
    for number, (person, place) in enumerate(zip(people, painted, strict=True)):
        y, x = np.nonzero(owner[place.rows, place.columns] == number)
        if not len(x):
            continue
        start = np.array([place.columns.start, place.rows.start] * 2)
        box = (start + np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])) / OVER
        visible = len(x) / place.pixels
        if visible < _LEAST_VISIBLE or min(box[2:] - box[:2]) < _LEAST_SIDE:
            aside.append(box)
        else:
            rows[number] = len(boxes)
            boxes.append(box)
            rotations.append(person.rotation)
    return HeadScene(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.zeros(len(boxes), np.int64),
        np.array(rotations, np.float32).reshape(-1, 3, 3),
        np.array(aside, np.float32).reshape(-1, 4),
        np.full(len(aside), REGION, np.int64),
        kind,
        None if places is None else Surface(rows[owner], places),
    )
