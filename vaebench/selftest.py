"""Every estimator against an exact answer, on the user's own machine: `vaebench selftest`.

A known answer is compared per example with its estimate, so that the standard error is the estimator's alone.
Each metric adds a function to `ANSWERS`.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from .data import Batch
from .functional.frechet import gaussian_distance
from .functional.statistics import mean_stderr
from .metrics.likelihood import score
from .metrics.tracin import example_gradients
from .oracles import LinearGaussian, oracles

LIMIT = 4.0  # standard errors: a right estimator exceeds this once in 16,000 comparisons


class Answer(NamedTuple):
    """One comparison: the exact value, its estimate, and the estimate's standard error."""

    estimator: str
    exact: float
    estimate: float
    stderr: float
    rounding: float

    @property
    def error(self) -> float:
        """(estimate - exact) in standard errors, the rounding of the arithmetic allowed for."""
        slack = abs(self.estimate - self.exact) - self.rounding
        return 0.0 if slack <= 0 else (slack / self.stderr if self.stderr else float("inf"))

    @property
    def passed(self) -> bool:
        return self.error <= LIMIT


def _rounding(dtype: torch.dtype, exact: float) -> float:
    return 16 * torch.finfo(dtype).eps * max(1.0, abs(exact))


def likelihood(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """NLL, ELBO, rate and distortion of the linear-Gaussian oracles: slack 0 leaves rounding only."""
    for slack, samples in ((0.0, 10), (0.3, 1000)):
        for oracle in oracles(slack=slack):
            model = oracle.model.to(device=device, dtype=dtype)
            x = oracle.dataset.split("test").x
            batch = Batch(x.to(device=device, dtype=dtype), None, torch.arange(len(x), device=device))
            with torch.no_grad():
                values = score(batch, 0, model=model, samples=samples, rows=64 * len(x))
            for name, exact in oracle.exact.items():
                difference, stderr = mean_stderr(values[name].cpu() - exact)
                truth = float(exact.mean())
                label = f"likelihood {name}, {oracle.name} oracle, {'exact' if slack == 0 else 'slack'} q, K={samples}"
                yield Answer(label, truth, truth + difference, stderr or 0.0, _rounding(dtype, truth))


def tracin(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Products of two examples' gradients of the flat oracle's negative ELBO, each from draws of its own."""
    model, x = (oracle := oracles()[0]).model, oracle.dataset.split("test").x
    assert isinstance(model, LinearGaussian)
    rows = []
    for one in x.split(1):
        parts = torch.autograd.grad(-model.exact(one)["elbo"].sum(), list(model.parameters()))
        rows.append(torch.cat([part.flatten() for part in parts]).double())
    exact = (torch.stack(rows[::2]) * torch.stack(rows[1::2])).sum(1)
    model = model.to(device=device, dtype=dtype)
    example = torch.arange(len(x), device=device)
    found = example_gradients(model, x.to(device=device, dtype=dtype), example, 0, 256, 1.0).double().cpu()
    difference, stderr = mean_stderr((found[::2] * found[1::2]).sum(1) - exact)
    truth = float(exact.mean())
    label = "tracin product of gradients, flat oracle, 256 draws"
    yield Answer(label, truth, truth + difference, stderr or 0.0, _rounding(dtype, truth))


def frechet(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Gaussians with shared axes, one direction of each empty: the sum of (m - n)^2 + (s - t)^2 over the axes."""
    m, n, s, t = torch.randn(4, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    s[0] = t[1] = 0.0
    axes = torch.linalg.qr(torch.outer(m, n) + torch.diag(s + 3)).Q
    exact = float((m - n).square().sum() + (s.abs() - t.abs()).square().sum())
    found = gaussian_distance(axes @ m, axes * s**2 @ axes.T, axes @ n, axes * t**2 @ axes.T)
    yield Answer("frechet distance, shared axes", exact, found, 0.0, _rounding(torch.float64, 100 * exact))


ANSWERS: tuple[Callable[[torch.device, torch.dtype], Iterator[Answer]], ...] = (likelihood, tracin, frechet)


def answers(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Every known answer of every estimator."""
    for function in ANSWERS:
        yield from function(device, dtype)
