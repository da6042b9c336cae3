"""Where pictures come from."""

from __future__ import annotations

import pytest

from vision_heads.benchmark.feeds import MOST_PICTURES, VideoFeed, _spread, demo_source, find_source
from vision_heads.errors import UserError
from vision_heads.paths import assets


def test_the_demo_pictures_of_each_kind():
    source = demo_source(["headpose", "headpose"])
    assert (source.kind, source.name) == ("pictures", "demo-heads")
    both = demo_source(["detect", "headpose"])
    assert both.name == "demo, demo-heads" and both.files[-len(source.files) :] == source.files
    feed = source.feed()
    first = feed.next()
    for _ in range(len(source.files) - 1):
        feed.next()
    assert (feed.next() == first).all() and first.shape[2] == 3


def test_pictures_by_name(files):
    source = find_source([str(files / "picture.png")])
    assert source.feed().next().shape == (64, 64, 3)


def test_a_large_folder_is_thinned_evenly(tmp_path):
    files = [tmp_path / f"{number}.png" for number in range(1000)]
    kept = _spread(files)
    assert len(kept) == MOST_PICTURES and kept[0] == files[0] and kept[-1] == files[-1]


def test_a_video_goes_round():
    pytest.importorskip("av")
    clip = assets("datasets") / "demo" / "clip.mp4"
    source = find_source([str(clip)])
    assert source.kind == "video"
    feed = source.feed()
    assert isinstance(feed, VideoFeed)
    shapes = {feed.next().shape for _ in range(200)}
    assert len(shapes) == 1


def test_a_video_that_is_none(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "no.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"no\.mp4: no frame of it can be decoded"):
        find_source([str(tmp_path / "no.mp4")]).feed().next()


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (["none.mp4"], "no such file"),
        (["a.mp4", "b.mp4"], "measured by itself"),
        (["none.jpg"], "none.jpg"),
    ],
)
def test_mistakes(sources, words):
    with pytest.raises(UserError, match=words):
        find_source(sources)
