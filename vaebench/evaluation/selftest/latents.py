"""Known answers about the aggregate posterior: both divergences from the prior, by neighbours too; leakage."""

import math
from collections.abc import Iterator

import torch
from scipy import stats
from torch import Tensor

from vaebench.core.data import Split
from vaebench.distributions.noise import keyed
from vaebench.evaluation.selftest.answer import Answer, average, column, dataset, equal, measured, worst
from vaebench.functional.aggregate import draw_mixture, lowest, mixture
from vaebench.functional.divergence import kl_gaussian
from vaebench.functional.information import active_units, mutual_information
from vaebench.functional.knn_kl import knn_kl
from vaebench.functional.leakage import below_tail
from vaebench.metrics.information import Information
from vaebench.metrics.latent_gap import TAIL, LatentGap, divergences
from vaebench.metrics.shared.prior import log_prior
from vaebench.models.oracles import SIGMA, LinearGaussian, oracles


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
            (prior,), log_p = model.prior(count).rsample_with_log_prob(1)
        posterior = model.posterior(oracle.dataset.split("test").x.to(device=device, dtype=dtype))
        mean, log_variance = posterior.mean.cpu(), posterior.log_variance.cpu()
        over = mixture(mean, log_variance)
        z, component, rest = draw_mixture(mean, log_variance, count, 0)
        log_q = over.log_density(z, rest)
        gaps = divergences((log_p[0].double().cpu(), log_prior(model, z)), (over.log_density(prior[0].cpu()), log_q))
        names = ("latent-gap kl_prior_aggregate", "latent-gap kl_aggregate_prior", "information mutual_information")
        terms = (*gaps, mutual_information(log_q, log_variance[component]))
        for name, truth, term in zip(names, exact, terms, strict=True):
            yield average(f"{name}, {oracle.name} oracle", truth, term, 1e-3)


def _plane(slack: float, side: int) -> tuple[LinearGaussian, Tensor]:
    """A linear-Gaussian model of two latent numbers, and x (side^2, 3) on a grid of the law of its own x.

    The grid is of normal quantiles along what each latent number sees, of variance 1.
    """
    weight, bias = torch.tensor([[0.6, -0.8], [0.8, 0.6], [0.0, 0.0]]), torch.tensor([0.5, -1.0, 0.0])
    model = LinearGaussian(weight, bias, slack)
    part = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    seen = torch.from_numpy(stats.norm.ppf(part.numpy()))
    grid = torch.cartesian_prod(seen, seen) / seen.square().mean().sqrt()
    return model, bias + (grid * (1 + SIGMA**2) ** 0.5).float() @ weight.T


@torch.no_grad()
def aggregate(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """`latent-gap` where q(z) = N(c, diag v) is far from N(0, I): the KLs differ by many of their errors.

    Leakage is an integral over where the prior's density is below its threshold, by a grid. Neighbours are biased at
    4,000 points, by less than the two directions differ.
    """
    model, x = _plane(2.0, 50)
    centre, variance = model.aggregate()
    data = dataset("plane", model, test=Split("test", x))
    backward = float(0.5 * (variance + centre.square() - 1 - variance.log()).sum())
    forward = float(0.5 * ((1 + centre.square()) / variance - 1 + variance.log()).sum())
    lines = [torch.linspace(-9 * v**0.5, 9 * v**0.5, 1501, dtype=torch.float64) for v in variance.tolist()]
    away = torch.cartesian_prod(*lines)
    log_q = -0.5 * (away.square() / variance + (2 * math.pi * variance).log()).sum(1)
    square = (away + centre).square().sum(1)
    cell = math.prod(float(line[1] - line[0]) for line in lines)
    mass = log_q.exp() * (square > -2 * math.log(TAIL)) * cell  # chi^2 of two degrees of freedom
    leakage = float((mass * (log_q + 0.5 * square + math.log(2 * math.pi))).sum())
    leaked = float(mass.sum())
    exact = {
        "kl_prior_aggregate": forward,
        "kl_aggregate_prior": backward,
        "skl": forward + backward,
        "leakage": leakage,
        "leaked": leaked,
        "leakage_given_leak": leakage / leaked,
    }
    found = measured(LatentGap(split="test", draws=4000), model, data, device, dtype)
    for name, value in exact.items():
        yield column(f"latent-gap {name}, wide q(z)", value, found[name], 0.002)
    yield column("latent-gap skl_knn, wide q(z)", forward + backward, found["skl_knn"], 0.35)  # its bias
    told = measured(Information(draws=4000), model, data, device, dtype)
    within = float(model.log_variance.double().sum())
    known = 0.5 * (float(variance.log().sum()) - within)
    yield column("information mutual_information, wide q(z)", known, told["mutual_information"], 0.002)
    yield column("information dimension_kl, wide q(z)", backward, told["dimension_kl"], 0.002)
    yield column("information total_correlation, wide q(z)", 0.0, told["total_correlation"], 0.002)


def neighbours(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Neighbours' distances by hand: r = 1, 1, 2 among 0, 1, 3, and 4.5 among 0.5, 5; s to the other set."""
    x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [5.0]])
    yield equal("skl_knn, three points to two", (2 * math.log(0.5) + math.log(2 / 2)) / 3, knn_kl(x, y))
    exact = (math.log(0.5 / 4.5) + math.log(2 / 4.5)) / 2 + math.log(3 / 1)
    yield equal("skl_knn, two points to three", exact, knn_kl(y, x))
    x, y = (
        torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]]),
        torch.tensor([[6.0, 8.0], [0.0, 1.0], [9.0, 9.0], [9.0, 0.0]]),
    )
    exact = 2 / 3 * (math.log(1 / 3) + math.log(18**0.5 / 4) + math.log(10**0.5 / 3)) + math.log(4 / 2)
    yield equal("skl_knn, in a plane", exact, knn_kl(x, y))
    own = torch.arange(1.0, 100.0)[torch.randperm(99, generator=torch.Generator().manual_seed(0))]
    below = below_tail(torch.tensor([9.5, 10.0, 10.5]), own, 0.1)
    yield equal("pocket-leak, points below a tail of 0.1", 1.0, below.double().sum())
    yield worst("lowest densities", torch.tensor([3, 0]), lowest(torch.tensor([1.0, 5.0, 2.0, -1.0]), 2))
    mean = torch.tensor([[0.0, 1.0, 3.0], [0.15, 1.0, 3.3], [0.0, 1.0, 3.0], [0.15, 1.0, 3.3]])
    yield equal("active units", 1.0, active_units(mean))
