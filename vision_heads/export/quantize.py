"""INT8 after training: static QDQ with real pictures, tuned for ONNX Runtime on CPUs.

Activations are unsigned 8-bit numbers with a scale and a zero point each, weights signed ones with
a scale for each output channel. SiLU is quantized too: Sigmoid becomes a table and Mul an INT8
kernel, so that nothing goes back to float between the first convolution and the heads. From the
last convolution of each branch on, everything stays in float.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from vision_heads.errors import require
from vision_heads.export.calibration import Calibration, Method, calibrate
from vision_heads.export.quantize_graph import open_float
from vision_heads.export.quantize_insert import insert, insert_symmetric, quantized_nodes
from vision_heads.export.quantize_rewrite import rewrite
from vision_heads.export.sensitivity import Sensitivity, layers

METADATA_KEY = "vision_heads_int8"
"""Entry of an INT8 file's metadata: a JSON object that says how it was made."""
COUNT = 128
"""Calibration pictures, unless another number is asked for."""
Scheme = Literal["cpu", "tensorrt"]
"""For whose kernels: ONNX Runtime and OpenVINO on CPUs (unsigned activations with a zero point,
everything between convolutions in INT8 too), or TensorRT (signed ones around zero, convolutions and
residual sums only, biases in float; TensorRT takes no other)."""


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """How a file was quantized.

    Attributes:
        path: the INT8 file.
        method: how ranges were chosen.
        seed: of the choice of pictures.
        asked, used: calibration pictures that were wanted, and that there were.
        unreadable: messages about pictures that could not be read.
        layers: convolutions before the float end.
        excluded: of them, the ones left in float, by name.
        sensitivity: of each layer, most sensitive first; empty where nobody asked.
        accepted: what `accept` said last; True where there was none.
        tries: files made until then.
        notes: what the user should be told.
    """

    path: Path
    method: Method
    seed: int
    asked: int
    used: int
    unreadable: tuple[str, ...]
    layers: int
    excluded: tuple[str, ...]
    sensitivity: tuple[Sensitivity, ...] = ()
    accepted: bool = True
    tries: int = 1
    notes: tuple[str, ...] = ()


def quantize(
    source: Path,
    target: Path,
    pictures: Sequence[Path],
    *,
    method: Method = "minmax",
    seed: int = 0,
    exclude: Sequence[str] = (),
    count: int = COUNT,
    scheme: Scheme = "cpu",
    step: Callable[[int, int], None] | None = None,
) -> QuantizeReport:
    """Write an FP32 ONNX file as INT8.

    Args:
        source: written by `vh export`, without NMS in the graph.
        target: the file to write; it carries the metadata of `source` and `METADATA_KEY`.
        pictures: files to calibrate on; `count` of them are used.
        method: how ranges are chosen, see `calibration.Method`.
        seed: of the choice of pictures.
        exclude: names of convolutions to leave in float, with their activations.
        count: calibration pictures to use.
        scheme: for whose kernels.
        step: called with (pictures done, pictures wanted).

    Raises:
        UserError: no picture can be read; `source` is not such a file; an unknown name.
    """
    ranges = calibrate(source, pictures, method=method, seed=seed, count=count, step=step)
    return quantize_with(source, target, ranges, exclude=exclude, scheme=scheme)


def quantize_until(
    source: Path,
    target: Path,
    pictures: Sequence[Path],
    *,
    accept: Callable[[Path], bool],
    method: Method = "minmax",
    seed: int = 0,
    exclude: Sequence[str] = (),
    count: int = COUNT,
    scheme: Scheme = "cpu",
    step: Callable[[int, int], None] | None = None,
) -> QuantizeReport:
    """Quantize, and leave the most sensitive layers in float until the file is accepted.

    The number of layers left out doubles until the file is accepted, and is then halved in
    between for as few as possible. Layers are only looked at when the first file is refused.

    Args:
        accept: told of a complete INT8 file, says whether it is accurate enough.
        source, target, pictures, method, seed, exclude, count, scheme, step: as in `quantize`.

    Returns:
        A report; `accepted` is False where the file is refused even with all layers but one left
        out, and `target` is that file.

    Raises:
        UserError: as `quantize`.
    """
    calibration = calibrate(source, pictures, method=method, seed=seed, count=count, step=step)
    report = quantize_with(source, target, calibration, exclude=exclude, scheme=scheme)
    if accept(target):
        return report
    order = layers(source, calibration)
    names = [one.name for one in order if one.name not in set(exclude)]
    search = _Search(source, target, calibration, accept, tuple(exclude), names, scheme)
    report = search.run()
    return replace(report, sensitivity=tuple(order))


class _Search:
    """Finds the smallest number of most sensitive layers without which a file is accepted."""

    def __init__(
        self,
        source: Path,
        target: Path,
        calibration: Calibration,
        accept: Callable[[Path], bool],
        always: tuple[str, ...],
        names: list[str],
        scheme: Scheme,
    ) -> None:
        self._source, self._target, self._calibration = source, target, calibration
        self._accept, self._always, self._names, self._scheme = accept, always, names, scheme
        self._tries = 1

    def run(self) -> QuantizeReport:
        most = len(self._names) - 1
        refused, number = 0, min(1, most)
        good = False
        while not good and refused < most:
            report, good = self._try(number)
            if not good:
                refused, number = number, min(2 * number, most)
        if not good:
            report, _ = self._try(most, judge=False)
            return replace(report, accepted=False, tries=self._tries)
        accepted = number
        while accepted - refused > 1:
            middle = (accepted + refused) // 2
            found, good = self._try(middle)
            if good:
                accepted, report = middle, found
            else:
                refused = middle
        if not good:  # the last file tried was one too many
            report, _ = self._try(accepted, judge=False)
        return replace(report, tries=self._tries)

    def _try(self, number: int, *, judge: bool = True) -> tuple[QuantizeReport, bool]:
        exclude = (*self._always, *self._names[:number])
        report = quantize_with(
            self._source, self._target, self._calibration, exclude=exclude, scheme=self._scheme
        )
        self._tries += judge
        return report, judge and self._accept(self._target)


def quantize_with(
    source: Path,
    target: Path,
    calibration: Calibration,
    *,
    exclude: Sequence[str] = (),
    scheme: Scheme = "cpu",
) -> QuantizeReport:
    """Quantize with ranges that were measured before; see `quantize`."""
    require(scheme in get_args(Scheme), f"INT8 scheme {scheme!r}: {get_args(Scheme)}")
    graph = open_float(source)
    every = graph.layers()
    known = {layer.name for layer in every}
    for name in exclude:
        require(name in known, f"{source}: no layer {name!r} to leave in float")
    excluded = [layer for layer in every if layer.name in set(exclude)]
    kept = {node for layer in excluded for node in layer.nodes}
    names = quantized_nodes(graph, kept)
    if scheme == "tensorrt":
        model = insert_symmetric(graph, names, calibration)
    else:
        told = rewrite(graph)
        names = [name for name in names if name in graph.nodes]
        names += told.of_quantized({layer.output for layer in excluded})
        model = insert(graph, names, told, calibration)
    _describe(model, calibration, exclude, len(every), scheme)
    _save(model, target)
    return QuantizeReport(
        path=target,
        method=calibration.method,
        seed=calibration.seed,
        asked=calibration.asked,
        used=len(calibration.files),
        unreadable=calibration.unreadable,
        layers=len(every),
        excluded=tuple(exclude),
        notes=calibration.notes,
    )


def _describe(
    model: Any,
    calibration: Calibration,
    exclude: Sequence[str],
    layer_count: int,
    scheme: Scheme,
) -> None:
    record = {
        "method": calibration.method,
        "pictures": len(calibration.files),
        "asked": calibration.asked,
        "unreadable": len(calibration.unreadable),
        "seed": calibration.seed,
        "weights": "int8 per channel",
        "activations": "uint8" if scheme == "cpu" else "int8 symmetric",
        "scheme": scheme,
        "layers": layer_count,
        "excluded": list(exclude),
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(record)


def _save(model: Any, target: Path) -> None:
    """Write the file whole or not at all."""
    import onnx  # noqa: PLC0415

    require(target.parent.is_dir(), f"{target.parent}: no such folder")
    onnx.checker.check_model(model)
    with tempfile.TemporaryDirectory(prefix=".int8-", dir=target.parent) as folder:
        temporary = Path(folder) / target.name
        onnx.save(model, str(temporary))
        temporary.replace(target)
