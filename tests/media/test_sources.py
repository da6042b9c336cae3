from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.calls import counted
from vision_heads.errors import UserError
from vision_heads.media.sources import OUTPUT_MARK, find_pictures


@pytest.fixture
def tree(tmp_path):
    for name in (
        "b.jpg",
        "a.PNG",
        "sub/c.jpeg",
        "sub/a.jpg",
        "sub/notes.txt",
        "clip.mp4",
        "x[1].jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def _names(found):
    return [file.name for file in found.files]


def test_a_folder_is_searched_through_and_sorted(tree):
    found = find_pictures([tree])
    assert _names(found) == ["a", "b", "x[1]", "sub/a", "sub/c"]
    assert found.skipped == 2
    assert all((tree / file.path).is_file() for file in found.files)


def test_patterns_lists_and_files(tree):
    assert _names(find_pictures([str(tree / "*.jpg")])) == ["b", "x[1]"]
    assert _names(find_pictures([str(tree / "**" / "*.jp*g")])) == ["b", "a", "c", "x[1]"]
    assert _names(find_pictures([str(tree / "x[1].jpg")])) == ["x[1]"]
    listed = tree / "list.txt"
    listed.write_text(f"\ufeff# two\n\nb.jpg\n{tree / 'sub' / 'c.jpeg'}\n", encoding="utf-8")
    assert _names(find_pictures([listed])) == ["b", "c"]


def test_a_list_written_on_windows(tree):
    (tree / "sub\\own.jpg").write_bytes(b"x")  # this is its name here
    listed = tree / "list.txt"
    listed.write_bytes(b"sub\\c.jpeg\r\n.\\b.jpg\r\nsub\\own.jpg\r\n")
    assert [Path(one.path) for one in find_pictures([listed]).files] == [
        tree / "sub/c.jpeg",
        tree / "b.jpg",
        tree / "sub\\own.jpg",
    ]
    listed.write_bytes("sub\\c.jpeg\r\n".encode("utf-16"))  # PowerShell's "dir > list.txt"
    assert _names(find_pictures([listed])) == ["c"]
    listed.write_text("sub\\gone.jpg\n")
    with pytest.raises(UserError, match=r"line 1: no such file: sub\\gone\.jpg"):
        find_pictures([listed])


def test_nothing_comes_twice_and_names_differ(tree):
    found = find_pictures([tree / "b.jpg", tree / "sub" / "a.jpg", tree, tree / "b.jpg"])
    assert _names(found) == ["b", "a", "a-2", "x[1]", "sub/c"]
    assert found.repeated == 3


def test_equal_stems_in_a_folder_get_names_of_their_own(tmp_path):
    for name in ("a.jpg", "a.png", "A.bmp", "a-2.jpg"):
        (tmp_path / name).write_bytes(b"x")
    names = _names(find_pictures([tmp_path]))
    assert len({name.casefold() for name in names}) == 4


def test_a_file_named_outright_is_taken_whatever_its_suffix(tmp_path):
    path = tmp_path / "frame.dat"
    path.write_bytes(b"x")
    assert _names(find_pictures([path])) == ["frame"]


def test_links_to_folders_are_followed_once(tree):
    (tree / "sub" / "up").symlink_to(tree)
    (tree / "also").symlink_to(tree / "sub")
    outside = tree.parent / f"{tree.name}-outside"
    outside.mkdir()
    (outside / "far.jpg").write_bytes(b"x")
    (tree / "sub" / "out").symlink_to(outside)
    names = _names(find_pictures([tree]))
    assert sorted(names) == ["a", "also/a", "also/c", "also/out/far", "b", "x[1]"]


@pytest.mark.parametrize("source", [".", "**/*.jpg", "*/**/*.jp*g"])
def test_own_drawings_are_no_sources_unless_they_are_named(tree, monkeypatch, source):
    monkeypatch.chdir(tree)
    drawn = tree / "sub" / "runs" / "images"
    (drawn / "deep").mkdir(parents=True)
    (drawn / OUTPUT_MARK).touch()
    for name in ("d.jpg", "deep/e.jpg"):
        (drawn / name).write_bytes(b"x")
    found = find_pictures([source])
    assert not {"d", "e"} & {Path(file.path).stem for file in found.files}
    assert {"a", "c"} & {Path(file.path).stem for file in found.files}
    assert found.drawn == [str(Path("sub/runs/images"))]
    assert _names(find_pictures(["sub/runs/images"])) == ["d", "deep/e"]
    assert _names(find_pictures(["sub/runs/images/*.jpg"])) == ["d"]


def test_a_folder_that_cannot_be_opened_is_named(tree, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if Path(path).name == "sub":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    found = find_pictures([tree])
    assert _names(found) == ["a", "b", "x[1]"]
    assert found.unreadable == [f"{tree / 'sub'}: Permission denied"]
    with pytest.raises(UserError, match="sub: Permission denied"):
        find_pictures([tree / "sub"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none", "no such file or folder"),
        ("none.jpg", "no such file or folder"),
        ("*.webp", "no pictures match"),
        ("*.mp4", "no pictures match"),
        ("clip.mp4", "is a video; vh stream reads it"),
        ("rtsp://me:pw@camera/1", r"rtsp://\*\*\*@camera/1: is a stream or URL"),
        ("empty", "no pictures in this folder$"),
        ("notes", "no pictures in this folder, but 2 files of other suffixes"),
        ("", "name of a source is empty"),
        ("bad.txt", "line 2: no such file: gone.jpg"),
        ("videos.txt", "is a video"),
        ("blank.txt", "names no pictures"),
        ("binary.txt", "cannot be read as a list"),
    ],
)
def test_what_is_not_there_is_named(tree, monkeypatch, source, message):
    monkeypatch.chdir(tree)
    (tree / "empty").mkdir()
    (tree / "notes").mkdir()
    for name in ("a.heic", "b.txt"):
        (tree / "notes" / name).write_text("x")
    (tree / "bad.txt").write_text("b.jpg\ngone.jpg\n")
    (tree / "videos.txt").write_text("clip.mp4\n")
    (tree / "blank.txt").write_text("\n#\n")
    (tree / "binary.txt").write_bytes(b"\x80\xff\x00\xff")
    with pytest.raises(UserError, match=message):
        find_pictures([source])


def test_patterns_follow_links_once_too(tree):
    """`glob` alone finds 41 spellings of each file here, and with a second such link has no end."""
    for name in ("up", "also_up"):
        (tree / "sub" / name).symlink_to(tree)
    found = find_pictures([str(tree / "**" / "*.jp*g")])
    assert _names(found) == ["b", "a", "c", "x[1]"]
    (tree / "sub" / "deep").mkdir()
    (tree / "sub" / "deep" / "d.jpg").write_bytes(b"x")
    found = find_pictures([str(tree / "**" / "sub" / "**" / "*.jpg")])
    assert sorted(_names(found)) == ["a", "b", "d", "x[1]"]  # those above through a link


@pytest.mark.parametrize("source", ["", "**/*.jpg"])
def test_a_search_that_finds_nothing_says_what_it_left_out(tree, monkeypatch, source):
    drawn = tree / "runs" / "images"
    drawn.mkdir(parents=True)
    for name in (OUTPUT_MARK, "d.jpg"):
        (drawn / name).touch()
    with pytest.raises(UserError, match=f"but results of vh detect in {drawn}"):
        find_pictures([str(tree / "runs" / source)])


def test_a_pipe_with_the_name_of_a_picture_is_named_not_read(tree):
    os.mkfifo(tree / "pipe.png")
    found = find_pictures([tree])
    assert "pipe" not in _names(found)
    assert found.unreadable == [f"{tree / 'pipe.png'}: a pipe or device, no picture"]


def test_a_link_to_itself_is_a_picture_that_cannot_be_read(tree):
    (tree / "loop.png").symlink_to("loop.png")
    found = find_pictures([tree])
    assert "loop" in _names(found) and found.unreadable == []


def test_a_closed_folder_under_a_pattern_is_named(tree, monkeypatch):
    walk = os.walk

    def closed(top, onerror=None, **options):
        onerror(PermissionError(errno.EACCES, "Permission denied", "closed"))
        return walk(top, onerror=onerror, **options)

    monkeypatch.setattr(os, "walk", closed)
    assert find_pictures([str(tree / "**" / "*.jpg")]).unreadable == ["closed: Permission denied"]


def test_a_name_too_long_in_a_list_is_named(tmp_path):
    (tmp_path / "list.txt").write_text("a" * 300 + ".jpg\n")
    with pytest.raises(UserError, match=r"list\.txt: line 1: a+\.jpg: File name too long"):
        find_pictures([tmp_path / "list.txt"])


def test_numbers_of_like_names_are_not_tried_again_and_again(tmp_path):
    """Frames of many videos are called alike; each look at the names folds one more."""
    for number in range(60):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "Frame.jpg").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("".join(f"{n}/Frame.jpg\n" for n in range(60)))
    with counted("casefold") as calls:
        found = find_pictures([tmp_path / "list.txt"])
    assert _names(found) == ["Frame", *(f"Frame-{n}" for n in range(2, 61))]
    assert 0 < calls[0] <= 4 * 60
