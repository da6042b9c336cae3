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


@pytest.mark.parametrize("text", ["- a\n- b\n", "heads: [", ""])
def test_settings_that_are_no_mapping(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"run\.yaml"):
        read_settings(file)


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
