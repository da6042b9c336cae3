"""Time head pose on the CPU: what the rotation branch costs, and whether the crowd matters.

1. The exported head-pose network against the same network with a detect head, in turns.
2. The whole way from picture to detections, poses included, for a picture of 1 head and one of
   60, in turns. Weights are random, so a head's scores are set by the benchmark itself: the
   graph's candidates get as many good scores as there are heads.

Prints Markdown.

    python -m tools.bench.headpose
    python -m tools.bench.headpose --rounds 200 --threads 2
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tools.bench.network import open_session, race
from tools.bench.shared import in_turns, median, print_table, two_cores
from vision_heads.data.synthetic.heads import render_people
from vision_heads.data.synthetic.people import Person, draw_people
from vision_heads.runtime.engines import OnnxEngine
from vision_heads.runtime.predictor import Predictor
from vision_heads.spec import HeadSpec, ModelSpec


def main() -> None:
    """Export, race and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    two_cores()
    print(
        f"N at 640, one class, ONNX Runtime {onnxruntime.__version__}, {options.threads} threads, "
        f"{options.rounds} rounds in turns; medians.\n"
    )
    with tempfile.TemporaryDirectory(prefix="vh-bench-") as temporary:
        files = export(Path(temporary))
        _branch(files, options)
        _crowd(files["headpose 6d"], options)


def export(folder: Path) -> dict[str, Path]:
    """Export a detect head and head-pose heads on the same trunk."""
    from vision_heads.export.onnx import export_onnx
    from vision_heads.network import Network

    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "detect": ("detect", {}),
        "headpose 6d": ("headpose", {}),
        "headpose euler": ("headpose", {"representation": "euler"}),
    }
    files = {}
    for name, (kind, settings) in kinds.items():
        head = HeadSpec(name="pose", kind=kind, classes=("head",), options=settings)
        file = folder / f"{name.replace(' ', '-')}.onnx"
        files[name] = export_onnx(Network(ModelSpec(heads=(head,))), file).path
    return files


def _branch(files: dict[str, Path], options: argparse.Namespace) -> None:
    sessions = {name: open_session(path, options.threads) for name, path in files.items()}
    seconds = race(sessions, options.rounds)
    rows = []
    for name, own in seconds.items():
        ratios = np.array(own) / np.array(seconds["detect"])
        rows.append((name, 1e3 * median(own), float(np.median(ratios))))
    print_table(("network", "ms", "x detect"), rows)


class _Crowd(OnnxEngine):
    """Runs the network in full, then gives so many of its candidates the scores of heads."""

    heads: Sequence[Person] = ()

    def run(self, images: NDArray[np.float32], heads: Any = None) -> dict[str, Any]:
        """Execute the network and plant the heads."""
        outputs = super().run(images, heads)
        outputs["pose/scores"] = np.full_like(outputs["pose/scores"], 0.01)
        for number, person in enumerate(self.heads):
            reach = person.size / 2
            # As trained networks do, several candidates a head.
            rows = slice(number * 8, number * 8 + 8)
            outputs["pose/scores"][:, rows] = 0.8
            outputs["pose/boxes"][:, rows] = (
                *(person.x - reach, person.y - reach),
                *(person.x + reach, person.y + reach),
            )
        return outputs


def _crowd(file: Path, options: argparse.Namespace) -> None:
    """Time the way from picture to detections with 1 and with 60 heads."""
    people: list[Person] = []
    seed = 0
    while len(people) < 60:
        drawn = draw_people("crowd", 640, 640, np.random.default_rng(seed))
        people, seed = (drawn if len(drawn) > len(people) else people), seed + 1
    contestants = []
    for count in (1, 60):
        engine = _Crowd(file, threads=options.threads)
        engine.heads = people[:count]
        picture = render_people(list(engine.heads), 640, 640, np.random.default_rng(0)).image
        predictor = Predictor(engine)
        found = predictor(picture)["pose"]
        print(f"\n{count} planted, {len(found)} found, poses {found.euler().shape}")
        contestants.append(lambda p=predictor, i=picture: p(i)["pose"].rotation)
    in_turns(contestants, 3)
    one, sixty = in_turns(contestants, options.rounds)
    ratio = float(np.median(np.array(sixty) / np.array(one)))
    print()
    print_table(
        ("heads in the picture", "ms", "x 1 head"),
        [(1, 1e3 * median(one), 1.0), (60, 1e3 * median(sixty), ratio)],
    )


if __name__ == "__main__":
    main()
