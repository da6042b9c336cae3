"""4K pictures in 640 tiles: ours against sahi with the same ONNX file, in turns, two threads.

sahi gets the same network wrapped as its DetectionModel, with our own (faster) decoding of each
tile; slicing, the loop and the merging are its own. Both look at the tiles and the whole
picture, and merge by greedy NMM with IoS 0.5. Pictures are mosaics of VisDrone photographs.

    python -m tools.bench.slicing --model aerial-n
"""

from __future__ import annotations

import argparse
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.bench.shared import in_turns, median, print_table, two_cores, visdrone_pictures
from vision_heads.heads.base import DecodeOptions
from vision_heads.media.images import read_image
from vision_heads.results import Result
from vision_heads.runtime.engines import open_engine
from vision_heads.runtime.pipeline import plan_threads
from vision_heads.runtime.predictor import Predictor
from vision_heads.runtime.slicing import Slicing

WIDTH, HEIGHT, TILE, OVERLAP = 3840, 2160, 640, 0.2
Image = NDArray[np.uint8]


def mosaics(count: int) -> list[Image]:
    """Return 4K BGR pictures, each of nine photographs."""
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


def sahi_model(predictor: Predictor, conf: float) -> Any:
    """Wrap a predictor as sahi's DetectionModel."""
    from sahi.models.base import DetectionModel
    from sahi.prediction import ObjectPrediction

    class Wrapped(DetectionModel):  # type: ignore[misc]
        def load_model(self) -> None:
            self.model = predictor
            names = predictor.spec.heads[0].classes
            self.category_mapping = {str(index): name for index, name in enumerate(names)}

        def perform_inference(self, image: Image) -> None:
            bgr = np.ascontiguousarray(image[..., ::-1])
            self._original_predictions = self.model(bgr, conf=conf, keep_image=False)

        @property
        def category_names(self) -> list[str]:
            return list(self.category_mapping.values())

        @property
        def num_categories(self) -> int:
            return len(self.category_mapping)

        def _create_object_prediction_list_from_original_predictions(
            self, shift_amount_list: Any = None, full_shape_list: Any = None
        ) -> None:
            shift = (shift_amount_list or [[0, 0]])[0]
            shape = full_shape_list[0] if full_shape_list else None
            found = next(iter(self._original_predictions.heads.values()))
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", required=True, help="ONNX file or shipped name")
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--conf", type=float, default=0.25)
    args = parser.parse_args()
    two_cores()
    cv2.setNumThreads(2)

    from sahi.predict import get_sliced_prediction

    pictures = mosaics(args.pictures)
    plan = plan_threads(2, len(pictures))
    ours = Predictor(open_engine(args.model, threads=plan.threads))
    theirs = sahi_model(Predictor(open_engine(args.model, threads=2)), args.conf)
    slicing = Slicing(TILE, OVERLAP, merge="nmm", metric="ios", threshold=0.5)
    counts: dict[str, int] = {}

    def run_ours() -> None:
        results = ours.stream(
            pictures, DecodeOptions(conf=args.conf), slicing=slicing, parallel=plan.parallel
        )
        counts["ours"] = sum(len(result) for result in results if isinstance(result, Result))

    def run_theirs() -> None:
        total = 0
        for picture in pictures:
            found = get_sliced_prediction(
                picture[..., ::-1],
                theirs,
                slice_height=TILE,
                slice_width=TILE,
                overlap_height_ratio=OVERLAP,
                overlap_width_ratio=OVERLAP,
                postprocess_type="GREEDYNMM",
                postprocess_match_metric="IOS",
                postprocess_match_threshold=0.5,
                verbose=0,
            )
            total += len(found.object_prediction_list)
        counts["theirs"] = total

    run_ours()
    times = [median(seconds) for seconds in in_turns((run_ours, run_theirs), args.rounds)]
    rates = [len(pictures) / seconds for seconds in times]
    print_table(
        ("slicing 4K into 640 tiles", "pictures/s", "objects found", "ratio"),
        [
            ("vision_heads", rates[0], counts["ours"], rates[0] / rates[1]),
            ("sahi", rates[1], counts["theirs"], 1.0),
        ],
    )


if __name__ == "__main__":
    main()
