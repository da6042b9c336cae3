from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from tests.evaluation.scenes import picture, random_scene, results, split_of
from vision_heads.errors import UserError
from vision_heads.evaluation.plots import confusion_figure, f1_figure, pr_figure, write_plots
from vision_heads.evaluation.protocols import score
from vision_heads.evaluation.tables import classes_table, numbers_table, table_width
from vision_heads.media.images import read_image


def test_plots_are_written_and_show_something(tmp_path):
    pytest.importorskip("matplotlib")
    _, _, split, found = random_scene(2)
    files = write_plots(score(split, found, "visdrone"), tmp_path / "new" / "plots")
    assert [file.name for file in files] == ["pr.png", "f1.png", "confusion.png"]
    for file in files:
        image = read_image(file)
        assert min(image.shape[:2]) > 400
        assert image.std() > 10
    assert (
        "matplotlib.pyplot" not in sys.modules
        or sys.modules["matplotlib.pyplot"].get_fignums() == []
    )


def test_a_plot_that_cannot_be_written_is_a_mistake(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "pr.png").mkdir()
    _, _, split, found = random_scene(2)
    with pytest.raises(UserError, match=r"pr\.png: cannot be written"):
        write_plots(score(split, found, "visdrone"), tmp_path)


def test_names_of_classes_are_neither_formulas_nor_markup(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    split = split_of([picture("a", [(0, 0, 10, 10, 1, 1)])], classes=2)
    split = replace(split, names=("light [red] $a^$", "[/b]"))
    scores = score(split, [results([(0, 0, 10, 10, 0.6, 1)])], "visdrone")
    write_plots(scores, tmp_path)
    Console(width=200).print(classes_table(scores))
    shown = capsys.readouterr().out
    assert "light [red] $a^$" in shown and "[/b]" in shown


@pytest.mark.parametrize("figure", [pr_figure, f1_figure])
def test_a_class_whose_name_begins_with_an_underscore_is_in_the_legend(figure):
    """matplotlib takes such a label for one that is not to be shown."""
    pytest.importorskip("matplotlib")
    split = split_of([picture("a", [(0, 0, 10, 10, 1, 1)])], classes=1)
    split = replace(split, names=("__background__",))
    scores = score(split, [results([(0, 0, 10, 10, 0.6, 1)])], "visdrone")
    legend = figure(scores.curves).axes[0].get_legend()
    assert any("__background__" in text.get_text() for text in legend.get_texts())


def test_a_pose_plot_that_cannot_be_written_is_a_mistake(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("faster_coco_eval")
    sample = picture("a", [(0, 0, 10, 10, 1, 1)])
    sample.euler = np.zeros((1, 3))
    one = replace(results([(0, 0, 10, 10, 0.9, 1)]), euler=np.ones((1, 3)))
    (tmp_path / "yaw.png").mkdir()
    with pytest.raises(UserError, match=r"yaw\.png: cannot be written"):
        write_plots(score(split_of([sample], classes=1), [one], "headpose"), tmp_path)


def test_figures_name_each_class_that_has_objects():
    pytest.importorskip("matplotlib")
    sample = picture("a", [(0, 0, 10, 10, 1, 1)])
    scores = score(split_of([sample], classes=3), [results([(0, 0, 10, 10, 0.6, 1)])], "visdrone")
    for figure in (pr_figure(scores.curves), f1_figure(scores.curves)):
        labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert labels[0].startswith("class 1 1")
        assert len(labels) == 2
    texts = [text.get_text() for text in confusion_figure(scores.confusion).axes[0].texts]
    assert texts == ["1"]


def test_a_folder_that_cannot_be_made_is_a_mistake(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    _, _, split, found = random_scene(2)
    with pytest.raises(UserError, match="cannot be made"):
        write_plots(score(split, found, "visdrone"), tmp_path / "file" / "plots")


def test_tables_show_a_dash_for_what_was_not_measured():
    sample = picture("a", [(0, 0, 10, 10, 1, 1)])
    scores = score(split_of([sample], classes=2), [results([(0, 0, 10, 10, 0.6, 1)])], "visdrone")
    table = numbers_table(scores)
    assert list(table.columns[0].cells)[:2] == ["AP", "AP50"]
    assert next(iter(table.columns[1].cells)) == "100.00"
    rows = classes_table(scores)
    assert list(rows.columns[3].cells) == ["100.00", "-"]
    assert table_width(rows) > table_width(table)
