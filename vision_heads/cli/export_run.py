"""What `vh export` does: the FP32 file, other formats out of it, the gate, the files' places."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_heads.cli.messages import tell
from vision_heads.errors import UserError, require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vision_heads.cli.eval_heads import ByHead
    from vision_heads.export.formats import Made, Recipe
    from vision_heads.export.gate import Gate, Limits, Verdict
    from vision_heads.export.onnx import OnnxFile
    from vision_heads.network import Network
    from vision_heads.spec import HeadSpec, ModelSpec, NmsSpec


@dataclass(frozen=True, slots=True)
class Shape:
    """Of the graph: options that every format shares."""

    heads: list[str] | None
    imgsz: tuple[int, int] | None
    candidates: int | None
    batch: int
    dynamic_batch: bool
    opset: int


@dataclass(frozen=True, slots=True)
class Pictures:
    """What files are proved and judged on."""

    source: Path | None
    data: ByHead
    split: str
    proof: int
    gate: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """What INT8 is calibrated on; `data` and `split` as far as they are given."""

    data: str | None
    split: str | None
    count: int
    method: Any
    seed: int
    exclude: list[str]
    sensitivity: bool


@dataclass(frozen=True, slots=True)
class Order:
    """Everything that was asked for."""

    network: Network
    places: dict[str, Path]
    stem: str
    shape: Shape
    nms: NmsSpec | None
    precision: str | None
    pictures: Pictures
    calibration: Calibration
    engine: dict[str, Any]
    limits: Limits | None
    threads: int | None


@dataclass(slots=True)
class Outcome:
    """What came of it, format by format.

    Attributes:
        file: the FP32 ONNX and its proof.
        made, verdicts, written: by format.
        mistake: why the formats after these were not made.
    """

    file: OnnxFile
    made: dict[str, Made] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    written: dict[str, list[Path]] = field(default_factory=dict)
    mistake: UserError | None = None

    @property
    def passed(self) -> bool:
        """Whether no format was refused."""
        return all(verdict.passed for verdict in self.verdicts.values())


def carry_out(order: Order) -> Outcome:
    """Make every format, judge it, and put those that pass in their places.

    Raises:
        UserError: a setting is wrong or something is missing, found before the first format is
            made; later it is the outcome's `mistake`.
        ParityError, NmsError: a fault of ours; likewise.
    """
    from vision_heads.export.formats import check_ready, make  # noqa: PLC0415
    from vision_heads.export.onnx import with_graph_of  # noqa: PLC0415

    check_ready(list(order.places), order.precision)
    folder = next(iter(order.places.values())).parent
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as inner:
        work = Path(inner)
        file = _fp32(order, work / f"{order.stem}.onnx")
        spec = file.spec.model_copy(update={"nms": order.nms})
        reference = _with_nms(order, file, work)
        gate = _gate(order, spec, reference)
        # Of the file that is written: NMS has other outputs than the network.
        outcome = Outcome(file if order.nms is None else with_graph_of(file, reference))
        recipe = _recipe(order, file)
        for format, place in order.places.items():
            room = work / format
            room.mkdir()
            try:
                made = make(format, file.path, room, place.name, recipe, _accept(gate))
            except UserError as error:
                outcome.mistake = error
                break
            outcome.made[format] = made
            if gate is not None:
                verdict = gate.judge(format, made.main, made.precision, size=made.size)
                verdict.notes += made.notes
                outcome.verdicts[format] = verdict
            if gate is None or verdict.passed:
                outcome.written[format] = _place(made, place)
    return outcome


def _fp32(order: Order, path: Path) -> OnnxFile:
    from vision_heads.export.onnx import export_onnx  # noqa: PLC0415

    shape = order.shape
    return export_onnx(
        order.network,
        path,
        heads=shape.heads,
        imgsz=shape.imgsz,
        candidates=shape.candidates,
        batch=shape.batch,
        dynamic_batch=shape.dynamic_batch,
        opset=shape.opset,
        pictures=_proof(order.pictures),
    )


def _proof(pictures: Pictures) -> Iterator[NDArray[np.uint8]]:
    from vision_heads.export.pictures import proof_pictures  # noqa: PLC0415

    card = pictures.data.every or next(iter(pictures.data.heads.values()), None)
    return proof_pictures(pictures.source, card, pictures.split, pictures.proof)


def _with_nms(order: Order, file: OnnxFile, work: Path) -> Path:
    """Return the FP32 file that others are timed against, NMS proved where there is any."""
    if order.nms is None:
        return file.path
    from vision_heads.export.nms import add_nms, prove_nms  # noqa: PLC0415
    from vision_heads.export.parity import batches  # noqa: PLC0415

    target = work / f"nms-{file.path.name}"
    add_nms(file.path, target, order.nms)
    count = 1 if order.shape.dynamic_batch else order.shape.batch
    found, different = prove_nms(
        file.path, target, batches(_proof(order.pictures), file.spec.input, count)
    )
    _say(f"NMS in the graph gives the runtime's {found} results, {different} on one side only")
    return target


def _gate(order: Order, spec: ModelSpec, reference: Path) -> Gate | None:
    if order.limits is None:
        return None
    from vision_heads.export.gate import Gate  # noqa: PLC0415
    from vision_heads.export.gate_truth import load_truths, pictures_alone  # noqa: PLC0415
    from vision_heads.export.pictures import picture_files  # noqa: PLC0415

    pictures = order.pictures
    if pictures.source is not None:
        files = picture_files(pictures.source)[: pictures.gate]
        truths = pictures_alone(files, spec.heads)
    else:
        truths = load_truths(
            spec.heads, pictures.data.heads, pictures.data.every, pictures.split, pictures.gate
        )
    return Gate(
        order.network,
        spec,
        truths,
        reference,
        limits=order.limits,
        threads=order.threads,
        log=_say,
    )


def _accept(gate: Gate | None) -> Callable[[Path], bool]:
    if gate is None:
        return lambda path: True
    return lambda path: gate.accepts(path, "int8", measured=True)


def _recipe(order: Order, file: OnnxFile) -> Recipe:
    import numpy as np  # noqa: PLC0415

    from vision_heads.export.formats import Recipe, needs_int8  # noqa: PLC0415
    from vision_heads.export.parity import batches  # noqa: PLC0415

    calibration, shape = order.calibration, order.shape
    formats = list(order.places)
    count = 1 if shape.dynamic_batch else shape.batch
    images = batches(_proof(order.pictures), file.spec.input, count)
    engine = dict(order.engine)
    if shape.dynamic_batch and shape.batch > 1:
        engine["batch"] = (1, shape.batch, shape.batch)
    return Recipe(
        precision=order.precision,
        nms=order.nms,
        # A fixed batch takes whole batches only.
        images=[np.resize(image, (count, *image.shape[1:])) for image in images],
        calibration=_calibration(order) if needs_int8(formats, order.precision) else [],
        count=calibration.count,
        method=calibration.method,
        seed=calibration.seed,
        exclude=calibration.exclude,
        sensitivity=calibration.sensitivity,
        engine=engine,
        max_batch=shape.batch if shape.dynamic_batch else 0,
        log=_say,
    )


def _calibration(order: Order) -> list[Path]:
    """Return what INT8 may be calibrated on, if possible no pictures that it is judged on."""
    from vision_heads.data.card import load_card, load_split  # noqa: PLC0415

    wanted, data = order.calibration, order.pictures.data
    card = wanted.data or data.every or next(iter(data.heads.values()), None)
    if card is None:
        card = _demo(order.network.spec.heads)
        _say(f"int8: calibrated on the synthetic set {card}; give your own with --calib-data CARD")
    splits = load_card(card).splits
    split = wanted.split or ("train" if "train" in splits else order.pictures.split)
    if wanted.data is None and split == order.pictures.split:
        _say(f"int8: {card} is calibrated on the split {split!r}, on which files are judged too")
    files = [sample.image for sample in load_split(card, split).samples]
    require(files, f"{card}: the split {split!r} holds no pictures to calibrate on")
    return files


def _demo(heads: Sequence[HeadSpec]) -> str:
    from vision_heads.paths import DEMO  # noqa: PLC0415

    return DEMO.get(heads[0].kind, "demo")


def _place(made: Made, place: Path) -> list[Path]:
    """Move a format's files to where they belong; a folder joins the one that is there."""
    written = []
    for source in made.files:
        target = place.parent / source.name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            source.replace(target)
        written.append(target)
    return written


def places_of(
    formats: Sequence[str], output: Path | None, folder: Path, stem: str
) -> dict[str, Path]:
    """Return where each format's main file goes.

    Args:
        formats: as `parse_formats` gives them.
        output: the file of the only format, or the folder of several; None for `folder`.
        folder: where files go when nothing is said.
        stem: of their names.

    Raises:
        UserError: the name does not fit the format, or the folder is not there.
    """
    from vision_heads.export.formats import place_of  # noqa: PLC0415

    if output is None:
        return {name: place_of(name, folder / stem) for name in formats}
    if len(formats) > 1 or output.is_dir():
        require(
            output.is_dir(),
            f"{output}: no such folder; with several formats --output names the folder they go to",
        )
        return {name: place_of(name, output / stem) for name in formats}
    (only,) = formats
    place = place_of(only, output)
    suffix = "" if only == "triton" else place.suffix
    require(
        not suffix or output.suffix == suffix, f"{output}: the file's name must end in {suffix}"
    )
    if not output.parent.is_dir():
        raise UserError(f"{output.parent}: no such folder")
    return {only: output}


def _say(text: str) -> None:
    tell(text)
