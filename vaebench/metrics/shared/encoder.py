"""Passes over fresh draws of the factors that a dataset is rendered from: their images, encoded."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from vaebench.core.data import Batch, GroundTruth
from vaebench.core.metric import UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.functional import random
from vaebench.functional.factors import between, fixed_factor, fixed_factor_pairs, neighbourhood, uniform_factors

IMAGES = 256  # rendered and encoded at once


@final
@dataclass(frozen=True)
class Encoder:
    """Renders factors and encodes the images, read as a split of the dataset reads them."""

    model: LatentVariableModel
    truth: GroundTruth
    binarise: bool

    def images(self, factors: Tensor, example: Tensor, seed: int) -> Tensor:
        """x (B, G, *shape) of `factors` (B, G, F): binarised with noise keyed by `example` (B,) and place in G."""
        grey: Tensor = self.truth.render(factors.flatten(0, 1)).unflatten(0, factors.shape[:2])
        if not self.binarise:
            return grey
        x: Tensor = grey == 255
        at = ((grey > 0) & (grey < 255)).nonzero(as_tuple=True)  # elsewhere a draw has no choice
        pixel = torch.arange(x[0, 0].numel()).reshape(x.shape[2:])[at[2:]]
        uniform = random.uniform(random.keys(random.derive(seed, "pixels"), example[at[0]], at[1], pixel), ())
        x[at] = uniform < grey[at] / 255
        return x.to(torch.uint8)

    def codes(self, factors: Tensor, batch: Batch, seed: int) -> Tensor:
        """The embeddings (B, G, L), on the CPU."""
        x = self.images(factors, batch.example.cpu(), seed).flatten(0, 1)
        place = torch.arange(factors.shape[1], device=batch.example.device)
        number = (batch.example[:, None] * factors.shape[1] + place).flatten()
        codes = []
        for some, numbers in zip(x.split(IMAGES), number.split(IMAGES), strict=True):
            with keyed(seed, numbers):
                codes.append(self.model.embed(some.to(batch.x.device)).cpu())
        found: Tensor = torch.cat(codes).unflatten(0, factors.shape[:2])
        return found


def points(batch: Batch, seed: int, *, encoder: Encoder) -> dict[str, Tensor]:
    """Factors drawn at random, the codes of their images, and q(z|x) where that is a diagonal Gaussian."""
    factors = uniform_factors(seed, encoder.truth.sizes, batch.example.cpu())
    x = encoder.images(factors[:, None], batch.example.cpu(), seed)[:, 0].to(batch.x.device)
    with keyed(seed, batch.example):
        values = {"factors": factors, "codes": encoder.model.embed(x)}
    try:
        with keyed(seed, batch.example):
            q = encoder.model.posterior(x).first().moments()
        return {**values, "mean": q.mean, "log_variance": q.log_variance}
    except UnavailableError:
        return values


def votes(batch: Batch, seed: int, *, encoder: Encoder, size: int) -> dict[str, Tensor]:
    """Which factor is the same in `size` images, and the variances of their codes."""
    which, factors = fixed_factor(seed, encoder.truth.sizes, batch.example.cpu(), size)
    return {"which": which, "value": encoder.codes(factors, batch, seed).double().var(1)}


def pairs(batch: Batch, seed: int, *, encoder: Encoder, size: int) -> dict[str, Tensor]:
    """Which factor is shared in `size` pairs of images, and the mean distances of their codes."""
    which, factors = fixed_factor_pairs(seed, encoder.truth.sizes, batch.example.cpu(), size)
    codes = encoder.codes(factors.flatten(1, 2), batch, seed).double().unflatten(1, (2, size))
    return {"which": which, "value": (codes[:, 0] - codes[:, 1]).abs().mean(1)}


def around(batch: Batch, seed: int, *, encoder: Encoder, centres: Tensor, rho: float, size: int) -> dict[str, Tensor]:
    """Factors and codes of a chunk of `size` points about a centre; the examples are its chunks, centre by centre."""
    low, high = neighbourhood(centres[batch.x.cpu()], encoder.truth.sizes, rho)
    factors = between(seed, low[:, None], high[:, None], batch.example.cpu()[:, None], torch.arange(size))
    return {"factors": factors.short(), "codes": encoder.codes(factors, batch, seed)}
