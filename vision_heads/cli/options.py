"""Options that several commands share; nothing but typer is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

Weights = Annotated[
    str, typer.Option(help="A .onnx, .engine, .xml or .safetensors file, or a shipped name.")
]
Conf = Annotated[float, typer.Option(min=0.0, max=1.0, help="Lowest score that counts.")]
Iou = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="NMS drops boxes of a class that overlap by more.")
]
Classes = Annotated[
    str | None,
    typer.Option(help="Names or numbers to keep, comma-separated.", show_default="all"),
]
Heads = Annotated[
    str | None, typer.Option(help="Heads to run, comma-separated.", show_default="all")
]
RunSide = Annotated[
    int | None,
    typer.Option(help="Network size, where the model file allows any.", show_default="model's"),
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads to use.", show_default="all cores")
]
Provider = Annotated[
    str | None,
    typer.Option(
        help="Where ONNX Runtime computes a .onnx file: tensorrt, cuda, migraphx, openvino, "
        "coreml, directml or cpu; an error if it cannot.",
        show_default="the first that works",
    ),
]

# Of commands that train. None: not given, so that a settings file decides.
TrainBatch = Annotated[int | None, typer.Option(help="Pictures a step, over all processes.")]
Amp = Annotated[str | None, typer.Option(help="Arithmetic: auto, off, bf16 or fp16.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes that load pictures; 0 loads in the training process."),
]
Fix = Annotated[
    str | None,
    typer.Option(help="Mend broken labels: clip, drop, or clip,drop. Without it they refuse."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue the run in --out exactly where it was.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Start anew in a folder that holds a run.")
]


def by_option(arguments: Mapping[str, Any], **named: str) -> dict[str, Any]:
    """Return a command's values by the option that gives them, in their order.

    Args:
        arguments: the command's `locals()`, before it has any but its arguments. A list of options
            written out would miss the next one that is added.
        named: what arguments are called that have another name than their option, or none.
    """
    return {
        named.get(name, f"--{name.replace('_', '-')}"): value for name, value in arguments.items()
    }
