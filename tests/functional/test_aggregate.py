"""The aggregate posterior: equal to the broadcast form, to others' values, and to exact marginals."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vaebench.functional import aggregate
from vaebench.functional.aggregate import draw_mixture, log_marginal_densities, log_mixture_density, lowest, marginals
from vaebench.functional.information import active_units, mutual_information
from vaebench.functional.statistics import mean_stderr

GOLDEN = Path(__file__).parents[1] / "golden"


def load(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: torch.from_numpy(np.array(file[key])) for key in file}


def broadcast(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log q(z) from a tensor of (points, posteriors, latent), in double precision."""
    z, mean, log_variance = z.double(), mean.double(), log_variance.double()
    square = (z[:, None] - mean).square() / log_variance.exp()
    exponent = -0.5 * (square + log_variance + math.log(2 * math.pi)).sum(-1)
    return exponent.logsumexp(1) - math.log(len(mean))


def posteriors(count: int, latent: int, scale: float, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    mean = torch.randn(count, latent, generator=generator) + shift
    return mean, torch.randn(count, latent, generator=generator) + 2 * math.log(scale)


@pytest.mark.parametrize("tile", [(128, 2048), (7, 13), (1, 1)])
@pytest.mark.parametrize(("count", "latent", "scale", "shift"), [
    (300, 5, 0.5, 0.0), (500, 64, 0.1, 0.0), (40, 2, 1e-4, 0.0), (200, 8, 0.3, 1000.0), (1, 1, 1.0, 0.0),
])  # fmt: skip
def test_equals_the_broadcast_form(
    count: int, latent: int, scale: float, shift: float, tile: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregate, "POINTS", tile[0])
    monkeypatch.setattr(aggregate, "COMPONENTS", tile[1])
    mean, log_variance = posteriors(count, latent, scale, shift)
    near, *_ = draw_mixture(mean, log_variance, 50, 1)
    far = torch.full((1, latent), shift + 30.0)
    z = torch.cat([near, far])
    found, exact = log_mixture_density(z, mean, log_variance), broadcast(z, mean, log_variance)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, exact, rtol=1e-8, atol=1e-4)


def test_marginals_are_the_density_of_each_dimension() -> None:
    mean, log_variance = posteriors(100, 3, 0.5)
    z = mean[:10]
    found = log_marginal_densities(z, marginals(mean, log_variance))
    for i in range(3):
        one = slice(i, i + 1)
        torch.testing.assert_close(
            found[:, i], broadcast(z[:, one], mean[:, one], log_variance[:, one]), atol=1e-6, rtol=0
        )


def test_draws_come_from_every_component_alike_and_from_the_seed() -> None:
    mean, log_variance = posteriors(7, 3, 0.5)
    z, component, _ = draw_mixture(mean, log_variance, 7000, 3)
    assert component.bincount().tolist() == [1000] * 7
    residual = (z - mean[component]) * (-0.5 * log_variance[component]).exp()
    assert residual.mean(0).abs().max() < 4 / 7000**0.5
    assert (residual.var(0) - 1).abs().max() < 4 * (2 / 7000) ** 0.5
    assert draw_mixture(mean, log_variance, 7000, 3)[0].equal(z)
    assert not draw_mixture(mean, log_variance, 7000, 4)[0].equal(z)
    few, some, _ = draw_mixture(mean, log_variance, 3, 3)
    assert few.equal(z[:3])
    assert len(set(some.tolist())) == 3


def test_lowest_are_the_lowest_in_order() -> None:
    density = torch.tensor([0.3, -5.0, 2.0, -7.0, 0.0])
    assert lowest(density, 3).tolist() == [3, 1, 4]
    with pytest.raises(ValueError, match="6 low-posterior samples were asked for of 5 candidates; draw more"):
        lowest(density, 6)


def test_a_gaussian_posterior_of_gaussian_data_has_its_exact_marginal() -> None:
    """mean ~ N(0, a^2), variance b^2: q(z) tends to N(0, a^2 + b^2) as N grows; MI = (1/2) log(1 + a^2 / b^2)."""
    generator = torch.Generator().manual_seed(0)
    a, b, count = 0.8, 0.6, 20_000
    mean = a * torch.randn(count, 1, generator=generator)
    log_variance = torch.full((count, 1), 2 * math.log(b))
    z, *_ = draw_mixture(mean, log_variance, len(mean), 0)
    exact = -0.5 * (z.double()[:, 0] ** 2 / (a * a + b * b) + math.log(2 * math.pi * (a * a + b * b)))
    difference, error = mean_stderr(log_mixture_density(z, mean, log_variance) - exact)
    assert error is not None
    assert abs(difference) < 4 * error + 1 / count**0.5
    information, error = mean_stderr(mutual_information(log_mixture_density(z, mean, log_variance), log_variance))
    assert error is not None
    assert abs(information - 0.5 * math.log(1 + a * a / (b * b))) < 4 * error + 1 / count**0.5


@pytest.mark.parametrize(("case", "mi", "units"), [
    ("active", 5.853186087121488, 8), ("partly_collapsed", 1.360497002918116, 4),
])  # fmt: skip
def test_mutual_information_and_active_units_equal_the_published_code(case: str, mi: float, units: int) -> None:
    g = load(f"lagging_mi_au_{case}")
    found = mutual_information(log_mixture_density(g["z"], g["mu"], g["logvar"]), g["logvar"])
    assert float(found.mean()) == pytest.approx(mi, abs=1e-5)
    assert active_units(g["mu"]) == units
    assert active_units(g["mu"], limit=10.0) == 0


def test_the_parts_of_the_rate_equal_the_published_code() -> None:
    g = load("tcvae_elbo_decomposition_clustered")
    joint = log_mixture_density(g["z"], g["mu"], g["logvar"])
    alone = log_marginal_densities(g["z"], marginals(g["mu"], g["logvar"]))
    assert float(-joint.mean()) == pytest.approx(6.001162678239263, abs=1e-5)
    assert float((joint - alone.sum(1)).mean()) == pytest.approx(1.3599061211361878, abs=1e-5)
    expected = [1.0238546560072996, 1.262250606428946, 1.302280993233603, 1.2279372728785254, 1.4844818695935897]
    assert (-alone.mean(0)).tolist()[:5] == pytest.approx(expected, abs=1e-5)
    information = mutual_information(joint, g["logvar"]).mean()
    assert float(information) == pytest.approx(3.457706562529256, abs=1e-5)
