"""Paints a town through a camera and keeps account of which pixels show which actor.

The ground is painted once with materials, textured and shadowed; buildings follow with their
depth, then actors and trees from far to near, each hidden by buildings that stand before it.
Everything is painted at `OVER` times the final resolution and averaged down.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.data.synthetic.actors import Actor
from vision_heads.data.synthetic.buildings import paint_buildings, shadow_outlines
from vision_heads.data.synthetic.camera import NEAR, Camera, Floats
from vision_heads.data.synthetic.canvas import Canvas, fill
from vision_heads.data.synthetic.plan import Ground, Town, Tree
from vision_heads.data.synthetic.texture import crown, noise_tile, sample_noise
from vision_heads.data.synthetic.weather import Weather, roughness

OVER = 2
"""Sub-pixels a side of each pixel."""
_MINOR = 9.0
"""Length in sub-pixels below which an actor's details are left out."""


@dataclass(slots=True)
class Shown:
    """What became of one actor in the picture.

    Attributes:
        actor: index into the actors given.
        box: xyxy of its visible pixels, in pixels of the picture.
        visible: share of its whole outline that is visible: not hidden and inside the picture.
        area: visible area in pixels².
    """

    actor: int
    box: tuple[float, float, float, float]
    visible: float
    area: float


def render(
    town: Town, actors: list[Actor], camera: Camera, weather: Weather, seconds: float = 0.0
) -> tuple[NDArray[np.uint8], list[Shown]]:
    """Paint the town as it is after `seconds`.

    Returns:
        The BGR uint8 picture without the lens's faults, and what is visible of each actor
        that at least one pixel of shows.
    """
    places = [actor.place(seconds) for actor in actors]
    seen = _in_view(actors, places, camera)
    shadow = np.zeros((camera.height, camera.width), np.uint8)
    for outline in shadow_outlines(town.buildings, weather):
        _shadow(shadow, outline, camera)
    trees = _trees_in_view(town.trees, camera)
    for tree in trees:
        _tree_shadow(shadow, tree, camera, weather)
    fixed = shadow.copy()
    for index in seen:
        _actor_shadow(shadow, actors[index], places[index], camera, weather)
    floor = _floor(town, camera, weather, shadow)
    fine = camera.scaled(OVER)
    size = (fine.width, fine.height)
    canvas = Canvas(
        np.asarray(cv2.resize(floor, size, interpolation=cv2.INTER_LINEAR), np.uint8),
        np.full((fine.height, fine.width), np.inf, np.float32),
        np.full((fine.height, fine.width), -1, np.int32),
        fine,
        weather,
    )
    paint_buildings(canvas, town.buildings)
    whole = _paint_things(canvas, trees, actors, (places, seen), fixed)
    picture = cv2.resize(
        canvas.picture, (camera.width, camera.height), interpolation=cv2.INTER_AREA
    )
    return np.asarray(picture, np.uint8), _account(canvas.owner, whole)


def _in_view(
    actors: list[Actor], places: list[tuple[float, float, float]], camera: Camera
) -> list[int]:
    """Return the actors that may touch the picture, generously."""
    if not actors:
        return []
    middle = np.array([(x, y, 0.8) for x, y, _ in places])
    seen = camera.project(middle)
    reach = np.array([max(actor.model.size) * 0.75 for actor in actors])
    pixels = reach * camera.focal / np.maximum(seen[:, 2], NEAR)
    inside = (
        (seen[:, 2] > NEAR + 2)
        & (seen[:, 0] > -pixels)
        & (seen[:, 0] < camera.width + pixels)
        & (seen[:, 1] > -pixels)
        & (seen[:, 1] < camera.height + pixels)
    )
    return [int(index) for index in np.flatnonzero(inside)]


def _trees_in_view(trees: list[Tree], camera: Camera) -> list[Tree]:
    """Return the trees whose crown or shadow may touch the picture."""
    if not trees:
        return []
    seen = camera.project(np.array([(tree.x, tree.y, tree.height) for tree in trees]))
    # A low sun throws the shadow up to twice the height away.
    reach = np.array([tree.radius + 2.2 * tree.height for tree in trees])
    pixels = reach * camera.focal / np.maximum(seen[:, 2], NEAR)
    inside = (seen[:, 2] > NEAR) & (
        np.abs(seen[:, 0] - camera.width / 2) < camera.width / 2 + pixels
    )
    inside &= np.abs(seen[:, 1] - camera.height / 2) < camera.height / 2 + pixels
    return [tree for tree, kept in zip(trees, inside, strict=True) if kept]


def _shadow(mask: NDArray[np.uint8], outline: Floats, camera: Camera) -> None:
    flat = np.column_stack([outline, np.zeros(len(outline))])
    pixels = camera.outline(flat)
    if pixels is not None:
        fill(mask, pixels, 255)


def _tree_shadow(mask: NDArray[np.uint8], tree: Tree, camera: Camera, weather: Weather) -> None:
    turn = np.arange(14) * 2 * np.pi / 14
    uneven = 1 + 0.14 * np.sin(3 * turn + tree.variant) + 0.1 * np.sin(5 * turn + tree.x)
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1) * (tree.radius * 0.92 * uneven)[:, None]
    # The far side of a ball's shadow is drawn out by the sun's slant.
    away = weather.slide(1.0)
    ring += np.outer((ring @ away > 0) * (ring @ away), away) * 0.25
    middle = np.array([tree.x, tree.y]) + weather.slide(tree.height)
    hull = cv2.convexHull((ring + middle).astype(np.float32))[:, 0].astype(np.float64)
    _shadow(mask, hull, camera)


def _actor_shadow(
    mask: NDArray[np.uint8],
    actor: Actor,
    place: tuple[float, float, float],
    camera: Camera,
    weather: Weather,
) -> None:
    length, width, high = actor.model.size
    x, y, facing = place
    along = np.array([np.cos(facing), np.sin(facing)]) * length / 2 * actor.scale[0]
    across = np.array([-np.sin(facing), np.cos(facing)]) * width / 2 * actor.scale[1]
    foot = np.array([x, y]) + np.array(
        [along + across, along - across, -along - across, across - along]
    )
    # A roof is smaller than what it stands on.
    top = (foot - (x, y)) * (0.8 if length > 1 else 0.7) + (x, y)
    low, up = weather.slide(actor.base), weather.slide(actor.base + high * actor.scale[2])
    around = 1.04 if length > 1 else 0.8
    base = (foot - (x, y)) * around + (x, y) + low
    hull = cv2.convexHull(np.concatenate([base, top + up]).astype(np.float32))
    _shadow(mask, hull[:, 0].astype(np.float64), camera)


def _floor(
    town: Town, camera: Camera, weather: Weather, shadow: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return the textured, shadowed ground at the final resolution."""
    material = _materials(town, camera.scaled(OVER))
    size = (camera.width, camera.height)
    table = weather.colors.astype(np.uint8)
    color = cv2.resize(table[material], size, interpolation=cv2.INTER_AREA).astype(np.float32)
    rough = np.round(roughness() * 1000).astype(np.uint8)
    amplitude = cv2.resize(rough[material], size, interpolation=cv2.INTER_AREA) / np.float32(1000)
    x, y, depth = camera.ground()
    pixel = depth / np.float32(camera.focal)
    cloudy = sample_noise(noise_tile(0, 1.3), x, y, 190.0)
    mottled = sample_noise(noise_tile(1, 0.9), x, y, 31.0)
    grainy = sample_noise(noise_tile(2, 0.5), x, y, 9.0)
    clear = np.clip(0.12 / pixel, 0.25, 1)
    slabs = _slabs(x, y, pixel)
    gain = (
        1
        + amplitude[..., 0] * cloudy
        + amplitude[..., 1] * mottled
        + amplitude[..., 2] * grainy * clear
        + amplitude[..., 3] * slabs
    )
    color *= gain[..., None]
    # Vegetation changes its hue as well: dry spots turn yellow.
    green = np.clip(amplitude[..., 0] - np.float32(0.06), 0, 1) * mottled
    color[..., 2] *= 1 + 1.2 * green
    color[..., 0] *= 1 - 0.5 * green
    soft = cv2.GaussianBlur(shadow, (0, 0), 0.7).astype(np.float32) / 255
    dark = weather.shade * soft[..., None]
    color *= 1 - dark * np.array([0.84, 0.95, 1.0], np.float32)
    return np.clip(color, 0, 255).astype(np.uint8)


def _slabs(
    x: NDArray[np.float32], y: NDArray[np.float32], pixel: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return a pattern of slabs with joints, about -1..1, faded where it is too fine to see."""
    side = 1.6
    checker = np.sin(np.pi / side * x) * np.sin(np.pi / side * y)
    fade = np.clip(0.35 / pixel - 0.6, 0, 1)
    near_x = np.abs(np.mod(x, side) - side / 2) - side / 2
    near_y = np.abs(np.mod(y, side) - side / 2) - side / 2
    joint = np.maximum(near_x, near_y) > -np.maximum(0.04, pixel / 2)
    pattern = np.clip(3 * checker, -0.5, 0.5) - 1.2 * joint * np.clip(0.1 / pixel, 0, 1)
    return np.asarray(pattern * fade, np.float32)


def _materials(town: Town, camera: Camera) -> NDArray[np.uint8]:
    mask = np.full((camera.height, camera.width), int(Ground.ASPHALT), np.uint8)
    if not town.ground:
        return mask
    flat = np.concatenate([outline for _, outline in town.ground])
    starts = np.cumsum([0, *[len(outline) for _, outline in town.ground]])
    seen = camera.project(np.column_stack([flat, np.zeros(len(flat))]))
    low = np.minimum.reduceat(seen, starts[:-1])
    high = np.maximum.reduceat(seen, starts[:-1])
    near = low[:, 2] < NEAR
    outside = (
        (low[:, 0] > camera.width)
        | (low[:, 1] > camera.height)
        | (high[:, 0] < 0)
        | (high[:, 1] < 0)
    )
    for index in np.flatnonzero((high[:, 2] >= NEAR) & (near | ~outside)):
        material, outline = town.ground[index]
        pixels: Floats | None = seen[starts[index] : starts[index + 1], :2]
        if near[index]:
            pixels = camera.outline(np.column_stack([outline, np.zeros(len(outline))]))
        if pixels is not None:
            fill(mask, pixels, int(material))
    return mask


def _paint_things(
    canvas: Canvas,
    trees: list[Tree],
    actors: list[Actor],
    where: tuple[list[tuple[float, float, float]], list[int]],
    fixed: NDArray[np.uint8],
) -> dict[int, float]:
    """Paint actors and trees from far to near; return each actor's whole area, sub-pixels."""
    places, seen = where
    eye = np.array(canvas.camera.position)
    things: list[tuple[float, int, int]] = []
    for index in seen:
        x, y, _ = places[index]
        actor = actors[index]
        middle = np.array([x, y, actor.base + actor.model.size[2] / 2])
        things.append((float(np.linalg.norm(middle - eye)), 0, index))
    for index, tree in enumerate(trees):
        away = float(np.linalg.norm(np.array([tree.x, tree.y, tree.height]) - eye))
        things.append((away, 1, index))
    light = canvas.camera.rotation @ canvas.weather.sun * np.array([1, 1, -1])
    crowns: dict[int, NDArray[np.uint8]] = {}
    whole: dict[int, float] = {}
    for _, kind, index in sorted(things, key=lambda thing: (-thing[0], thing[1], thing[2])):
        if kind == 1:
            tree = trees[index]
            if tree.variant not in crowns:
                tone = 1 + 0.14 * np.sin(tree.variant * 2.4)
                hue = np.array([1, 1, 1 + 0.07 * np.sin(tree.variant * 1.7)])
                leaf = canvas.weather.leaves * hue * tone
                crowns[tree.variant] = crown(tree.variant, light, leaf)
            canvas.tree(tree, crowns[tree.variant])
        else:
            whole[index] = _paint_actor(canvas, actors[index], places[index], index, fixed)
    return whole


def _paint_actor(
    canvas: Canvas,
    actor: Actor,
    place: tuple[float, float, float],
    index: int,
    fixed: NDArray[np.uint8],
) -> float:
    """Paint one actor; return its whole outline's area in sub-pixels, hidden parts included."""
    x, y, facing = place
    model = actor.model
    turn = np.array(
        [[np.cos(facing), -np.sin(facing), 0], [np.sin(facing), np.cos(facing), 0], [0, 0, 1]]
    )
    scale = np.array(actor.scale)
    origin = np.array([x, y, actor.base])
    eye = (np.array(canvas.camera.position) - origin) @ turn / scale
    facing_us = ((eye - model.centres) * model.normals).sum(axis=1) > 0
    pixels = canvas.camera.project((model.corners * scale) @ turn.T + origin)
    if pixels[:, 2].min() < NEAR:
        return 0.0
    extent = pixels[:, :2].max(axis=0) - pixels[:, :2].min(axis=0)
    sunny = 1.0 - _shade_at(fixed, pixels)
    light = canvas.light(model.normals @ turn.T, sunny)
    far = {piece: float(np.linalg.norm(eye - c)) for piece, c in model.piece_centres.items()}
    order = [
        face
        for face in np.flatnonzero(facing_us)
        if model.parts[face] != "none" and not (model.minor[face] and extent.max() < _MINOR)
    ]
    order.sort(key=lambda face: (model.pieces[face][0], -far[model.pieces[face][1]], face))
    outlines = [pixels[model.starts[face] : model.starts[face + 1], :2] for face in order]
    shades = [np.array(actor.colors[model.parts[face]]) * light[face] for face in order]
    return canvas.solid(outlines, shades, float(pixels[:, 2].mean()), index)


def _shade_at(fixed: NDArray[np.uint8], pixels: Floats) -> float:
    """Return 1 where an actor stands in a building's or a tree's shadow, else 0."""
    u, v = pixels[:, :2].mean(axis=0) / OVER
    row = int(np.clip(v, 0, fixed.shape[0] - 1))
    column = int(np.clip(u, 0, fixed.shape[1] - 1))
    return float(fixed[row, column] > 127)


def _account(owner: NDArray[np.int32], whole: dict[int, float]) -> list[Shown]:
    """Measure what is left visible of each actor once everything is painted."""
    rows, columns = np.nonzero(owner >= 0)
    if not len(rows):
        return []
    ids = owner[rows, columns]
    order = np.argsort(ids, kind="stable")
    ids, rows, columns = ids[order], rows[order], columns[order]
    actors, starts, counts = np.unique(ids, return_index=True, return_counts=True)
    low_x, high_x = np.minimum.reduceat(columns, starts), np.maximum.reduceat(columns, starts)
    low_y, high_y = np.minimum.reduceat(rows, starts), np.maximum.reduceat(rows, starts)
    shown = []
    for k, actor in enumerate(actors):
        box = (
            float(low_x[k] / OVER),
            float(low_y[k] / OVER),
            float((high_x[k] + 1) / OVER),
            float((high_y[k] + 1) / OVER),
        )
        share = float(min(1.0, counts[k] / max(whole[int(actor)], 1.0)))
        shown.append(Shown(int(actor), box, share, float(counts[k] / OVER**2)))
    return shown
