"""Importance-weighted bounds on log p(x), accumulated over chunks of draws."""

import math
from typing import NamedTuple, final

import torch
from torch import Tensor


class Bounds(NamedTuple):
    """Per-example results of K importance weights w_k = p(x, z_k) / q(z_k|x), each (B,) float64."""

    elbo: Tensor
    """(1/K) sum_k log w_k, nats"""
    log_marginal: Tensor
    """log (1/K) sum_k w_k, nats: the IWAE bound L_K"""
    log_marginal_tenth: Tensor
    """L_{K/10}: the mean over the disjoint tenths of the draws, so that convergence in K can be seen"""
    effective_samples: Tensor
    """(sum_k w_k)^2 / sum_k w_k^2, between 1 and K (Kong 1992)"""


@final
class ImportanceWeights:
    """The log weights of exactly `samples` draws for each of B examples, added a chunk at a time.

    Memory does not grow with K, and results do not depend on the chunks. Source: Burda, Grosse & Salakhutdinov
    2016, equation 8.
    """

    def __init__(self, samples: int) -> None:
        if samples < 1:
            raise ValueError(f"samples = {samples} should be at least 1")
        self.samples = samples
        self._size = max(1, samples // 10)  # draws in a tenth; a remainder joins no tenth but counts in L_K
        self._seen = 0
        self._total: list[Tensor] = []  # log sum_k w_k of each tenth, the remainder last: (B,)
        self._square: Tensor | None = None  # log sum_k w_k^2
        self._sum: Tensor | None = None  # sum_k log w_k

    def add(self, log_weight: Tensor) -> None:
        """The next draws' log weights (S, B). Raises ValueError if more than `samples` come."""
        if self._seen + len(log_weight) > self.samples:
            raise ValueError(f"{self._seen + len(log_weight)} draws were added, {self.samples} were asked for")
        log_weight = log_weight.double()
        square = torch.logsumexp(2 * log_weight, 0)
        self._square = square if self._square is None else torch.logaddexp(self._square, square)
        self._sum = log_weight.sum(0) if self._sum is None else self._sum + log_weight.sum(0)
        while len(log_weight):
            begun = self._seen % self._size  # draws in the tenth that is open
            whole = 0 if begun else len(log_weight) // self._size
            count = whole * self._size if whole else min(self._size - begun, len(log_weight))
            part, log_weight = log_weight[:count], log_weight[count:]
            totals = list(torch.logsumexp(part.unflatten(0, (max(1, whole), -1)), 1))
            if begun:
                self._total[-1] = torch.logaddexp(self._total[-1], totals.pop())
            self._total += totals
            self._seen += count

    def result(self) -> Bounds:
        """The bounds. ValueError unless exactly `samples` draws were added."""
        if self._seen != self.samples or self._sum is None or self._square is None:
            raise ValueError(f"{self._seen} draws were added, {self.samples} were asked for")
        totals = torch.stack(self._total)  # (tenths, B)
        total = torch.logsumexp(totals, 0)
        return Bounds(
            elbo=self._sum / self.samples,
            log_marginal=total - math.log(self.samples),
            log_marginal_tenth=totals[: self.samples // self._size].mean(0) - math.log(self._size),
            effective_samples=torch.exp(2 * total - self._square),
        )
