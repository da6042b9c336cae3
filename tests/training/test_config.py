from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from vision_heads.errors import UserError
from vision_heads.training.config import make_config, read_settings

HEADS = {"aerial": {"data": "visdrone"}}


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"heads": HEADS, "epochs": 0}, "epochs"),
        ({"heads": HEADS, "imgsz": 100}, "imgsz"),
        ({"heads": HEADS, "optimizer": {"lr": -1}}, "optimizer.lr"),
        ({"heads": HEADS, "augment": {"mosaic": 2}}, "augment.mosaic"),
        ({"heads": {"aerial": {}}}, "heads.aerial.data"),
        ({"heads": HEADS, "bach": 3}, "bach"),
        ({"heads": HEADS, "size": "x"}, "size"),
        ({"heads": {}}, "heads"),
        ({"heads": HEADS, "optimizer": {"momentum": 1}}, "optimizer.momentum"),
        ({"heads": HEADS, "optimizer": {"warmup_epochs": float("inf")}}, "optimizer.warmup_epochs"),
        ({"heads": {"aerial": {"data": "-", "sampling": float("inf")}}}, "heads.aerial.sampling"),
        ({"heads": {"aerial": {"data": "-", "levels": []}}}, "heads.aerial.levels: must be dist"),
        ({"heads": {"my head": {"data": "-"}}}, "heads.my head.name: must be letters"),
        ({"heads": HEADS, "imgsz": 99968}, "imgsz: must be at most 8192"),
        ({"heads": HEADS, "seed": 2**64}, "seed"),
        ({"heads": HEADS, "optimizer": {"weight_decay": float("inf")}}, "optimizer.weight_decay"),
    ],
)
def test_a_wrong_setting_fails_by_its_name(settings: dict, field: str) -> None:
    with pytest.raises(UserError, match=f"run.yaml: {field}"):
        make_config(settings, "run.yaml")


def test_resolved_config_reads_back_equal(tmp_path: Path) -> None:
    config = make_config({"heads": HEADS, "imgsz": [416, 640], "optimizer": {"lr": 0.01}}, "x")
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    assert make_config(read_settings(file), str(file)) == config


def test_a_bare_off_is_a_precision(tmp_path: Path) -> None:
    """YAML reads it as false, and the message asked for 'off'."""
    file = tmp_path / "run.yaml"
    file.write_text("amp: off\nheads: {aerial: {data: visdrone}}\n")
    assert make_config(read_settings(file), str(file)).amp == "off"


@pytest.mark.parametrize(
    "text", ["- a\n- b\n", "heads: [", "", "a: 2026-13-45", "[" * 600 + "]" * 600]
)
def test_settings_that_are_no_mapping(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"run\.yaml"):
        read_settings(file)


@pytest.mark.parametrize(
    ("text", "key"),
    [("epochs: 1\nbatch: 2\nepochs: 3\n", "epochs"), ("heads:\n  a: {}\n  a: {}\n", "a")],
)
def test_a_key_that_is_there_twice_is_refused(tmp_path: Path, text: str, key: str) -> None:
    """YAML would keep the last one: a head, or a number, would be gone without a word."""
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"run\.yaml: .*'{key}' is there twice, again in line 3"):
        read_settings(tmp_path / "run.yaml")


def test_merged_keys_of_a_yaml_are_not_there_twice(tmp_path: Path) -> None:
    text = "x: {a: &one {p: 1, q: 2}}\ny: {b: &two {<<: *one, q: 3}}\nz: {<<: *two, p: 4}\n"
    (tmp_path / "run.yaml").write_text(text)
    assert read_settings(tmp_path / "run.yaml")["z"] == {"p": 4, "q": 3}


def test_the_yaml_of_the_docs_is_valid(repository: Path) -> None:
    page = (repository / "docs" / "many-data-sets.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)
    config = make_config(yaml.safe_load(text), "docs")
    assert config.protocol_of("animals") == "coco"
    settings = yaml.safe_load(text)
    settings["branches"]["up_p3"][0].remove("animals")
    with pytest.raises(UserError) as caught:
        make_config(settings, "joint.yaml")
    assert f"`{caught.value}`" in page
