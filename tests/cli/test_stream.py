from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import typer
from typer.testing import CliRunner

from tests.media.clips import write_clip
from tests.runtime.tiny_onnx import picture, write_model
from vision_heads.cli import stream as command
from vision_heads.errors import UserError
from vision_heads.media.video import find_videos, open_video
from vision_heads.stream import pipeline

pytest.importorskip("av")
app = typer.Typer()
app.callback()(lambda: None)
command.register(app)
ROOT = Path(__file__).resolve().parents[2]
FRAMES = 20


def vh(*args):
    """Run `vh stream`; errors come back as exceptions."""
    return CliRunner().invoke(app, ["stream", *map(str, args), "--weights", "m.onnx"])


def square(number):
    return picture(128, 128, {"red": [(8 * (number % 8), 16, 16)], "blue": [(64, 64, 16)]})


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A model and a clip in which a red square walks to the right."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "m.onnx")
    images = [square(number) for number in range(FRAMES)]
    write_clip(tmp_path / "a.mp4", [n / 10 for n in range(FRAMES)], images=images)
    return tmp_path


def frames_of(path):
    source = open_video(find_videos([str(path)])[0])
    return list(source), source


def test_a_file_goes_to_every_output(place):
    done = vh(
        "a.mp4", "--video", "o/seen.mp4", "--jsonl", "o/a.jsonl", "--csv", "o/a.csv",
        "--mot", "o/a.txt", "--events", "o/e.jsonl", "--stats", "o/s.json", "--conf", "0.4",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in Path("o/a.jsonl").read_text().splitlines()]
    assert [record["frame"] for record in records] == list(range(FRAMES))
    assert [record["time"] for record in records] == [n / 10 for n in range(FRAMES)]
    for number, record in enumerate(records):
        boxes = {found["class"]: found["box"] for found in record["heads"]["aerial"]}
        assert boxes["red"][0] == pytest.approx(8 * (number % 8), abs=8)
    with Path("o/a.csv").open(newline="") as file:
        assert {row["class"] for row in csv.DictReader(file)} >= {"red", "blue"}
    assert Path("o/a.txt").read_text().startswith("1,-1,")
    assert [json.loads(x)["event"] for x in Path("o/e.jsonl").read_text().splitlines()] == [
        "source_ended"
    ]
    stats = json.loads(Path("o/s.json").read_text())
    assert stats["sources"]["a"]["shown"] == FRAMES and len(stats["outputs"]) == 5
    frames, source = frames_of("o/seen.mp4")
    assert len(frames) == FRAMES and source.end.reason == "finished"
    assert [round(frame.time, 3) for frame in frames] == [n / 10 for n in range(FRAMES)]
    assert "20" in done.output and "p99" in done.output


def test_several_sources_from_a_list(place):
    Path("pics").mkdir()
    for number in range(5):
        cv2.imwrite(f"pics/{number}.png", square(number))
    Path("list.txt").write_text("left=a.mp4\n# nothing\npics\n")
    done = vh("list.txt", "--video", "o.mp4", "--jsonl", "a.jsonl", "--fps", "5", "--stride", "2")
    assert done.exit_code == 0, done.output
    by_source = {}
    for line in Path("a.jsonl").read_text().splitlines():
        record = json.loads(line)
        by_source.setdefault(record["source"], []).append((record["frame"], record["time"]))
    assert by_source["pics"] == [(0, 0.0), (2, 0.4), (4, 0.8)]
    assert [index for index, _ in by_source["left"]] == list(range(0, FRAMES, 2))
    assert len(frames_of("o-left.mp4")[0]) == 10 and len(frames_of("o-pics.mp4")[0]) == 3


def test_frames_that_memory_does_not_suffice_for_are_reported(place, monkeypatch):
    whole, calls = pipeline.WholeTask.finish, iter(range(FRAMES))

    def finish(task, outputs):
        if next(calls) == 3:
            raise MemoryError
        return whole(task, outputs)

    monkeypatch.setattr(pipeline.WholeTask, "finish", finish)
    done = vh("a.mp4", "--jsonl", "a.jsonl", "--stats", "s.json", "--threads", "1")
    assert done.exit_code == 2 and "a: 1 frames are left out: not enough memory" in done.output
    assert len(Path("a.jsonl").read_text().splitlines()) == FRAMES - 1
    assert json.loads(Path("s.json").read_text())["sources"]["a"]["failed"] == 1


def test_a_damaged_file_is_used_up_to_the_damage_and_reported(place):
    data = Path("a.mp4").read_bytes()
    Path("b.mp4").write_bytes(b"no video")
    write_clip(place / "c.mkv", [n / 10 for n in range(FRAMES)])
    whole = Path("c.mkv").read_bytes()
    Path("c.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    done = vh("a.mp4", "b.mp4", "c.mkv", "--jsonl", "o.jsonl", "--video", "o.mp4")
    assert sorted(path.name for path in place.glob("o-*")) == ["o-a.mp4", "o-c.mp4"]
    assert done.exit_code == 2 and data
    assert "b: failed: b.mp4: cannot be opened" in done.output
    assert "c: truncated: c.mkv: " in done.output
    sources = [json.loads(x)["source"] for x in Path("o.jsonl").read_text().splitlines()]
    assert sources.count("a") == FRAMES and 0 < sources.count("c") < FRAMES


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.mp4"], "none.mp4: no such file"),
        (["a.mp4", "--weights", "gone.onnx"], "gone.onnx: no such file"),
        (["a.mp4", "--classes", "tram"], "no class 'tram'"),
        (["a.mp4", "--video", "o.webm"], "videos are written as"),
        (["a.mp4", "--video", "a.mp4"], "--video a.mp4: is the source a too"),
        (["a.mp4", "--jsonl", "x", "--csv", "x"], "--csv x: is --jsonl too"),
        (["a.mp4", "--stats", "a.mp4"], "--stats a.mp4: is the source a too"),
        (["a.mp4", "--jsonl", "x", "--stats", "x"], "--stats x: is --jsonl too"),
        (["a.mp4", "--stats", "other.mp4"], "results would replace it"),
        (["a.mp4", "--jsonl", "m.onnx"], "--jsonl m.onnx: is a file that this run reads too"),
        (["list.txt", "--csv", "list.txt"], "--csv list.txt: is a file that this run reads too"),
        (["list.txt", "--video", "o.mp4"], "--video o-left.mp4: is the source left too"),
        (["list.txt", "--mot", "o.txt", "--csv", "o-left.txt"], "--mot o-left.txt: is --csv too"),
        (["a.mp4", "--mot", "."], ".: is no name of a file"),
        (["a.mp4", "--jsonl", "-"], "--jsonl -: is no file's name"),
        (["a.mp4", "--jsonl", "m.onnx/x"], "cannot be written"),
        (["a.mp4", "--max-fps", "0"], "max_fps must be above 0"),
        (["a.mp4", "--transport", "pigeon"], "transport must be tcp or udp"),
        (["a.mp4", "--webhook", "ftp://u:secret@h/x"], "ftp://h: webhooks are http or https"),
        (["a.mp4", "--spool", "s"], "--spool: of --webhook, which is not asked for"),
        (["a.mp4", "--snapshots", "s"], "--snapshots: are taken at lines and zones; add --track"),
        (["a.mp4", "--track-lost", "3", "--no-smooth"], "--track-lost, --no-smooth: of --track"),
        (["a.mp4", "--track-mixed", "--track-start", "0.3"], "--track-start, --track-mixed: of"),
        (["ftp://u:secret@h/x"], "ftp://***@h/x: cannot open"),
        (["a.mp4", "--jsonl", "ok.jsonl", "--csv", "no.mp4"], "results would replace it"),
    ],
)
def test_mistakes_are_found_before_any_work(place, args, message):
    Path("o-left.mp4").write_bytes(Path("a.mp4").read_bytes())
    Path("list.txt").write_text("left=o-left.mp4\na.mp4\n")
    before = {path: path.read_bytes() for path in Path().iterdir()}
    done = CliRunner().invoke(app, ["stream", "--weights", "m.onnx", *args])
    assert isinstance(done.exception, UserError), done.output
    assert message in str(done.exception) and "secret" not in str(done.exception)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("stats", ["a.mp4/x", "folder"])
def test_counts_that_cannot_be_written_are_found_out_before_the_first_frame(place, stats):
    Path("folder").mkdir()
    done = vh("a.mp4", "--jsonl", "o.jsonl", "--stats", stats)
    assert isinstance(done.exception, UserError) and "cannot be written" in str(done.exception)
    assert not Path("o.jsonl").read_text() and not list(Path().glob(".*.new"))


def test_a_picture_that_cannot_be_read_is_left_out_and_reported(place):
    Path("pics").mkdir()
    for number in range(3):
        cv2.imwrite(f"pics/{number}.png", square(number))
    Path("pics/1.png").write_bytes(b"no picture")
    done = vh("pics", "--jsonl", "o.jsonl")
    assert done.exit_code == 2 and "1 of 3 pictures cannot be read" in done.output
    frames = [json.loads(line)["frame"] for line in Path("o.jsonl").read_text().splitlines()]
    assert frames == [0, 2]


def test_without_a_screen_show_says_so(place, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform == "linux":
        assert "there is no screen" in str(vh("a.mp4", "--show").exception)


def test_an_output_on_a_full_disk_does_not_stop_the_others(place):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    Path("full.jsonl").symlink_to("/dev/full")
    Path("full.mp4").symlink_to("/dev/full")
    done = vh("a.mp4", "--jsonl", "full.jsonl", "--csv", "ok.csv", "--video", "full.mp4")
    assert done.exit_code == 2
    assert done.output.count("full.jsonl: cannot be written: No space left on device") == 1
    assert "full.mp4: cannot be written: no space left" in done.output
    assert len(Path("ok.csv").read_text().splitlines()) > FRAMES


def long_run(place, *more):
    """Start a run on a clip that takes a while, as a shell would."""
    times = [n / 25 for n in range(2000)]
    write_clip(place / "long.mp4", times, images=[square(n) for n in range(2000)])
    # A shell that started us in the background may have switched Ctrl-C off.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from vision_heads.cli import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, "stream", "long.mp4", "--weights", "m.onnx", "--threads", "1",
         "--video", "o.mp4", "--jsonl", "o.jsonl", *more],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=place,
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_files_and_they_play(place, number):
    run = long_run(place)
    until = time.monotonic() + 60
    target = place / "o.jsonl"
    while not (target.exists() and target.stat().st_size > 5000) and time.monotonic() < until:
        time.sleep(0.02)
    run.send_signal(number)
    message = run.communicate(timeout=30)[1]
    assert run.returncode == 128 + number, message
    assert "Traceback" not in message
    records = [json.loads(line) for line in target.read_text().splitlines()]
    assert 10 < len(records) < 2000
    frames, source = frames_of(place / "o.mp4")
    assert len(frames) == len(records) and source.end.reason == "finished"


def test_a_terminal_that_was_closed_ends_no_run(place, monkeypatch):
    def gone(*_, err=False, **__):
        if err:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(command.typer, "echo", gone)
    Path("b.mp4").write_bytes(b"no video")  # which is told
    assert vh("a.mp4", "b.mp4", "--jsonl", "o.jsonl").exit_code == 2
    assert len(Path("o.jsonl").read_text().splitlines()) == FRAMES


def test_a_source_that_hangs_does_not_hold_up_the_end(place):
    """A server that accepts and never answers, and a timeout far away."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://user:hidden@127.0.0.1:{server.getsockname()[1]}/live"
        run = subprocess.Popen(
            [sys.executable, "-m", "vision_heads", "stream", url, "--weights", "m.onnx",
             "--jsonl", "o.jsonl", "--timeout", "60"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=place,
        )  # fmt: skip
        connection, _ = server.accept()
        begin = time.monotonic()
        run.send_signal(signal.SIGTERM)
        message = run.communicate(timeout=30)[1]
        connection.close()
    assert run.returncode == 0, message  # how live streams usually end
    assert time.monotonic() - begin < 15 and "hidden" not in message


def test_help_is_complete():
    done = CliRunner().invoke(app, ["stream", "--help"], env={"COLUMNS": "200"})
    options = """--weights --conf --iou --classes --max-det --heads --imgsz --slice --video --jsonl
        --csv --mot --events --snapshots --webhook --spool --append --show --stride --max-fps --fps
        --transport --timeout --reconnect --stats --batch --threads"""
    for option in options.split():
        assert option in done.output
    assert "Examples" in done.output
    assert '"vision-heads[stream]"' in done.output
