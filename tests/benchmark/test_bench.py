"""The whole measurement on tiny models: stages, batches, ratios, memory, the report."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vision_heads.benchmark import bench as bench_module
from vision_heads.benchmark import energy, memory, plot
from vision_heads.benchmark.bench import Settings, bench, unlike
from vision_heads.benchmark.feeds import find_source
from vision_heads.benchmark.report import Report, table
from vision_heads.benchmark.stages import STAGES, TOTAL, Contestant, nms_clock
from vision_heads.errors import UserError
from vision_heads.heads.base import DecodeOptions
from vision_heads.heads.detect import decode as detect_decode
from vision_heads.runtime.engines import open_engine
from vision_heads.runtime.inputs import Buffers
from vision_heads.runtime.predictor import Predictor
from vision_heads.runtime.request import make_request

QUICK = Settings(runs=10, warm_up=1, memory=False, threads=1)


def source(files):
    return find_source([str(files / "picture.png")])


@pytest.fixture(scope="module")
def report(files) -> Report:
    models = [files / "open.onnx", files / "open.onnx"]
    return bench(models, source(files), Settings(10, 1, (1, 4), threads=1, memory=False))


def test_every_model_at_every_batch_size(report):
    shown = [(entry.name, entry.batch) for entry in report.entries]
    assert shown == [("open.onnx", 1), ("open.onnx", 4), ("open.onnx (2)", 1), ("open.onnx (2)", 4)]
    for entry in report.entries:
        assert tuple(entry.stages) == STAGES
        assert all(spread.runs == 10 for spread in entry.stages.values())
        assert entry.stages["network"].median > 0 and entry.runs_on == "cpu"
        assert entry.found == 2


def test_the_demo_pictures_suit_the_heads_that_are_run(files, monkeypatch):
    asked = []

    def demo(kinds):
        asked.append(list(kinds))
        return source(files)

    opened = bench_module.open_model

    def of_heads(*words):
        engine = opened(*words)
        heads = engine.spec.heads
        other = heads[0].model_copy(update={"name": "pose", "kind": "headpose"})
        engine.spec = engine.spec.model_copy(update={"heads": (*heads, other)})
        return engine

    monkeypatch.setattr(bench_module, "demo_source", demo)
    monkeypatch.setattr(bench_module, "open_model", of_heads)
    bench([files / "fixed.onnx"], None, replace(QUICK, heads=("aerial",)))
    with pytest.raises(UserError, match="no head"):
        bench([files / "fixed.onnx"], None, replace(QUICK, heads=("other",)))
    assert asked == [["detect"], []]


def test_ratios_are_against_the_first_at_the_same_batch(report):
    first, first4, second, second4 = report.entries
    assert first.total_ratio is None and first4.network_ratio is None
    for entry in (second, second4):
        assert entry.total_ratio is not None and entry.total_ratio.low <= entry.total_ratio.high


def test_stages_add_up_and_find_what_the_predictor_finds(files):
    engine = open_engine(files / "open.onnx", threads=1)
    request = make_request(engine, DecodeOptions(conf=0.3), batch=3)
    buffers = Buffers(request.height, request.width)
    one = Contestant("x", engine, request, source(files).feed(), buffers)
    times = one.run()
    assert sum(times[stage] for stage in STAGES) == pytest.approx(times[TOTAL])
    assert times["found"] == len(Predictor(engine)(files / "picture.png", conf=0.3))


def test_the_stage_that_is_slow_is_the_one_that_shows(files, monkeypatch):
    engine = open_engine(files / "fixed.onnx", threads=1)
    request = make_request(engine, DecodeOptions())
    one = Contestant("x", engine, request, source(files).feed(), Buffers(64, 64))
    real = detect_decode.nms

    def slow(*arguments, **named):
        time.sleep(0.05)
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(detect_decode, "nms", slow)
        times = one.run()
    assert times["nms"] >= 0.05 and times["heads"] < 0.05
    run = engine.run
    engine.run = lambda *given: time.sleep(0.05) or run(*given)
    times = one.run()
    assert times["network"] >= 0.05 > times["nms"]


def test_the_clock_of_nms_is_taken_off_again():
    real = detect_decode.nms
    with pytest.raises(ZeroDivisionError), nms_clock():
        assert detect_decode.nms is not real
        raise ZeroDivisionError
    assert detect_decode.nms is real


def test_mistakes_name_the_file(files):
    with pytest.raises(UserError, match=r"fixed\.onnx: takes 1 pictures a call, not 4"):
        bench([files / "fixed.onnx"], source(files), Settings(10, batches=(4,)))
    with pytest.raises(UserError, match="at least 10"):
        Settings(runs=9)
    with pytest.raises(UserError, match="batches"):
        Settings(batches=(0,))
    with pytest.raises(UserError, match="neither a file"):
        bench(["none"], source(files), QUICK)
    with pytest.raises(UserError, match="no head"):
        bench([files / "fixed.onnx"], source(files), Settings(heads=("other",)))
    with pytest.raises(UserError, match=r"--provider cpu: is for \.onnx files"):
        bench(["aerial-n.safetensors"], source(files), Settings(provider="cpu"))


def test_names_of_files_in_several_folders():
    assert unlike(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]


def test_progress_is_shown(files):
    seen = []

    class Bar:
        def __init__(self, total, unit):
            seen.append([unit, total, 0])

        def __enter__(self):
            return self.step

        def step(self):
            seen[-1][2] += 1

        def __exit__(self, *_):
            return None

    bench([files / "fixed.onnx"], source(files), QUICK, Bar)
    assert seen == [["runs", 11, 11]]


def test_memory_is_measured_in_a_process_of_its_own(files):
    job = memory.Job(
        str(files / "fixed.onnx"), 1, 1, None, None, None, (str(files / "picture.png"),), "pictures"
    )
    found = memory.measure(job)
    if isinstance(found, str):
        assert "does not tell" in found
    else:
        assert 20e6 < found.model < found.peak < 2e9


def test_memory_is_of_the_score_that_was_asked_for(files, monkeypatch):
    """A file that does NMS itself refuses lower ones."""
    jobs, scores = [], []
    monkeypatch.setattr(memory, "measure", lambda job: jobs.append(job) or "not now")
    bench([files / "fixed.onnx"], source(files), Settings(10, 0, conf=0.5))

    def contestant(*arguments):
        scores.append(arguments[-1])
        raise UserError("enough")

    monkeypatch.setattr("vision_heads.benchmark.bench.contestant", contestant)
    with pytest.raises(UserError, match="enough"):
        memory.main([json.dumps(asdict(jobs[0]))])
    assert scores == [0.5]


def test_memory_that_cannot_be_measured_says_why(tmp_path):
    job = memory.Job(
        str(tmp_path / "none.onnx"), 1, 1, None, None, None, (str(tmp_path / "no.png"),), "pictures"
    )
    found = memory.measure(job)
    assert isinstance(found, str) and "no.png" in found


def test_json_says_null_and_why_for_what_was_not_measured(report):
    record = json.loads(json.dumps(report.to_dict()))
    model = record["models"][2]
    assert model["memory"] is None and model["not_measured"]["memory"] == "not asked for"
    if not energy.available():
        assert model["energy"] is None and "tegrastats" in model["not_measured"]["energy"]
    assert model["stages"]["nms"].keys() == {"median_ms", "p5_ms", "p95_ms", "fps", "runs"}
    assert model["against_first"]["network"].keys() == {"median", "low", "high"}
    assert record["runs"] == 10 and record["machine"]["cores"]


def test_markdown_has_a_row_a_model_and_a_table_of_stages_each(report):
    text = report.to_markdown()
    lines = text.splitlines()
    assert sum(line.startswith("| open.onnx") for line in lines) == 4
    assert "### open.onnx (2), batch 4" in lines
    assert sum(line.startswith("| NMS |") for line in lines) == 4
    assert "Memory was not measured: not asked for." in lines
    for start in ("| model", "| stage"):
        at = next(number for number, line in enumerate(lines) if line.startswith(start))
        assert lines[at].count("|") == lines[at + 1].count("|") == lines[at + 2].count("|")


def test_measured_memory_and_energy_have_columns(report):
    from dataclasses import replace

    full = replace(
        report,
        memories=(memory.Memory(200_000_000, 50_000_000),) * 3 + ("it failed",),
        energies=(energy.Energy(7.5, 4.5, 0.25, ("VDD_IN",), 30),) * 3 + ("no rail",),
        notes=("the machine was busy",),
    )
    text = full.to_markdown()
    assert "200 (50)" in text and "7.5 (4.5)" in text and "250.0" in text
    lines = text.splitlines()
    side_by_side = lines.index(next(line for line in lines if line.startswith("| model")))
    for at in (side_by_side, *(n for n, line in enumerate(lines) if line.startswith("| stage"))):
        rows = list(itertools.takewhile(lambda line: line.startswith("|"), lines[at:]))
        assert len({row.count(" | ") for row in rows}) == 1
    assert lines[side_by_side].endswith("| memory MB (of the model) | W (idle) | mJ a picture |")
    assert lines[side_by_side].count(f"x {report.entries[0].name}") == 1
    assert sum(line.startswith("| end to end |") for line in lines) == len(report.entries)
    shares = [int(line.split()[-3]) for line in lines if line.endswith(" % |")]
    assert sum(shares) == pytest.approx(100 * len(report.entries), abs=3 * len(report.entries))
    assert "**Note:** the machine was busy." in text
    assert "Memory was not measured: it failed." in text
    assert "not measured | not measured |" in text
    record = full.to_dict()["models"]
    assert record[0]["energy"]["millijoules_a_picture"] == 250.0
    assert record[0]["memory"] == {"peak_mb": 200.0, "model_mb": 50.0}
    assert record[3]["energy"] is None and record[3]["not_measured"]["energy"] == "no rail"


def test_bars_in_a_table_do_not_break_it():
    assert table(["a|b"], [["c"]]) == ["| a\\|b |", "| --- |", "| c |"]


def test_a_plot_has_bars_as_long_as_the_times(report, tmp_path):
    plot.save(report, tmp_path / "speed.png")
    image = cv2.imread(str(tmp_path / "speed.png"))
    assert image is not None and image.shape[1] == plot.WIDTH
    sums = [sum(s.median for s in entry.stages.values()) for entry in report.entries]
    lengths = []
    for number in range(len(sums)):
        row = image[plot.TOP + number * plot.ROW + 2]
        colored = np.zeros(len(row), bool)
        for color in plot.COLORS.values():
            colored |= (row == color).all(-1)
        lengths.append(colored.sum())
    expected = np.array(sums) / max(sums) * max(lengths)
    assert np.abs(np.array(lengths) - expected).max() < 20
    with pytest.raises(UserError, match="--plot"):
        plot.save(report, tmp_path / "speed.nothing")
    with pytest.raises(UserError, match="--plot"):
        plot.save(report, tmp_path / "none" / "speed.png")


def test_energy_is_measured_where_there_is_a_tegrastats(files, monkeypatch):
    asked = []

    def measure(runs):
        asked.append([run() for run in runs])
        return [energy.Energy(5, 4, 0.1, ("VIN",), 3)] * len(runs)

    monkeypatch.setattr(energy, "available", lambda: True)
    monkeypatch.setattr(energy, "measure", measure)
    settings = Settings(10, 0, (1, 2), threads=1, memory=False)
    found = bench([files / "open.onnx"], source(files), settings)
    assert asked == [[1, 2]] and "5.0 (4.0)" in found.to_markdown()


def test_what_an_engine_reports_becomes_a_note(files, monkeypatch):
    from vision_heads.benchmark import bench as module

    real = module.open_model

    def fell_back(*given):
        engine = real(*given)
        wrapped = SimpleNamespace(**vars(engine), run=engine.run)
        wrapped.notes = ("cuda: ONNX Runtime cannot use it here: no library",)
        return wrapped

    monkeypatch.setattr(module, "open_model", fell_back)
    found = bench([files / "fixed.onnx"], source(files), QUICK)
    assert any(note.startswith("fixed.onnx: cuda: ") for note in found.notes)
