"""Steps a second of training's recipes, in float32 and bfloat16, and the share of the rate of a dense product.

    python tests/benchmarks/training.py --data DIR [--recipes mlp conv nvae] [--threads 1 2] [--rounds 3] [--steps 0]

Both arithmetics run in turn in one process. A figure is the median over rounds of CPU seconds of the process for a
step, after three that are not counted; wall seconds are beside it. The share is the operations of the step's products
and convolutions, forwards and backwards, over what float32's product of 1024x1024 matrices would do in the step's time.
With `--steps N`, the loss after N steps of three seeds each: its mean over the last tenth of the steps.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vaebench.core.data import Dataset, Split
from vaebench.core.registry import load_dataset
from vaebench.models import loading
from vaebench.models.card import Card, Recipe
from vaebench.training import loop, threads

NVAE = {
    "channels": 16, "scales": 2, "groups": 4, "adaptive": True, "min_groups": 2, "latent": 8, "pre_cells": 1,
    "post_cells": 1, "encoder_cells": 1, "decoder_cells": 1, "arch": "res_bnswish", "likelihood": "bernoulli",
}  # fmt: skip
RECIPES: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "mlp": (
        "flat",
        {"latent": 50, "hidden": [200, 200], "activation": "silu", "likelihood": "bernoulli"},
        {"name": "elbo"},
        {"batch_size": 100},
    ),
    "iwae-50": (
        "flat",
        {"latent": 50, "hidden": [200, 200], "activation": "silu", "likelihood": "bernoulli"},
        {"name": "iwae", "samples": 50},
        {"batch_size": 100},
    ),
    "conv": (
        "flat",
        {"network": "conv", "latent": 16, "hidden": [32, 64, 256], "likelihood": "bernoulli"},
        {"name": "elbo"},
        {"batch_size": 100},
    ),
    "nvae": (
        "nvae",
        NVAE,
        {"name": "nvae", "warmup": 0.1},
        {"batch_size": 64, "optimiser": "adamax", "learning_rate": 1e-2, "warmup_steps": 50, "ema": 0.999},
    ),
}
SKIPPED = 3


class EnoughError(Exception):
    """Enough steps."""


def card(name: str, autocast: bool, steps: int, dataset: Dataset, seed: int = 0) -> Card:
    family, model, objective, recipe = RECIPES[name]
    epochs = -(-steps * recipe["batch_size"] // len(dataset.splits["train"]))
    training = Recipe(epochs, autocast="bfloat16" if autocast else None, seed=seed, **recipe)
    return Card(name, dataset.name, "Timed.", family, model, objective, training=training)


def timed(made: Card, dataset: Dataset, steps: int) -> tuple[float, float]:
    """CPU and wall seconds of a step."""
    marks: list[tuple[float, float]] = []

    def report(step: int, of: int, text: str) -> None:
        if step in (SKIPPED, SKIPPED + steps):
            marks.append((time.process_time(), time.perf_counter()))
        if step == SKIPPED + steps:
            raise EnoughError

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(EnoughError):
        loop.train(made, dataset, Path(folder), device=torch.device("cpu"), report=report)
    (cpu, wall), (cpu_end, wall_end) = marks
    return (cpu_end - cpu) / steps, (wall_end - wall) / steps


def last_loss(made: Card, dataset: Dataset) -> float:
    """The mean loss of the last epoch."""
    with tempfile.TemporaryDirectory() as folder:
        loop.train(made, dataset, Path(folder), device=torch.device("cpu"), report=lambda step, steps, text: None)
        lines = (Path(folder) / f"{made.name}.log.jsonl").read_text().splitlines()
    return float(json.loads(lines[-1])["train"]["total"])


def operations(made: Card, dataset: Dataset) -> int:
    """Operations of the products and convolutions of one step, forwards and backwards."""
    assert made.training is not None
    model, objective = loading.build_model(made, dataset.space).train(), loop.build_objective(loop.resolve(made))
    objective.prepare(model, len(dataset.splits["train"]))
    x = dataset.splits["train"].take(torch.arange(made.training.batch_size)).x
    with FlopCounterMode(display=False) as counter:
        objective(model, x, 0.5).total.backward()
    return counter.get_total_flops()


def product_rate() -> float:
    """Operations a CPU second of float32's product of 1024x1024 matrices."""
    a, rates = torch.randn(1024, 1024), list[float]()
    for _ in range(7):
        start = time.process_time()
        for _ in range(5):
            a @ a
        rates.append(5 * 2 * 1024**3 / (time.process_time() - start))
    return max(rates)


def tenths(dataset: Dataset, steps: int, batch: int) -> Dataset:
    """`dataset` with as many training images as make `steps` steps ten epochs."""
    train = dataset.splits["train"]
    part = Split("train", train.x[: steps // 10 * batch], None, train.reading)
    return Dataset(dataset.name, dataset.space, {"train": part}, dataset.fingerprint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", choices=sorted(RECIPES), default=["mlp", "conv", "nvae"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20, help="steps of a round")
    parser.add_argument("--steps", type=int, default=0)
    chosen = parser.parse_args()
    dataset = load_dataset("mnist", chosen.data)
    threads.SMALL = 0  # as many threads as are asked for
    for count in chosen.threads:
        torch.set_num_threads(count)
        rate = product_rate()
        print(f"{count} thread(s), torch {torch.__version__}: product {rate / 1e9:.0f} GFLOP a CPU second")
        for name in chosen.recipes:
            cards = [card(name, autocast, SKIPPED + chosen.count, dataset) for autocast in (False, True)]
            flops = operations(cards[0], dataset)
            rounds = [[timed(made, dataset, chosen.count) for made in cards] for _ in range(chosen.rounds)]
            for i, arithmetic in enumerate(("float32", "bfloat16")):
                cpu = [each[i][0] for each in rounds]
                middle, wall = statistics.median(cpu), statistics.median(each[i][1] for each in rounds)
                print(f"{name:8s} {arithmetic:8s} {1e3 * middle:8.1f} CPU ms a step ({1e3 * min(cpu):.1f} to "
                      f"{1e3 * max(cpu):.1f}), {1 / wall:6.1f} steps a second, {flops / 1e9:.2f} GFLOP, "
                      f"{flops / middle / rate:.0%} of the product")  # fmt: skip
            ratios = [each[0][0] / each[1][0] for each in rounds]
            print(f"{name:8s} ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
            if chosen.steps and count == chosen.threads[0]:
                few = tenths(dataset, chosen.steps, RECIPES[name][3]["batch_size"])
                for autocast in (False, True):
                    losses = [last_loss(card(name, autocast, chosen.steps, few, seed), few) for seed in range(3)]
                    print(f"{name:8s} {'bfloat16' if autocast else 'float32'} loss after {chosen.steps} steps: "
                          f"{', '.join(f'{loss:.2f}' for loss in losses)}")  # fmt: skip


if __name__ == "__main__":
    main()
