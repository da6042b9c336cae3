"""Put a run's weights into weights/: half precision, ONNX beside them, checksums.

    python tools/ship_weights.py runs/aerial-n/weights/best.safetensors --name aerial-n --imgsz 640

The model card, weights/NAME.md, is written by hand: data, terms, command, figures, limits.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from tools.bench.shared import start
from vision_heads.data.card import load_split
from vision_heads.errors import UserError
from vision_heads.export.onnx import export_onnx
from vision_heads.media.images import read_image
from vision_heads.network import Network, load_network, save_network
from vision_heads.spec import InputSpec, first_problem

ROOT = Path(__file__).resolve().parent.parent


def resized(network: Network, side: int) -> Network:
    """Return the same weights for another input size; convolutions do not mind."""
    try:
        size = InputSpec(height=side, width=side)
    except ValidationError as error:
        raise UserError(f"--imgsz {side}: {first_problem(error)}") from error
    other = Network(network.spec.model_copy(update={"input": size}))
    other.load_state_dict(network.state_dict())
    return other


def write_checksums(folder: Path) -> None:
    """List the SHA-256 of every weight file, as `sha256sum --check` reads it."""
    files = sorted(f for f in folder.iterdir() if f.suffix in (".safetensors", ".onnx"))
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


def main() -> None:
    """Parse and ship."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--imgsz", type=int, default=640)
    args = parser.parse_args()
    start(partial(ship, args))


def ship(args: argparse.Namespace) -> None:
    """Write the files and say how large they are; nothing is replaced before all is proved."""
    folder = ROOT / "weights"
    pictures = [read_image(sample.image) for sample in load_split("demo", "val").samples[:4]]
    with tempfile.TemporaryDirectory(prefix=".ship-", dir=folder) as temporary:
        file = Path(temporary) / f"{args.name}.safetensors"
        save_network(file, resized(load_network(args.weights), args.imgsz), half=True)
        # From the file, not from memory: both carry the same rounded weights.
        made = export_onnx(load_network(file), file.with_suffix(".onnx"), pictures=pictures)
        for each in (file, made.path):
            each.replace(folder / each.name)
    write_checksums(folder)
    size = (folder / file.name).stat().st_size
    print(f"{file.name}: {size} bytes; {made.path.name}: {made.size} bytes; {made.parity}")


if __name__ == "__main__":
    main()
