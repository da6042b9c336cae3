"""The C++ parsers, compiled here and fed with real tensors, against our own decoding in NumPy."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.scripts import DEPLOY
from vision_heads.geometry.boxes import clip, nms
from vision_heads.geometry.rotations import from_euler
from vision_heads.heads.base import DecodeOptions, kind_of
from vision_heads.media.images import read_image
from vision_heads.results import Detections
from vision_heads.runtime.engines import OnnxEngine
from vision_heads.runtime.inputs import fill
from vision_heads.spec import HeadSpec

HERE = Path(__file__).resolve().parent
SOURCES = (DEPLOY / "deepstream" / "nvdsinfer_vision_heads.cpp", HERE / "parser_driver.cpp")
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wpedantic", "-Werror")
ROOM = 2000
FLOAT, HALF = 0, 1


class Layer(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("buffer", ctypes.c_void_p),
        ("type", ctypes.c_int),
        ("axes", ctypes.c_uint),
        ("sizes", ctypes.c_uint * 8),
    )


class Object(ctypes.Structure):
    _fields_ = (
        ("label", ctypes.c_uint),
        *((name, ctypes.c_float) for name in ("left", "top", "width", "height", "score")),
        ("mask", ctypes.c_float * 9),
        *((name, ctypes.c_uint) for name in ("mask_width", "mask_height", "mask_size")),
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Compile the parsers with every warning an error, and load them."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ here: the DeepStream parsers are not compiled")
    target = tmp_path_factory.mktemp("parser") / "libparser.so"
    command = [
        compiler, "-std=c++17", "-O1", "-fPIC", "-shared", *WARNINGS, "-D_GLIBCXX_ASSERTIONS",
        f"-I{HERE / 'include'}", *map(str, SOURCES), "-o", str(target),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(target))
    loaded.parse.argtypes = [
        ctypes.c_int, ctypes.POINTER(Layer), ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
        ctypes.c_uint, ctypes.POINTER(ctypes.c_float), ctypes.c_int, ctypes.POINTER(Object),
        ctypes.c_int,
    ]  # fmt: skip
    return loaded


def parse(library, arrays, *, pose=False, size=(640, 640), thresholds=(), classes=None, kind=FLOAT):
    """Call a parser; returns its objects, or None where it refuses.

    `arrays` are pairs of name and array (or shape alone, for a layer without a buffer).
    """
    layers = (Layer * max(len(arrays), 1))()
    kept = []
    for layer, (name, array) in zip(layers, arrays, strict=False):
        shape = array if isinstance(array, tuple) else array.shape
        layer.name = None if name is None else name.encode()
        layer.type, layer.axes = kind, len(shape)
        layer.sizes[: len(shape)] = list(shape)
        if not isinstance(array, tuple):
            kept.append(np.ascontiguousarray(array, np.float32))
            layer.buffer = kept[-1].ctypes.data
    found = (Object * ROOM)()
    limits = (ctypes.c_float * max(len(thresholds), 1))(*thresholds)
    count = library.parse(
        int(pose), layers, len(arrays), size[1], size[0],
        len(thresholds) if classes is None else classes, limits, len(thresholds), found, ROOM,
    )  # fmt: skip
    assert count <= ROOM
    return None if count < 0 else found[:count]


def corners(objects):
    return np.array(
        [(o.left, o.top, o.left + o.width, o.top + o.height) for o in objects], np.float32
    ).reshape(-1, 4)


def scores(objects):
    return np.array([one.score for one in objects], np.float32)


def labels(objects):
    return np.array([one.label for one in objects], np.int64)


def assert_same(objects, expected: Detections, size):
    """Boxes, scores and classes agree to 1e-4; boxes within the network's input."""
    order = np.argsort(-scores(objects), kind="stable")
    wanted = clip(expected.xyxy, size[1], size[0])
    assert len(objects) == len(wanted)
    np.testing.assert_allclose(corners(objects)[order], wanted, atol=1e-4)
    np.testing.assert_allclose(scores(objects)[order], expected.score, atol=1e-4)
    np.testing.assert_array_equal(labels(objects)[order], expected.class_id)


@pytest.fixture(scope="module")
def street(repository):
    """Return the shipped model's spec and its real outputs for a demo picture."""
    engine = OnnxEngine(repository / "weights" / "aerial-n.onnx", threads=1)
    image = read_image(repository / "datasets" / "demo" / "images" / "01_crossing_tilted.jpg")
    tensor = np.empty((1, 3, 640, 640), np.float32)
    fill(image, engine.spec.input, tensor[0])
    outputs = engine.run(tensor)
    return engine.spec.heads[0], {name: array[0] for name, array in outputs.items()}


def test_real_candidates_are_those_of_our_decoding(library, street):
    head, arrays = street
    kind = kind_of("detect")
    named = {name.partition("/")[2]: array for name, array in arrays.items()}
    for conf in (0.05, 0.25):
        objects = parse(library, list(arrays.items()), thresholds=[conf] * 10)
        every = kind.decode(named, head, DecodeOptions(conf=conf, iou=1.0))
        assert len(every) > 50
        assert_same(objects, every, (640, 640))
        # What nvinfer's cluster-mode=2 makes of them is what `vh detect` finds.
        kept = nms(corners(objects), scores(objects), labels(objects), 0.6)
        found = kind.decode(named, head, DecodeOptions(conf=conf, iou=0.6))
        assert 10 < len(found) < len(every)
        assert_same([objects[index] for index in kept], found, (640, 640))


def test_each_class_has_a_threshold_of_its_own(library, street):
    head, arrays = street
    limits = [0.25 if name == "car" else 1.0 for name in head.classes]
    objects = parse(library, list(arrays.items()), thresholds=limits)
    assert {head.classes[one.label] for one in objects} == {"car"}
    assert min(scores(objects)) > 0.25


def heads_of_two_kinds(seed=0, candidates=300):
    """Two heads, named so that neither order of layers nor of classes is the alphabet's."""
    rng = np.random.default_rng(seed)
    specs = (
        HeadSpec(name="pose", kind="headpose", classes=("head",)),
        HeadSpec(name="cars", classes=("van", "car", "bus")),
    )
    arrays = {}
    for spec in specs:
        corner = rng.uniform(0, 250, (candidates, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(20, 60, (candidates, 2))], axis=1)
        arrays[spec.name] = {
            "boxes": boxes.astype(np.float32),
            "scores": rng.random((candidates, len(spec.classes)), np.float32),
        }
    angles = rng.uniform(-180, 180, (candidates, 3))
    arrays["pose"]["rotation"] = from_euler(angles).astype(np.float32)
    layers = [
        (f"{h}/{suffix}", array) for h, own in arrays.items() for suffix, array in own.items()
    ]
    return specs, arrays, layers


@pytest.mark.parametrize("seed", range(3))
def test_poses_travel_with_their_boxes_through_suppression(library, seed):
    specs, arrays, layers = heads_of_two_kinds(seed)
    size = (320, 320)
    order = np.random.default_rng(seed).permutation(len(layers))
    objects = parse(
        library, [layers[index] for index in order], pose=True, size=size, thresholds=[0.3] * 4
    )
    decoded = {
        spec.name: kind_of(spec.kind).decode(arrays[spec.name], spec, DecodeOptions(conf=0.3))
        for spec in specs
    }
    cars = [one for one in objects if one.label < 3]
    assert_same(cars, decoded["cars"], size)
    assert {(one.mask_width, one.mask_height, one.mask_size) for one in cars} == {(0, 0, 0)}
    heads = [one for one in objects if one.label == 3]
    poses = decoded["pose"]
    assert 20 < len(poses) < 200
    np.testing.assert_allclose(corners(heads), poses.xyxy, atol=1e-4)
    np.testing.assert_allclose(scores(heads), poses.score, atol=1e-6)
    assert {(one.mask_width, one.mask_height, one.mask_size) for one in heads} == {(3, 3, 36)}
    masks = np.array([list(one.mask) for one in heads], np.float32).reshape(-1, 3, 3)
    np.testing.assert_array_equal(masks, poses.rotation)


def test_the_box_parser_takes_pose_models_too(library):
    specs, arrays, layers = heads_of_two_kinds()
    objects = parse(library, layers, size=(320, 320), thresholds=[0.3] * 4)
    every = DecodeOptions(conf=0.3, iou=1.0)
    for spec, first in zip(specs, (3, 0), strict=True):
        own = [one for one in objects if first <= one.label < first + len(spec.classes)]
        decoded = kind_of(spec.kind).decode(arrays[spec.name], spec, every)
        decoded.class_id += first
        assert_same(own, decoded, (320, 320))


def test_odd_numbers_do_no_harm(library):
    boxes = np.array(
        [[10, 10, 50, 50], [-20, 600, 90, 900], [700, 10, 800, 50], [np.nan, 0, 9, 9],
         [30, 30, 20, 60], [5, 5, 9, 9], [1, 1, 3, 3]], np.float32
    )  # fmt: skip
    values = np.full((7, 2), 0.5, np.float32)
    values[5] = np.nan
    values[6] = 0.9, np.nan
    values[0] = np.nan, 0.7
    objects = parse(library, [("a/boxes", boxes), ("a/scores", values)], thresholds=[0.4] * 2)
    assert [(one.label, round(one.score, 3)) for one in objects] == [(1, 0.7), (0, 0.5), (0, 0.9)]
    np.testing.assert_array_equal(
        corners(objects), [[10, 10, 50, 50], [0, 600, 90, 640], [1, 1, 3, 3]]
    )


BOXES, SCORES = np.zeros((5, 4), np.float32), np.zeros((5, 2), np.float32)


@pytest.mark.parametrize(
    ("layers", "given", "message"),
    [
        ([], {}, "no layer <head>/boxes; there are none"),
        ([("x", BOXES)], {}, "no layer <head>/boxes; there are x"),
        ([(None, BOXES)], {}, "no layer <head>/boxes"),
        ([("/boxes", BOXES)], {}, "no layer <head>/boxes; there are /boxes"),
        ([("a/boxes", BOXES)], {}, "no layer a/scores; there are a/boxes"),
        ([("a/boxes", np.zeros((5, 5))), ("a/scores", SCORES)], {},
         "layer a/boxes has the shape (5, 5), wanted (any, 4)"),
        ([("a/boxes", np.zeros((1, 5, 4))), ("a/scores", SCORES)], {},
         "layer a/boxes has the shape (1, 5, 4), wanted (any, 4)"),
        ([("a/boxes", BOXES), ("a/scores", np.zeros((6, 2)))], {},
         "layer a/scores has the shape (6, 2), wanted (5, any)"),
        ([("a/boxes", BOXES), ("a/scores", SCORES), ("a/rotation", np.zeros((5, 9)))], {},
         "layer a/rotation has the shape (5, 9), wanted (5, 3, 3)"),
        ([("a/boxes", BOXES), ("a/scores", SCORES)], {"classes": 3},
         "the model has 2 classes, num-detected-classes says 3"),
        ([("a/boxes", BOXES), ("a/scores", SCORES)], {"thresholds": [0.2], "classes": 2},
         "thresholds are given for 1 of 2 classes"),
        ([("a/boxes", BOXES), ("a/scores", SCORES)], {"kind": HALF}, "layer a/boxes is no FP32"),
        ([("a/boxes", BOXES), ("a/scores", (5, 2))], {}, "layer a/scores has no buffer"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pose", [False, True])
def test_what_does_not_fit_is_refused_with_a_reason(library, capfd, layers, given, message, pose):
    given = {"thresholds": [0.2, 0.2]} | given
    assert parse(library, layers, pose=pose, **given) is None
    name = "NvDsInferParseCustomVisionHeads" + ("Pose" if pose else "")
    error = capfd.readouterr().err
    assert error.startswith(f"{name}: {message}") and error.count("\n") == 1
