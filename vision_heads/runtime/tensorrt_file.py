"""The file of a TensorRT engine: what it is, then TensorRT's own serialized engine (the plan).

    8 bytes   b"VHENGINE"
    8 bytes   length of the JSON, little endian
    n bytes   JSON in UTF-8: `EngineFacts`
    p bytes   the plan, as TensorRT wrote it; its length and SHA-256 are in the JSON

So one file is enough to run, and it can be told what is wrong with it before TensorRT, which only
says that it cannot, sees it. The same JSON lies beside it as `NAME.engine.json`, for people and
other programs. Nothing here imports TensorRT.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from vision_heads.errors import UserError, require
from vision_heads.spec import ModelSpec, first_problem

MAGIC = b"VHENGINE"
_LENGTH = struct.Struct("<Q")
_LONGEST_JSON = 64 << 20
"""No description is longer; a larger number means that these bytes are no length."""

Precision = Literal["fp32", "fp16", "int8"]


class LayerPrecision(BaseModel):
    """One layer of a built engine, as TensorRT's inspector describes it.

    Attributes:
        name: TensorRT's, made of the ONNX nodes that were fused into it.
        kind: what sort of kernel, e.g. "CaskConvolution".
        operator: of the ONNX node whose weights it holds, or of its first node; "" if it has none.
        precision: what it computes in, the type of its weights or else of its first input:
            float32, float16, int8, ...; "" if unknown.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    operator: str
    precision: str


class EngineFacts(BaseModel):
    """What an engine is, and the machine it is for.

    Attributes:
        format: of this description.
        spec: of the model.
        source, source_sha256: the ONNX file it was built from.
        precision: that was asked for.
        strongly_typed: whether the graph's own types decided (always, from TensorRT 11 on).
        batch: least, best and most pictures a call.
        dla: core of the deep learning accelerator, None for the GPU alone.
        tensorrt: exact version that built it, the only one that runs it.
        gpu, capability: name and compute capability of the GPU, e.g. "Orin", "8.7".
        driver: newest CUDA version that the driver of the building machine knows, e.g. "12.6".
        cuda: version of the CUDA runtime it was built with.
        layers: of the engine, with the precision each runs in.
        on_gpu: layers that were to run on the DLA and cannot.
        rebuild: the command that builds it again.
        plan_bytes, plan_sha256: of the plan.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    spec: ModelSpec
    source: str
    source_sha256: str
    precision: Precision
    strongly_typed: bool
    batch: tuple[int, int, int]
    dla: int | None = None
    tensorrt: str
    gpu: str
    capability: str
    driver: str
    cuda: str
    layers: tuple[LayerPrecision, ...] = ()
    on_gpu: tuple[str, ...] = ()
    rebuild: str
    plan_bytes: int = 0
    plan_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """What an engine must fit: TensorRT's version, the GPU's name and compute capability."""

    tensorrt: str
    gpu: str
    capability: str
    driver: str = ""
    cuda: str = ""


def write_engine(path: str | Path, facts: EngineFacts, plan: bytes | memoryview) -> EngineFacts:
    """Write an engine and, beside it, its description; both appear only when complete.

    Returns:
        The facts with the plan's length and hash.
    """
    path = Path(path)
    digest = hashlib.sha256(plan).hexdigest()
    facts = facts.model_copy(update={"plan_bytes": len(plan), "plan_sha256": digest})
    text = facts.model_dump_json().encode()
    with tempfile.TemporaryDirectory(prefix=".engine-", dir=path.parent) as folder:
        whole, beside = Path(folder) / "engine", Path(folder) / "json"
        with whole.open("wb") as out:
            out.writelines((MAGIC, _LENGTH.pack(len(text)), text, plan))
        beside.write_text(json.dumps(json.loads(text), indent=1) + "\n", encoding="utf-8")
        beside.replace(json_path(path))
        whole.replace(path)
    return facts


def json_path(path: str | Path) -> Path:
    """Return where an engine's description lies: `x.engine` -> `x.engine.json`."""
    return Path(f"{path}.json")


def read_facts(path: str | Path) -> EngineFacts:
    """Read an engine's description, not its plan.

    Raises:
        UserError: no such file, not one of ours, or cut off.
    """
    path = Path(path)
    require(path.is_file(), f"{path}: no such file")
    with path.open("rb") as file:
        head = file.read(len(MAGIC) + _LENGTH.size)
        require(head, f"{path}: is empty")
        if head[: len(MAGIC)] != MAGIC:
            raise UserError(
                f"{path}: no engine of vision_heads (it lacks the description in front); build "
                f"one with vh export MODEL --format engine"
            )
        require(len(head) == len(MAGIC) + _LENGTH.size, f"{path}: is cut off")
        (length,) = _LENGTH.unpack(head[len(MAGIC) :])
        require(length <= _LONGEST_JSON, f"{path}: is damaged (a description of {length} bytes)")
        text = file.read(length)
    require(len(text) == length, f"{path}: is cut off")
    facts = _parse(text, path)
    whole = len(MAGIC) + _LENGTH.size + length + facts.plan_bytes
    size = path.stat().st_size
    require(size >= whole, f"{path}: is cut off ({size} of {whole} bytes); copy or build it again")
    return facts


def read_engine(path: str | Path) -> tuple[EngineFacts, bytes]:
    """Read an engine's description and its plan, and check that the plan is whole.

    Raises:
        UserError: as `read_facts`, or the plan's hash is another.
    """
    facts = read_facts(path)
    with Path(path).open("rb") as file:
        file.seek(len(MAGIC))
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        file.seek(length, os.SEEK_CUR)
        plan = file.read(facts.plan_bytes)
    good = hashlib.sha256(plan).hexdigest() == facts.plan_sha256
    require(good, f"{path}: is damaged (its SHA-256 is another); copy or build it again")
    return facts, plan


def precisions(layers: Iterable[LayerPrecision]) -> dict[str, dict[str, int]]:
    """Count layers by operator (by kernel, where there is none) and by precision, most first."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for layer in layers:
        counts[layer.operator or layer.kind or "unknown"][layer.precision or "unknown"] += 1
    ordered = sorted(counts.items(), key=lambda item: -sum(item[1].values()))
    return {name: dict(row.most_common()) for name, row in ordered}


def check_machine(facts: EngineFacts, here: Machine, path: str | Path) -> None:
    """Refuse an engine that was built for another GPU or another TensorRT.

    Such an engine either does not load or, on a similar GPU, runs kernels that were chosen for
    another one.

    Raises:
        UserError: says what differs and how to build the engine here.
    """
    there = (facts.gpu, facts.capability, facts.tensorrt)
    if there == (here.gpu, here.capability, here.tensorrt):
        return
    raise UserError(
        f"{path}: built for {facts.gpu} (compute capability {facts.capability}) with TensorRT "
        f"{facts.tensorrt}; this machine has {here.gpu} ({here.capability}) with TensorRT "
        f"{here.tensorrt}. Build it here: {facts.rebuild}"
    )


def _parse(text: bytes, path: Path) -> EngineFacts:
    try:
        return EngineFacts.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{path}: its description: {first_problem(error)}") from error
