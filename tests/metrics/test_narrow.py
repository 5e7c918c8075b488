"""Models whose posteriors are far narrower than rounding: every metric that scores its own draws knows the answer."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import final

import pytest
import torch
from torch import Tensor, nn
from weekly import weekly

from vaebench.core.data import Batch, Dataset, Space, Split
from vaebench.core.metric import Measurement
from vaebench.core.model import FactoredModel, Latents, LatentVariableModel
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.likelihoods import Gaussian, Likelihood
from vaebench.functional.aggregate import draw_mixture, log_mixture_density, mixture
from vaebench.functional.disentanglement import latent_information_terms
from vaebench.metrics.information import Information
from vaebench.metrics.latent_gap import LatentGap
from vaebench.metrics.likelihood import Likelihood as LikelihoodMetric
from vaebench.metrics.pocket_leak import PocketLeak
from vaebench.metrics.shared.bounds import score

L, N = 2, 60
LOG_VARIANCES = (-20.0, -34.0, -80.0, -200.0)
Measure = Callable[..., dict[str, Measurement]]


@final
class Needles(FactoredModel):
    """q(z|x) = N(x, exp(log_variance)), p(z) = N(0, I), p(x|z) = N(0, I): log w is known but for E log p(z)."""

    def __init__(self, log_variance: float, dtype: torch.dtype) -> None:
        super().__init__(Space((L,), None, "density"))
        self.log_variance = nn.Parameter(torch.tensor(log_variance, dtype=dtype))

    def prior(self, batch: int, temperature: float = 1.0) -> DiagonalGaussian:
        zero = torch.zeros(batch, L, dtype=self.log_variance.dtype)
        return DiagonalGaussian(zero, zero + 2 * math.log(temperature))

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        mean = x.to(self.log_variance.dtype)
        return DiagonalGaussian(mean, self.log_variance.expand_as(mean))

    def likelihood(self, latents: Latents) -> Likelihood:
        return Gaussian(torch.zeros(*latents[0].shape[:2], 2 * L, dtype=latents[0].dtype), (L,), None)

    def embed(self, x: Tensor) -> Tensor:
        return x

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield "log_variance", self.log_variance


def data(reach: float) -> Dataset:
    """Means up to `reach`, each of them twice."""
    x = reach * (2 * torch.rand(N // 2, L, generator=torch.Generator().manual_seed(0)) - 1)
    splits = {name: Split(name, x.repeat(2, 1)) for name in ("train", "test")}
    return Dataset("needles", Space((L,), None, "density"), splits, "")


NEEDLES = list(itertools.product(LOG_VARIANCES, (1.0, 50.0), (torch.float32, torch.float64)))
CASES = pytest.mark.parametrize(("log_variance", "reach", "dtype"), NEEDLES)
FEW = pytest.mark.parametrize(("log_variance", "reach", "dtype"), weekly(NEEDLES, *NEEDLES[2::7]))
"""Each reach and kind of number in one case; the others where slow tests run."""


def entropy(log_variance: float) -> float:
    """Of one q(z|x)."""
    return 0.5 * L * (log_variance + 1 + math.log(2 * math.pi))


@CASES
def test_the_aggregate_posterior_scores_its_own_draws(log_variance: float, reach: float, dtype: torch.dtype) -> None:
    """Of needles that nowhere overlap but on their twins, -E[log q] is one's entropy + log of how many places."""
    mean = data(reach).split("test").x.to(dtype)
    spread = torch.full_like(mean, log_variance)
    z, _, rest = draw_mixture(mean, spread, 6000, 0)
    log_q = log_mixture_density(z, mean, spread, rest)
    error = float(log_q.std()) / 6000**0.5
    assert abs(-float(log_q.mean()) - entropy(log_variance) - math.log(N / 2)) < 4.5 * error + 1e-5
    assert z.dtype == dtype
    assert len(mixture(mean, spread).components) + len(mixture(mean, spread).narrow_mean) == N


@FEW
def test_every_metric_of_the_aggregate(log_variance: float, reach: float, dtype: torch.dtype, measure: Measure) -> None:
    model, places = Needles(log_variance, dtype), math.log(N / 2)
    found = measure(Information(draws=3000), model, data(reach))
    information = found["mutual_information"]
    assert abs(information.value - places) < 4.5 * (information.stderr or 0) + 1e-4
    total = found["total_correlation"]  # each number of a needle tells the needle
    assert abs(total.value - places) < 4.5 * (total.stderr or 0) + 1e-4
    gap = measure(LatentGap(draws=3000), model, data(reach))["kl_aggregate_prior"]
    x = data(reach).split("test").x.double()
    rate = 0.5 * (x.square().sum(1).mean() + L * (math.exp(log_variance) - log_variance - 1))
    assert abs(gap.value - float(rate) + places) < 4.5 * (gap.stderr or 0) + 2e-5 * float(rate)
    shares = measure(PocketLeak(draws=1000, shown=10), model, data(reach))
    assert shares["pockets"].value == pytest.approx(1.0, abs=1e-3)  # of the prior nothing lies on a needle


@CASES
def test_log_weights_and_the_bound(log_variance: float, reach: float, dtype: torch.dtype, measure: Measure) -> None:
    model, split = Needles(log_variance, dtype), data(reach).split("test")
    found = measure(LikelihoodMetric(samples=400), model, data(reach))
    x = split.x.double()
    rate = 0.5 * (x.square().sum(1).mean() + L * (math.exp(log_variance) - log_variance - 1))
    assert abs(found["rate"].value - float(rate)) < 5 * (L / 2 / 400 / N) ** 0.5 + 2e-5 * abs(float(rate))
    # log w = const + eps^2 / 2: its expected exponential has no end, but K draws of it give the same whatever q is
    wide = measure(LikelihoodMetric(samples=400), Needles(-20.0, torch.float64), data(reach))
    shift = 0.5 * L * (-20.0 - log_variance)
    assert found["nll"].value - shift == pytest.approx(wide["nll"].value, rel=2e-4, abs=2e-3)
    batch = Batch(split.x[:3], None, torch.arange(3))
    with torch.no_grad():
        models = (model, Needles(-20.0, torch.float64))
        one, other = (score(batch, 0, model=m, samples=50, rows=20)["nll"] for m in models)
    torch.testing.assert_close(one.double() - shift, other.double(), rtol=2e-4, atol=2e-3)


@pytest.mark.parametrize("log_variance", LOG_VARIANCES)
def test_information_of_factors(log_variance: float) -> None:
    """Two factors, each the code of one latent: I(z_l; v_f) is log size or 0."""
    factors = torch.cartesian_prod(torch.arange(4), torch.arange(5))
    mean = 50 * (factors.float() / 3 - 0.5)
    spread = torch.full_like(mean, log_variance)
    terms = latent_information_terms(draw_mixture(mean, spread, 2000, 0), mean, spread, factors).mean(0)
    expected = torch.tensor([[math.log(4), 0.0], [0.0, math.log(5)]], dtype=torch.float64)
    torch.testing.assert_close(terms, expected, rtol=1e-4, atol=1e-4)


def test_a_trained_model_made_narrow_has_one_nll_in_both_precisions(
    zoo: Callable[[str], LatentVariableModel], digits: Dataset, measure: Measure
) -> None:
    """The last layer's log-variances set to -34: single precision took 6 nats off, and called it an upper bound."""
    found = []
    few = dataclasses.replace(digits, splits={"test": digits.split("test").part(torch.arange(40), "test")})
    for dtype in (torch.float32, torch.float64):
        model = zoo("vae")
        head = [layer for layer in model.get_submodule("encoder").modules() if isinstance(layer, nn.Linear)][-1]
        with torch.no_grad():
            head.weight[len(head.weight) // 2 :] = 0
            head.bias[len(head.bias) // 2 :] = -34.0
        found.append(measure(LikelihoodMetric(samples=100), model.to(dtype), few)["nll"].value)
    assert found[0] == pytest.approx(found[1], abs=1e-3)
