"""`vh stream --track`, through a real model and real files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tests.media.clips import write_clip
from tests.runtime.tiny_onnx import picture, write_model
from vision_heads.cli import eval as eval_command
from vision_heads.cli import stream as command
from vision_heads.errors import UserError
from vision_heads.media.video import find_videos, open_video

pytest.importorskip("av")
pytest.importorskip("trackers")
app = typer.Typer()
app.callback()(lambda: None)
command.register(app)
eval_command.register(app)
FRAMES = 14
SHAPES = """
lines: [{name: gate, points: [[64, 128], [64, 0]]}]
zones: [{name: right half, points: [[64, 0], [128, 0], [128, 128], [64, 128]], classes: [red]}]
"""


def vh(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def stream(*args):
    return vh("stream", *args, "--weights", "m.onnx", "--conf", "0.4", "--threads", "1")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A model, and a clip in which a red square walks to the right past a blue one."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "m.onnx")
    images = [
        picture(128, 128, {"red": [(8 * n, 16, 16)], "blue": [(40, 64, 16)]}) for n in range(FRAMES)
    ]
    write_clip(tmp_path / "a.mp4", [n / 10 for n in range(FRAMES)], images=images)
    Path("shapes.yaml").write_text(SHAPES)
    return tmp_path


def lines(file):
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


@pytest.mark.parametrize("tracker", ["bytetrack", "ocsort", "botsort"])
def test_tracks_and_counts_reach_every_output(place, tracker):
    done = stream(
        "a.mp4", "--track", tracker, "--shapes", "shapes.yaml", "--jsonl", "a.jsonl",
        "--csv", "a.csv", "--mot", "a.txt", "--events", "e.jsonl", "--stats", "s.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    records = lines("a.jsonl")
    for record in records[2:]:
        assert sorted(found["track"] for found in record["heads"]["aerial"]) == [1, 2]
    red = {f["track"] for r in records[2:] for f in r["heads"]["aerial"] if f["class"] == "red"}
    (walker,) = red
    rows = [row.split(",") for row in Path("a.txt").read_text().splitlines()]
    assert {row[1] for row in rows} == {"1", "2"} and rows[0][0] != "1"  # no track in frame 1
    events = [event for event in lines("e.jsonl") if event["event"] != "source_ended"]
    kinds = [event["event"] for event in events]
    assert sorted(kinds) == ["line_crossed", "zone_entered", "zone_left"]
    assert kinds[-1] == "zone_left"
    assert {event["track"] for event in events} == {walker}
    assert events[-1]["reason"] == "ended"
    objects = json.loads(Path("s.json").read_text())["objects"]["a"]
    assert objects["lines"] == {"gate": {"in": {"red": 1}, "out": {}}}
    assert objects["tracked"] == {"aerial": {"blue": 1, "red": 1}}
    assert "a: line gate: in 1 red; out 0" in done.output
    assert "a: zone right half: 1 red came in" in done.output
    # What is written can be scored as it is.
    truth = [f"{n + 1},1,{8 * n},16,16,16,1" for n in range(FRAMES)]
    truth += [f"{n + 1},2,40,64,16,16,1" for n in range(FRAMES)]
    Path("truth.txt").write_text("\n".join(truth))
    words = ("--predictions", "a.txt", "--truth", "truth.txt", "--json", "m.json")
    done = vh("eval", "--protocol", "mot", *words)
    assert done.exit_code == 0, done.output
    scores = json.loads(Path("m.json").read_text())
    assert (scores["IDSW"], scores["FP"], scores["tracks"]) == (0, 0, 2)
    assert scores["IDF1"] > 90


def test_two_sources_share_no_id_and_are_counted_apart(place):
    shutil.copy("a.mp4", "b.mp4")
    done = stream("a.mp4", "b.mp4", "--track", "bytetrack", "--jsonl", "a.jsonl", "--stats", "s")
    assert done.exit_code == 0, done.output
    ids: dict[str, set[int]] = {"a": set(), "b": set()}
    for record in lines("a.jsonl"):
        tracks = {found["track"] for found in record["heads"]["aerial"]}
        ids[record["source"]] |= tracks - {None}
    assert len(ids["a"]) == len(ids["b"]) == 2 and not ids["a"] & ids["b"]
    assert json.loads(Path("s").read_text())["objects"]["b"]["tracked"]["aerial"]["red"] == 1


def test_lines_are_drawn_into_the_video(place):
    def last(*more):
        assert stream("a.mp4", "--track", "ocsort", "--video", "v.mp4", *more).exit_code == 0
        return list(open_video(find_videos(["v.mp4"])[0]))[-1].image

    apart = cv2.absdiff(last("--lines", "shapes.yaml"), last())
    assert (apart[40:60, 62:67].max(axis=(1, 2)) > 60).all()  # all along the line
    assert np.median(apart) < 10


def test_lines_of_a_source_that_is_not_there_are_told(place):
    Path("shapes.yaml").write_text(SHAPES.replace("{name: gate", "{name: gate, sources: [aa]"))
    done = stream("a.mp4", "--track", "bytetrack", "--shapes", "shapes.yaml")
    assert done.exit_code == 0, done.output
    assert "vh: shapes.yaml: lines.0.sources: 'aa' is none of the sources: a\n" in done.output


def test_nothing_is_tracked_unless_asked_for(place):
    assert stream("a.mp4", "--jsonl", "a.jsonl", "--stats", "s").exit_code == 0
    found = lines("a.jsonl")[-1]["heads"]["aerial"]
    assert found and all(one["track"] is None for one in found)
    assert "objects" not in json.loads(Path("s").read_text())


def test_merged_classes_count_where_they_are(tmp_path):
    from vision_heads.cli.stream_track import class_names
    from vision_heads.heads.base import DecodeOptions
    from vision_heads.runtime.engines import open_engine
    from vision_heads.runtime.request import make_request

    write_model(tmp_path / "m.onnx", heads=("low", "high"))
    engine = open_engine(tmp_path / "m.onnx", threads=1)
    alone = make_request(engine, DecodeOptions())
    assert class_names(engine.spec, alone) == dict.fromkeys(
        ("low", "high"), ("red", "green", "blue")
    )
    merged = make_request(engine, DecodeOptions(), merge={"warm": ["low:red", "high:red"]})
    assert class_names(engine.spec, merged) == {
        "low": ("green", "blue"),
        "high": ("green", "blue"),
        "merged": ("warm",),
    }


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--shapes", "shapes.yaml"], "lines and zones count tracked objects; add --track"),
        (["--track", "sort"], "--track sort: unknown; known: off, bytetrack, ocsort, botsort"),
        (["--track", "ocsort", "--track-lost", "0"], "--track-lost must be above 0 seconds"),
        (["--track", "ocsort", "--track-lost", "inf"], "at most 1e+06, got inf"),
        (["--track", "ocsort", "--zones", "none.yaml"], "none.yaml: No such file"),
        (
            ["--track", "ocsort", "--zones", "bad.yaml"],
            "bad.yaml: zones.0.classes: no class 'tram'",
        ),
    ],
)
def test_mistakes_are_found_before_any_work(place, args, message):
    Path("bad.yaml").write_text(SHAPES.replace("[red]", "[tram]"))
    done = stream("a.mp4", "--jsonl", "a.jsonl", *args)
    assert isinstance(done.exception, UserError) and message in str(done.exception)
    assert not Path("a.jsonl").exists()
