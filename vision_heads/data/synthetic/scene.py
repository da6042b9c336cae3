"""Scenes and clips: a town, a camera, a weather, and the labels of what can be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.data.synthetic.actors import Actor
from vision_heads.data.synthetic.camera import Camera
from vision_heads.data.synthetic.plan import KINDS, Kind, Rect
from vision_heads.data.synthetic.render import Shown, render
from vision_heads.data.synthetic.town import build_town
from vision_heads.data.synthetic.traffic import Crew
from vision_heads.data.synthetic.weather import Weather, make_weather
from vision_heads.errors import require

VISIBLE = 0.25
"""An object of which a smaller share is visible becomes an ignore area of its class."""
SMALLEST = 2.5
"""An object whose visible box is narrower, in pixels, becomes an ignore area of its class."""
_FIELD = np.radians(62.0)
_FARTHEST = 500.0
"""Metres of ground ahead of the camera that the upper edge may show."""


@dataclass(slots=True)
class Scene:
    """One synthetic picture and its labels.

    Attributes:
        image: (H, W, 3) BGR uint8.
        boxes: (N, 4) float32 xyxy of each object's visible pixels.
        labels: (N,) int64 indices into `vision_heads.data.synthetic.NAMES`.
        areas: (N,) float32 visible area in pixels².
        ignore_boxes: (K, 4) float32 objects too hidden or too small to be judged.
        ignore_labels: (K,) int64 their classes.
        kind: what was asked for or drawn.
        seed: of the scene.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    areas: NDArray[np.float32]
    ignore_boxes: NDArray[np.float32]
    ignore_labels: NDArray[np.int64]
    kind: Kind
    seed: int


@dataclass(frozen=True, slots=True)
class View:
    """How to look at a scene; None draws a value that suits the kind.

    Attributes:
        altitude: metres above the ground, 8..400.
        tilt: degrees away from straight down, 0..60; less is taken where the picture would
            show the horizon or more than 500 m ahead.
        busy: how full streets are; 1 is a normal day.
    """

    altitude: float | None = None
    tilt: float | None = None
    busy: float | None = None


def render_scene(
    seed: int,
    width: int = 960,
    height: int = 540,
    *,
    kind: Kind | None = None,
    view: View | None = None,
) -> Scene:
    """Render one scene; the same arguments always give the same scene.

    Args:
        seed: any non-negative integer.
        width, height: of the picture in pixels, at least 64.
        kind: "street", "crossing", "parking", "square", "suburb" or "highway"; drawn when None.
        view: what to fix about the camera and the traffic.

    Returns:
        The picture with exact labels.

    Raises:
        UserError: a value is out of its range.
    """
    stage = _Stage(seed, (width, height), kind, view or View(), 0.0)
    return stage.shoot(0.0, 0)


def render_clip(
    seed: int,
    seconds: float = 5.0,
    fps: float = 15.0,
    size: tuple[int, int] = (640, 360),
    *,
    kind: Kind | None = None,
    view: View | None = None,
) -> Iterator[Scene]:
    """Render a clip frame by frame: the camera glides, traffic drives, people walk.

    Args:
        seed: any non-negative integer.
        seconds, fps: length and rate; `round(seconds * fps)` frames are yielded.
        size: width and height in pixels.
        kind, view: as for `render_scene`.

    Raises:
        UserError: a value is out of its range.
    """
    require(0 < seconds <= 600 and 0 < fps <= 240, "clip: seconds in (0, 600], fps in (0, 240]")
    stage = _Stage(seed, size, kind, view or View(), seconds)
    for frame in range(round(seconds * fps)):
        yield stage.shoot(frame / fps, frame)


class _Stage:
    """Everything of a scene that does not change from frame to frame."""

    def __init__(
        self, seed: int, size: tuple[int, int], kind: Kind | None, view: View, seconds: float
    ) -> None:
        require(seed >= 0, f"seed: must be 0 or more, got {seed}")
        require(min(size) >= 64 and max(size) <= 8192, f"size: sides in 64..8192, got {size}")
        require(kind is None or kind in KINDS, f"kind: one of {', '.join(KINDS)}, got {kind!r}")
        rng = np.random.default_rng([2026, seed])
        drawn: Kind = KINDS[rng.choice(len(KINDS), p=[0.24, 0.24, 0.15, 0.14, 0.11, 0.12])]
        self.kind: Kind = drawn if kind is None else kind
        self.seed = seed
        self.camera = _aim(self.kind, size, view, rng)
        pace = rng.uniform(1.5, 4.0)
        turn = self.camera.yaw + rng.normal(0, 0.4)
        self.drift = np.array([np.sin(turn), np.cos(turn)]) * pace
        self.spin = float(rng.normal(0, 0.008))
        bounds = self._bounds(seconds)
        self.weather: Weather = make_weather(rng)
        # A drone flies above the roofs: nothing may stand in the way of the whole view.
        tallest = 0.65 * self.camera.position[2]
        self.town = build_town(self.kind, bounds, tallest, np.random.default_rng([2027, seed]))
        busy = float(rng.uniform(0.5, 1.7)) if view.busy is None else view.busy
        require(0 <= busy <= 5, f"busy: must be 0..5, got {busy}")
        crew = Crew(self.town, bounds, np.random.default_rng([2028, seed]), max(busy, 1e-3))
        self.actors: list[Actor] = crew.fill()

    def _camera(self, seconds: float) -> Camera:
        base = self.camera
        x, y = np.array(base.position[:2]) + self.drift * seconds
        return Camera(
            (float(x), float(y), base.position[2]),
            base.yaw + self.spin * seconds,
            base.tilt,
            base.roll,
            base.focal,
            base.width,
            base.height,
        )

    def _bounds(self, seconds: float) -> Rect:
        prints = np.concatenate(
            [self._camera(moment).footprint() for moment in (0.0, seconds / 2, seconds)]
        )
        low, high = prints.min(axis=0) - 45, prints.max(axis=0) + 45
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def shoot(self, seconds: float, frame: int) -> Scene:
        """Render one moment."""
        camera = self._camera(seconds)
        clean, shown = render(self.town, self.actors, camera, self.weather, seconds)
        rng = np.random.default_rng([2029, self.seed, frame])
        image = _through_lens(clean, camera, self.weather, rng)
        return self._label(image, shown)

    def _label(self, image: NDArray[np.uint8], shown: list[Shown]) -> Scene:
        boxes = np.array([one.box for one in shown], np.float32).reshape(-1, 4)
        labels = np.array([self.actors[one.actor].label for one in shown], np.int64)
        areas = np.array([one.area for one in shown], np.float32)
        share = np.array([one.visible for one in shown])
        sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) if len(boxes) else np.zeros(0)
        good = (share >= VISIBLE) & (sides >= SMALLEST)
        return Scene(
            image,
            boxes[good],
            labels[good],
            areas[good],
            boxes[~good],
            labels[~good],
            self.kind,
            self.seed,
        )


_HEIGHTS = {
    "street": (26, 110),
    "crossing": (28, 130),
    "parking": (24, 110),
    "square": (16, 60),
    "suburb": (40, 160),
    "highway": (45, 190),
}


def _aim(kind: Kind, size: tuple[int, int], view: View, rng: np.random.Generator) -> Camera:
    """Place the camera so that the middle of the picture shows what the kind is about."""
    low, high = _HEIGHTS[kind]
    altitude = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    steep = rng.uniform() < 0.3
    tilt = float(rng.uniform(0, 8) if steep else rng.uniform(15, 56))
    altitude = altitude if view.altitude is None else view.altitude
    tilt = tilt if view.tilt is None else view.tilt
    require(8 <= altitude <= 400, f"altitude: must be 8..400 m, got {altitude}")
    require(0 <= tilt <= 60, f"tilt: must be 0..60 degrees, got {tilt}")
    width, height = size
    focal = max(width, height) / 2 / np.tan(_FIELD / 2)
    # Keep the upper edge clear of the horizon, and the town that is in view of a bounded size.
    upper = np.arctan(height / 2 / focal)
    steepest = min(np.radians(80), np.arctan(_FARTHEST / altitude)) - upper
    lean = min(float(np.radians(tilt)), max(float(steepest), 0.0))
    target = _target(kind, rng)
    along = rng.uniform() < 0.62
    turn = rng.choice([0, 1, 2, 3]) * np.pi / 2 + rng.normal(0, 0.12)
    yaw = float(turn if along else rng.uniform(0, 2 * np.pi))
    back = altitude * np.tan(lean)
    position = (
        float(target[0] - back * np.sin(yaw)),
        float(target[1] - back * np.cos(yaw)),
        altitude,
    )
    return Camera(position, yaw, lean, float(rng.normal(0, 0.02)), float(focal), width, height)


def _target(kind: Kind, rng: np.random.Generator) -> NDArray[np.float64]:
    if kind == "crossing":
        return rng.normal(0, 5, 2)
    if kind in ("parking", "square"):
        return rng.uniform(28, 48, 2)
    if kind == "suburb":
        return rng.uniform(-30, 30, 2)
    return np.array([rng.normal(0, 4), rng.uniform(30, 60)])


def _through_lens(
    clean: NDArray[np.uint8], camera: Camera, weather: Weather, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Add haze, white balance, contrast, blur, vignette and noise."""
    image = clean.astype(np.float32)
    _, _, depth = camera.ground()
    haze = (1 - np.power(1 - weather.haze, depth / 100))[..., None]
    image += (weather.haze_color.astype(np.float32) - image) * haze
    image = (image - 118) * weather.contrast + 118
    image *= (weather.cast * weather.gain).astype(np.float32)
    if weather.blur > 0.15:
        image = cv2.GaussianBlur(image, (0, 0), weather.blur).astype(np.float32)
    u = np.linspace(-1, 1, camera.width, dtype=np.float32)[None, :]
    v = np.linspace(-1, 1, camera.height, dtype=np.float32)[:, None]
    image *= (1 - 0.06 * (u * u + v * v))[..., None]
    grain = rng.standard_normal((camera.height, camera.width, 1), np.float32)
    tint = rng.standard_normal((camera.height // 2, camera.width // 2, 3), np.float32)
    fine = cv2.resize(tint, (camera.width, camera.height), interpolation=cv2.INTER_LINEAR)
    image += weather.noise * (grain + 0.6 * fine)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
