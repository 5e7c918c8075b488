"""What a recipe trains on, in which order and at which rate: functions of the recipe and the data alone."""

import math

import torch
from torch import Tensor

from vaebench.core.augmentation import kind, transforms
from vaebench.core.data import Dataset, Split
from vaebench.core.device import has_bfloat16
from vaebench.core.errors import UserError
from vaebench.functional import random
from vaebench.models.card import Recipe


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of step t = 0..T-1: base * min(1, (t + 1) / warmup) * (1 + cos(pi t / T)) / 2.

    Without warm-up the second factor is 1; with a constant schedule, the third.
    """
    rate = recipe.learning_rate
    if step < recipe.warmup_steps:
        rate *= (step + 1) / recipe.warmup_steps
    if recipe.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / steps))
    return rate


def order(seed: int, epoch: int, size: int) -> Tensor:
    """The permutation (N,) int64 in which `epoch` reads `size` examples, from (seed, epoch) alone."""
    return random.keys(random.derive("order", seed, epoch), torch.arange(size)).argsort(stable=True)


def splits(recipe: Recipe, dataset: Dataset) -> tuple[Split, Split | None]:
    """What to train on and what to validate on: the official "valid" split, else `recipe.validation` of "train".

    The examples held out are chosen by the seed. Raises UserError if too few are left for a batch.
    """
    train, valid = dataset.splits.get("train"), dataset.splits.get("valid")
    if train is None:
        raise UserError(f"dataset {dataset.name!r} has no split 'train'; it is for evaluation only")
    if valid is None and recipe.validation:
        if recipe.validation >= len(train):
            raise UserError(
                f"validation = {recipe.validation} leaves nothing of the {len(train)} training examples "
                f"of {dataset.name!r}; lower it"
            )
        shuffled = random.keys(random.derive("validation", recipe.seed), torch.arange(len(train))).argsort(stable=True)
        held, kept = shuffled[: recipe.validation].sort().values, shuffled[recipe.validation :].sort().values
        train, valid = train.part(kept, "train"), train.part(held, "valid")
    if recipe.batch_size > len(train):
        raise UserError(
            f"batch_size = {recipe.batch_size} is more than the {len(train)} training examples of {dataset.name!r}; "
            "lower it"
        )
    return train, valid


def check(recipe: Recipe, dataset: Dataset, device: torch.device) -> None:
    """Raises UserError if the data cannot be flipped, or `device` lacks the recipe's arithmetic."""
    if recipe.flip != "none" and "affine-small" not in transforms(dataset.space):
        told = (
            f"flip = {recipe.flip!r} transforms images of integers, but the data are {kind(dataset.space)}; remove it"
        )
        raise UserError(told)
    if recipe.autocast is not None and not has_bfloat16(device):
        raise UserError(f"autocast = {recipe.autocast!r} needs bfloat16, which this {device.type} does not compute in; "
                        "remove it from the card, or train on another device")  # fmt: skip
