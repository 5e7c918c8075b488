"""One training loop for every card: seeded, resumed after any kill, the best epoch kept.

Order of the data, noise and initial weights are functions of (seed, epoch) alone, so that a run that was killed and
resumed gives, on a CPU, the bits of one that was not.
"""

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, final

import torch
from torch import Tensor

from vaebench.core import device as memory
from vaebench.core.augmentation import flipped
from vaebench.core.data import Dataset, Split
from vaebench.core.errors import UserError
from vaebench.core.objective import Loss, Objective, Wrapper
from vaebench.distributions import noise
from vaebench.distributions.errors import UnavailableError
from vaebench.functional import random
from vaebench.models import loading, trajectory
from vaebench.models.card import Card
from vaebench.training import generators, optimiser, threads
from vaebench.training import state as checkpoint
from vaebench.training.schedule import check, learning_rate, order, splits
from vaebench.training.state import Outputs, State

KEEP_EVERY = 300.0
"""Seconds of training after which a state is kept within an epoch, too."""


class Report(Protocol):
    """Told how far training is: after every step, and after every epoch."""

    def __call__(self, step: int, steps: int, text: str) -> None:
        """`step` of `steps` are done; `text` names the epoch and what validation gave so far."""
        ...


class NotFiniteError(Exception):
    """`what` (a term of the loss, the total, the gradient norm or the validation loss) became NaN or infinite."""

    def __init__(self, what: str, step: int, epoch: int) -> None:
        super().__init__(f"{what} is not finite at step {step} (epoch {epoch})")


def resolve(card: Card) -> Card:
    """`checkpoint.resolve`, also of the objective that another one wraps."""
    resolved = checkpoint.resolve(card)
    if issubclass(checkpoint.objective_options(card)[0], Wrapper):
        base = resolve(dataclasses.replace(card, objective=resolved.objective["base"])).objective
        return dataclasses.replace(resolved, objective={**resolved.objective, "base": base})
    return resolved


def build_objective(card: Card) -> Objective:
    """The card's objective, with the one that it wraps, if any."""
    kind, options = checkpoint.objective_options(card)
    wrapped = [build_objective(dataclasses.replace(card, objective=options.base))] if issubclass(kind, Wrapper) else []
    objective: Objective = kind(options, *wrapped)
    return objective


def _placed(split: Split, device: torch.device) -> Split:
    """`split` without labels, on `device` if it fits."""
    x = split.x
    if device.type == "cuda" and x.nbytes < torch.cuda.mem_get_info(device)[0] // 4:
        x = x.to(device)
    return Split(split.name, x, None, split.reading)


@final
class _Session:
    """A run: model, objective, optimiser, the running average of the weights, and the best epoch so far."""

    def __init__(self, card: Card, dataset: Dataset, device: torch.device) -> None:
        assert card.training is not None
        self.recipe, self.device = card.training, device
        check(self.recipe, dataset, device)
        train, valid = splits(self.recipe, dataset)
        self.train = _placed(train, device)
        self.valid = None if valid is None else _placed(valid, device)
        self.steps = self.recipe.epochs * math.ceil(len(train) / self.recipe.batch_size)
        with generators.seeded(random.derive("weights", self.recipe.seed), device):
            self.model = loading.build_model(card, dataset.space).to(device)
            if self.recipe.autocast is not None:
                self.model.to(memory_format=torch.channels_last)
            self.objective = build_objective(card)
            self.objective.prepare(self.model, len(train))
            self.objective.to(device)
        self.average = None if self.recipe.ema is None else copy.deepcopy(self.model).requires_grad_(False)
        self.stepping = optimiser.build(self.recipe, self.model, self.objective)
        self.optimiser = self.stepping.optimiser
        self.epoch = self.batches = self.step = self.best_epoch = 0
        self.sums: dict[str, Tensor] = {}
        self.generators: list[Tensor] = []
        self.seconds = 0.0
        self._clock = time.monotonic()
        self.best_loss: float | None = None
        self.best_weights: dict[str, Tensor] = {}
        self.log: list[str] = []
        self.keeper: trajectory.Keeper | None = None

    def _tick(self) -> None:
        """Count the time since the last tick as trained."""
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now

    def run_epoch(self, report: Report, keep: Callable[[], None]) -> None:
        """Train for what is left of one epoch, validate, keep the weights if they are the best, add a line to the log.

        `keep` is called after steps, within which the state can be kept.
        """
        self._clock = time.monotonic()
        with generators.seeded(random.derive("noise", self.recipe.seed, self.epoch), self.device):
            if self.generators:
                generators.restore(self.generators, self.device)
            means = self._train_epoch(report, keep)
        if self.average is not None:
            for average, current in zip(self.average.buffers(), self.model.buffers(), strict=True):
                average.copy_(current)
        loss = self._validate()
        self.epoch, self.batches, self.sums, self.generators = self.epoch + 1, 0, {}, []
        if loss is None or self.best_loss is None or loss < self.best_loss:
            kept = (self.model if self.average is None else self.average).state_dict()
            self.best_epoch, self.best_loss = self.epoch, loss
            self.best_weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in kept.items()}
        self._tick()
        line = {
            "epoch": self.epoch,
            "step": self.step,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "train": means,
            "validation": loss,
            "seconds": round(self.seconds, 3),
        }
        self.log.append(json.dumps(line, allow_nan=False))

    def _train_epoch(self, report: Report, keep: Callable[[], None]) -> dict[str, float | None]:
        """The epoch's means of the total and of each term; None for a term that is only logged and not finite."""
        r, text = self.recipe, self.text()
        self.model.train()
        self.objective.train()
        permutation = order(r.seed, self.epoch, len(self.train)).to(self.train.x.device)
        for index in torch.split(permutation, r.batch_size)[self.batches :]:
            stored = self._stored(index)
            self.stepping.rate(learning_rate(r, self.step, self.steps))
            with torch.autocast(self.device.type, torch.bfloat16, enabled=r.autocast is not None):
                loss = self.objective.loss(self.model, stored, self.step / self.steps)
            self.optimiser.zero_grad()
            loss.total.backward()
            norms = self.stepping.norms()
            if not torch.isfinite(sum(norms, loss.total.detach())):
                raise NotFiniteError(_blame(loss), self.step + 1, self.epoch + 1)
            if r.clip_norm is not None:
                self.stepping.clip(r.clip_norm, norms)
            self.optimiser.step()
            self.step, self.batches = self.step + 1, self.batches + 1
            if self.keeper is not None:
                self.keeper.after(self.step, self.model)
            if self.average is not None and r.ema is not None:
                torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - r.ema)
            for name, value in {"total": loss.total, **loss.terms}.items():
                part = value.detach().double() * len(index)
                self.sums[name] = self.sums[name] + part if name in self.sums else part
            self._tick()
            report(self.step, self.steps, text)
            keep()
        means = {name: float(value) / len(self.train) for name, value in self.sums.items()}
        return {name: mean if math.isfinite(mean) else None for name, mean in means.items()}

    def _stored(self, index: Tensor) -> Split:
        """The training examples at `index` as they are stored, on the device, flipped if the recipe says so."""
        x = self.train.x[index].to(self.device, non_blocking=True)
        x = x if self.recipe.flip == "none" else flipped(x)
        return Split(self.train.name, x, None, self.train.reading)

    @torch.no_grad()
    def _validate(self) -> float | None:
        """The objective's total per validation example as at the end of training, on noise that no epoch changes."""
        if self.valid is None:
            return None
        model = self.model if self.average is None else self.average
        model.eval()
        self.objective.eval()
        seed, total = random.derive("validation noise", self.recipe.seed), 0.0
        with generators.seeded(seed, self.device):
            for index in torch.split(torch.arange(len(self.valid), device=self.valid.x.device), self.recipe.batch_size):
                stored = Split(self.valid.name, self.valid.x[index].to(self.device), None, self.valid.reading)
                with noise.keyed(seed, index):
                    loss = self.objective.loss(model, stored, 1.0)
                total += float(loss.total) * len(index)
        if not math.isfinite(total):
            raise NotFiniteError("validation loss", self.step, self.epoch + 1)
        return total / len(self.valid)

    def text(self) -> str:
        """What to say of the run so far, on one line."""
        text = f"epoch {min(self.epoch + 1, self.recipe.epochs)}/{self.recipe.epochs}"
        if self.best_loss is None:
            return text
        last = json.loads(self.log[-1])["validation"]
        return f"{text}, validation {last:.4g} (best {self.best_loss:.4g}, epoch {self.best_epoch})"

    def state(self, digest: str) -> State:
        """All that `restore` needs."""
        return State(
            digest=digest,
            epoch=self.epoch,
            batches=self.batches,
            step=self.step,
            seconds=self.seconds,
            sums=self.sums,
            generators=generators.states(self.device) if self.batches else [],
            model=self.model.state_dict(),
            average=None if self.average is None else self.average.state_dict(),
            objective=self.objective.state_dict(),
            optimiser=self.optimiser.state_dict(),
            best_epoch=self.best_epoch,
            best_loss=self.best_loss,
            best_weights=self.best_weights,
            log=self.log,
        )

    def restore(self, state: State) -> None:
        """Become the run that `state` was taken of."""
        self.model.load_state_dict(state["model"], strict=True)
        self.objective.load_state_dict(state["objective"], strict=True)
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average is not None:
            self.average.load_state_dict(state["average"] or {}, strict=True)
        self.epoch, self.batches, self.step = int(state["epoch"]), int(state["batches"]), int(state["step"])
        self.seconds, self.generators = float(state["seconds"]), list(state["generators"])
        self.sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        if self.generators:
            with generators.seeded(0, self.device):  # that they can be restored shows now
                generators.restore(self.generators, self.device)
        self.best_epoch, self.best_loss = int(state["best_epoch"]), state["best_loss"]
        self.best_weights, self.log = dict(state["best_weights"]), list(state["log"])


def _blame(loss: Loss) -> str:
    """The first term that is not finite, else the total, else the gradient norm."""
    named = {**{f"the term {name!r}": value for name, value in loss.terms.items()}, "the total loss": loss.total}
    return next((name for name, value in named.items() if not torch.isfinite(value).all()), "the gradient norm")


def train(
    card: Card, dataset: Dataset, out: Path, *, device: torch.device, report: Report, checkpoints: int = 0
) -> Card:
    """The trained card, written with its weights and log into `out`; the same call again resumes, or returns it.

    As many `checkpoints`, evenly spaced over the steps, are kept beside the weights (see `trajectory`).
    A state is kept after every epoch, and within one whenever `KEEP_EVERY` seconds have gone by since the last.
    UserError, with the last state kept, where the loss, a gradient or the validation loss is not finite; or where the
    model has no likelihood.
    Torch's global generators are left as they were.
    """
    memory.keep_freed()
    card = resolve(card)
    outputs, digest = Outputs(out, card.name), checkpoint.digest(card, dataset)
    folder = trajectory.beside(outputs.weights)
    if (done := checkpoint.finished(outputs, card, digest)) is not None:
        if checkpoints:
            trajectory.require(folder, digest, checkpoints)
        report(1, 1, f"{card.id} is already trained: {outputs.weights}")
        return done
    state = checkpoint.load(outputs, digest)
    session = _Session(card, dataset, device)
    if state is not None:
        try:
            session.restore(state)
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise checkpoint.damaged(outputs, error) from error
    if checkpoints:
        session.keeper = trajectory.Keeper(folder, digest, checkpoints, session.steps, session.step)
    checkpoint.write_log(outputs, session.log)  # also shows now, not after an hour, that the folder can be written
    report(session.step, session.steps, session.text())
    kept, due = session.step, time.monotonic() + KEEP_EVERY

    def keep(at_once: bool = False) -> None:
        nonlocal kept, due
        if at_once or time.monotonic() >= due:
            checkpoint.save(outputs, session.state(digest))
            kept, due = session.step, time.monotonic() + KEEP_EVERY

    while session.epoch < session.recipe.epochs:
        try:
            with threads.at_most(threads.useful(session.model)):
                session.run_epoch(report, keep)
        except UnavailableError as error:
            raise UserError(f"{card.id} cannot be trained: {error}") from error
        except NotFiniteError as error:
            left = f"the state after step {kept} is kept in {outputs.resume}" if kept else "no state was kept before"
            remedy = "lower learning_rate or clip_norm and use another --out"
            raise UserError(f"training of {card.id} stopped: {error}; {left}; {remedy}") from error
        keep(at_once=True)
        report(session.step, session.steps, session.text())
    if session.keeper is not None:
        rate = partial(learning_rate, session.recipe, steps=session.steps)
        session.keeper.finish(rate, dataset.fingerprint, len(session.train), session.recipe.batch_size)
    return checkpoint.finish(outputs, card, session.state(digest), device)
