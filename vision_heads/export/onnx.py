"""ONNX files: written, slimmed, described by the model's spec, and proved before they appear."""

from __future__ import annotations

import inspect
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from vision_heads.errors import UserError, require
from vision_heads.export.graph import Exported
from vision_heads.export.parity import Parity, prove
from vision_heads.measure import METADATA_KEY as MEASURES_KEY
from vision_heads.measure import measure
from vision_heads.network import Network, fill_network
from vision_heads.spec import METADATA_KEY, ModelSpec, first_problem
from vision_heads.surgery.cut import extract
from vision_heads.surgery.model import Model, stored_state

OPSETS = range(14, 21)
"""ONNX operator sets that can be written: HardSwish came with 14; 20 is the exporter's last."""
INPUT = "images"


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """An ONNX file that has been written.

    Attributes:
        path: the file.
        spec: the description it carries.
        opset: of the ONNX operators.
        outputs: shape of each output; "batch" where the size is open.
        operators: how many nodes of each operator.
        size: bytes.
        parity: how well it agrees with the network; None when no pictures were given.
    """

    path: Path
    spec: ModelSpec
    opset: int
    outputs: dict[str, tuple[int | str, ...]]
    operators: dict[str, int]
    size: int
    parity: Parity | None


def export_onnx(
    network: Network,
    path: str | Path,
    *,
    heads: Sequence[str] | None = None,
    imgsz: tuple[int, int] | None = None,
    candidates: int | None = None,
    batch: int = 1,
    dynamic_batch: bool = False,
    opset: int = 17,
    pictures: Iterable[NDArray[np.uint8]] | None = None,
) -> OnnxFile:
    """Write a network as ONNX, batch norms fused, candidates chosen before they are decoded.

    Input "images" is float32 (B, 3, H, W), RGB / 255; outputs are `<head>/boxes` (B, K, 4) xyxy
    in network pixels, `<head>/scores` (B, K, classes) and whatever else a head's kind exports.
    The spec is in the file's metadata under `vision_heads.spec.METADATA_KEY`.

    Args:
        network: not changed.
        path: the file; it appears only when it is complete and, with `pictures`, proved.
        heads: names of the heads the file gets, without the branches nobody else needs and
            described by a spec of these heads; all when None.
        imgsz: height and width of the input, multiples of 32; the spec's own when None.
        candidates: K, best candidates each head gives; the spec's own when None.
        batch: pictures a call.
        dynamic_batch: accept any number of pictures a call instead.
        opset: ONNX operator set, one of `OPSETS`.
        pictures: BGR uint8 pictures to run through network and file, which must agree on every
            head of the file.

    Raises:
        UserError: an argument or the folder of `path` is wrong.
        ParityError: file and network disagree; nothing is written.
    """
    path = Path(path)
    part = network if heads is None else _part(network, heads)
    spec = _described(part.spec, imgsz, candidates)
    require(opset in OPSETS, f"--opset {opset}: must be {OPSETS[0]} to {OPSETS[-1]}")
    require(batch >= 1, f"--batch {batch}: must be at least 1")
    require(path.suffix == ".onnx", f"{path}: the file's name must end in .onnx")
    require(path.parent.is_dir(), f"{path.parent}: no such folder")
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        model = _trace(Exported(part, spec), temporary, opset, None if dynamic_batch else batch)
        _describe(model, spec)
        _save(model, temporary)
        parity = None if pictures is None else prove(network, temporary, pictures)
        temporary.replace(path)
    size = path.stat().st_size
    return OnnxFile(path, spec, opset, size=size, parity=parity, **_content(model.graph))


def with_graph_of(file: OnnxFile, path: Path) -> OnnxFile:
    """Return what there is to say of a file made out of another, whose proof holds for it too."""
    import onnx  # noqa: PLC0415

    graph = onnx.load(str(path)).graph
    return replace(file, path=path, size=path.stat().st_size, **_content(graph))


def _content(graph: Any) -> dict[str, Any]:
    """Return an `OnnxFile`'s outputs and operators."""
    operators = Counter(node.op_type for node in graph.node)
    return {
        "outputs": {output.name: _shape(output) for output in graph.output},
        "operators": dict(operators.most_common()),
    }


def _part(network: Network, heads: Sequence[str]) -> Network:
    """Return a network of these heads alone; the same one where these are all."""
    require(heads, f"--heads: none given; this model has {[h.name for h in network.spec.heads]}")
    model = Model(Path("the model"), network.spec, stored_state(network), half=False)
    spec, state = extract(model, heads)
    return (
        network
        if len(spec.heads) == len(network.spec.heads)
        else fill_network(spec, state, "export")
    )


def _described(spec: ModelSpec, imgsz: tuple[int, int] | None, candidates: int | None) -> ModelSpec:
    content = spec.model_dump()
    if imgsz is not None:
        content["input"] |= {"height": imgsz[0], "width": imgsz[1]}
    if candidates is not None:
        content["candidates"] = candidates
    try:
        return ModelSpec.model_validate(content)
    except ValidationError as error:
        raise UserError(f"export: {first_problem(error)}") from error


def _trace(network: Exported, path: Path, opset: int, batch: int | None) -> Any:
    """Run torch's exporter and onnxslim; return the ONNX model, its batch open if None."""
    try:
        import onnx  # noqa: PLC0415
        import onnxslim  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            f'vh export needs {error.name}: pip install "vision-heads[train]"'
        ) from error
    size = network.spec.input
    # Two pictures for an open batch, so that nothing takes a batch of one for granted.
    images = torch.zeros(batch or 2, 3, size.height, size.width)
    options: dict[str, Any] = {
        "opset_version": opset,
        "input_names": [INPUT],
        "output_names": network.names,
    }
    if batch is None:
        options["dynamic_axes"] = {name: {0: "batch"} for name in (INPUT, *network.names)}
    # The graph is one straight line, which the tracing exporter writes well and without the
    # further dependencies of the newer one. Before torch 2.5 there was no other.
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        options["dynamo"] = False
    with warnings.catch_warnings():
        # "is deprecated" and "tracing might not generalise": parity.py checks that it does.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        torch.onnx.export(network.eval(), (images,), str(path), **options)
    logging.getLogger("onnxslim").setLevel(logging.ERROR)
    return onnxslim.slim(onnx.load(str(path)))


def _describe(model: Any, spec: ModelSpec) -> None:
    from onnx import helper  # noqa: PLC0415

    helper.set_model_props(
        model, {METADATA_KEY: spec.to_json(), MEASURES_KEY: measure(spec).to_json()}
    )
    # Shapes of every inner tensor: a fifth of a small file, and no runtime reads them.
    del model.graph.value_info[:]


def _save(model: Any, path: Path) -> None:
    import onnx  # noqa: PLC0415

    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _shape(value: Any) -> tuple[int | str, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value or dim.dim_param for dim in dims)
