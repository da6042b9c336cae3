"""Average weight files of one network.

    python -m tools.recipes.average_weights runs/b.safetensors=0.7 runs/a.safetensors=0.3 \\
        --out runs/ab.safetensors

Where one file's training went on from another's, their weighted mean often keeps what the second
run has forgotten (arXiv 2109.01903). Classes, options and provenance are the first file's;
`average` in the provenance says what was averaged.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor

from tools.bench.shared import start
from vision_heads.network import load_network, save_network


def main() -> None:
    """Parse, average, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE=SHARE")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    shares = {}
    for text in args.files:
        file, _, share = text.rpartition("=")
        try:
            shares[Path(file)] = float(share)
        except ValueError:
            raise SystemExit(
                f"{text}: FILE=SHARE is needed, such as runs/b.safetensors=0.7"
            ) from None
    average(shares, args.out)
    print(f"{args.out}: {' + '.join(f'{share:g} {file}' for file, share in shares.items())}")


def average(shares: dict[Path, float], out: Path) -> None:
    """Write the weighted mean of files.

    Args:
        shares: of each file, in any scale.
        out: file to write.

    Raises:
        SystemExit: shares are no weights of a mean, or the files are of different networks.
    """
    whole = sum(shares.values())
    if min(shares.values()) < 0 or not 0 < whole < float("inf"):
        raise SystemExit("shares: must not be negative, and one must be above 0")
    network, *others = [load_network(file).float() for file in shares]
    first, *rest = shares
    mean = {name: value * 1.0 for name, value in _moving(network.state_dict()).items()}
    for value in mean.values():
        value.mul_(shares[first] / whole)
    for file, other in zip(rest, others, strict=True):
        state = _moving(other.state_dict())
        if {name: v.shape for name, v in state.items()} != {n: v.shape for n, v in mean.items()}:
            raise SystemExit(f"{file}: is of another network than {first}")
        for name, value in state.items():
            mean[name].add_(value, alpha=shares[file] / whole)
    network.load_state_dict(mean, strict=False)
    made = ", ".join(f"{share / whole:g} {file}" for file, share in shares.items())
    provenance = network.spec.provenance | {"average": made}
    network.spec = network.spec.model_copy(update={"provenance": provenance})
    out.parent.mkdir(parents=True, exist_ok=True)
    save_network(out, network)


def _moving(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out counters, which are whole numbers."""
    return {name: value for name, value in state.items() if value.is_floating_point()}


if __name__ == "__main__":
    start(main)
