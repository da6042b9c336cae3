"""Give the trunk a better start than nothing: match a COCO teacher's features, without labels.

The teacher is YOLOX-Nano (../shared/pretrained); its three neck maps at strides 8, 16 and 32 are
matched through 1x1 adapters that are thrown away. Every other step the student sees the picture
at half the teacher's size: then its P2, P3 and P4 lie on the teacher's grids, and P2 learns
from what the teacher makes of a picture twice as large.

    python tools/recipes/distill_trunk.py --out runs/trunk.safetensors --epochs 6

The result is for `vh train --init`: its heads are random.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

from vision_heads.data.augment import AugmentConfig
from vision_heads.data.dataset import TrainLoader
from vision_heads.data.sample import DataSplit, Sample
from vision_heads.media.images import image_size
from vision_heads.network import Network, save_network
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec

SHARED = Path(__file__).resolve().parents[3] / "shared"
SIDE = 416
"""Network size of the teacher, pixels; fixed in its file."""


class Teacher:
    """YOLOX-Nano's neck maps on a batch."""

    def __init__(self, path: Path, threads: int) -> None:
        model = onnx.load(path)
        self.maps = self._neck_maps(model)
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(m) for m in self.maps)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options)

    @staticmethod
    def _neck_maps(model: onnx.ModelProto) -> list[str]:
        """Name the inputs of the head's three stems, fine to coarse.

        They are found from the end: each Concat of boxes, objectness and class probabilities
        leads back over convolutions to a stem, the first whose result two branches share.
        """
        makers = {output: node for node in model.graph.node for output in node.output}
        uses: dict[str, int] = {}
        for node in model.graph.node:
            for name in node.input:
                uses[name] = uses.get(name, 0) + 1
        joins = [n for n in model.graph.node if n.op_type == "Concat" and len(n.input) == 3]
        scores = [n.input[2] for n in joins if makers[n.input[2]].op_type == "Sigmoid"]
        found = []
        for score in scores:
            name = score
            while True:
                node = makers[name]
                # A SiLU's product has the convolution as first factor; both branches and the
                # sigmoid make a stem's product used twice.
                if node.op_type == "Mul" and uses[name] == 2:
                    found.append(makers[node.input[0]].input[0])
                    break
                name = node.input[0]
        return found

    def __call__(self, images: np.ndarray) -> list[Tensor]:
        """(B, 3, 416, 416) BGR 0..255 float32 to three maps."""
        parts = [self.session.run(self.maps, {"images": image[None]}) for image in images]
        return [torch.from_numpy(np.concatenate(level)) for level in zip(*parts, strict=True)]


def unlabelled(folders: list[Path]) -> DataSplit:
    """Make a data set of every picture under the folders, without labels."""
    files = sorted(f for folder in folders for f in folder.rglob("*.jpg"))
    samples = []
    for number, file in enumerate(files):
        width, height = image_size(file)
        samples.append(Sample(file, number, width, height))
    return DataSplit("unlabelled", "train", ("object",), (0,), samples)


class Matcher(nn.Module):
    """Adapters from the student's channels to the teacher's, one set for each pairing."""

    def __init__(self, student: dict[int, int], teacher: list[int]) -> None:
        super().__init__()
        self.adapters = nn.ModuleDict()
        self.whiten = nn.ModuleList(nn.BatchNorm2d(c, affine=False) for c in teacher)
        for first in (2, 3):
            for place, channels in enumerate(teacher):
                level = first + place
                self.adapters[f"{first}-{level}"] = nn.Conv2d(student[level], channels, 1)

    def forward(self, pyramid: dict[int, Tensor], wanted: list[Tensor], first: int) -> Tensor:
        """Mean squared error to the whitened teacher maps, over levels first..first+2."""
        losses = []
        for place, (target, whiten) in enumerate(zip(wanted, self.whiten, strict=True)):
            level = first + place
            height, width = target.shape[2:]
            seen = pyramid[level][:, :, :height, :width]
            guess = self.adapters[f"{first}-{level}"](seen.float())
            losses.append(functional.mse_loss(guess, whiten(target).clamp(-5, 5)))
        return torch.stack(losses).mean()


def batches(split: DataSplit, batch: int, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Yield (B, 3, 416, 416) uint8 RGB batches, zoomed, mirrored and coloured, half as mosaics."""
    augment = AugmentConfig(mosaic=0.5, close_mosaic=0, cache="none")
    loader = TrainLoader(
        {"x": split}, augment, height=SIDE, width=SIDE, batch_size=batch, epochs=epochs,
        seed=seed, workers=0,
    )  # fmt: skip
    for epoch in range(epochs):
        for found in loader.epoch(epoch):
            yield found.images.numpy()


def halve(images: np.ndarray) -> np.ndarray:
    """(B, 3, 416, 416) to half the size, averaging: what a camera twice as far would see.

    Grey fills up to 224, as the network's sides are multiples of 32.
    """
    half = SIDE // 2
    small = np.full((len(images), 3, 224, 224), 114, np.uint8)
    for picture, out in zip(
        images.reshape(-1, SIDE, SIDE), small.reshape(-1, 224, 224), strict=True
    ):
        out[:half, :half] = cv2.resize(picture, (half, half), interpolation=cv2.INTER_AREA)
    return small


def distil(args: argparse.Namespace, network: Network, split: DataSplit) -> float:
    """Train the trunk and throw-away adapters; return the running mean of the last losses."""
    steps = args.epochs * math.ceil(len(split.samples) / args.batch)
    print(f"{len(split.samples)} pictures, {steps} steps", flush=True)
    teacher = Teacher(args.teacher, args.threads)
    with torch.no_grad():
        pyramid = network.features(torch.zeros(2, 3, 64, 64))["none"]
    wanted = teacher(np.zeros((1, 3, SIDE, SIDE), np.float32))
    matcher = Matcher({lv: m.shape[1] for lv, m in pyramid.items()}, [m.shape[1] for m in wanted])
    weights = [*network.backbone.parameters(), *network.neck.parameters(), *matcher.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=args.lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, steps, pct_start=0.05)
    start, mean = time.monotonic(), 0.0
    for step, images in enumerate(batches(split, args.batch, args.epochs, args.seed)):
        wanted = teacher(images[:, ::-1].astype(np.float32))
        first = 3 if step % 2 else 2
        seen = torch.from_numpy(images if first == 3 else halve(images)).float().div_(255)
        seen = seen.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            pyramid = network.features(seen)["none"]
        loss = matcher(pyramid, wanted, first)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 10.0)
        optimizer.step()
        schedule.step()
        mean = 0.98 * mean + 0.02 * loss.item() if step else loss.item()
        if step % 20 == 0:
            left = (time.monotonic() - start) / (step + 1) * (steps - step)
            print(f"step {step}/{steps} loss {mean:.4f}, {left:.0f} s left", flush=True)
    return mean


def main() -> None:
    """Parse, distil, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=Path, nargs="+", default=[SHARED / "data"])
    parser.add_argument("--teacher", type=Path, default=SHARED / "pretrained/yolox_nano.onnx")
    parser.add_argument("--size", default="n", choices=("n", "s", "m"))
    parser.add_argument("--fusion", default="c2f", choices=("c2f", "irdcb"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/trunk.safetensors"))
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    spec = ModelSpec(
        size=args.size,
        fusion=args.fusion,
        input=InputSpec(height=SIDE, width=SIDE),
        heads=(HeadSpec(name="none", classes=("object",)),),
    )
    network = Network(spec).to(memory_format=torch.channels_last).train()
    # Validation pictures stay unseen, labels or not.
    folders = [f for root in args.pictures for f in root.rglob("train") if f.is_dir()]
    loss = distil(args, network, unlabelled(folders))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_network(args.out, network)
    print(f"{args.out}: loss {loss:.4f}")


if __name__ == "__main__":
    main()
