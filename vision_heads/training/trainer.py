"""The joint loop: one trunk pass, each head on its own rows, one weighted sum, one backward."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from vision_heads.data.dataset import Batch, TrainLoader
from vision_heads.data.sample import DataSplit
from vision_heads.errors import UserError
from vision_heads.heads.base import Targets
from vision_heads.network import Network, save_network
from vision_heads.training.batch_norm import grouped, split_by_head
from vision_heads.training.config import TrainConfig
from vision_heads.training.conflict import gradient_cosines
from vision_heads.training.describe import build_spec
from vision_heads.training.devices import make_accelerator
from vision_heads.training.distillation import Teachers
from vision_heads.training.explain import explain_lone_values, explain_out_of_memory
from vision_heads.training.fingerprint import changed, fingerprints
from vision_heads.training.freezing import Freezing, settle
from vision_heads.training.init import initialise
from vision_heads.training.journal import Journal
from vision_heads.training.meters import Meters
from vision_heads.training.optimizer import Ema, learning_rate, make_optimizer
from vision_heads.training.partial import (
    check_unchanged,
    described,
    freeze,
    grown_network,
    growth_of,
    rest_frozen_norms,
)
from vision_heads.training.state import check_data, edited, latest_state, load_state, save_state
from vision_heads.training.validate import fitness, marks, validate
from vision_heads.training.weighting import make_weighting, sums_by_head


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
        self.fingerprints = fingerprints(train, val)
        self.accelerator = make_accelerator(config.device, config.amp)
        self.main = self.accelerator.is_main_process
        torch.manual_seed(config.seed)
        spec = build_spec(config, train, command)
        self.growth = growth_of(config, spec)
        network = grown_network(self.growth) if self.growth else Network(spec)
        self.journal = Journal(out, list(config.heads), quiet=not self.main)
        if self.growth:
            self.journal.say(described(network, self.growth))
        if config.init and not resume:
            report = initialise(network, config.init, trust_pickle=config.trust_pickle)
            self.journal.say(f"start from {config.init}: {report}")
        self._place(network)
        self.teachers = Teachers(config, self.network)
        self.loader = self._make_loader()
        self.freezing = Freezing(config.heads)
        self.epoch = self.step_in_epoch = self.step = 0
        self.best = -1.0
        self.meters, self.conflicts = Meters(), Meters()
        if resume:
            self._restore()
        self._plan_frozen()

    @property
    def steps_per_epoch(self) -> int:
        """Batches in this epoch; fewer where heads are frozen."""
        return self.loader.schedule.steps(self.epoch)

    def _place(self, network: Network) -> None:
        """Move the network to its device, average it, and let accelerate wrap it."""
        device = self.accelerator.device
        network.to(device).to(memory_format=torch.channels_last)
        by_head = self.config.batch_norm == "per_head"
        if by_head:
            split_by_head(network)
        if self.accelerator.num_processes > 1 and device.type == "cuda":
            convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
            if by_head:
                # The trunk's rows by head are too few kinds of batches to wait for each other.
                network.heads = convert(network.heads)
            else:
                network = convert(network)
        if self.growth:
            freeze(network, self.growth)
        self.network = network
        self.ema = Ema(network, self.config.ema, self.growth.frozen if self.growth else ())
        self.weighting = make_weighting(self.config, device)
        optimizer = make_optimizer(network, self.config.optimizer, self.weighting.parameters())
        self.wrapped, self.optimizer = self.accelerator.prepare(network, optimizer)

    def _make_loader(self) -> TrainLoader:
        config, (height, width) = self.config, self.config.imgsz
        world = self.accelerator.num_processes
        if config.batch % world:
            raise UserError(f"batch: {config.batch} does not divide among {world} processes")
        weights = {n: h.sampling for n, h in config.heads.items() if h.sampling is not None}
        if world > 1 and any(head.freeze_after or head.patience for head in config.heads.values()):
            least = min(self.train_splits, key=lambda name: len(self.train_splits[name].samples))
            if len(self.train_splits[least].samples) < config.batch:
                raise UserError(
                    f"batch: {config.batch} is more than the pictures of head {least!r}, and "
                    f"several processes leave incomplete batches out: when the other heads are "
                    "frozen there would be none"
                )
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
            raise UserError(f"{self.out}: no state to resume from; --overwrite starts anew")
        check_data(state, self._data())
        extra = load_state(state, self.network, self.ema, self.optimizer)
        if self.growth:
            check_unchanged(self.network, self.growth)
        self.epoch, self.step_in_epoch, self.step = extra["epoch"], extra["in_epoch"], extra["step"]
        self.best = extra["best"]
        self.meters = Meters.from_dict(extra["meters"])
        if "freezing" in extra:  # states of older versions know only what came before
            self.conflicts = Meters.from_dict(extra["conflicts"])
            self.weighting.restore(extra["weighting"])
            self.freezing.resume(extra["freezing"], self.epoch)
        self.journal.rewind(self.epoch)
        self.journal.say(f"resume at epoch {self.epoch + 1}, batch {self.step_in_epoch + 1}")
        if changes := edited(extra.get("settings"), self.config.model_dump(mode="json")):
            self.journal.say(f"settings edited since it stopped: {changes}")
        for change in changed(extra.get("fingerprints", {}), self.fingerprints):
            self.journal.say(change)

    def _data(self) -> dict[str, dict[str, Any]]:
        """Return by head what a resumed run must find again."""
        return {
            name: {"classes": list(split.names), "pictures": len(split.samples)}
            for name, split in self.train_splits.items()
        }

    def run(self) -> dict[str, float]:
        """Train to the end, or until every head is frozen; return the last figures."""
        figures: dict[str, float] = {}
        self._saved_at = time.monotonic()
        while not self._done(self.epoch):
            self._train_epoch()
            last = self._done(self.epoch + 1)
            figures = {}
            if self.main and (last or (self.epoch + 1) % self.config.val_every == 0):
                figures = self._validate()
            self.journal.record(
                self.epoch + 1, self._lr(), self.meters.means(), figures, self._more_figures()
            )
            self.epoch, self.step_in_epoch = self.epoch + 1, 0
            self.meters, self.conflicts = Meters(), Meters()
            self._freeze(figures)
            self._save_state()
            self.accelerator.wait_for_everyone()
        if self.main:
            save_network(self._weights("last"), self._average(), half=self.config.keep_half)
        self.journal.close()
        return figures

    def _done(self, epochs: int) -> bool:
        everybody = all(self.freezing.frozen(name, epochs) for name in self.config.heads)
        return epochs >= self.config.epochs or everybody

    def _plan_frozen(self) -> None:
        for name, epochs in self.freezing.after.items():
            self.loader.freeze(name, epochs)

    def _freeze(self, figures: Mapping[str, float]) -> None:
        """Freeze the heads whose time has come, after an epoch; all processes alike."""
        if figures:
            self.freezing.judge(marks(figures, self.val_splits), self.epoch)
        if self.freezing.patience and self.accelerator.num_processes > 1:
            # Only the main process has validated.
            said = broadcast_object_list([self.freezing.to_dict()])
            self.freezing.restore(said[0])
        self._plan_frozen()
        frozen = [n for n in self.config.heads if self.freezing.frozen(n, self.epoch)]
        new = [name for name in frozen if self.freezing.after[name] == self.epoch]
        if new and not self._done(self.epoch):
            settle(self.network, self._average(), frozen)
            self.journal.say(f"epoch {self.epoch}: froze {', '.join(new)}")

    def _more_figures(self) -> dict[str, float]:
        figures = {f"weight/{name}": value for name, value in self.weighting.figures().items()}
        return figures | {f"conflict/{n}": value for n, value in self.conflicts.means().items()}

    def _train_epoch(self) -> None:
        self.wrapped.train()
        if self.config.freeze_bn:
            _freeze_batch_norm(self.network)
        rest_frozen_norms(self.network)
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
        with explain_out_of_memory(self.config), explain_lone_values(self.config):
            images = batch.images.to(device, non_blocking=True).float().div_(255)
            images = images.contiguous(memory_format=torch.channels_last)
            routes = {name: rows.to(device) for name, rows in batch.routes.items()}
            losses = self._losses(images, routes, batch)
            self._refuse_not_finite(losses, batch)
            total = self.weighting.total(losses, self._present(routes))
            self._measure_conflict(losses, routes)
            self.accelerator.backward(total / self._gathered())
        # The zeros of heads without pictures in this batch would make their means small.
        seen = {name for name, rows in batch.routes.items() if len(rows)}
        self.meters.add(
            {n: float(v.detach()) for n, v in losses.items() if n.partition("/")[0] in seen}
        )
        self.step += 1
        # An epoch never ends with gradients pending: a state holds weights, not gradients.
        if self._at_boundary(self.step_in_epoch + 1):
            self._move_weights()

    def _at_boundary(self, done: int) -> bool:
        """Whether the weights move after `done` batches of this epoch."""
        return done % self.config.accumulate == 0 or done == self.steps_per_epoch

    def _gathered(self) -> int:
        """Return how many batches this one's gradients are averaged with; fewer at the end."""
        first = self.step_in_epoch - self.step_in_epoch % self.config.accumulate
        return min(self.config.accumulate, self.steps_per_epoch - first)

    def _losses(
        self, images: Tensor, routes: Mapping[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Return every head's weighted losses as `<head>/<part>`."""
        per_head = self.config.batch_norm == "per_head"
        with self.accelerator.autocast():
            with grouped(self.network, routes) if per_head else nullcontext():
                raw = self.wrapped(images, routes)
            taught = self.teachers.losses(images, routes, raw, self.network.heads)
        losses: dict[str, Tensor] = {}
        for name, predictions in raw.items():
            head: Any = self.network.heads[name]
            targets = targets_to(batch.targets[name], images.device)
            for part, value in head.loss(predictions, targets).items():
                losses[f"{name}/{part}"] = value
        return {
            name: value * self.config.heads[name.partition("/")[0]].weight
            for name, value in (losses | taught).items()
        }

    def _present(self, routes: Mapping[str, Tensor]) -> list[str]:
        """Return the heads that have pictures in the batch, in whichever process."""
        counts = torch.tensor([len(rows) for rows in routes.values()])
        if self.config.loss_weighting != "fixed" and self.accelerator.num_processes > 1:
            counts = self.accelerator.reduce(counts.to(self.accelerator.device), "sum")
        return [name for name, count in zip(routes, counts.tolist(), strict=True) if count]

    def _measure_conflict(self, losses: Mapping[str, Tensor], routes: Mapping[str, Tensor]) -> None:
        """Note the cosines of this process's gradients, where a measurement is due."""
        every = self.config.conflict_every
        if not every or self.step % every or not self.main:
            return
        sums = {name: v for name, v in sums_by_head(losses).items() if len(routes[name])}
        if len(sums) > 1:
            scaler = self.accelerator.scaler
            factor = 1.0 if scaler is None else scaler.get_scale()
            scaled = {name: value * factor for name, value in sums.items()}
            self.conflicts.add(gradient_cosines(self.network, scaled))

    def _move_weights(self) -> None:
        self.weighting.share(self.accelerator)
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
        # Epochs that frozen heads make shorter take their share of the schedule all the same.
        steps = len(self.loader)
        at = self.epoch * steps + self.step_in_epoch * steps / self.steps_per_epoch
        return learning_rate(self.config.optimizer, at, steps, steps * self.config.epochs)

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
        # As long as nothing is found, or nothing can be measured, the longest trained are best.
        if mark > self.best or self.best <= 0:
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
            "conflicts": self.conflicts.to_dict(),
            "weighting": self.weighting.to_dict(),
            "freezing": self.freezing.to_dict(),
            "data": self._data(),
            "fingerprints": self.fingerprints,
            "settings": self.config.model_dump(mode="json"),
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
