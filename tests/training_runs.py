"""Small models, data and runs for the tests of training."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vaebench.core import registry as plugins
from vaebench.core.data import Binarised, Dataset, Source, Space, Split, fingerprint
from vaebench.core.model import LatentVariableModel
from vaebench.core.objective import Loss, Objective
from vaebench.models.card import Card, Recipe
from vaebench.training import loop as training

CPU = torch.device("cpu")
RICH = Recipe(
    epochs=3,
    batch_size=100,
    learning_rate=2e-3,
    optimiser="adamax",
    weight_decay=1e-4,
    schedule="cosine",
    warmup_steps=20,
    clip_norm=50.0,
    ema=0.9,
    validation=200,
    seed=5,
)
RECIPES = {"plain": Recipe(epochs=3, batch_size=100, validation=200), "rich": RICH}


def silent(step: int, steps: int, text: str) -> None:
    """A report that nobody reads."""


def digits() -> Dataset:
    source = plugins.load("datasets", "digits")
    assert isinstance(source, Source)
    return source.load(Path())


def digits_card(recipe: Recipe) -> Card:
    prior = "coupling" if recipe.ema is not None else "normal"
    model = {"latent": 4, "hidden": [24], "likelihood": "discretised-logistic", "prior": prior}
    return Card("tiny", "digits", "a small model", "flat", model, training=recipe)


def bits(size: int = 40, grey: bool = False, **more: int) -> Dataset:
    """`size` binary (or grey) vectors of 6, noisy copies of two patterns; `more` sizes of further splits."""
    generator = torch.Generator().manual_seed(1)
    splits = {}
    for name, count in {"train": size, **more}.items():
        which = torch.randint(2, (count, 1), generator=generator)
        flip = torch.rand((count, 6), generator=generator) < 0.1
        x = (which ^ flip).to(torch.uint8)
        splits[name] = Split(name, x * 155 + 50 if grey else x, reading=Binarised() if grey else None)
    return Dataset("bits", Space((6,), 2, "pmf"), splits, fingerprint(splits))


def bits_card(recipe: Recipe, objective: str = "elbo") -> Card:
    model = {"latent": 2, "hidden": [8], "likelihood": "bernoulli"}
    return Card("tiny", "bits", "a small model", "flat", model, {"name": objective}, training=recipe)


def run(card: Card, dataset: Dataset, out: Path, report: training.Report = silent) -> Card:
    return training.train(card, dataset, out, device=CPU, report=report)


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "tiny.log.jsonl").read_text().splitlines()]


def stop_at(last: int) -> training.Report:
    """A report that raises KeyboardInterrupt once `last` steps are done."""

    def report(step: int, steps: int, text: str) -> None:
        if step >= last:
            raise KeyboardInterrupt

    return report


@dataclass(frozen=True)
class NoOptions:
    """An objective without options."""


class Stub(Objective):
    """Squared latent mean, for tests that look at the loop and not at the model."""

    def __init__(self, options: NoOptions) -> None:
        super().__init__()

    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        value = model.embed(x).square().sum(1).mean()
        return Loss(value, {"square": value})
