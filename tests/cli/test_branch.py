"""`vh branch search`, from weight files and pictures to a plan that a training config takes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from vision_heads.cli.main import app
from vision_heads.errors import UserError
from vision_heads.network import Network, save_network
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec
from vision_heads.training.config import make_config

LEVELS = {"animals": (3, 4, 5), "vehicles": (3, 4, 5), "indoor": (2, 3, 4, 5)}
SEEDS = {"animals": 0, "vehicles": 0, "indoor": 7}
"""The first two are copies of each other, the third is a stranger."""


def run(*words: object) -> str:
    done = CliRunner().invoke(app, ["branch", "search", *map(str, words)], env={"COLUMNS": "160"})
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def save_models(folder: Path, side: int) -> list[Path]:
    files = []
    for name, levels in LEVELS.items():
        torch.manual_seed(SEEDS[name])
        head = HeadSpec(name=name, classes=("x",), levels=levels)
        network = Network(ModelSpec(heads=(head,), input=InputSpec(height=side, width=side)))
        files.append(folder / f"{name}.safetensors")
        save_network(files[-1], network)
    return files


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Path]:
    return save_models(tmp_path_factory.mktemp("models"), 64)


@pytest.fixture(scope="module")
def cards(tmp_path_factory) -> list[Path]:
    """Return a card of ten pictures of its own for each model."""
    folder, cards = tmp_path_factory.mktemp("data"), []
    for number, name in enumerate(LEVELS):
        images = folder / name / "images"
        labels = folder / name / "labels"
        images.mkdir(parents=True)
        labels.mkdir()
        for i in range(10):
            small = np.random.default_rng((number, i)).integers(0, 255, (5, 7, 3), np.uint8)
            cv2.imwrite(str(images / f"{i}.png"), cv2.resize(small, (70, 50)))
            (labels / f"{i}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
        card = folder / f"{name}.yaml"
        content = {"format": "yolo", "path": str(folder / name), "names": ["x"]}
        content["splits"] = {"val": {"images": "images", "annotations": "labels"}}
        card.write_text(yaml.safe_dump(content))
        cards.append(card)
    return cards


def options(cards: list[Path]) -> list[object]:
    return [word for card in cards for word in ("--data", card)]


def config_with(plan: Path) -> dict[str, object]:
    """Return the branches that `vh train` makes of a plan file."""
    heads = {name: {"data": "demo", "levels": list(v)} for name, v in LEVELS.items()}
    content = yaml.safe_load(plan.read_text())
    return dict(make_config({"heads": heads, **content}, str(plan)).branches)


def test_copies_are_paired_and_the_plan_can_be_trained(models, cards, tmp_path):
    text = run(*models, *options(cards), "--probes", 6, "--out", tmp_path / "out")
    assert "70 monotone plans, all scored" in text
    assert "its own model has no down_p2, up_p3" in text
    assert "chosen: down_p4: animals+vehicles | indoor (the knee of the front" in text
    pair = (("animals", "vehicles"), ("indoor",))
    assert config_with(tmp_path / "out/plan.yaml") == {"down_p4": pair}
    assert (tmp_path / "out/plan.yaml").read_text().startswith("# Found by vh branch search")
    assert cv2.imread(str(tmp_path / "out/dissimilarity.png")) is not None
    report = json.loads((tmp_path / "out/report.json").read_text())
    stage = report["dissimilarity"]["up_p5"]
    assert stage["animals"]["vehicles"] == 0 < stage["animals"]["indoor"]
    assert report["dissimilarity"]["down_p2"]["animals"]["indoor"] is None
    assert report["heads"][0]["stages_its_own_model_lacks"] == ["down_p2", "up_p3"]
    assert [len(head["probes"]) for head in report["heads"]] == [6, 6, 6]
    each = [
        values["up_p5"]["animals"]["indoor"] for values in report["dissimilarity_by_data"].values()
    ]
    assert stage["animals"]["indoor"] == pytest.approx(np.mean(each), abs=1e-5)
    chosen, shared, split = report["chosen"], report["all_shared"], report["all_split"]
    assert shared["score"] > chosen["score"] == split["score"] == 0
    assert shared["parameters"] < chosen["parameters"] < split["parameters"]


def test_a_plan_is_written_although_nobody_reads_the_report(models, cards, tmp_path, monkeypatch):
    def unread(*_):
        raise BrokenPipeError

    monkeypatch.setattr("vision_heads.cli.branch._report", unread)
    with pytest.raises(BrokenPipeError):
        run(*models[1:], *options(cards[1:]), "--probes", 5, "--out", tmp_path / "out")
    assert (tmp_path / "out/plan.yaml").is_file()


def test_a_second_search_finds_the_same(models, cards, tmp_path):
    for name in ("one", "two"):
        words = ("--probes", 5, "--seed", 3, "--method", "rsa", "--out", tmp_path / name)
        run(*models[1:], *options(cards[1:]), *words)
    one, two = ((tmp_path / name / "report.json").read_text() for name in ("one", "two"))
    assert one == two


def test_a_budget_is_kept(models, cards, tmp_path):
    words = ("--probes", 5, "--max-params", "3.25M", "--max-gflops", 0.5, "--kernel", "linear")
    text = run(*models, *options(cards), *words, "--out", tmp_path)
    assert "the lowest score within the budget" in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["chosen"]["parameters"] <= 3_250_000
    assert report["budget"] == {"parameters": 3_250_000, "flops": 500_000_000, "ms": None}
    assert report["chosen"]["score"] == min(plan["score"] for plan in report["ranked"])
    assert 0 < report["chosen"]["score"] < report["all_shared"]["score"]


def test_milliseconds_are_measured_stage_by_stage(models, cards, tmp_path, monkeypatch):
    latency = pytest.importorskip("vision_heads.branching.latency")
    monkeypatch.setattr(latency, "SECONDS", 0.05)
    words = ("--probes", 4, "--max-ms", 100_000, "--threads", 1, "--imgsz", 32)
    text = run(*models[1:], *options(cards[1:]), *words, "--out", tmp_path)
    assert "its network takes" in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert 0 < report["all_shared"]["ms"] < report["all_split"]["ms"]
    assert report["chosen"]["score"] == 0 and report["chosen"]["measured_ms"] > 0


def test_one_name_twice_is_solved_by_another(models, cards, tmp_path):
    words = (models[0], f"more={models[0]}", *options(cards[:2]), "--probes", 4)
    assert "chosen: all share everything" in run(*words, "--out", tmp_path)
    assert yaml.safe_load((tmp_path / "plan.yaml").read_text()) == {"branches": {}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "cka"), "--method cka: must be dds or rsa"),
        (("--kernel", "cubic"), "--kernel cubic: must be rbf or linear"),
        (("--max-params", "many"), "--max-params many: must be a number such as"),
        (("--max-gflops", "inf"), "--max-gflops inf: must be a finite number"),
        (("--max-ms", "inf"), "--max-ms inf: must be a finite number"),
        (
            ("--max-params", "1M"),
            "takes 2,757,466 parameters already, which is more",
        ),
        (("--split", "test"), "animals.yaml: splits: no 'test'"),
        (("--device", "abacus"), "--device abacus"),
        (("--data", "demo"), "--data: 4 given for 3 models"),
    ],
)
def test_mistakes_are_named(models, cards, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        run(*models, *options(cards), *words, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_named(models, cards, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--out .*file is no folder"):
        run(*models, *options(cards), "--out", tmp_path / "file" / "below")


def test_real_pictures_of_three_data_sets(shared_data, repository, tmp_path):
    cards = [repository / f"tools/cards/voc-{name}-mini.yaml" for name in LEVELS]
    files = save_models(tmp_path, 128)
    text = run(*files, *options(cards), "--probes", 6, "--out", tmp_path / "out")
    assert "6 probes out of 70 pictures of voc-indoor-mini (val)" in text
    pair = (("animals", "vehicles"), ("indoor",))
    assert config_with(tmp_path / "out/plan.yaml") == {"down_p4": pair}
