"""Trunk plus heads: the whole network, its files and its measures."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vision_heads._ultralytics import Conv
from vision_heads.errors import UserError, require
from vision_heads.heads.base import kind_of
from vision_heads.spec import METADATA_KEY, ModelSpec
from vision_heads.trunk.backbone import Backbone, scale_of
from vision_heads.trunk.hepan import Hepan

_ACTIVATIONS = {"silu": nn.SiLU, "hardswish": nn.Hardswish, "relu": nn.ReLU}


class Network(nn.Module):
    """One pass of the trunk, then every head on the pyramid.

    Args:
        spec: the model; the only thing that decides the architecture.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        scale = scale_of(spec.size)
        self.backbone = Backbone(scale)
        self.neck = Hepan(scale, spec)
        self.heads = nn.ModuleDict()
        for head in spec.heads:
            kind = kind_of(head.kind)
            kind.check(head)
            # torch keeps its own things under names such as "type" or "train".
            require(not hasattr(self.heads, head.name), f"heads: {head.name!r} is a reserved name")
            self.heads[head.name] = kind.build(head, scale.channels)
        _finish(self, _ACTIVATIONS[spec.activation])

    def forward(
        self, images: Tensor, routes: Mapping[str, Tensor] | None = None
    ) -> dict[str, dict[str, Tensor]]:
        """Run the trunk once and each head on its rows.

        Args:
            images: (B, 3, H, W) float, RGB / 255; H and W multiples of 32.
            routes: head name to the rows it sees, sorted; every head sees every row when None.

        Returns:
            Raw predictions by head. The gradient of whatever n heads share is the average of
            theirs (CerberusDet, arXiv 2407.12632).
        """
        names = None if routes is None else list(routes)
        features = self.features(images, names, routes)
        return {name: self.heads[name](maps) for name, maps in features.items()}

    def features(
        self,
        images: Tensor,
        heads: Sequence[str] | None = None,
        routes: Mapping[str, Tensor] | None = None,
    ) -> dict[str, dict[int, Tensor]]:
        """Return what each named head reads: fused maps by level, (rows, C, H, W)."""
        fused: dict[str, dict[int, Tensor]] = self.neck(self.backbone(images), heads, routes)
        return fused

    def export(self, images: Tensor, heads: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return the tensors exported files give, `<head>/<suffix>`, for the named heads."""
        out: dict[str, Tensor] = {}
        for name, maps in self.features(images, heads).items():
            head: Any = self.heads[name]
            for suffix, value in head.export(head(maps), self.spec.candidates).items():
                out[f"{name}/{suffix}"] = value
        return out


def _finish(network: nn.Module, activation: type[nn.Module]) -> None:
    """Set the activation, and batch norm to YOLO's usual constants, everywhere."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = 1e-3, 0.03
        if isinstance(module, Conv) and not isinstance(module.act, nn.Identity):
            # One module each: a shared one would show up once in summaries and hooks.
            module.act = activation(inplace=True)


def fuse(network: nn.Module) -> nn.Module:
    """Fold every batch norm into its convolution, in place, for inference.

    Returns:
        The same network in eval mode; outputs agree with the unfused ones within 1e-4.
    """
    network.eval()
    for module in network.modules():
        if isinstance(module, Conv) and hasattr(module, "bn"):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            del module.bn
            module.forward = module.forward_fuse
    return network


def save_network(path: Path, network: Network, *, half: bool = False) -> None:
    """Write weights and spec as safetensors, whole or not at all.

    Args:
        path: the file; its folder must exist.
        network: unfused.
        half: store in FP16, half the size.

    Raises:
        OSError: the file cannot be written; nothing is left of it.
    """
    state = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous().cpu()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    temporary = path.with_name(path.name + ".tmp")
    try:
        write_tensors(temporary, state, {METADATA_KEY: network.spec.to_json()})
        temporary.chmod(0o644)  # safetensors leaves it readable by its owner only
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_tensors(
    path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file.

    Raises:
        OSError: the system refuses, e.g. as the disk is full; safetensors alone has an error of
            its own for that.
    """
    try:
        save_file(state, path, metadata=metadata)
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file.

    Returns:
        Tensors by name, floating ones as FP32, and the file's metadata.

    Raises:
        UserError: missing, truncated, or no safetensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error
    return {n: v.float() if v.is_floating_point() else v for n, v in state.items()}, metadata


def load_network(path: str | Path) -> Network:
    """Build the network that a weight file describes and fill it.

    Raises:
        UserError: the file is missing, damaged, has no spec, or does not fit its own spec.
    """
    path = Path(path)
    state, metadata = read_weights(path)
    if METADATA_KEY not in metadata:
        raise UserError(f"{path}: no vision_heads model in this file; use it with --init")
    return fill_network(ModelSpec.from_json(metadata[METADATA_KEY], str(path)), state, str(path))


def fill_network(spec: ModelSpec, state: Mapping[str, Tensor], where: str) -> Network:
    """Build the network that a spec describes out of tensors by name.

    Raises:
        UserError: they do not fit the spec; `where` names the file they came from.
    """
    network = Network(spec)
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:  # a shape that is another
        problem = str(error).splitlines()[-1].strip()
        raise UserError(f"{where}: weights do not fit the file's own spec ({problem})") from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise UserError(
            f"{where}: weights do not fit the file's own spec "
            f"(missing {missing[:3]}, unexpected {unexpected[:3]})"
        )
    return network


def read_spec(path: Path) -> ModelSpec:
    """Read only the spec of a safetensors file, from its header; needs no torch tensors."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, 100_000_000)))
        return ModelSpec.from_json(header["__metadata__"][METADATA_KEY], str(path))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: no vision_heads model in this file") from error
