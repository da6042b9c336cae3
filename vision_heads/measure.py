"""Counts of a network: layers, parameters and multiply-adds of each part."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from vision_heads.spec import ModelSpec

METADATA_KEY = "vision_heads_measures"
"""Where exported files carry their measures, so that reading them needs no torch."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a network.

    Attributes:
        name: "backbone", "neck" or a head's name.
        layers: convolutions.
        parameters: trained numbers; batch norms count, as everywhere in this field.
        flops: 2 x multiply-adds of one picture; activations and resizing are not counted.
    """

    name: str
    layers: int
    parameters: int
    flops: int


@dataclass(frozen=True, slots=True)
class Measures:
    """A network's parts, and the input size their flops are for.

    Attributes:
        height, width: of the input, pixels.
        parts: backbone, neck and every head.
    """

    height: int
    width: int
    parts: tuple[Part, ...]

    @property
    def total(self) -> Part:
        """Sum of all parts."""
        return Part(
            "total",
            sum(part.layers for part in self.parts),
            sum(part.parameters for part in self.parts),
            sum(part.flops for part in self.parts),
        )

    def to_json(self) -> str:
        """Serialise for a file's metadata."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Measures:
        """Parse what `to_json` wrote; `ValueError` when it is something else."""
        try:
            content: dict[str, Any] = json.loads(text)
            parts = tuple(Part(**part) for part in content["parts"])
            return cls(int(content["height"]), int(content["width"]), parts)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no measures: {error}") from error


def measure(spec: ModelSpec, height: int | None = None, width: int | None = None) -> Measures:
    """Count a network without building its weights.

    Args:
        spec: the model.
        height, width: input size the flops are for, pixels; the spec's own when None.

    Raises:
        ImportError: torch is not installed.
    """
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    from vision_heads.network import Network  # noqa: PLC0415

    height, width = height or spec.input.height, width or spec.input.width
    with torch.device("meta"):  # shapes only: no memory, no arithmetic
        network = Network(spec).eval()
        images = torch.empty(1, 3, height, width)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(images)
    counts = counter.get_flop_counts()
    modules = {"backbone": network.backbone, "neck": network.neck}
    modules |= {f"heads.{name}": head for name, head in network.heads.items()}
    parts = [
        Part(
            path.removeprefix("heads."),
            sum(isinstance(layer, nn.Conv2d) for layer in module.modules()),
            sum(parameter.numel() for parameter in module.parameters()),
            int(sum(counts.get(f"Network.{path}", {}).values())),
        )
        for path, module in modules.items()
    ]
    return Measures(height, width, tuple(parts))
