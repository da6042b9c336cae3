"""The gate every exported file goes through before it is handed over.

Torch model and file run the same pictures; the file is timed against the FP32 ONNX of the same
model in the same run; and what the file says of its precision is compared with what the runtime
really computes in. A file that loses too much accuracy, is slower than FP32, or does not use the
precision it was asked for, is refused with the reason.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.sample import DataSplit
from vision_heads.export.gate_latency import Latency, compare, median_ms
from vision_heads.export.gate_precision import Precision, executed_by, file_precision, share_in
from vision_heads.export.gate_truth import Exam, Figures, plan_exams, score
from vision_heads.geometry.letterbox import letterbox
from vision_heads.heads.base import DecodeOptions
from vision_heads.media.images import read_image
from vision_heads.runtime.engines import Engine, open_engine
from vision_heads.spec import ModelSpec

if TYPE_CHECKING:
    from vision_heads.network import Network

LatencyGate = Literal["here", "off", "auto"]
LATENCY_GATES: tuple[LatencyGate, ...] = ("here", "off", "auto")

MAX_DROP = {"float32": 0.5, "float16": 0.5, "bfloat16": 0.5, "int8": 1.5}
"""Points of AP50 that a precision may lose."""
MAX_MAE_RISE = {"float32": 0.5, "float16": 0.5, "bfloat16": 0.5, "int8": 1.5}
"""Degrees of mean absolute error of head poses that a precision may add."""
MOST = 0.5
"""Share of the layers with weights that must be of the precision asked for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file must keep to.

    Attributes:
        max_drop: points of AP50 below the torch model; by precision (`MAX_DROP`) when None.
        max_mae_rise: degrees above it, of head poses; `MAX_MAE_RISE` when None.
        latency: "here": no slower than FP32 on this machine, and computed in the precision asked
            for; "auto": the same, but only where this machine's runtime has that precision;
            "off": timed, not judged.
        rounds: of timing.
    """

    max_drop: float | None = None
    max_mae_rise: float | None = None
    latency: LatencyGate = "here"
    rounds: int = 30

    def drop(self, precision: str) -> float:
        """Return the largest loss of AP50 for a precision, points."""
        return MAX_DROP[precision] if self.max_drop is None else self.max_drop

    def mae_rise(self, precision: str) -> float:
        """Return the largest rise of the mean absolute error for a precision, degrees."""
        return MAX_MAE_RISE[precision] if self.max_mae_rise is None else self.max_mae_rise


@dataclass(frozen=True, slots=True)
class HeadChange:
    """How a head of a file compares with the torch model's."""

    head: str
    basis: str
    torch: Figures
    file: Figures

    @property
    def change(self) -> Figures:
        """File minus torch: a loss of AP50 and AP is negative, a rise of MAE positive."""
        return self.file.minus(self.torch)


@dataclass(slots=True)
class Verdict:
    """What the gate found of one file.

    Attributes:
        format: as `--format` names it.
        path: the file.
        precision: that was asked for.
        size: bytes, of all files that belong to it.
        heads: accuracy of each.
        latency: None for the FP32 ONNX, which the others are timed against.
        own_ms: median time of a picture of the FP32 ONNX itself, 0 of other files.
        stored: nodes by operator and precision as the file says; empty where it says nothing.
        executed: what the runtime computed in on this machine.
        provider: who that is.
        problems: why it is refused; empty when it passes.
        notes: what was not judged, and why.
    """

    format: str
    path: Path
    precision: str
    size: int
    heads: list[HeadChange] = field(default_factory=list)
    latency: Latency | None = None
    own_ms: float = 0.0
    stored: Precision = field(default_factory=dict)
    executed: Precision = field(default_factory=dict)
    provider: str = ""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the file."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return a record for JSON; what could not be measured is None."""
        record = asdict(self)
        record["path"] = str(self.path)
        record["passed"] = self.passed
        record["heads"] = {
            one.head: {
                "basis": one.basis,
                **{
                    name: _plain(asdict(figures))
                    for name, figures in (
                        ("torch", one.torch), ("file", one.file), ("change", one.change),
                    )
                },
            }
            for one in self.heads
        }  # fmt: skip
        return record


class Gate:
    """Judges files of one model. The torch model runs once, whatever the number of files.

    Args:
        network: the weights the files were made from; left as it is.
        spec: of the files: input size, heads, candidates, NMS.
        truths: pictures and labels by head, as `gate_truth.load_truths` gives them.
        fp32: the FP32 ONNX that files are timed against.
        limits: what a file must keep to.
        threads: of every engine, None for all cores.
        log: told what is being done, a line each.
    """

    def __init__(
        self,
        network: Network,
        spec: ModelSpec,
        truths: Mapping[str, DataSplit],
        fp32: Path,
        *,
        limits: Limits | None = None,
        threads: int | None = None,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.spec = spec
        self.fp32 = fp32
        self.limits = limits or Limits()
        self._truths = truths
        self._threads = threads
        self._log = log
        self._network = network
        self._exams: list[Exam] | None = None

    @property
    def exams(self) -> list[Exam]:
        """What each head is judged on, with the torch model's figures."""
        if self._exams is None:
            self._log(f"gate: torch model on {self.pictures} pictures")
            torch = _torch_predictor(self._network, self.spec, self._threads)
            self._exams = plan_exams(
                torch, self.spec.heads, self._truths, decode_options(self.spec)
            )
        return self._exams

    @property
    def pictures(self) -> int:
        """How many different pictures the heads are judged on."""
        return len({sample.image for one in self._truths.values() for sample in one.samples})

    def accuracy(self, path: Path) -> list[HeadChange]:
        """Run a file on the pictures of every head and compare it with the torch model."""
        return self._accuracy(open_engine(path, threads=self._threads))

    def accepts(self, path: Path, precision: str, *, measured: bool = False) -> bool:
        """Whether a file keeps the accuracy that its precision owes; nothing is timed.

        Args:
            path: what `open_engine` opens.
            precision: asked for.
            measured: leave out heads of which nothing can be measured: whoever looks for a
                better file would look in vain.
        """
        heads = [o for o in self.accuracy(path) if not (measured and o.basis == "nothing")]
        return not self._accuracy_problems(heads, precision)

    def judge(self, format: str, path: Path, precision: str, *, size: int | None = None) -> Verdict:
        """Examine a file in every respect.

        Args:
            format: as `--format` names it.
            path: what `open_engine` opens.
            precision: asked for: "float32", "float16", "bfloat16" or "int8".
            size: bytes of all files that belong to it; those of `path` when None.
        """
        self._log(f"gate: {path.name} on {self.pictures} pictures")
        engine = open_engine(path, threads=self._threads)
        size = path.stat().st_size if size is None else size
        verdict = Verdict(format, path, precision, size)
        verdict.heads = self._accuracy(engine)
        verdict.problems += self._accuracy_problems(verdict.heads, precision)
        verdict.notes += _basis_notes(verdict.heads)
        if path.suffix == ".onnx":
            verdict.stored = file_precision(path)
        verdict.executed, verdict.provider = executed_by(engine, path)
        self._judge_precision(verdict)
        self._log(f"gate: {path.name} is timed")
        images = self._images(engine)
        if precision == "float32" and path.suffix == ".onnx":  # what others are timed against
            verdict.own_ms = median_ms(engine, images, rounds=self.limits.rounds)
        else:
            fp32 = open_engine(self.fp32, threads=self._threads)
            verdict.latency = compare(engine, fp32, images, rounds=self.limits.rounds)
            self._judge_latency(verdict)
        return verdict

    def _accuracy(self, engine: Engine) -> list[HeadChange]:
        from vision_heads.runtime.predictor import Predictor  # noqa: PLC0415

        jobs = [(exam.head, exam.truth) for exam in self.exams if exam.basis != "nothing"]
        found = score(Predictor(engine), jobs, decode_options(self.spec))
        nothing = Figures(*[math.nan] * 3)
        return [
            HeadChange(exam.head.name, exam.basis, exam.torch, found.get(exam.head.name, nothing))
            for exam in self.exams
        ]

    def _accuracy_problems(self, heads: Sequence[HeadChange], precision: str) -> list[str]:
        drop, rise = self.limits.drop(precision), self.limits.mae_rise(precision)
        problems = []
        for one in heads:
            change = one.change
            if one.basis == "nothing":
                # The FP32 file is proved cell by cell; any other has nothing to show for itself.
                if precision != "float32":
                    problems.append(
                        f"{one.head}: accuracy cannot be measured, the torch model finds nothing "
                        "on these pictures; give others with --data CARD"
                    )
                continue
            if not -change.ap50 <= drop:
                problems.append(
                    f"{one.head}: AP50 {one.file.ap50:.2f} is {-change.ap50:.2f} below the torch "
                    f"model's {one.torch.ap50:.2f}, more than --max-drop {drop:g}"
                )
            if not math.isnan(one.torch.mae) and not change.mae <= rise:
                problems.append(
                    f"{one.head}: MAE {one.file.mae:.2f} degrees is {change.mae:.2f} above the "
                    f"torch model's {one.torch.mae:.2f}, more than --max-mae-rise {rise:g}"
                )
        return problems

    def _judge_precision(self, verdict: Verdict) -> None:
        wanted = verdict.precision
        if verdict.stored:
            there, layers = share_in(verdict.stored, wanted)
            if there < MOST * layers:
                verdict.problems.append(
                    f"{wanted} was asked for, and only {there} of {layers} layers with weights "
                    "have it in the file"
                )
        done, layers = share_in(verdict.executed, wanted)
        stored = share_in(verdict.stored, wanted)[0] if verdict.stored else layers
        if done >= MOST * stored and done > 0:
            if done < stored:
                verdict.notes.append(
                    f"{verdict.provider} computes {done} of {stored} layers with weights in "
                    f"{wanted}"
                )
            return
        said = (
            f"{verdict.provider} computes {done} of {layers} layers with weights in {wanted} on "
            f"this machine (the others in {_others(verdict.executed, wanted)})"
        )
        if self.limits.latency == "here":
            verdict.problems.append(
                f"{said}; for a file meant for another machine: --latency-gate off"
            )
        else:
            verdict.notes.append(f"{said}: precision is judged by the file alone")

    def _judge_latency(self, verdict: Verdict) -> None:
        time = verdict.latency
        assert time is not None
        said = (
            f"{time.file_ms:.1f} ms a picture, {time.ratio:.2f} x the FP32 ONNX's "
            f"{time.fp32_ms:.1f} ms"
        )
        if not time.slower:
            return
        done, _ = share_in(verdict.executed, verdict.precision)
        if self.limits.latency == "here" or (self.limits.latency == "auto" and done):
            verdict.problems.append(f"slower than FP32: {said}")
        else:
            verdict.notes.append(f"slower than FP32 on this machine, not judged: {said}")

    def _images(self, engine: Engine) -> NDArray[np.float32]:
        """Return network input of one call, made of the first pictures."""
        files = [sample.image for exam in self.exams for sample in exam.truth.samples]
        size, batch = engine.spec.input, engine.batch or 1
        rows = []
        for index in range(batch):
            picture = read_image(files[index % len(files)])
            padded, _ = letterbox(picture, size.height, size.width, size.pad_value)
            rows.append(padded[:, :, ::-1].transpose(2, 0, 1) * np.float32(size.scale))
        return np.stack(rows)


def decode_options(spec: ModelSpec) -> DecodeOptions:
    """Return how results are decoded for the gate: as for scoring, or as NMS in the graph does."""
    from vision_heads.evaluation.runner import CONFIDENCE, IOU  # noqa: PLC0415

    if spec.nms is not None:
        return DecodeOptions(spec.nms.conf, spec.nms.iou, spec.nms.max_det)
    return DecodeOptions(CONFIDENCE, IOU, 1000, multi_label=True)


def _torch_predictor(network: Network, spec: ModelSpec, threads: int | None) -> Any:
    """Return the network as it is, on the files' input size and with their candidates."""
    from vision_heads.runtime.predictor import Predictor  # noqa: PLC0415
    from vision_heads.torch_engine import TorchEngine  # noqa: PLC0415

    whole = copy.deepcopy(network).cpu().float()
    whole.spec = network.spec.model_copy(
        update={"input": spec.input, "candidates": spec.candidates}
    )
    return Predictor(TorchEngine(whole, threads=threads))


def _basis_notes(heads: Sequence[HeadChange]) -> list[str]:
    notes = []
    for one in heads:
        if one.basis == "torch":
            notes.append(f"{one.head}: no labels to score on, judged by agreement with torch (100)")
        elif one.basis == "nothing":
            notes.append(f"{one.head}: no accuracy, the torch model finds nothing here")
    return notes


def _others(executed: Precision, wanted: str) -> str:
    kinds = {kind for row in executed.values() for kind in row} - {wanted}
    return " and ".join(sorted(kinds)) or "nothing"


def _plain(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in figures.items()}
