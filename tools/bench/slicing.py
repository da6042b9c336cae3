"""4K pictures in 640 tiles: ours against sahi with the same ONNX file, in turns, two threads.

sahi gets the same network wrapped as its DetectionModel, with our own (faster) letterbox and
decoding of each tile; slicing, the loop and the merging are its own. Both read the same JPEG
files, look at 32 tiles and the whole picture, and merge by greedy NMM with IoS 0.5. Pictures
are mosaics of VisDrone photographs.

sahi calls the network with a tile at a time and two threads in each call, once as our runtime
sets ONNX Runtime up and once by ONNX Runtime's own defaults, where threads wait spinning. CPU
seconds tell the work apart from what else the machine is doing.

    python -m tools.bench.slicing --model aerial-n
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.bench.shared import median, print_table, start, two_cores, visdrone_pictures
from vision_heads.heads.base import DecodeOptions, kind_of
from vision_heads.media.images import read_image
from vision_heads.media.sinks import save_jpeg
from vision_heads.results import Result
from vision_heads.runtime.engines import OnnxEngine, resolve_weights
from vision_heads.runtime.inputs import fill
from vision_heads.runtime.outputs import Parts
from vision_heads.runtime.pipeline import plan_threads
from vision_heads.runtime.predictor import Predictor
from vision_heads.runtime.slicing import Slicing

WIDTH, HEIGHT, TILE, OVERLAP = 3840, 2160, 640, 0.2
Image = NDArray[np.uint8]


def mosaics(count: int) -> list[Image]:
    """Make 4K BGR pictures, each of nine photographs."""
    files = visdrone_pictures(90)
    pictures = []
    for number in range(count):
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for cell in range(9):
            photo = read_image(files[(number * 9 + cell * 7) % len(files)])
            height, width = HEIGHT // 3, WIDTH // 3
            y, x = cell // 3 * height, cell % 3 * width
            picture[y : y + height, x : x + width] = cv2.resize(photo, (width, height))
        pictures.append(picture)
    return pictures


def sahi_model(engine: OnnxEngine, conf: float) -> Any:
    """Wrap an engine as sahi's DetectionModel; sahi hands it RGB pictures."""
    from sahi.models.base import DetectionModel
    from sahi.prediction import ObjectPrediction
    from sahi.utils.compatibility import fix_full_shape_list, fix_shift_amount_list

    spec, head = engine.spec, engine.spec.heads[0]
    kind, options = kind_of(head.kind), DecodeOptions(conf=conf)

    class Wrapped(DetectionModel):  # type: ignore[misc]
        def load_model(self) -> None:
            self.model = engine
            self.category_mapping = {str(index): name for index, name in enumerate(head.classes)}

        def perform_inference(self, image: Image) -> None:
            tensor = np.empty((3, spec.input.height, spec.input.width), np.float32)
            fit = fill(image, spec.input, tensor[::-1])  # RGB already: planes in reverse
            outputs = engine.run(tensor[None])
            arrays = {suffix: outputs[f"{head.name}/{suffix}"][0] for suffix in kind.outputs}
            found = kind.decode(arrays, head, options)
            self._original_predictions = replace(found, xyxy=fit.to_original(found.xyxy))

        @property
        def category_names(self) -> list[str]:
            return list(self.category_mapping.values())

        @property
        def num_categories(self) -> int:
            return len(self.category_mapping)

        def _create_object_prediction_list_from_original_predictions(
            self, shift_amount_list: Any = None, full_shape_list: Any = None
        ) -> None:
            # sahi gives a list a tile, but for the whole picture one [x, y] and [height, width].
            shift = fix_shift_amount_list(shift_amount_list or [0, 0])[0]
            shape = (fix_full_shape_list(full_shape_list) or [None])[0]
            found = self._original_predictions
            objects = [
                ObjectPrediction(
                    bbox=box,
                    category_id=label,
                    category_name=found.names[label],
                    score=score,
                    shift_amount=shift,
                    full_shape=shape,
                )
                for box, label, score in zip(
                    found.xyxy.tolist(), found.class_id.tolist(), found.score.tolist(), strict=True
                )
            ]
            self._object_prediction_list_per_image = [objects]

    return Wrapped(model_path="same", confidence_threshold=conf, device="cpu", load_at_init=True)


def run_ours(predictor: Predictor, parallel: int, files: list[Path], conf: float) -> int:
    """Look through all pictures; return how many objects were found."""
    slicing = Slicing(TILE, OVERLAP, merge="nmm", metric="ios", threshold=0.5)
    results = predictor.stream(
        files, DecodeOptions(conf=conf, max_det=3000), slicing=slicing, parallel=parallel
    )
    return sum(len(result) for result in results if isinstance(result, Result))


def run_sahi(model: Any, files: list[Path]) -> int:
    """Look through all pictures; return how many objects were found."""
    from sahi.predict import get_sliced_prediction

    return sum(
        len(
            get_sliced_prediction(
                str(file),
                model,
                slice_height=TILE,
                slice_width=TILE,
                overlap_height_ratio=OVERLAP,
                overlap_width_ratio=OVERLAP,
                postprocess_type="GREEDYNMM",
                postprocess_match_metric="IOS",
                postprocess_match_threshold=0.5,
                verbose=0,
            ).object_prediction_list
        )
        for file in files
    )


def default_session(engine: OnnxEngine) -> OnnxEngine:
    """Replace an engine's session by one of ONNX Runtime's defaults and two threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(
        str(engine.path), options, providers=["CPUExecutionProvider"]
    )
    # What `run` takes its sessions from.
    engine._parts = Parts[Any](engine.spec, session)
    return engine


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", required=True, help="ONNX file or shipped name")
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--conf", type=float, default=0.25)
    args = parser.parse_args()
    two_cores()
    cv2.setNumThreads(1)
    model = resolve_weights(args.model)
    plan = plan_threads(2, None)
    predictor = Predictor(OnnxEngine(model, threads=plan.threads))
    same = sahi_model(OnnxEngine(model, threads=2), args.conf)
    default = sahi_model(default_session(OnnxEngine(model, threads=2)), args.conf)

    with tempfile.TemporaryDirectory() as name:
        files = [Path(name, f"{number}.jpg") for number in range(args.pictures)]
        for file, picture in zip(files, mosaics(args.pictures), strict=True):
            save_jpeg(file, picture)
        contestants: dict[str, Callable[[], int]] = {
            "vision_heads": lambda: run_ours(predictor, plan.parallel, files, args.conf),
            "sahi, threads do not spin": lambda: run_sahi(same, files),
            "sahi, ONNX Runtime's defaults": lambda: run_sahi(default, files),
        }
        run_ours(predictor, plan.parallel, files[:1], args.conf)  # everything is imported now
        run_sahi(same, files[:1])
        _print(contestants, args.rounds, args.pictures)


def _print(contestants: dict[str, Callable[[], int]], rounds: int, pictures: int) -> None:
    wall: dict[str, list[float]] = {name: [] for name in contestants}
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    found: dict[str, int] = {}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            begin, busy = time.perf_counter(), time.process_time()
            found[name] = contestant()
            wall[name].append(time.perf_counter() - begin)
            cpu[name].append(time.process_time() - busy)
    ours = median(wall["vision_heads"]), median(cpu["vision_heads"])
    rows = []
    for name in contestants:
        seconds, busy = median(wall[name]), median(cpu[name])
        times = (seconds / ours[0], busy / ours[1])
        rows.append((name, pictures / seconds, busy / pictures, found[name], *times))
    columns = ("pictures/s", "CPU s a picture", "objects found", "ours is faster by", "by CPU")
    print_table(("slicing 4K into 640 tiles", *columns), rows)


if __name__ == "__main__":
    start(main)
