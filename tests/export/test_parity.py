import numpy as np
import pytest

from vision_heads.export.parity import Parity, match, tolerance
from vision_heads.geometry.rotations import from_euler, rotate_in_plane


def cells(count: int = 60, seed: int = 0) -> dict[str, np.ndarray]:
    """Return every cell of a made-up network, best first."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 600, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (count, 2))], 1)
    scores = np.sort(rng.uniform(0.01, 0.9, (count, 3)).max(1))[::-1, None] * [1, 0.5, 0.1]
    return {"boxes": boxes.astype(np.float32), "scores": scores.astype(np.float32)}


def first(reference: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return {name: values[:count].copy() for name, values in reference.items()}


def judge(reference: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> Parity:
    parity = Parity()
    parity.add(reference, found)
    return parity


def test_equal_outputs_are_equal():
    reference = cells()
    parity = judge(reference, first(reference, 20))
    assert parity.good
    assert parity.differences == {"boxes": 0, "scores": 0}
    assert parity.reordered == parity.missing == 0
    assert parity.candidates == 20


def test_near_ties_may_change_places_also_across_the_cut():
    reference = cells()
    reference["scores"][19:22] = reference["scores"][19] + np.float32(1e-6)
    found = first(reference, 21)
    order = [*range(19), 21, 20]  # 19 fell behind the cut, 20 and 21 changed places
    found = {name: reference[name][order] for name in found}
    parity = judge(reference, found)
    assert parity.good
    assert parity.reordered == 1  # 21 in place of 19; 20 has kept its rank
    assert list(match(reference, found)) == order


@pytest.mark.parametrize(("name", "by"), [("boxes", 0.06), ("boxes", -30.0), ("scores", 0.0011)])
def test_a_real_difference_is_found_wherever_it_is(name, by):
    reference = cells()
    for row in (0, 10, 19):
        found = first(reference, 20)
        found[name][row, 2] += by
        parity = judge(reference, found)
        assert not parity.good
        assert parity.differences[name] >= tolerance(name)


@pytest.mark.parametrize("moved", [(0, 40, 0, 40), (40, 0, 40, 0), (0, -40, 0, -40)])
def test_equal_scores_are_told_apart_by_every_side_of_their_boxes(moved):
    """Three cells of one score and almost one place, which the file gives in another order."""
    reference = cells()
    reference["scores"][4:7] = reference["scores"][4]
    reference["boxes"][5] = reference["boxes"][4] + np.array(moved)
    reference["boxes"][6] = reference["boxes"][4] + np.array(moved[::-1]) * 2
    order = [*range(4), 6, 4, 5, *range(7, 20)]
    found = {name: values[order] for name, values in reference.items()}
    parity = judge(reference, found)
    assert parity.good and parity.reordered == 3 and parity.differences["boxes"] == 0
    assert list(match(reference, found)) == order


def test_candidates_that_score_have_a_best_class_above_a_twentieth():
    reference = cells()
    reference["scores"] /= 8
    best = reference["scores"].max(1)
    found = first(reference, 60)
    assert judge(reference, found).candidates_that_score == int((best > 0.05).sum()) < 60


def test_one_cell_cannot_stand_for_two_candidates():
    reference = cells()
    found = first(reference, 20)
    for values in found.values():
        values[5] = values[4]
    assert not judge(reference, found).good


def test_a_candidate_left_out_is_missed():
    reference = cells()
    found = {name: np.delete(values, 3, 0)[:20] for name, values in reference.items()}
    parity = judge(reference, found)
    assert parity.missing == 1
    assert not parity.good


def test_not_a_number_is_a_difference():
    reference = cells()
    found = first(reference, 20)
    found["scores"][7, 1] = np.nan
    assert not judge(reference, found).good


def test_further_outputs_are_compared_at_the_matched_cells():
    reference = cells() | {"depth": np.zeros((60, 2), np.float32)}
    found = first(reference, 20)
    assert judge(reference, found).good
    found["depth"][2, 1] = 0.01
    assert not judge(reference, found).good


def test_rotations_are_compared_in_degrees():
    angles = np.random.default_rng(0).uniform(-180, 180, (60, 3))
    reference = cells() | {"rotation": from_euler(angles).astype(np.float32)}
    near, far = first(reference, 20), first(reference, 20)
    near["rotation"][4] = rotate_in_plane(near["rotation"][4], 0.05)
    far["rotation"][4] = rotate_in_plane(far["rotation"][4], 0.2)
    assert judge(reference, near).good
    parity = judge(reference, far)
    assert not parity.good
    assert parity.differences["rotation"] == pytest.approx(0.2, abs=1e-3)
