"""Build a TensorRT engine of an exported ONNX file on the device that will run it, without torch.

    python build_engine.py aerial-n.onnx
    python build_engine.py aerial-n.onnx --precision int8 --pictures calibration/ --dla 0

writes aerial-n.engine and aerial-n.engine.json beside the file. Takes minutes; with --timing-cache
the next build of a similar model takes less.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vision_heads.errors import UserError
from vision_heads.export.tensorrt import EngineOptions, build_engine
from vision_heads.media.sources import find_pictures


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("onnx", type=Path)
    parser.add_argument("--output", type=Path, help="the engine; beside the ONNX file if none")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp16")
    parser.add_argument(
        "--batch", type=int, nargs=3, metavar=("LEAST", "BEST", "MOST"),
        help="pictures a call, of a file exported with --dynamic-batch",
    )  # fmt: skip
    parser.add_argument("--pictures", type=Path, help="int8: folder of calibration pictures")
    parser.add_argument("--dla", type=int, help="core of the deep learning accelerator to use")
    parser.add_argument("--workspace", type=int, metavar="MIB", help="most GPU memory to use")
    parser.add_argument("--timing-cache", type=Path)
    given = parser.parse_args()
    options = EngineOptions(
        precision=given.precision,
        batch=tuple(given.batch) if given.batch else None,
        workspace_mib=given.workspace,
        timing_cache=given.timing_cache,
        dla=given.dla,
        pictures=calibration(given.pictures),
        rebuild=f"python {' '.join(sys.argv)}",
    )
    target = given.output or given.onnx.with_suffix(".engine")
    print(build_engine(given.onnx, target, options, lambda line: print(line, file=sys.stderr)))


def calibration(folder: Path | None) -> tuple[Path, ...]:
    """Return the pictures of a folder and below it; none without a folder."""
    return (
        () if folder is None else tuple(Path(file.path) for file in find_pictures([folder]).files)
    )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"build_engine: {error}") from error
