"""What a detect head learns from another's answers: class probabilities and box sides.

Both are weighed by how sure the teacher is, and divided by its confidence summed over all cells,
as the labels' losses are by their scores. The divergences are zero where both agree.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from vision_heads.heads.detect.loss import flat_cells, global_mean
from vision_heads.heads.detect.options import DetectOptions


def certainty(teacher: Mapping[str, Tensor], levels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the teacher's best class probability of each cell (B, A), and their normaliser."""
    best = flat_cells(teacher, "scores", levels).sigmoid().amax(2)
    return best, global_mean(best.sum())


def distil_detect(
    raw: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor],
    levels: tuple[int, ...],
    options: DetectOptions,
) -> dict[str, Tensor]:
    """Compare raw predictions with the teacher's.

    Args:
        raw, teacher: of the same pictures, see `DetectHead`.
        levels: of both.
        options: gains, and the number of bins of a box side.

    Returns:
        "class": divergence of Bernoulli distributions, over all cells and classes; the
        gradient is that of BCE to the teacher's probabilities. "dfl": divergence of the sides'
        distributions (as in Localization Distillation, arXiv 2102.12252), where the teacher
        sees an object.
    """
    best, total = certainty(teacher, levels)
    logits, wanted = (flat_cells(side, "scores", levels) for side in (raw, teacher))
    target = wanted.sigmoid()
    bce = functional.binary_cross_entropy_with_logits
    # The teacher's own entropy is the least that BCE can be.
    class_loss = (
        bce(logits, target, reduction="none") - bce(wanted, target, reduction="none")
    ).sum()

    shape = (*best.shape, 4, options.reg_max)
    sides, theirs = (
        flat_cells(side, "boxes", levels).view(shape).log_softmax(3) for side in (raw, teacher)
    )
    divergence = functional.kl_div(sides, theirs, reduction="none", log_target=True)
    dfl_loss = (divergence.sum(3).mean(2) * best).sum()
    return {
        "class": class_loss / total * options.class_gain,
        "dfl": dfl_loss / total * options.dfl_gain,
    }
