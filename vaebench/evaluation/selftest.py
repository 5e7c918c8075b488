"""Every estimator against an exact answer, on the user's own machine: `vaebench selftest`.

A known answer is compared per example with its estimate, so that the standard error is the estimator's alone.
Each metric adds a function to `ANSWERS`.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from vaebench.core.data import Batch
from vaebench.distributions.noise import keyed
from vaebench.functional.aggregate import draw_mixture, log_mixture_density
from vaebench.functional.divergence import kl_gaussian
from vaebench.functional.frechet import gaussian_distance
from vaebench.functional.image_quality import psnr, ssim
from vaebench.functional.information import mutual_information
from vaebench.functional.statistics import mean_stderr
from vaebench.metrics.latent_gap import divergences
from vaebench.metrics.likelihood import score
from vaebench.metrics.tracin import example_gradients
from vaebench.models.oracles import LinearGaussian, TwoLevelGaussian, oracles

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


@torch.no_grad()
def latent_gap(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Both divergences and I_q(x; z) of linear-Gaussian oracles: q(z) is Gaussian, but for its 20,000 components."""
    count = 4000
    for oracle in oracles(count=20_000)[:2]:
        model = oracle.model
        assert isinstance(model, LinearGaussian)
        (centre, variance), spread, within = model.aggregate(), model.spread.double(), model.log_variance.double()
        q, p = (centre, variance.log()), (model.centre.double(), 2 * spread.log())
        exact = (kl_gaussian(*p, *q), kl_gaussian(*q, *p), 0.5 * (variance.log() - within).sum())
        model = model.to(device=device, dtype=dtype)
        with keyed(0, torch.arange(count, device=device)):
            prior = model.prior(count).rsample(1)[0][0].cpu()
        posterior = model.posterior(oracle.dataset.split("test").x.to(device=device, dtype=dtype))
        mean, log_variance = posterior.mean.cpu(), posterior.log_variance.cpu()
        z, component = draw_mixture(mean, log_variance, count, 0)
        log_q = log_mixture_density(z, mean, log_variance)
        gaps = divergences(model, prior, z, (log_mixture_density(prior, mean, log_variance), log_q))
        names = ("latent-gap kl_prior_aggregate", "latent-gap kl_aggregate_prior", "information mutual_information")
        terms = (*gaps, mutual_information(log_q, log_variance[component]))
        for name, truth, term in zip(names, exact, terms, strict=True):
            value, stderr = mean_stderr(term)
            yield Answer(f"{name}, {oracle.name} oracle", float(truth), value, stderr or 0.0, 1e-3)


def image_quality(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Two plain images: (2 a b + C) / (a^2 + b^2 + C) with C = 2.55^2, and 20 log10(255 / |a - b|)."""
    a, b, c = 100, 140, 2.55**2
    for side in (8, 28):
        x, y = (torch.full((1, 1, side, side), level, dtype=torch.uint8, device=device) for level in (a, b))
        exact = (2 * a * b + c) / (a**2 + b**2 + c)
        yield Answer(f"reconstruction ssim, plain {side} x {side} images", exact, float(ssim(x, y)), 0.0, 1e-9)
    exact = 20 * math.log10(255 / (b - a))
    found = float(psnr(torch.tensor(((b - a) / 255) ** 2, dtype=dtype, device=device)))
    yield Answer("reconstruction psnr, plain images", exact, found, 0.0, _rounding(dtype, exact))


@torch.no_grad()
def consistency(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """KL between the two-level oracle's posteriors of two x: joint Gaussians of one covariance, d' V^-1 d / 2."""
    model, x = (oracle := oracles()[2]).model, oracle.dataset.split("test").x
    assert isinstance(model, TwoLevelGaussian)
    model, pair = model.double(), (x.double(), x.double().roll(1, 0))
    evidence, wide = model.evidence, (1 + model.slack) ** 2
    free = 1 - model.LINK**2
    slope = model.LINK / (free * evidence + 1)
    top, low = wide / (1 + model.LINK**2 / (1 / evidence + free)), wide / (evidence + 1 / free)
    one, two = (torch.stack(model.posterior(each).means())[:, 0] for each in pair)
    gap = one - two
    exact = 0.5 * (gap[0].square() / top + (gap[1] - slope * gap[0]).square() / low).sum(-1)
    model = model.to(device=device, dtype=dtype)
    with keyed(0, torch.arange(len(x), device=device)):
        q, p = (model.posterior(each.to(device=device, dtype=dtype)) for each in pair)
        found = q.kl(p).cpu()
    difference, stderr = mean_stderr(found.double() - exact)
    truth = float(exact.mean())
    yield Answer("consistency, two-level oracle", truth, truth + difference, stderr or 0.0, _rounding(dtype, truth))


ANSWERS: tuple[Callable[[torch.device, torch.dtype], Iterator[Answer]], ...] = (
    likelihood,
    tracin,
    frechet,
    latent_gap,
    image_quality,
    consistency,
)


def answers(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Every known answer of every estimator."""
    for function in ANSWERS:
        yield from function(device, dtype)
