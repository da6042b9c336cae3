from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest

from vision_heads.media import images
from vision_heads.media.headers import read_header
from vision_heads.media.images import ImageError, image_size, read_image

PIL = pytest.importorskip("PIL.Image")


def _picture(width=120, height=80):
    """Smooth, and different in every quarter, so that any turn or mirror shows."""
    y, x = np.mgrid[:height, :width]
    return np.stack(
        [x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], 2
    ).astype(np.uint8)


def _write(path, bgr, **options):
    PIL.fromarray(np.ascontiguousarray(bgr[..., ::-1])).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tiff"])
def test_reads_bgr_under_unicode_names(tmp_path, suffix):
    path = _write(tmp_path / f"Straße 東京 ☂.{suffix}", _picture())
    image = read_image(path)
    assert image.shape == (80, 120, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - _picture()).mean() < 6  # lossy formats included
    assert image_size(path) == (120, 80)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_exif_orientation_as_pillow_applies_it(tmp_path, suffix, orientation):
    from PIL import ImageOps

    exif = PIL.Exif()
    exif[0x0112] = orientation
    path = _write(tmp_path / f"a.{suffix}", _picture(), exif=exif)
    with PIL.open(path) as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))[..., ::-1]
    image = read_image(path)
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).mean() < 3
    assert image_size(path) == (image.shape[1], image.shape[0])


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_every_kind_of_png_becomes_bgr_of_8_bits(tmp_path, mode):
    grey = _picture()[..., 0]
    if mode == "I;16":
        stored = PIL.fromarray(grey.astype(np.uint16) * 257)
    else:
        stored = PIL.fromarray(np.stack([grey] * 3, 2)).convert("L").convert(mode)
    stored.save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == (80, 120, 3) and image.dtype == np.uint8
    assert abs(image.mean() - grey.mean()) < 2
    assert image_size(tmp_path / "a.png") == (120, 80)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97])
def test_truncated_files_are_refused(tmp_path, suffix, share):
    rng = np.random.default_rng(0)
    noisy = rng.integers(0, 255, (300, 400, 3), dtype=np.uint8)
    path = _write(tmp_path / f"a.{suffix}", noisy)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=path.name):
        read_image(path)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_padded_with_zeros_is_refused_by_its_header_too(tmp_path, progressive):
    path = _write(tmp_path / "a.jpg", _picture(400, 300), progressive=progressive)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match="truncated"):
            read(path)


def test_bytes_after_the_end_of_a_jpeg_are_no_damage(tmp_path):
    path = _write(tmp_path / "a.jpg", _picture())
    path.write_bytes(path.read_bytes() + b"maker's notes" * 9)
    assert read_image(path).shape == (80, 120, 3)


def test_a_thumbnail_in_exif_is_not_taken_for_the_picture(tmp_path):
    thumbnail = io.BytesIO()
    PIL.fromarray(_picture(16, 8)).save(thumbnail, "JPEG")
    path = _write(tmp_path / "a.jpg", _picture())
    data = path.read_bytes()
    block = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail.getvalue()
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    path.write_bytes(data[:2] + segment + data[2:])
    assert image_size(path) == (120, 80)
    path.write_bytes((data[:2] + segment + data[2:])[:-200])
    with pytest.raises(ImageError, match="truncated"):
        image_size(path)


def test_a_header_that_claims_a_huge_picture_is_refused(tmp_path):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100000)))
        + chunk(b"IEND", b"")
    )
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match="60000 x 60000"):
            read(path)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (0, 0)])
def test_a_header_that_claims_no_picture_is_refused(tmp_path, width, height):
    good = cv2.imencode(".png", np.zeros((5, 5, 3), np.uint8))[1].tobytes()
    head = b"IHDR" + struct.pack(">II", width, height) + good[24:29]
    path = tmp_path / "a.png"
    path.write_bytes(good[:12] + head + struct.pack(">I", zlib.crc32(head)) + good[33:])
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=f"header says {width} x {height} pixels"):
            read(path)


def test_the_limit_of_pixels_can_be_set(tmp_path):
    path = _write(tmp_path / "a.jpg", _picture())
    assert read_image(path, max_pixels=120 * 80).shape == (80, 120, 3)
    with pytest.raises(ImageError, match="limit of 9599"):
        read_image(path, max_pixels=120 * 80 - 1)


@pytest.mark.parametrize("read", [read_image, image_size])
@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF"]
)
def test_what_is_no_picture_is_refused_with_its_name(tmp_path, read, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.jpg: "):
        read(path)


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_formats_that_opencv_lacks_are_told_from_damage(tmp_path, brand):
    path = tmp_path / "phone.jpg"
    path.write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0" * 64)
    with pytest.raises(ImageError, match="HEIC or AVIF"):
        read_image(path)


@pytest.mark.parametrize(
    "start", [b"\0\0\0\x18ftypmp42", b"RIFF\0\0\1\0AVI LIST", b"\x1a\x45\xdf\xa3\x01"]
)
def test_a_video_that_is_taken_for_a_picture_is_called_one(tmp_path, start):
    (tmp_path / "a.jpg").write_bytes(start + bytes(99))
    with pytest.raises(ImageError, match=r"a\.jpg: is a video; vh stream reads it"):
        read_image(tmp_path / "a.jpg")


def test_a_tiff_of_floats_says_what_to_do(tmp_path):
    """Thermal cameras of drones write them."""
    tags = [(256, 3, 4), (257, 3, 4), (258, 3, 32), (259, 3, 1), (262, 3, 1), (273, 4, 122)]
    tags += [(277, 3, 1), (278, 3, 4), (279, 4, 64)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    whole = struct.pack("<4sIH", b"II*\0", 8, len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(whole + np.ones((4, 4), "<f4").tobytes())
    with pytest.raises(
        ImageError, match=r"a\.tif: a TIFF picture that is .* not one of 8 or 16 bits"
    ):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("width", [5, 8])
def test_a_bitmap_cut_off_is_refused_by_its_header_too(tmp_path, width, channels):
    path = tmp_path / "a.bmp"
    cv2.imwrite(str(path), np.full((7, width, channels), 90, np.uint8))
    assert image_size(path) == (width, 7)
    path.write_bytes(path.read_bytes()[:-8])
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match="truncated"):
            read(path)


@pytest.mark.parametrize("read", [read_image, image_size])
def test_missing_files_and_folders_are_refused(tmp_path, read):
    with pytest.raises(ImageError, match="No such file"):
        read(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="directory"):
        read(tmp_path)


def test_sizes_of_known_formats_need_no_decoding(tmp_path, monkeypatch):
    paths = [
        _write(tmp_path / f"a.{suffix}", _picture()) for suffix in ("jpg", "png", "bmp", "webp")
    ]
    paths.append(_write(tmp_path / "lossless.webp", _picture(), lossless=True))
    monkeypatch.setattr(images, "read_image", lambda *a, **k: pytest.fail("decoded"))
    assert [image_size(path) for path in paths] == [(120, 80)] * 5


def test_a_damaged_header_never_breaks_the_reader():
    data = bytearray(cv2.imencode(".jpg", _picture())[1].tobytes())
    rng = np.random.default_rng(1)
    for _ in range(3000):
        copy = data.copy()
        for _ in range(3):
            copy[int(rng.integers(0, len(copy)))] = int(rng.integers(0, 256))
        header = read_header(bytes(copy[: int(rng.integers(0, len(copy)))]))
        assert header is None or (header.width >= 0 and 1 <= header.orientation <= 8)


def test_real_pictures_give_the_same_size_both_ways(shared_data):
    folder = shared_data / "visdrone" / "val" / "images"
    for path in sorted(folder.glob("*.jpg"))[:5]:
        image = read_image(path)
        assert image_size(path) == (image.shape[1], image.shape[0])


@pytest.mark.parametrize("white", [1, 15, 255, 1023, 4095, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_white_is_white_in_a_netpbm_picture_of_any_depth(tmp_path, white, channels):
    grey = np.linspace(0, white, 24).round().astype(">u2" if white > 255 else np.uint8)
    pixels = np.repeat(grey.reshape(4, 6)[..., None], channels, axis=2)
    path = tmp_path / "a.pnm"
    kind = {1: b"P5", 3: b"P6"}[channels]
    path.write_bytes(kind + b"\n# by a camera\n6 4\n%d\n" % white + pixels.tobytes())
    wanted = (grey.astype(float) * 255 / white).reshape(4, 6)
    assert np.abs(read_image(path) - wanted[..., None]).max() <= 1


@pytest.mark.parametrize("suffix", ["tiff", "ppm"])
@pytest.mark.parametrize("read", [read_image, image_size])
def test_the_limit_of_pixels_holds_for_formats_without_a_header_here(tmp_path, suffix, read):
    path = _write(tmp_path / f"a.{suffix}", _picture())
    with pytest.raises(ImageError, match="120 x 80 pixels are more than the limit of 9599"):
        read(path, max_pixels=120 * 80 - 1)
