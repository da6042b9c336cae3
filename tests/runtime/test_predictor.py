from __future__ import annotations

import re
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.runtime.tiny_onnx import picture, write_model
from vision_heads import Predictor, load
from vision_heads.errors import UserError
from vision_heads.heads.base import DecodeOptions
from vision_heads.media.images import ImageError
from vision_heads.results import Failure, Result
from vision_heads.runtime.engines import OnnxEngine
from vision_heads.runtime.inputs import load_picture
from vision_heads.runtime.slicing import Slicing


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    write_model(path)
    return load(path, threads=1)


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures, each with a red square at its own place; number 5 is cut off."""
    for number in range(12):
        path = tmp_path / f"{number:02}.png"
        cv2.imwrite(str(path), picture(128, 128, {"red": [(8 * number, 16, 16)]}))
    broken = tmp_path / "05.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    return tmp_path


def test_boxes_come_back_in_the_pictures_own_pixels(predictor):
    image = picture(256, 128, {"red": [(32, 64, 32)], "blue": [(192, 32, 32)]})
    result = predictor(image)
    found = result["aerial"]
    assert (result.width, result.height) == (256, 128)
    assert sorted(found.names[label] for label in found.class_id) == ["blue", "red"]
    by_name = {name: box.tolist() for box, _, name in found}
    assert by_name == {"red": [32, 64, 64, 96], "blue": [192, 32, 224, 64]}
    np.testing.assert_allclose(found.score, 1, atol=1e-6)
    assert result.image is image


def test_every_argument_reaches_the_request(predictor, monkeypatch):
    class AskedError(Exception):
        pass

    asked = []

    def ask(engine, options, **more):
        asked.append((engine, options, more))
        raise AskedError

    monkeypatch.setattr("vision_heads.runtime.predictor.make_request", ask)
    names = ("classes", "heads", "imgsz", "batch", "slicing", "keep_image", "merge")
    more = {name: object() for name in names}
    with pytest.raises(AskedError):
        predictor("a.jpg", conf=0.1, iou=0.2, max_det=3, multi_label=True, **more)
    options = DecodeOptions(0.1, 0.2, 3, None, True)
    with pytest.raises(AskedError):
        predictor.stream([], options, **more)
    for _, one, rest in asked:
        assert one == options and rest == more
    for call in (lambda: predictor("a.jpg"), lambda: predictor.stream([])):
        asked.clear()
        with pytest.raises(AskedError):
            call()
        assert asked[0][1] == DecodeOptions()


def test_load_hands_on_where_to_run(predictor, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "vision_heads.runtime.predictor.open_engine",
        lambda *file, **more: asked.append((file, more)) or predictor._engine,
    )
    load("a.onnx", threads=3, provider="cpu")
    assert asked == [(("a.onnx",), {"threads": 3, "provider": "cpu"})]


def test_the_network_sees_rgb(predictor):
    image = picture(128, 128, {"red": [(16, 16, 16)]})
    assert predictor(image)["aerial"].counts() == {"red": 1}
    assert predictor(image[..., ::-1].copy())["aerial"].counts() == {"blue": 1}


def test_paths_arrays_and_pil_images_are_the_same(predictor, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    image = picture(128, 128, {"green": [(8, 24, 16)], "red": [(64, 64, 16)]})
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), image)
    results = predictor([image, path, str(path), pil.fromarray(image[..., ::-1].copy())])
    assert [result.source for result in results] == ["", str(path), str(path), ""]
    for result in results:
        np.testing.assert_array_equal(result["aerial"].xyxy, results[0]["aerial"].xyxy)
    assert results[0]["aerial"].counts() == {"red": 1, "green": 1}


def test_thresholds_limits_and_classes(predictor):
    image = picture(128, 128, {"red": [(0, 0, 16), (32, 32, 16)], "green": [(64, 64, 16)]})
    image[80:96, 0:16, 2] = 200  # score 2 * 200 / 255 - 1 = 0.57
    assert len(predictor(image)) == 4
    assert len(predictor(image, conf=0.6)) == 3
    assert len(predictor(image, max_det=2)) == 2
    assert predictor(image, classes=["green"])["aerial"].counts() == {"green": 1}
    assert predictor(image, classes=[0])["aerial"].counts() == {"red": 3}
    # One alone needs no list; the file's own size may be named.
    alone = predictor(image, classes="green", heads="aerial", imgsz=(128, 128))
    assert alone["aerial"].counts() == {"green": 1}
    assert len(predictor(image, conf=1.0)) == 0


def test_an_empty_list_gives_an_empty_list(predictor):
    assert predictor([]) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conf": 1.5}, "conf must be in 0..1"),
        ({"conf": "x"}, "conf must be in 0..1"),
        ({"iou": -0.1}, "iou must be in 0..1"),
        ({"max_det": 0}, "max_det must be a whole number"),
        ({"max_det": 2.5}, "max_det must be a whole number"),
        ({"classes": ["car"]}, "no class 'car'; there are aerial: red, green, blue"),
        ({"classes": [3]}, "no class 3"),
        ({"heads": ["pose"]}, "no head 'pose'"),
        ({"heads": []}, "heads: none given"),
        ({"heads": 5}, "no head 5"),
        ({"imgsz": 100}, "imgsz must be a multiple of 32.*, got 100; near it: 96x96 or 128x128"),
        ({"imgsz": 256}, "made for 128x128 only"),
        ({"imgsz": (128, 256)}, "made for 128x128 only; export it for 128x256"),
        ({"imgsz": (128, 100)}, "imgsz must be a multiple of 32"),
        ({"imgsz": (8224, 128)}, "imgsz must be a multiple of 32.* up to 8192"),
        ({"batch": 0}, "batch must be a whole number of at least 1"),
        ({"batch": "x"}, "batch must be a whole number of at least 1"),
        ({"slicing": 5}, "size must be at least 32"),
        ({"slicing": "x"}, "size must be at least 32"),
        ({"slicing": True}, "size must be at least 32"),
        ({"imgsz": "x"}, "imgsz must be a multiple of 32"),
        ({"imgsz": (128, 128, 3)}, "imgsz must be a multiple of 32, or height and width"),
        ({"imgsz": 128.0}, "imgsz must be a multiple of 32"),
        ({"imgsz": 3_200_000}, "imgsz must be a multiple of 32, or height and width, up to 8192"),
        ({"classes": []}, "classes: none given"),
        ({"classes": [1.5]}, "no class 1.5"),
        ({"classes": [None]}, "no class None"),
    ],
)
def test_wrong_arguments_are_named(predictor, options, message):
    with pytest.raises(UserError, match=message):
        predictor(picture(64, 64, {}), **options)


@pytest.mark.parametrize("images", ["a.png", b"a.png", np.zeros((8, 8, 3), np.uint8), None, 7])
def test_a_stream_takes_several_pictures_only(predictor, images):
    with pytest.raises(UserError, match="images: expected several pictures"):
        predictor.stream(images)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        None,
        7,
    ],
)
def test_what_is_no_picture_is_refused(predictor, image):
    with pytest.raises(UserError, match="image: expected"):
        predictor(image)


def test_a_pil_image_cut_off_behind_its_header_is_a_mistake(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    whole = tmp_path / "a.png"
    pil.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    whole.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(UserError, match="image: the PIL image cannot be read: "):
        load_picture(pil.open(whole))


def test_whatever_pillow_raises_is_a_mistake():
    pil = pytest.importorskip("PIL.Image")
    image = pil.new("RGB", (8, 8))
    image.close()  # a ValueError; its decoders raise SyntaxError and RuntimeError too
    with pytest.raises(UserError, match="image: the PIL image cannot be read: "):
        load_picture(image)


def test_pil_images_of_16_bits_are_scaled_as_files_are(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    grey = np.linspace(0, 65535, 24).astype(np.uint16).reshape(4, 6)
    image = pil.fromarray(grey)
    image.save(tmp_path / "a.png")
    pixels = load_picture(image).image
    assert (pixels == load_picture(tmp_path / "a.png").image).all()
    with pytest.raises(UserError, match="mode 'I' needs values in 0"):
        load_picture(pil.fromarray(grey.astype(np.int32)))
    assert load_picture(pil.fromarray(grey.astype(np.int32) // 257)).image.max() == 255


def test_pil_images_of_a_mode_that_does_not_convert_are_refused():
    pil = pytest.importorskip("PIL.Image")
    with pytest.raises(UserError, match="image: a PIL image of mode 'La': "):
        load_picture(pil.new("LA", (8, 8)).convert("La"))


def test_urls_and_empty_names_are_named_as_they_were_given(predictor):
    names = ["http://me:secret@a/b.jpg", ""]
    lines = [
        r"image: http://\*\*\*@a/b\.jpg is a URL; fetch",
        "image: the name of the file is empty",
    ]
    for name, line in zip(names, lines, strict=True):
        with pytest.raises(ImageError, match=line):
            predictor(name)
    for failure, line in zip(predictor.stream(names), lines, strict=True):
        assert isinstance(failure, Failure) and re.match(line, failure.message)


def test_an_empty_pil_image_is_refused(predictor):
    pil = pytest.importorskip("PIL.Image")
    for size in ((0, 0), (5, 0)):
        with pytest.raises(UserError, match="image: the PIL image is empty"):
            predictor(pil.new("RGB", size))


def test_a_broken_file_stops_a_call(predictor, folder):
    with pytest.raises(ImageError, match=r"05\.png"):
        predictor([folder / "04.png", folder / "05.png"])


@pytest.mark.parametrize("fixed", [1, 4, None])
@pytest.mark.parametrize("batch", [None, 1, 5])
@pytest.mark.parametrize("parallel", [1, 2])
def test_a_stream_keeps_order_and_goes_on_after_failures(tmp_path, folder, fixed, batch, parallel):
    write_model(tmp_path / "m.onnx", batch=fixed)
    predictor = load(tmp_path / "m.onnx", threads=1)
    paths = sorted(folder.glob("*.png"))
    results = list(predictor.stream(iter(paths), batch=batch, parallel=parallel))
    assert [Path(result.source).name for result in results] == [path.name for path in paths]
    for number, result in enumerate(results):
        if number == 5:
            assert isinstance(result, Failure) and not result
            assert "05.png" in result.message
        else:
            assert isinstance(result, Result) and result.image is None
            assert result["aerial"].xyxy.tolist() == [[8 * number, 16, 8 * number + 16, 32]]


def test_a_stream_reads_no_further_than_needed(predictor, folder):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield folder / "00.png"

    results = predictor.stream(endless())
    assert taken == []
    for _ in range(20):
        next(results)
    assert len(taken) <= 20 + 8
    before = threading.active_count()
    results.close()
    assert threading.active_count() < before


def test_a_stream_of_failures_or_of_nothing_ends(predictor, tmp_path):
    assert list(predictor.stream([])) == []
    results = list(predictor.stream([tmp_path / f"{n}.jpg" for n in range(7)], batch=2))
    assert len(results) == 7
    assert all("No such file" in result.message for result in results)


@pytest.mark.parametrize("batch", [1, 3])
def test_what_came_before_an_error_of_the_pictures_is_not_lost(predictor, folder, batch):
    def pictures():
        yield from [folder / "00.png"] * 4
        raise RuntimeError("the camera's")

    for images, error in ((pictures(), "the camera's"), ([folder / "00.png"] * 4 + [7], "got int")):
        results = []
        with pytest.raises(Exception, match=error):
            results.extend(predictor.stream(images, batch=batch))
        assert len(results) == 4


def test_a_name_that_no_file_can_have_is_a_failure_among_many(predictor, folder):
    names = ["a\0.png", folder / "00.png", "\ud800.png"]
    results = list(predictor.stream(names))
    assert [bool(result) for result in results] == [False, True, False]
    assert results[0].message == "'a\\x00.png': is no name of a file"
    with pytest.raises(ImageError, match="is no name of a file"):
        predictor(names[2])


def test_a_stream_checks_its_arguments_before_the_first_picture(predictor):
    with pytest.raises(UserError, match="conf"):
        predictor.stream([], DecodeOptions(conf=2))
    for options in (0.3, {"aerial": 0.3}):
        with pytest.raises(UserError, match=r"options must be DecodeOptions, .* got 0\.3"):
            predictor.stream([], options)
    with pytest.raises(UserError, match="parallel"):
        predictor.stream([], parallel=0)


def test_an_error_of_the_network_is_not_swallowed(predictor, folder, monkeypatch):
    monkeypatch.setattr(
        OnnxEngine, "run", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("broken"))
    )
    with pytest.raises(RuntimeError, match="broken"):
        list(predictor.stream([folder / "00.png"]))


SQUARES = {
    "red": [(8, 8, 16), (104, 40, 16), (120, 200, 16), (240, 8, 16), (368, 232, 16)],
    "green": [(200, 120, 16), (384, 264, 16)],
}


@pytest.mark.parametrize("fixed", [1, None])
@pytest.mark.parametrize("mode", ["nms", "nmm"])
def test_slicing_finds_what_the_whole_picture_is_too_coarse_for(tmp_path, fixed, mode):
    write_model(tmp_path / "m.onnx", batch=fixed)
    predictor = load(tmp_path / "m.onnx", threads=1)
    image = picture(416, 320, SQUARES)
    assert len(predictor(image)) < 7
    # Tiles start every 96 px, so that every square is aligned to the steps of the tiles it is in.
    slicing = Slicing(size=128, overlap=0.25, merge=mode)
    result = predictor(image, slicing=slicing, conf=0.6, batch=4)
    found = {(name, *box.tolist()) for box, _, name in result["aerial"]}
    expected = {
        (name, x, y, x + side, y + side)
        for name, places in SQUARES.items()
        for x, y, side in places
    }
    assert expected <= found
    streamed = list(predictor.stream([image], DecodeOptions(conf=0.6), slicing=slicing))
    np.testing.assert_array_equal(streamed[0]["aerial"].xyxy, result["aerial"].xyxy)


def test_slices_are_the_same_however_the_work_is_split(predictor):
    images = [picture(416, 320, SQUARES), picture(64, 64, {}), picture(320, 416, SQUARES)]
    slicing = Slicing(size=128, overlap=0.25)
    wanted = [predictor(image, slicing=slicing).to_dict() for image in images]
    for batch, parallel in ((1, 3), (5, 2)):
        found = predictor.stream(images, slicing=slicing, batch=batch, parallel=parallel)
        assert [result.to_dict() for result in found] == wanted


def test_tiles_of_one_picture_are_looked_through_side_by_side(predictor, monkeypatch):
    meeting, run = threading.Barrier(2, timeout=20), OnnxEngine.run

    def together(self, images, heads=None):
        meeting.wait()  # breaks unless another call is under way
        return run(self, images, heads)

    monkeypatch.setattr(OnnxEngine, "run", together)
    image = picture(224, 128, {"red": [(8, 8, 16)]})  # two tiles
    slicing = Slicing(size=128, overlap=0.25, whole=False)
    (result,) = predictor.stream([image], slicing=slicing, parallel=2)
    assert len(result) == 1


def test_an_abandoned_stream_does_not_finish_its_tiles(predictor, monkeypatch):
    calls, run = [], OnnxEngine.run

    def count(self, images, heads=None):
        calls.append(1)
        return run(self, images, heads)

    monkeypatch.setattr(OnnxEngine, "run", count)
    images = [picture(64, 64, {}), picture(1000, 1000, {})]
    results = predictor.stream(images, slicing=Slicing(size=32, overlap=0.5))
    next(results)
    results.close()
    assert len(calls) < 1000  # the second picture has 61 x 61 tiles


def test_too_many_tiles_are_refused_and_other_pictures_done(predictor):
    small, large = picture(64, 64, {}), picture(640, 360, {})
    slicing = Slicing(size=100, overlap=0.99)
    first, second, third = predictor.stream([small, large, small], slicing=slicing)
    assert first and third
    assert not second
    assert "640 x 360 pixels make 141201 tiles of 100 pixels" in second.message
    assert second.source == ""  # an array has no name
    with pytest.raises(ImageError, match="more than the limit of 10000"):
        predictor(large, slicing=slicing)


def test_a_small_picture_is_not_sliced(predictor):
    image = picture(128, 96, {"red": [(16, 16, 16)]})
    a = predictor(image)
    for size in (640, 10**20):
        b = predictor(image, slicing=size)
        np.testing.assert_array_equal(a["aerial"].xyxy, b["aerial"].xyxy)
    assert len(a) == 1


def test_one_predictor_serves_several_threads(predictor):
    images = [picture(128, 128, {"red": [(8 * n, 8, 16)]}) for n in range(10)]
    found: dict[int, list] = {}

    def work(number):
        found[number] = [predictor(image)["aerial"].xyxy.tolist() for image in images]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [[[8.0 * n, 8, 8.0 * n + 16, 24]] for n in range(10)]
    assert all(found[number] == expected for number in range(4))


def test_heads_can_be_chosen(tmp_path):
    write_model(tmp_path / "m.onnx", heads=("one", "two"))
    predictor = Predictor(OnnxEngine(tmp_path / "m.onnx", threads=1))
    image = picture(128, 128, {"red": [(16, 16, 16)]})
    assert list(predictor(image).heads) == ["one", "two"]
    assert list(predictor(image, heads=["two"]).heads) == ["two"]
    assert predictor(image).to_coco(7)["two"][0]["category_id"] == 3
