"""Runs `.safetensors` through torch; the runtime imports this module by name, only when asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vision_heads.network import Network, fuse, load_network
from vision_heads.spec import ModelSpec


class TorchEngine:
    """An engine of fused FP32 weights on CPU or GPU.

    Args:
        source: a weight file, or a network (which is fused in place).
        threads: CPU threads; torch's own choice when None.
        device: "cpu", "cuda", "cuda:1", ...
    """

    batch: int | None = None
    any_size = True

    def __init__(
        self, source: str | Path | Network, *, threads: int | None = None, device: str = "cpu"
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        network = source if isinstance(source, Network) else load_network(source)
        self.spec: ModelSpec = network.spec
        self.device = torch.device(device)
        fuse(network)
        self.network = network.to(self.device).requires_grad_(False)

    def run(
        self, images: NDArray[np.float32], heads: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Run pictures through the network.

        Args:
            images: (B, 3, H, W) RGB / 255; H and W multiples of 32.
            heads: names to run, all when None.

        Returns:
            `<head>/<suffix>` arrays, e.g. "aerial/boxes" (B, K, 4) in network pixels.
        """
        with torch.inference_mode():
            found = self.network.export(torch.from_numpy(images).to(self.device), heads)
        return {name: value.cpu().numpy() for name, value in found.items()}
