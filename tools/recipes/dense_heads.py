"""Teach a head-pose network rotations from crops that also say what every pixel shows.

One angle a head is little to learn from. On synthetic heads the network also tells, on its maps at
strides 4 to 16, which point of the head each cell sees (normalised object coordinates, arXiv
1901.02970), through 1x1 convolutions that are thrown away. Crops lie side by side in larger
pictures; every few steps a batch of whole pictures keeps boxes and scores as they were. Batch norms
stay as the start has them: the statistics of crops are not those of pictures.

    OMP_NUM_THREADS=1 python -m torch.distributed.run --nproc-per-node 2 \\
        -m tools.recipes.dense_heads tools/recipes/headpose-dense.yaml \\
        --crops runs/dense-1.npz runs/dense-2.npz --faces runs/dense-faces.npz \\
        --minutes 84 --out runs/headpose-dense

The YAML is one of `vh train`, with one head of the kind `headpose`. Its learning rate falls to a
fiftieth in the time given: how many steps that is depends on the machine. Writes
`OUT/weights/average.safetensors` and `tell.safetensors`, every ten minutes and at the end.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, distributed, nn
from torch.nn import functional

from tools.bench.shared import start
from tools.recipes.dense_warp import MAPS, Crops, Heads, Move, coloured, moved, tiled, untiled
from vision_heads._ultralytics import Conv
from vision_heads.data.dataset import Batch, TrainLoader
from vision_heads.data.sample import DataSplit
from vision_heads.heads.headpose.module import HeadPoseHead
from vision_heads.network import Network, save_network
from vision_heads.training.config import TrainConfig, make_config, read_settings
from vision_heads.training.describe import build_spec
from vision_heads.training.devices import best_precision
from vision_heads.training.init import initialise
from vision_heads.training.optimizer import Ema, make_optimizer
from vision_heads.training.run import join_parts, read_parts

SIZES = {32: (0.3, 8, 5), 64: (0.6, 4, 7), 128: (0.1, 2, 7)}
"""Side of crops in network pixels: share of the steps, crops in a row of a picture, pictures."""
FACES = 0.12
"""Share of the crops that are real faces."""
ROTATION, PLACES, WHOLE = 3.0, 3.0, 1.5
"""Weights of rotations and places on crops, and of all losses of whole pictures."""
CELLS = 10
"""Cells of each crop that learn its rotation: those of the best scores near its middle."""
WARM_UP, SAVE_EVERY, SAY_EVERY = 40.0, 600.0, 60.0
"""Seconds."""
FINAL = 0.02
"""Of the learning rate, at the end."""
CLIP = 10.0
EPOCHS = 1000
"""More than any run takes."""
AVERAGE = 0.9985


class Dense:
    """The network, what is thrown away afterwards, and their losses.

    Args:
        network: with one head of the kind `headpose`.
        seed: of the layers that are thrown away.
    """

    def __init__(self, network: Network, seed: int) -> None:
        self.network = network.to(memory_format=torch.channels_last).train()
        for module in network.modules():
            if isinstance(module, Conv):
                module.forward = partial(still, module)
        self.bf16 = best_precision(on_gpu=False) == "bf16"
        (self.name,) = (head.name for head in network.spec.heads)
        head = network.heads[self.name]
        if not isinstance(head, HeadPoseHead) or head.representation != "6d":
            raise SystemExit("one head of the kind headpose with 6d is needed")
        self.head = head
        with torch.no_grad():
            maps = network.features(torch.zeros(1, 3, 64, 64))[self.name]
        torch.manual_seed(seed)
        self.tell = nn.ModuleDict({str(lv): nn.Conv2d(maps[lv].shape[1], 3, 1) for lv in MAPS})

    def parameters(self) -> list[nn.Parameter]:
        """Return all that moves."""
        return [*self.network.parameters(), *self.tell.parameters()]

    def _maps(self, images: Tensor) -> dict[int, Tensor]:
        """Images 0..255 to the maps that the head reads."""
        images = (images / 255).contiguous(memory_format=torch.channels_last)
        return dict(self.network.features(images)[self.name])

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)

    def on_pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of training, weighted."""
        with self._autocast():
            raw = self.head(self._maps(batch.images.float()))
        raw = {name: value.float() for name, value in raw.items()}
        losses = self.head.loss(raw, batch.targets[self.name])
        return {name: WHOLE * value for name, value in losses.items()}

    def on_crops(self, heads: Heads, across: int) -> dict[str, Tensor]:
        """Return the losses of rotations and places, weighted."""
        with self._autocast():
            maps = self._maps(tiled(coloured(heads.images), across))
            raw = self._poses(maps)
        raw = {name: untiled(value.float(), across) for name, value in raw.items()}
        errors = []
        for level, (wanted, known) in heads.places.items():
            told = untiled(self.tell[str(level)](maps[level].float()), across)
            error = (told - wanted).abs().sum(1) * known
            errors.append(error.sum() / known.sum().clamp(min=1))
        return {
            "crops": ROTATION * self._rotation(raw, heads),
            "places": PLACES * torch.stack(errors).mean(),
        }

    def _poses(self, maps: dict[int, Tensor]) -> dict[str, Tensor]:
        """Return what crops learn from: rotations, and scores as they are. Boxes cost too much."""
        raw = {}
        for level in self.head.levels:
            raw[f"rotation/{level}"] = self.head.rotation_branches[f"p{level}"](maps[level])
            with torch.no_grad():
                raw[f"scores/{level}"] = self.head.class_branches[f"p{level}"](maps[level])
        return raw

    def _rotation(self, raw: dict[str, Tensor], heads: Heads) -> Tensor:
        """Mean error where the detector would look: at the best cells near the head's middle."""

        def cells(name: str) -> Tensor:
            return torch.cat([raw[f"{name}/{lv}"].flatten(2) for lv in self.head.levels], 2)

        side = heads.images.shape[2]
        middles = torch.cat([_middles(side, level) for level in self.head.levels])
        away = (middles - heads.middles[:, None]) / heads.halves[:, None]
        off = away.abs().amax(2)
        scores = cells("scores")[:, 0].sigmoid()
        weight, index = ((scores + 1e-3) * (off < 0.6) + 1e-7 * (off < 1)).topk(CELLS, 1)
        columns = cells("rotation").gather(2, index[:, None].expand(-1, 6, -1)).mT
        wanted = heads.rotations[:, None].expand(-1, CELLS, -1, -1)
        error = self.head.criterion.pose_error(columns, wanted)
        return (error * weight / weight.sum(1, keepdim=True)).sum(1).mean()


def still(module: Conv, x: Tensor) -> Tensor:
    """Convolution, batch norm by its running statistics, activation: as one, 15 % less time."""
    conv, norm = module.conv, module.bn
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    shift = norm.bias - norm.running_mean * scale
    how = (conv.stride, conv.padding, conv.dilation, conv.groups)
    result: Tensor = module.act(functional.conv2d(x, weight, shift, *how))
    return result


def _middles(side: int, level: int) -> Tensor:
    """Return the middles (cells, 2) of a level's cells on a crop, pixels."""
    line = (torch.arange(side >> level) + 0.5) * 2**level
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack((x, y), -1).view(-1, 2)


class Share:
    """This process and the others, which see other pictures and take the same steps."""

    def __init__(self) -> None:
        if distributed.is_torchelastic_launched():
            distributed.init_process_group("gloo")
        self.many = distributed.is_initialized()
        self.rank = distributed.get_rank() if self.many else 0
        self.world = distributed.get_world_size() if self.many else 1

    def agree(self, *numbers: float) -> list[float]:
        """Return the first process's numbers."""
        values = torch.tensor(numbers, dtype=torch.float64)
        if self.many:
            distributed.broadcast(values, 0)
        return values.tolist()

    def mean_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes."""
        if not self.many:
            return
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([grad.flatten() for grad in grads])
        distributed.all_reduce(flat)
        flat /= self.world
        parts = torch.split(flat, [grad.numel() for grad in grads])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter).clone()


def crops_forever(scenes: Crops, faces: Crops, seed: int, rank: int) -> Iterator[tuple[Heads, int]]:
    """Yield augmented crops and how many lie in a row; all processes draw the same sizes."""
    plan, rng = np.random.default_rng(seed), np.random.default_rng([seed, rank])
    shares = [share for share, _, _ in SIZES.values()]
    while True:
        side = list(SIZES)[plan.choice(len(SIZES), p=shares)]
        _, across, pictures = SIZES[side]
        count = pictures * across**2
        real = int(count * FACES)
        picks = torch.from_numpy(rng.integers(0, len(scenes), count - real))
        crops = scenes.rows(picks).join(
            faces.rows(torch.from_numpy(rng.integers(0, len(faces), real)))
        )
        yield moved(crops, Move.draw(count), side), across


def pictures_forever(
    config: TrainConfig, split: DataSplit, args: argparse.Namespace, share: Share
) -> Iterator[Batch]:
    """Yield batches of whole pictures."""
    (name,) = config.heads
    height, width = config.imgsz
    loader = TrainLoader(
        {name: split},
        config.augment,
        height=height,
        width=width,
        batch_size=config.batch,
        epochs=EPOCHS,
        seed=args.seed + 7,
        workers=config.workers,
        rank=share.rank,
        world=share.world,
    )
    for epoch in range(EPOCHS):
        yield from loader.epoch(epoch)


class Run:
    """What moves: weights, their average, the optimizer.

    Args:
        config: of the run.
        network: to train.
        args: of the command line.
        share: this process.
    """

    def __init__(
        self, config: TrainConfig, network: Network, args: argparse.Namespace, share: Share
    ) -> None:
        self.config, self.share = config, share
        self.folder: Path = args.out / "weights"
        self.dense = Dense(network, args.seed)
        if args.tell is not None:
            load_model(self.dense.tell, args.tell)
        tell = list(self.dense.tell.parameters())
        self.optimizer = make_optimizer(self.dense.network, config.optimizer, tell)
        self.average = Ema(self.dense.network, AVERAGE)
        self.means: dict[str, float] = {}

    def step(self, losses: dict[str, Tensor], pace: float) -> None:
        """Move the weights one step.

        Args:
            losses: of this process, weighted.
            pace: factor of the learning rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.optimizer.lr * pace
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        parameters = self.dense.parameters()
        self.share.mean_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, CLIP)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dense.bf16):  # Muon's products
            self.optimizer.step()
        self.average.update(self.dense.network)
        for name, value in losses.items():
            self.means[name] = 0.97 * self.means.get(name, value.item()) + 0.03 * value.item()

    def save(self) -> None:
        """Write the averaged weights and what tells places; the first process alone."""
        if self.share.rank == 0:
            assert isinstance(self.average.network, Network)
            save_network(self.folder / "average.safetensors", self.average.network)
            save_model(self.dense.tell, str(self.folder / "tell.safetensors"))

    def say(self, line: str) -> None:
        """Print a line and the losses' running means; the first process alone."""
        if self.share.rank == 0:
            shown = " ".join(f"{name} {value:.3f}" for name, value in self.means.items())
            print(f"{line}: {shown}", flush=True)


def started(config: TrainConfig, splits: dict[str, DataSplit], args: argparse.Namespace) -> Network:
    """Return the network of the settings with the weights to start from; its spec says whence."""
    assert config.init is not None
    words = shlex.join(["python", "-m", "tools.recipes.dense_heads", *sys.argv[1:]])
    spec = build_spec(config, splits, words)
    known = {name: text for name, text in spec.provenance.items() if name != "epochs"}
    provenance = known | {"seed": str(args.seed), "minutes": f"{args.minutes:g}"}
    network = Network(spec.model_copy(update={"provenance": provenance}))
    print(f"start from {config.init}: {initialise(network, config.init)}", flush=True)
    return network


def train(config: TrainConfig, args: argparse.Namespace, share: Share) -> None:
    """Train for the time given."""
    ((name, head),) = config.heads.items()
    split = join_parts(read_parts(head.data, head.train, config))
    run, end = Run(config, started(config, {name: split}, args), args, share), 60 * args.minutes
    torch.manual_seed(args.seed * 100 + share.rank)
    scenes, faces = Crops.load(args.crops), Crops.load([args.faces])
    crops = crops_forever(scenes, faces, args.seed, share.rank)
    pictures = pictures_forever(config, split, args, share)
    spent, steps = [0.0, 0.0], [0, 0]
    said = saved = 0.0
    start = time.monotonic()
    while True:
        now, *both = share.agree(time.monotonic() - start, *spent)
        if now >= end and sum(steps) > 1:  # one of each kind, however slow the machine is
            break
        whole = both[1] <= args.whole * sum(both)
        began = time.monotonic()
        losses = (
            run.dense.on_pictures(next(pictures)) if whole else run.dense.on_crops(*next(crops))
        )
        run.step(losses, pace(now, end))
        spent[whole] += time.monotonic() - began
        steps[whole] += 1
        if now - said > SAY_EVERY:
            said = now
            run.say(f"{now / 60:.0f} of {args.minutes:g} min, steps {steps[0]} + {steps[1]}")
        if now - saved > SAVE_EVERY:
            saved = now
            run.save()
    run.save()
    run.say(f"weights in {run.folder}, steps {steps[0]} + {steps[1]}")


def pace(now: float, end: float) -> float:
    """Return the learning rate's factor: a short warm-up times a cosine down to `FINAL`."""
    cosine = (1 + math.cos(math.pi * min(now / end, 1))) / 2
    return min(1.0, now / WARM_UP) * (FINAL + (1 - FINAL) * cosine)


def main() -> None:
    """Parse and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--crops", type=Path, nargs="+", required=True)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--tell", type=Path, help="what a run before has learned to tell places")
    parser.add_argument("--minutes", type=float, default=84)
    parser.add_argument("--whole", type=float, default=0.35, help="share of time of whole pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/headpose-dense"))
    args = parser.parse_args()
    config = make_config(read_settings(args.config), str(args.config))
    if not config.init:
        raise SystemExit(f"{args.config}: init: the weights to start from are needed")
    (args.out / "weights").mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    train(config, args, Share())


if __name__ == "__main__":
    start(main)
