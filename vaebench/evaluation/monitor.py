"""Numbers along training: a model is evaluated every so many steps, and training goes on as if it had not been.

For a loop of one's own, and as a callback of Lightning, which is not needed for the former.
"""

import dataclasses
import logging
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import nn

from vaebench.core.data import Dataset
from vaebench.core.errors import UserError
from vaebench.core.metric import Metric
from vaebench.core.model import LatentVariableModel
from vaebench.evaluation import api, choice
from vaebench.evaluation.choice import Preset
from vaebench.models.own import Unbound

Wrap = Callable[[Any], LatentVariableModel | Unbound]
"""From what is trained to the model that it holds."""
_HOMES = ("lightning.pytorch", "pytorch_lightning")


def _callback() -> type:
    """The class of callbacks of the Lightning that is in use, or else installed; without one, `object`."""
    for name in sorted(_HOMES, key=lambda home: home not in sys.modules):
        try:
            found: type = import_module(name).Callback
        except ImportError:
            continue
        return found
    return object


if TYPE_CHECKING:
    _Callback = object
else:
    _Callback = _callback()


@final
class Monitor(_Callback):
    """Values of a model at every `every`-th step of its training, to log beside the loss.

    In a loop of one's own, a call at each step gives them, or nothing between: ::

        monitor = vaebench.Monitor("digits", every=500, split="train[::20]")
        for step, x in enumerate(batches):
            ...
            log(monitor(vaebench.from_module(net, "bernoulli"), step))

    With Lightning it is a callback, `Trainer(callbacks=[monitor])`, whose values go to the logger; `wrap` says what of
    the LightningModule is the model. Other processes than the first wait for none of it.

    A copy of the model is evaluated, in evaluation mode, in float32 and outside of autocast. So weights, gradients,
    mode and every random number that training draws are as without it, to the bit. What stops an evaluation the first
    time, as a likelihood that is not proper, is raised; later it is logged as a warning, and training goes on.
    """

    def __init__(
        self,
        dataset: Dataset | str,
        every: int,
        metrics: str | Sequence[str] | Mapping[str, Metric] = "likelihood",
        preset: Preset = "quick",
        *,
        split: str | None = None,
        wrap: Wrap | None = None,
        prefix: str = "vaebench/",
        seed: int = 0,
        data: str | Path | None = None,
    ) -> None:
        """What is evaluated, and when.

        Args:
            dataset: a dataset, or its name.
            every: evaluate at steps that are multiples of it; in a loop that counts from 0, at the first one too.
            metrics: a name, names, or metrics by name.
            preset: the parameters of metrics that are given by name.
            split: measured on this split, in place of the metrics' own, which is "test" as a rule: choose another where
                these numbers decide anything, as "valid" or "train[::100]".
            wrap: makes the model of what is trained; by default it is a model.
            prefix: begins the name of each value.
            seed: of the evaluation's noise, the same each time.
            data: as in `load_dataset`.

        Raises:
            UserError: a name or split does not exist.
            DataError: the data cannot be had.
        """
        super().__init__()
        if every < 1:
            raise UserError(f"every = {every} should be at least 1")
        self.dataset = api.load_dataset(dataset, data=data) if isinstance(dataset, str) else dataset
        if not isinstance(metrics, Mapping):
            metrics = choice.metrics([metrics] if isinstance(metrics, str) else metrics, preset)
        if split is not None and not self.dataset.has(split):
            raise UserError(f"{self.dataset.name} has no split {split!r}; it has {', '.join(self.dataset.splits)}")
        self.metrics = {
            name: metric if split is None else dataclasses.replace(metric, split=split)
            for name, metric in metrics.items()
        }
        self.every, self.wrap, self.prefix, self.seed = every, wrap, prefix, seed
        self._last: int | None = None

    def __call__(self, model: Any, step: int) -> dict[str, float]:
        """Values by name, such as "vaebench/nll", where `step` is a multiple of `every`; nothing between.

        UserError, the first time, as `evaluate`.
        """
        if step % self.every or step == self._last:
            return {}
        first, self._last = self._last is None, step
        with _apart():
            try:
                found = self.wrap(model) if self.wrap is not None else model
                results = api.evaluate(
                    found, self.dataset, self.metrics, seed=self.seed, device=_device(found), unchecked=not first
                )
            except UserError as error:
                if first:
                    raise
                logging.getLogger(__name__).warning("step %d is not evaluated: %s", step, error)
                return {}
        for row in results.rows:
            if row.status == "failed":
                logging.getLogger(__name__).warning("step %d: %s failed: %s", step, row.metric, row.reason)
        return {f"{self.prefix}{name}": value.value for name, value in results.items()}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Evaluates where Lightning's global step is a multiple of `every`, and logs."""
        if trainer.is_global_zero and (values := self(pl_module, trainer.global_step)):
            pl_module.log_dict(values, rank_zero_only=True)


def _device(model: object) -> str:
    network = model.network if isinstance(model, Unbound) else model
    found = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    return "cpu" if found is None else str(found.device)


@contextmanager
def _apart() -> Iterator[None]:
    """Within the block gradients and autocast are as in a new process; after it random numbers go on as before it."""
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with (
            torch.random.fork_rng(devices=range(torch.cuda.device_count())),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
