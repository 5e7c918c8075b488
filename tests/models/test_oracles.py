"""The likelihood estimates against exact answers, and slips planted on purpose, which the same comparison catches."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from weekly import weekly

from vaebench.core.data import Batch
from vaebench.core.model import Draws
from vaebench.distributions.coupling import DecoupledPrior
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.evaluation import run as metric_run
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.evaluation.selftest import bounds
from vaebench.functional.gaussian import log_density
from vaebench.functional.importance import ImportanceWeights
from vaebench.functional.statistics import mean_stderr
from vaebench.metrics.likelihood import Likelihood
from vaebench.metrics.shared import bounds as passes
from vaebench.metrics.shared.bounds import score
from vaebench.models.oracles import SIGMA, Oracle, oracles

CPU = torch.device("cpu")
NAMES = ["flat", "decoupled", "two-level", "hamiltonian"]
Score = Callable[..., dict[str, Tensor]]


def values(
    oracle: Oracle, samples: int, rows: int = 4096, in_flight: int = 1, seed: int = 0, scored: Score = score
) -> dict[str, Tensor]:
    """Per-example values through the runner, as the metric computes them."""
    settings = Settings(CPU, seed=seed, max_draws=rows, in_flight=in_flight)
    entry = of_model(oracle.model.eval(), oracle.dataset, oracle.name)
    run = MetricRun(entry, "likelihood", Likelihood(samples=samples), settings, Silent())
    function = partial(scored, model=oracle.model, samples=samples, rows=rows)
    return run.map(function, oracle.dataset.split("test"), batch=max(1, rows // samples))


def faults(oracle: Oracle, found: dict[str, Tensor], samples: int, limit: float = 3.0) -> list[str]:
    """The names whose paired error per example is beyond `limit` standard errors, or an impossible sample size."""
    faulty = []
    for name, exact in oracle.exact.items():
        error, stderr = mean_stderr(found[name] - exact)
        rounding = 2e-6 * float(exact.abs().mean())
        if abs(error) > limit * (stderr or 0.0) + rounding:
            faulty.append(name)
    if float((found["nll"] - oracle.exact["nll"]).abs().max()) < 1e-3:  # equal weights: every draw is effective
        error = float((found["ess"] - samples).abs().max())
        faulty += ["ess"] if error > 1e-3 * samples else []
    return faulty


def oracle_named(name: str, slack: float = 0.3) -> Oracle:
    return next(o for o in oracles(slack=slack) if o.name == name)


CUTS = ((300, 4096, 37), (1000, 4096, 100), (1000, 50_000, 37), (1000, 4096, 400))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("samples", "rows", "block"),
    [
        (300, 333, 100),
        *(pytest.param(*cut, marks=pytest.mark.slow) for cut in CUTS),
    ],
)
def test_estimates_meet_the_exact_answers(
    name: str, samples: int, rows: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_run, "BLOCK", block)
    oracle = oracle_named(name)
    assert faults(oracle, values(oracle, samples, rows), samples) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("samples", weekly([1, 5, 50], 5))
def test_the_weight_is_unbiased_for_every_k(name: str, samples: int) -> None:
    oracle = oracle_named(name, slack=0.2)
    ratios = [(-values(oracle, samples, seed=seed)["nll"] + oracle.exact["nll"]).exp() for seed in range(10)]
    error, stderr = mean_stderr(torch.cat(ratios) - 1)
    assert stderr is not None
    assert abs(error) < 3.5 * stderr


@pytest.mark.parametrize("name", NAMES)
def test_the_bound_grows_with_k(name: str) -> None:
    oracle = oracle_named(name)
    found = values(oracle, 100)
    for less, more in (("nll", "nll_tenth"), ("nll_tenth", "elbo")):
        a, b = found[less], -found[more] if more == "elbo" else found[more]
        gain, stderr = mean_stderr(b - a)
        assert stderr is not None
        assert gain > 3 * stderr


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_weight_of_the_exact_posterior_is_the_marginal(name: str, dtype: torch.dtype) -> None:
    oracle = oracle_named(name, slack=0.0)
    x = oracle.dataset.split("test").x.to(dtype)
    with torch.no_grad():
        log_weight = oracle.model.to(dtype).draw(x, 7).log_weight.double()
    # weights and biases are rounded to float32 when they are copied, in both dtypes
    torch.testing.assert_close(log_weight, -oracle.exact["nll"].expand(7, -1), rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", NAMES)
def test_with_the_exact_posterior_every_draw_counts(name: str) -> None:
    oracle = oracle_named(name, slack=0.0)
    found = values(oracle, 33)
    for column in ("nll", "nll_tenth"):
        torch.testing.assert_close(found[column], oracle.exact["nll"], rtol=0, atol=5e-5)
    torch.testing.assert_close(found["elbo"], -oracle.exact["nll"], rtol=0, atol=5e-5)
    torch.testing.assert_close(found["ess"], torch.full_like(found["ess"], 33), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_elbo_is_minus_distortion_minus_rate(name: str) -> None:
    found = values(oracle_named(name), 20)
    torch.testing.assert_close(found["elbo"], -found["distortion"] - found["rate"], rtol=0, atol=1e-5)


def test_exact_answers_obey_their_identities() -> None:
    for oracle in oracles(slack=0.3)[:2]:
        exact = oracle.exact
        torch.testing.assert_close(exact["elbo"], -exact["rate"] - exact["distortion"])
        assert bool((-exact["elbo"] > exact["nll"]).all())
        assert bool((exact["rate"] > 0).all())
    for oracle in oracles(slack=0.0)[:2]:
        torch.testing.assert_close(-oracle.exact["elbo"], oracle.exact["nll"], rtol=0, atol=1e-5)


def test_exact_nll_is_an_average_over_the_prior() -> None:
    """p(x) = E_p(z)[p(x|z)], by plain Monte Carlo in a space small enough for it."""
    for oracle in oracles(count=20, dims=2, latent=2):
        x, n = oracle.dataset.split("test").x, 10_000
        torch.manual_seed(0)
        with torch.no_grad():
            latents = oracle.model.prior(len(x)).rsample(n)
            ratio = (oracle.model.likelihood(latents).log_prob(x).double() + oracle.exact["nll"]).exp()
        error = (ratio.mean(0) - 1) / (ratio.std(0) / n**0.5)
        assert float(error.square().mean()) < 2.5, oracle.name  # chi-square over 20
        assert float(error.abs().max()) < 4.5, oracle.name


def test_data_of_an_oracle_has_its_entropy() -> None:
    """E[-log p(x)] is the entropy: D/2 log(2 pi e) + 1/2 log det of x's covariance."""
    oracle = oracles(count=20_000)[0]
    weight = oracle.model.get_parameter("decoder.weight").double()
    covariance = weight @ weight.T + SIGMA**2 * torch.eye(6, dtype=torch.float64)
    entropy = torch.distributions.MultivariateNormal(torch.zeros(6, dtype=torch.float64), covariance).entropy()
    error, stderr = mean_stderr(oracle.exact["nll"] - entropy.item())
    assert stderr is not None
    assert abs(error) < 4 * stderr


# Slips: each is a fault that the field has shipped, and the comparison above must see it.


def drop_jacobian(patch: pytest.MonkeyPatch) -> None:
    def log_prob(self: DecoupledPrior, latents: tuple[Tensor, ...]) -> Tensor:
        u = self.flow(latents[0])[0]
        return log_density(u, torch.zeros_like(u), torch.zeros_like(u))

    patch.setattr(DecoupledPrior, "log_prob", log_prob)


def wrong_sign(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**found, "nll": -found["nll"]}


def mean_of_logs(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**found, "nll": -found["elbo"]}


def sigma_for_variance(patch: pytest.MonkeyPatch) -> None:
    def log_prob(self: DiagonalGaussian, latents: tuple[Tensor, ...]) -> Tensor:
        return log_density(latents[0], self.mean, 0.5 * self.log_variance)

    draw = DiagonalGaussian.rsample_with_log_prob

    def scored(self: DiagonalGaussian, samples: int) -> tuple[tuple[Tensor, ...], Tensor]:
        latents, _ = draw(self, samples)
        return latents, log_prob(self, latents)

    patch.setattr(DiagonalGaussian, "log_prob", log_prob)
    patch.setattr(DiagonalGaussian, "rsample_with_log_prob", scored)


def swap_prior_and_posterior(patch: pytest.MonkeyPatch) -> None:
    def log_weight(self: Draws) -> Tensor:
        return self.log_likelihood + self.log_posterior - self.log_prior

    patch.setattr(Draws, "log_weight", property(log_weight))


def round_k_down(patch: pytest.MonkeyPatch) -> None:
    class Rounded:
        """Drops the last chunk where it is not a full one."""

        def __init__(self, samples: int) -> None:
            self.weights, self.chunk = ImportanceWeights(samples // 8 * 8), 8

        def add(self, log_weight: Tensor) -> None:
            if len(log_weight) == self.chunk:
                self.weights.add(log_weight)

        def result(self) -> Any:
            return self.weights.result()

    patch.setattr(passes, "ImportanceWeights", Rounded)


PATCHES = [
    (drop_jacobian, "decoupled", 0.3, "nll"),
    (sigma_for_variance, "flat", 0.3, "nll"),
    (sigma_for_variance, "decoupled", 0.3, "rate"),
    *((swap_prior_and_posterior, name, 0.3, "nll") for name in NAMES),
    pytest.param(round_k_down, "flat", 0.0, "ess", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("slip", "name", "slack", "column"), PATCHES)
def test_a_planted_slip_is_seen(
    slip: Callable[[pytest.MonkeyPatch], None], name: str, slack: float, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = oracle_named(name, slack)
    kept = values(oracle, 100, rows=800)  # batches of 8 examples, chunks of 100 draws
    assert faults(oracle, kept, 100) == []
    slip(monkeypatch)
    assert column in faults(oracle, values(oracle, 100, rows=800 if slip is not round_k_down else 8), 100)


def slipped(
    batch: Batch, seed: int, *, slip: Callable[[dict[str, Tensor]], dict[str, Tensor]], **protocol: Any
) -> dict[str, Tensor]:
    """`score`, with a slip made in its values."""
    return slip(score(batch, seed, **protocol))


@pytest.mark.parametrize("slip", weekly([wrong_sign, mean_of_logs], mean_of_logs))
@pytest.mark.parametrize("name", NAMES)
def test_a_slip_in_the_reduction_is_seen(slip: Callable[[dict[str, Tensor]], dict[str, Tensor]], name: str) -> None:
    oracle, scored = oracle_named(name), partial(slipped, slip=slip)
    assert faults(oracle, values(oracle, 300), 300) == []
    assert faults(oracle, values(oracle, 300, scored=scored), 300) == ["nll"]


def failed_answers() -> Iterator[str]:
    return (answer.estimator for answer in bounds.likelihood(CPU, torch.float32) if not answer.passed)


@pytest.mark.slow
def test_selftest_sees_a_slip(monkeypatch: pytest.MonkeyPatch) -> None:
    drop_jacobian(monkeypatch)
    assert all("decoupled" in name for name in failed_answers())
    assert any("nll" in name for name in failed_answers())
