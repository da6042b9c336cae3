"""The joint loop: one trunk pass, each head on its own rows, one weighted sum, one backward."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vision_heads.data.dataset import Batch, TrainLoader
from vision_heads.data.sample import DataSplit
from vision_heads.errors import UserError
from vision_heads.heads.base import Targets
from vision_heads.network import Network, save_network
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec
from vision_heads.training.config import TrainConfig
from vision_heads.training.devices import make_accelerator
from vision_heads.training.init import initialise
from vision_heads.training.journal import Journal
from vision_heads.training.meters import Meters
from vision_heads.training.optimizer import Ema, learning_rate, make_optimizer
from vision_heads.training.state import latest_state, load_state, save_state
from vision_heads.training.validate import fitness, validate
from vision_heads.version import __version__


def build_spec(config: TrainConfig, splits: Mapping[str, DataSplit], command: str) -> ModelSpec:
    """Describe the model that a run trains; data, terms, seed and command go into provenance."""
    heads = tuple(
        HeadSpec(
            name=name,
            kind=head.kind,
            classes=splits[name].names,
            category_ids=splits[name].category_ids,
            levels=head.levels,
            options=head.options,
        )
        for name, head in config.heads.items()
    )
    provenance = {
        "program": f"vision_heads {__version__}",
        "command": command,
        "data": "; ".join(f"{n}: {s.name} ({len(s.samples)} pictures)" for n, s in splits.items()),
        "terms": "; ".join(sorted({s.terms for s in splits.values() if s.terms})),
        "seed": str(config.seed),
        "epochs": str(config.epochs),
        **({"init": config.init} if config.init else {}),
        **config.terms,
    }
    height, width = config.imgsz
    return ModelSpec(
        size=config.size,
        fusion=config.fusion,
        activation=config.activation,
        candidates=config.candidates,
        input=InputSpec(height=height, width=width),
        heads=heads,
        branches=config.branches,
        provenance=provenance,
    )


class Trainer:
    """One run of training in one folder.

    Args:
        config: resolved settings.
        train: training split of each head.
        val: validation split of each head that has one.
        out: the run's folder.
        command: that started the run, for provenance.
        resume: continue from the newest state in the folder.
    """

    def __init__(
        self,
        config: TrainConfig,
        train: Mapping[str, DataSplit],
        val: Mapping[str, DataSplit],
        out: Path,
        command: str = "",
        *,
        resume: bool = False,
    ) -> None:
        self.config, self.train_splits, self.val_splits, self.out = config, train, val, out
        self.accelerator = make_accelerator(config.device, config.amp)
        self.main = self.accelerator.is_main_process
        torch.manual_seed(config.seed)
        network = Network(build_spec(config, train, command))
        self.journal = Journal(out, list(config.heads), quiet=not self.main)
        if config.init and not resume:
            report = initialise(network, config.init, trust_pickle=config.trust_pickle)
            self.journal.say(f"start from {config.init}: {report}")
        self._place(network)
        self.loader = self._make_loader()
        self.total_steps = self.steps_per_epoch * config.epochs
        self.epoch = self.step_in_epoch = self.step = 0
        self.best = -1.0
        self.meters = Meters()
        if resume:
            self._restore()

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self.loader)

    def _place(self, network: Network) -> None:
        """Move the network to its device, average it, and let accelerate wrap it."""
        device = self.accelerator.device
        network.to(device).to(memory_format=torch.channels_last)
        if self.accelerator.num_processes > 1 and device.type == "cuda":
            convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
            network = convert(network)
        self.network = network
        self.ema = Ema(network, self.config.ema)
        optimizer = make_optimizer(network, self.config.optimizer)
        self.wrapped, self.optimizer = self.accelerator.prepare(network, optimizer)

    def _make_loader(self) -> TrainLoader:
        config, (height, width) = self.config, self.config.imgsz
        world = self.accelerator.num_processes
        if config.batch % world:
            raise UserError(f"batch: {config.batch} does not divide among {world} processes")
        weights = {n: h.sampling for n, h in config.heads.items() if h.sampling is not None}
        if weights and len(weights) != len(config.heads):
            raise UserError("heads: give `sampling` to every head or to none")
        return TrainLoader(
            self.train_splits,
            config.augment,
            height=height,
            width=width,
            batch_size=config.batch,
            epochs=config.epochs,
            seed=config.seed,
            workers=config.workers,
            rank=self.accelerator.process_index,
            world=world,
            weights=weights or None,
        )

    def _restore(self) -> None:
        state = latest_state(self.out / "state")
        if state is None:
            raise UserError(f"{self.out}: no state to resume from; start without --resume")
        extra = load_state(state, self.network, self.ema, self.optimizer)
        self.epoch, self.step_in_epoch, self.step = extra["epoch"], extra["in_epoch"], extra["step"]
        self.best = extra["best"]
        self.meters = Meters.from_dict(extra["meters"])
        self.journal.rewind(self.epoch)
        self.journal.say(f"resume at epoch {self.epoch + 1}, batch {self.step_in_epoch + 1}")

    def run(self) -> dict[str, float]:
        """Train to the end; return the last validation's figures."""
        figures: dict[str, float] = {}
        self._saved_at = time.monotonic()
        while self.epoch < self.config.epochs:
            self._train_epoch()
            last = self.epoch + 1 == self.config.epochs
            figures = {}
            if self.main and (last or (self.epoch + 1) % self.config.val_every == 0):
                figures = self._validate()
            self.journal.record(self.epoch + 1, self._lr(), self.meters.means(), figures)
            self.epoch, self.step_in_epoch, self.meters = self.epoch + 1, 0, Meters()
            self._save_state()
            self.accelerator.wait_for_everyone()
        if self.main:
            save_network(self._weights("last"), self._average(), half=self.config.keep_half)
        self.journal.close()
        return figures

    def _train_epoch(self) -> None:
        self.wrapped.train()
        if self.config.freeze_bn:
            _freeze_batch_norm(self.network)
        batches = self.loader.epoch(self.epoch, self.step_in_epoch)
        title = f"epoch {self.epoch + 1}/{self.config.epochs}"
        with self.journal.progress(title, self.steps_per_epoch, self.step_in_epoch) as advance:
            for batch in batches:
                self._train_step(batch)
                self.step_in_epoch += 1
                advance(self.meters, len(batch.files))
                late = time.monotonic() - self._saved_at > self.config.checkpoint_minutes * 60
                if late and self._at_boundary(self.step_in_epoch):
                    self._save_state()

    def _train_step(self, batch: Batch) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr()
        device = self.accelerator.device
        with explain_out_of_memory(self.config):
            images = batch.images.to(device, non_blocking=True).float().div_(255)
            images = images.contiguous(memory_format=torch.channels_last)
            routes = {name: rows.to(device) for name, rows in batch.routes.items()}
            losses = self._losses(images, routes, batch)
            total = torch.stack(list(losses.values())).sum()
            self._refuse_not_finite(losses, batch)
            self.accelerator.backward(total / self.config.accumulate)
        self.meters.add({name: float(value.detach()) for name, value in losses.items()})
        self.step += 1
        # An epoch never ends with gradients pending: a state holds weights, not gradients.
        if self._at_boundary(self.step_in_epoch + 1):
            self._move_weights()

    def _at_boundary(self, done: int) -> bool:
        """Whether the weights move after `done` batches of this epoch."""
        return done % self.config.accumulate == 0 or done == self.steps_per_epoch

    def _losses(
        self, images: Tensor, routes: Mapping[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Return every head's weighted losses as `<head>/<part>`."""
        with self.accelerator.autocast():
            raw = self.wrapped(images, routes)
        losses: dict[str, Tensor] = {}
        for name, predictions in raw.items():
            head: Any = self.network.heads[name]
            targets = targets_to(batch.targets[name], images.device)
            for part, value in head.loss(predictions, targets).items():
                losses[f"{name}/{part}"] = value * self.config.heads[name].weight
        return losses

    def _move_weights(self) -> None:
        if self.config.optimizer.clip:
            self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.config.optimizer.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.network)

    def _refuse_not_finite(self, losses: Mapping[str, Tensor], batch: Batch) -> None:
        wrong = [name for name, value in losses.items() if not torch.isfinite(value)]
        if wrong:
            raise UserError(
                f"loss {wrong[0]} is not finite at epoch {self.epoch + 1}, batch "
                f"{self.step_in_epoch + 1}; its pictures: {', '.join(batch.files)}. "
                "Lower optimizer.lr, or look at these pictures' labels with `vh data check`"
            )

    def _lr(self) -> float:
        return learning_rate(
            self.config.optimizer, self.step, self.steps_per_epoch, self.total_steps
        )

    def _average(self) -> Network:
        network = self.ema.network
        assert isinstance(network, Network)
        return network

    def _weights(self, which: str) -> Path:
        return self.out / "weights" / f"{which}.safetensors"

    def _validate(self) -> dict[str, float]:
        """Score the averaged weights; keep them when they are the best so far."""
        if not self.val_splits:
            return {}
        figures = validate(self._average(), self.val_splits, self.config, self.journal)
        mark = fitness(figures, self.val_splits)
        if mark > self.best:
            self.best = mark
            save_network(self._weights("best"), self._average(), half=self.config.keep_half)
        return figures

    def _save_state(self) -> None:
        self._saved_at = time.monotonic()
        if not self.main:
            return
        extra = {
            "epoch": self.epoch,
            "in_epoch": self.step_in_epoch,
            "step": self.step,
            "best": self.best,
            "meters": self.meters.to_dict(),
        }
        state = self.out / "state"
        save_state(state, self.step, self.network, self.ema, self.optimizer, extra)


def targets_to(targets: Targets, device: torch.device) -> Targets:
    """Return the targets with every tensor on a device."""
    return Targets(
        targets.boxes.to(device),
        targets.labels.to(device),
        targets.rows.to(device),
        targets.ignore_boxes.to(device),
        targets.ignore_rows.to(device),
        None if targets.rotations is None else targets.rotations.to(device),
    )


def _freeze_batch_norm(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@contextmanager
def explain_out_of_memory(config: TrainConfig) -> Iterator[None]:
    """Turn the GPU's out-of-memory error into what to change."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        half = max(1, config.batch // 2)
        raise UserError(
            f"the GPU's memory does not hold batch {config.batch} at "
            f"{config.imgsz[0]}x{config.imgsz[1]}; try --batch {half} --accumulate "
            f"{config.accumulate * 2}, a smaller --imgsz, or --amp bf16"
        ) from error
