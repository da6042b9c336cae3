"""Non-maximum suppression inside a file, for programs that should not write their own.

Outputs of each head then are `<head>/boxes` (B, D, 4), `<head>/scores` (B, D), `<head>/labels`
(B, D) int32, `<head>/count` (B, 1) int32 and whatever else its kind gives, (B, D, ...), where D is
the most results a picture and only the first `count` rows count; the rest is padding. The model's
description says so (`ModelSpec.nms`), and the runtime does not do it a second time.

As in `vision_heads.heads.detect.decode`, a candidate counts for its best class alone, a score must
exceed `conf`, and a box is dropped if it overlaps a better one of its class by more than `iou`.

Two ways: ONNX NonMaxSuppression, which ONNX Runtime, OpenVINO and TensorRT from 8.5 on know; and
TensorRT's plugin EfficientNMS_TRT (its README in NVIDIA/TensorRT lists the attributes), which is
quicker there but does not say which candidate a box was: kinds with more outputs than boxes and
scores take the first way in engines too.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import require
from vision_heads.export.onnx_file import load_model, save_model
from vision_heads.heads.base import DecodeOptions, kind_of
from vision_heads.results import Detections
from vision_heads.runtime.engines import open_engine
from vision_heads.runtime.suppressed import arrays_of
from vision_heads.spec import METADATA_KEY, HeadSpec, ModelSpec, NmsSpec

Way = Literal["onnx", "tensorrt"]

PLUGIN, PLUGIN_DOMAIN = "EfficientNMS_TRT", "TRT"


class NmsError(RuntimeError):
    """NMS in a graph does not do what the runtime's does: our fault."""


SAME_BOX = 0.1
"""Pixels within which two results are the same."""
BORDERLINE = 0.005
"""Share of results that may differ: overlaps so near the threshold that rounding decides."""

Floats = NDArray[np.float32]


def add_nms(source: Path, target: Path, nms: NmsSpec, *, way: Way = "onnx") -> ModelSpec:
    """Append NMS to every head of a file that gives candidates.

    Args:
        source: ONNX file of `vh export` in any precision, without NMS.
        target: the file to write.
        nms: thresholds and the number of results D; of each head at most as many as it has
            candidates.
        way: "onnx" for the standard operator, "tensorrt" for the plugin, which nothing but
            TensorRT can run.

    Returns:
        The description the new file carries.

    Raises:
        UserError: `source` is no such file, or has NMS already.
    """
    model = load_model(source)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    require(METADATA_KEY in properties, f"{source}: carries no model description")
    spec = ModelSpec.from_json(properties[METADATA_KEY], str(source))
    require(spec.nms is None, f"{source}: has NMS in its graph already")
    outputs = {output.name: output for output in model.graph.output}
    # In a small network a head on few levels has fewer cells than another.
    limits = {head.name: _limit(outputs, head, nms) for head in spec.heads}
    most = max(limits.values())
    spec = spec.model_copy(update={"nms": nms.model_copy(update={"max_det": most})})
    del model.graph.output[:]
    for head in spec.heads:
        _Suppress(model, nms, limits[head.name], head, outputs, way).append()
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = spec.to_json()
    save_model(model, target)
    return spec


def _limit(outputs: dict[str, Any], head: HeadSpec, nms: NmsSpec) -> int:
    """Return the most results that a head gives: no more than it has candidates."""
    candidates = outputs[f"{head.name}/scores"].type.tensor_type.shape.dim[1].dim_value
    return min(nms.max_det, candidates or nms.max_det)


class _Suppress:
    """Builds the nodes of one head, for at most `most` results."""

    def __init__(
        self,
        model: Any,
        nms: NmsSpec,
        most: int,
        head: HeadSpec,
        outputs: dict[str, Any],
        way: Way,
    ) -> None:
        self.model, self.graph, self.nms, self.most = model, model.graph, nms, most
        self.name, self.classes = head.name, len(head.classes)
        self.suffixes = kind_of(head.kind).outputs
        self.further = [suffix for suffix in self.suffixes if suffix not in ("boxes", "scores")]
        self.shapes = {
            suffix: list(outputs[f"{head.name}/{suffix}"].type.tensor_type.shape.dim)
            for suffix in self.suffixes
        }
        self.plugin = way == "tensorrt" and not self.further

    def append(self) -> None:
        """Add nodes and outputs to the graph."""
        self._rename_candidates()
        label = self._node("ArgMax", self._inner("scores"), to="best_class", axis=2, keepdims=1)
        mine = self._masked(label)
        if self.plugin:
            self._efficient(mine)
        else:
            self._standard(label, mine)
        self._declare()

    def _rename_candidates(self) -> None:
        """Give the candidates an inner name: the outputs' names go to what NMS leaves."""
        renamed = {f"{self.name}/{suffix}": self._inner(suffix) for suffix in self.suffixes}
        for node in self.graph.node:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name in renamed:
                        names[place] = renamed[name]

    def _masked(self, label: str) -> str:
        """Scores (B, K, C) with 0 for every class but a candidate's best."""
        if self.classes == 1:
            return self._inner("scores")
        numbers = self._constant("classes", np.arange(self.classes).reshape(1, 1, -1))
        best = self._node("Equal", label, numbers, to="is_best")
        nothing = self._constant("nothing", np.float32(0))
        return self._node("Where", best, self._inner("scores"), nothing, to="best_scores")

    def _efficient(self, scores: str) -> None:
        from onnx import helper  # noqa: PLC0415

        names = [f"{self.name}/{suffix}" for suffix in ("count", "boxes", "scores", "labels")]
        self.graph.node.append(
            helper.make_node(
                PLUGIN,
                [self._inner("boxes"), scores],
                names,
                name=f"{self.name}/nms",
                domain=PLUGIN_DOMAIN,
                plugin_version="1",
                background_class=-1,
                box_coding=0,  # corners
                class_agnostic=0,
                iou_threshold=self.nms.iou,
                max_output_boxes=self.most,
                score_activation=0,  # they are probabilities already
                score_threshold=self.nms.conf,
            )
        )
        if not any(entry.domain == PLUGIN_DOMAIN for entry in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(PLUGIN_DOMAIN, 1))

    def _standard(self, label: str, scores: str) -> None:
        """Mark what NonMaxSuppression keeps among the candidates, then take the best of those.

        A candidate has one class here, so it is kept once or not at all, and everything but
        NonMaxSuppression itself has a fixed shape.
        """
        node, constant = self._node, self._constant
        by_class = node("Transpose", scores, to="by_class", perm=[0, 2, 1])
        kept = node(
            "NonMaxSuppression",
            self._inner("boxes"),
            by_class,
            constant("most", np.array([self.most])),
            constant("iou", np.array([self.nms.iou], np.float32)),
            constant("conf", np.array([self.nms.conf], np.float32)),
            to="kept",
        )
        places = node(
            "Gather", kept, constant("picture_and_box", np.array([0, 2])), to="at", axis=1
        )
        picture = node("Gather", kept, constant("first", np.array(0)), to="picture", axis=1)
        ones = node("Cast", node("Equal", picture, picture, to="true"), to="ones", type=1)
        best = node("GatherElements", self._inner("scores"), label, to="best", axis=2)
        last = constant("last", np.array([2]))
        best = node("Squeeze", best, last, to="best_score")
        zeros = node("Mul", best, constant("zero", np.float32(0)), to="zeros")
        mask = node("ScatterND", zeros, places, ones, to="mask")
        k = constant("k", np.array([self.most]))
        index = self._top(node("Mul", best, mask, to="left"), k)
        flat = node("Squeeze", label, last, to="label")
        chosen = node("GatherElements", flat, index, to="chosen_label", axis=1)
        node("Cast", chosen, output=f"{self.name}/labels", type=6)
        self._count(mask)
        for suffix in ("boxes", *self.further):
            self._take(suffix, index)

    def _top(self, left: str, k: str) -> str:
        from onnx import helper  # noqa: PLC0415

        index = self._name("index")
        self.graph.node.append(
            helper.make_node(
                "TopK", [left, k], [f"{self.name}/scores", index], self._name("top"), axis=1
            )
        )
        return index

    def _count(self, mask: str) -> None:
        axis = self._constant("rows", np.array([1]))
        total = self._node("ReduceSum", mask, axis, to="total", keepdims=1)
        most = self._constant("most_float", np.array([self.most], np.float32))
        self._node(
            "Cast",
            self._node("Min", total, most, to="at_most"),
            output=f"{self.name}/count",
            type=6,
        )

    def _take(self, suffix: str, index: str) -> None:
        """Gather the kept rows of a candidates' output (B, K, ...)."""
        tail = [dim.dim_value for dim in self.shapes[suffix][2:]]
        size = int(np.prod(tail))
        flat = self._inner(suffix)
        if len(tail) > 1:
            shape = self._constant(f"{suffix}_flat", np.array([0, 0, size]))
            flat = self._node("Reshape", flat, shape, to=f"{suffix}_rows")
        axes = self._constant(f"{suffix}_axis", np.array([2]))
        wide = self._node("Unsqueeze", index, axes, to=f"{suffix}_index")
        ones = self._constant(f"{suffix}_wide", np.array([1, 1, size]))
        wide = self._node("Expand", wide, ones, to=f"{suffix}_wide_index")
        output = f"{self.name}/{suffix}"
        if len(tail) == 1:
            self._node("GatherElements", flat, wide, output=output, axis=1)
            return
        rows = self._node("GatherElements", flat, wide, to=f"{suffix}_kept", axis=1)
        shape = self._constant(f"{suffix}_shape", np.array([0, 0, *tail]))
        self._node("Reshape", rows, shape, output=output)

    def _declare(self) -> None:
        from onnx import TensorProto, helper  # noqa: PLC0415

        first = self.shapes["boxes"][0]
        batch = first.dim_param or first.dim_value
        most = self.most
        shapes: dict[str, list[Any]] = {"boxes": [batch, most, 4], "scores": [batch, most]}
        for suffix in self.further:
            shapes[suffix] = [batch, most, *(dim.dim_value for dim in self.shapes[suffix][2:])]
        shapes |= {"labels": [batch, most], "count": [batch, 1]}
        for suffix, shape in shapes.items():
            kind = TensorProto.INT32 if suffix in ("labels", "count") else TensorProto.FLOAT
            name = f"{self.name}/{suffix}"
            self.graph.output.append(helper.make_tensor_value_info(name, kind, shape))

    def _inner(self, suffix: str) -> str:
        return self._name(f"candidates/{suffix}")

    def _name(self, text: str) -> str:
        return f"{self.name}/nms/{text}"

    def _constant(self, text: str, values: Any) -> str:
        from onnx import numpy_helper  # noqa: PLC0415

        name = self._name(f"constant/{text}")
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _node(
        self,
        operator: str,
        *inputs: str,
        to: str = "",
        output: str = "",
        type: int = 0,
        **more: Any,
    ) -> str:
        """Append a node; `type` is the element type a Cast gives."""
        from onnx import helper  # noqa: PLC0415

        name = output or self._name(to)
        if type:
            more["to"] = type
        made = helper.make_node(operator, list(inputs), [name], f"{name}/{operator}", **more)
        self.graph.node.append(made)
        return name


def prove_nms(plain: Path, suppressed: Path, batches: Iterable[Floats]) -> tuple[int, int]:
    """Compare NMS in the graph with the runtime's own on the same candidates.

    Args:
        plain: the file without NMS.
        suppressed: `add_nms` of it.
        batches: network inputs, as many pictures each as the files take.

    Returns:
        How many results the runtime found, and how many of all results only one side has.

    Raises:
        NmsError: more differ than rounding explains.
    """
    before, after = open_engine(plain), open_engine(suppressed)
    nms = after.spec.nms
    assert nms is not None
    options = DecodeOptions(nms.conf, nms.iou, nms.max_det)
    total = different = 0
    for images in batches:
        candidates, kept = before.run(images), after.run(images)
        for head in after.spec.heads:
            for row in range(len(images)):
                ours = _decode(before.spec, head, candidates, row, options)
                theirs = _decode(after.spec, head, kept, row, options)
                total += len(ours)
                different += _unmatched(ours, theirs) + _unmatched(theirs, ours)
    if different > max(1, BORDERLINE * total):
        raise NmsError(
            f"NMS in the graph disagrees with the runtime's: {different} of {total} results"
        )
    return total, different


def _decode(
    spec: ModelSpec, head: HeadSpec, outputs: Any, row: int, options: DecodeOptions
) -> Detections:
    arrays, options = arrays_of(spec, head, outputs, row, options)
    return kind_of(head.kind).decode(arrays, head, options)


def _unmatched(some: Detections, others: Detections) -> int:
    """Return how many of `some` have no result of the same class and box among `others`."""
    if not len(some) or not len(others):
        return len(some)
    near = np.abs(some.xyxy[:, None] - others.xyxy[None]).max(2) <= SAME_BOX
    same = some.class_id[:, None] == others.class_id[None]
    return int((~(near & same).any(1)).sum())
