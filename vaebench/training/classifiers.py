"""Training the classifiers of fd-domain by their cards."""

import dataclasses
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vaebench.core import files
from vaebench.core.data import Dataset, eight_bit
from vaebench.core.errors import UserError
from vaebench.models.card import Card, Recipe
from vaebench.models.classifiers import options
from vaebench.models.networks.features import FeatureNet, Options
from vaebench.training import generators
from vaebench.training import state as checkpoint
from vaebench.training.loop import Report
from vaebench.training.schedule import learning_rate, order
from vaebench.training.state import Outputs, State
from vaebench.training.threads import at_most

OBJECTIVE = {"name": "cross-entropy"}
CHUNK = 1000  # test images at once


def _images(name: str, dataset: Dataset) -> tuple[Tensor, Tensor]:
    split = dataset.splits.get(name)
    if split is None or split.y is None or split.binarised:
        raise UserError(f"dataset {dataset.name!r} has no labelled grey images {name!r}, which a classifier needs")
    return eight_bit(split.x, dataset.space), split.y


def accuracy(network: FeatureNet, x: Tensor, y: Tensor) -> float:
    """The fraction of 8-bit images x (N, 1, side, side) that get their label y (N,), in evaluation mode."""
    network.eval()
    device = network.head.weight.device
    with torch.no_grad():
        found = torch.cat([network(part.to(device)).argmax(1).cpu() for part in x.split(CHUNK)])
    return float((found == y).double().mean())


def _fit(recipe: Recipe, options: Options, x: Tensor, y: Tensor, device: torch.device, report: Report) -> FeatureNet:
    """The network after the last epoch: cross-entropy, Adam."""
    network = FeatureNet(options).to(device).train()
    betas = (recipe.betas[0], recipe.betas[1])
    optimiser = torch.optim.Adam(
        network.parameters(), recipe.learning_rate, betas, recipe.eps, recipe.weight_decay, fused=True
    )
    step, steps = 0, recipe.epochs * -(-len(x) // recipe.batch_size)
    for epoch in range(recipe.epochs):
        for index in order(recipe.seed, epoch, len(x)).split(recipe.batch_size):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, step, steps)
            loss = F.cross_entropy(network(x[index].to(device)), y[index].to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
            report(step, steps, f"epoch {epoch + 1}/{recipe.epochs}, cross-entropy {loss.item():.3f}")
    return network


def train(card: Card, dataset: Dataset, out: Path, *, device: torch.device, report: Report) -> Card:
    """The trained card, written with its weights into `out`; the same call again returns it.

    On one CPU thread, so that equal cards and data give equal weights there. The notes state the test accuracy.
    Raises UserError if `out` holds another recipe's weights, or the recipe asks for what classifiers are not trained
    with.
    """
    recipe, started = card.training, time.monotonic()
    if recipe is None or recipe.optimiser != "adam" or recipe.validation or (recipe.clip_norm or recipe.ema):
        raise UserError(f"card {card.id} [training]: a classifier has epochs, adam, no validation, clip_norm or ema")
    card = dataclasses.replace(card, model=dataclasses.asdict(options(card)), objective=OBJECTIVE)
    outputs, digest = Outputs(out, card.name), checkpoint.digest(card, dataset)
    if (done := checkpoint.finished(outputs, card, digest)) is not None:
        report(1, 1, f"{card.id} is already trained: {outputs.weights}")
        return done
    files.check_writable(out)
    (x, y), (test, labels) = _images("train", dataset), _images("test", dataset)
    with generators.seeded(recipe.seed, torch.device("cpu")), at_most(1):
        network = _fit(recipe, options(card), x, y, device, report)
    right = accuracy(network, test, labels)
    state = State(
        digest=digest,
        epoch=recipe.epochs,
        batches=0,
        step=0,
        sums={},
        generators=[],
        seconds=time.monotonic() - started,
        model={},
        average=None,
        objective={},
        optimiser={},
        best_epoch=recipe.epochs,
        best_loss=None,
        best_weights={name: tensor.cpu() for name, tensor in network.state_dict().items()},
        log=[],
    )
    return checkpoint.finish(outputs, dataclasses.replace(card, notes=f"Test accuracy {right:.2%}."), state, device)
