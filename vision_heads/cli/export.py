"""`vh export`: weights to files that run without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_heads.cli.messages import say
from vision_heads.cli.options import by_option
from vision_heads.cli.places import stdout_is_for
from vision_heads.errors import explain_no_room

if TYPE_CHECKING:
    from vision_heads.cli.export_run import Order, Outcome
    from vision_heads.network import Network

EXAMPLES = """
Write weights as files that run without torch, and prove what they are worth.

The FP32 ONNX comes first: it carries the model's description, chooses the best candidates before
their boxes are decoded, and appears only after network and file have agreed on the same pictures:
boxes within 0.05 pixels, scores within 0.001. Every other format is made from it.

Then the gate: torch model and every file run the same labelled pictures, and one table shows AP50
and AP and what they lose, size, median time against the FP32 ONNX in the same run, and the
precision that layers are really computed in. A file that loses more than --max-drop, is slower
than FP32, or does not use the precision it was asked for, is not written: exit code 1, with the
reason. docs/export.md has the rules.

[bold]Examples[/bold]

  vh export runs/aerial/weights/best.safetensors

  vh export best.safetensors --output best-960.onnx --imgsz 960 --candidates 3000

  vh export best.safetensors --format onnx,onnx-fp16,onnx-int8 --data visdrone --output files/

  vh export best.safetensors --format onnx-fp16 --latency-gate off

  vh export best.safetensors --format engine --batch 4 --dynamic-batch --workspace 2048

  vh export best.onnx --format engine --precision fp16 --timing-cache timings.cache

  vh export best.safetensors --nms --conf 0.3 --max-det 100

  vh export joint.safetensors --heads animals,vehicles --output two.onnx
"""


@stdout_is_for("json_file")
def export(
    model: Annotated[
        str,
        typer.Argument(
            help="Weights (.safetensors), or a shipped name; for an engine alone, also .onnx."
        ),
    ],
    *,
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            help="onnx, onnx-fp16, onnx-int8, engine, openvino, triton: one, several with commas, "
            "or the option again.",
            show_default="onnx",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file; of several formats, the folder. Beside MODEL, named after it, if none.",
        ),
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(help="Heads the file gets, comma-separated.", show_default="all"),
    ] = None,
    imgsz: Annotated[
        str | None,
        typer.Option(help="Network size: 640, or HEIGHTxWIDTH. The model's own if none."),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(help="Best candidates each head gives. The model's own number if none."),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(
            min=1,
            help="Pictures a call. With --dynamic-batch, what engines are tuned for, and the most "
            "a Triton server puts together.",
        ),
    ] = 1,
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="Take any number of pictures a call.")
    ] = False,
    opset: Annotated[int, typer.Option(help="ONNX operator set, 14 to 20.")] = 17,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Of engine (fp16, fp32, int8) and openvino (fp32, fp16, bf16, int8).",
            show_default="the first named",
        ),
    ] = None,
    nms: Annotated[
        bool,
        typer.Option(
            "--nms",
            help="Do NMS in the graph: ONNX NonMaxSuppression; in engines TensorRT's plugin.",
        ),
    ] = False,
    conf: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="With --nms: lowest score that counts.", show_default="0.25"
        ),
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="With --nms: boxes of a class that overlap more are dropped.",
            show_default="0.6",
        ),
    ] = None,
    max_det: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --nms: most results a picture and head.", show_default="300"
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="Picture or folder to prove files on, and to compare them with torch; the demo "
            "set if none."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Data-set card to prove and judge files on; or HEAD=CARD, once for each head.",
            show_default="the demo set",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of --data.", show_default="val")] = None,
    count: Annotated[int, typer.Option(min=1, help="Pictures to prove the FP32 file on.")] = 4,
    gate: Annotated[
        bool, typer.Option("--gate/--no-gate", help="Judge files before they are written.")
    ] = True,
    gate_count: Annotated[
        int, typer.Option(min=1, help="Most pictures files are judged on, spread over the split.")
    ] = 100,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Points of AP50 a file may lose against torch.",
            show_default="0.5, INT8 1.5",
        ),
    ] = None,
    max_mae_rise: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Degrees of error of head poses a file may add.",
            show_default="0.5, INT8 1.5",
        ),
    ] = None,
    latency_gate: Annotated[
        str,
        typer.Option(
            help="here: refuse what is slower than FP32 on this machine, or not computed in its "
            "precision; auto: only where this machine has that precision; off: for another "
            "machine, timed but not judged."
        ),
    ] = "here",
    rounds: Annotated[int, typer.Option(min=5, help="Rounds of timing.")] = 30,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of every engine.", show_default="all")
    ] = None,
    calib_data: Annotated[
        str | None,
        typer.Option(
            help="INT8: data-set card of the calibration pictures; of an engine made from an ONNX "
            "file, a folder of pictures will do.",
            show_default="--data",
        ),
    ] = None,
    calib_split: Annotated[
        str | None,
        typer.Option(help="INT8: its split.", show_default="train, where there is one"),
    ] = None,
    calib_count: Annotated[int, typer.Option(min=1, help="INT8: calibration pictures.")] = 128,
    calib_method: Annotated[
        str, typer.Option(help="INT8: ranges by minmax, entropy or percentile.")
    ] = "minmax",
    seed: Annotated[int, typer.Option(min=0, help="INT8: chooses the calibration pictures.")] = 0,
    exclude: Annotated[
        str | None,
        typer.Option(help="INT8: layers to leave in float, comma-separated."),
    ] = None,
    sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity", help="INT8: report what each layer loses, also if none is left out."
        ),
    ] = False,
    workspace: Annotated[
        int | None,
        typer.Option(min=1, help="Engine: most MiB the builder may use.", show_default="all"),
    ] = None,
    dla: Annotated[
        int | None,
        typer.Option(min=0, help="Engine: DLA core; layers it cannot run go to the GPU."),
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="Engine: file that keeps the builder's timings between builds."),
    ] = None,
    calib_cache: Annotated[
        Path | None,
        typer.Option(help="Engine: file that keeps what TensorRT 10's calibrator found."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything found to this file.")
    ] = None,
) -> None:
    """See EXAMPLES."""
    given = by_option(locals(), json_file="--json")
    from vision_heads.cli import export_engine  # noqa: PLC0415
    from vision_heads.cli import export_options as options  # noqa: PLC0415
    from vision_heads.cli import export_run as run  # noqa: PLC0415
    from vision_heads.cli.eval_heads import by_head  # noqa: PLC0415
    from vision_heads.cli.models import comma_separated, pixels  # noqa: PLC0415
    from vision_heads.export.formats import parse_formats  # noqa: PLC0415
    from vision_heads.runtime.engines import safetensors_of  # noqa: PLC0415

    formats = parse_formats(format or ["onnx"])
    options.check_values(calib_method, threads, pictures, data, json_file)
    options.refuse_idle(given, formats, nms=nms, gate=gate, data=data, precision=precision)
    settings = options.engine_settings(workspace, dla, timing_cache, calib_cache)
    if formats == ("engine",) and Path(model).suffix == ".onnx":
        options.refuse_of_weights(given, model)
        export_engine.build(
            Path(model),
            output,
            precision=precision,
            batch=batch,
            dynamic_batch=dynamic_batch,
            calibration=(calib_data, calib_split, calib_count),
            method=calib_method,
            settings=settings,
        )
        return
    weights = safetensors_of(model)
    chosen = comma_separated(heads)
    # Shipped weights are not ours to write beside.
    folder = weights.parent if Path(model).suffix else Path()
    stem = "-".join([weights.stem, *(chosen or ())])
    network = _load(weights, formats)
    order = run.Order(
        network=network,
        places=run.places_of(formats, output, folder, stem),
        stem=stem,
        shape=run.Shape(chosen, pixels(imgsz), candidates, batch, dynamic_batch, opset),
        nms=options.make_nms(conf, iou, max_det) if nms else None,
        precision=precision,
        pictures=run.Pictures(
            pictures, by_head("--data", data or ()), split or "val", proof=count, gate=gate_count
        ),
        calibration=run.Calibration(
            calib_data,
            calib_split,
            calib_count,
            calib_method,
            seed,
            comma_separated(exclude) or [],
            sensitivity,
        ),
        engine={**settings, "rebuild": export_engine.command()},
        limits=options.make_limits(max_drop, max_mae_rise, latency_gate, rounds) if gate else None,
        threads=threads,
    )
    _tell(_carry_out(order, weights), weights, json_file)


def _load(weights: Path, formats: Sequence[str]) -> Network:
    """Load the weights; without torch, say which way goes without it."""
    from vision_heads.cli.models import torch_module  # noqa: PLC0415

    graph = weights.with_suffix(".onnx")
    light = formats == ("engine",) and graph.is_file()
    otherwise = f"; or without it, vh export {graph} --format engine" if light else ""
    network: Network = torch_module("vision_heads.network", otherwise).load_network(weights)
    return network


def _carry_out(order: Order, weights: Path) -> Outcome:
    from vision_heads.cli.export_run import carry_out  # noqa: PLC0415
    from vision_heads.export.nms import NmsError  # noqa: PLC0415
    from vision_heads.export.parity import ParityError  # noqa: PLC0415

    folder = next(iter(order.places.values())).parent
    try:
        with explain_no_room(folder):
            return carry_out(order)
    except (ParityError, NmsError) as error:
        say(f"{weights}: {error}; nothing was written")
        raise typer.Exit(1) from error


def _tell(outcome: Outcome, weights: Path, json_file: Path | None) -> None:
    """Report an export; what was refused or could not be made ends the command."""
    from vision_heads.cli.export_report import report, write_json  # noqa: PLC0415

    report(outcome)
    if json_file is not None:
        write_json(json_file, outcome, str(weights))
    if outcome.mistake is not None:
        raise outcome.mistake
    if not outcome.passed:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command to `vh`."""
    app.command("export", help=EXAMPLES)(export)
