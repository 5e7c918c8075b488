"""The family of point clouds: no order of points changes anything, and the density is that of the mixture."""

import math

import pytest
import torch
from torch import Tensor

from vaebench.core import checks
from vaebench.core.data import Space
from vaebench.distributions.noise import keyed
from vaebench.distributions.points import PointMixture
from vaebench.functional import mixture
from vaebench.models.adapters.points import Options, Points
from vaebench.models.networks.points import PointNet

SPACE = Space((64, 3), None, "density")


def model(prior: str = "normal") -> Points:
    torch.manual_seed(0)
    return Points(SPACE, Options(latent=4, point=(16, 32), hidden=(24,), components=6, prior=prior)).double()  # type: ignore[arg-type]


def clouds(count: int) -> Tensor:
    return torch.rand(count, *SPACE.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5


@pytest.mark.parametrize("prior", ["normal", "coupling"])
def test_the_conformance_suite(prior: str) -> None:
    torch.manual_seed(0)
    small = Points(SPACE, Options(latent=4, point=(16, 32), hidden=(24,), components=6, prior=prior))  # type: ignore[arg-type]
    assert [check for check in checks.check_model(small) if not check.passed] == []


def test_the_order_of_points_changes_nothing() -> None:
    net, x = model(), clouds(3)
    mixed = x[:, torch.randperm(64, generator=torch.Generator().manual_seed(2))]
    found = []
    for each in (x, mixed):
        with keyed(0, torch.arange(3)):
            draws = net.draw(each, 5)
        found.append((net.embed(each), draws.log_likelihood, draws.log_weight))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("points", [1, 7, 300])
def test_the_gradient_of_the_maximum_over_points_is_that_of_all_points(points: int) -> None:
    torch.manual_seed(0)
    network = PointNet((8, 16), (8,), 4, "silu").double()
    x = torch.randn(3, points, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 4, dtype=torch.float64)
    wanted = network.cloud(network.point(x).amax(1))
    found = network(x)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    inputs = [x, *network.parameters()]
    for a, b in zip(*(torch.autograd.grad((y * weights).sum(), inputs) for y in (found, wanted)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(network(x), wanted, rtol=1e-12, atol=1e-12)


def test_the_density_is_torchs_mixture() -> None:
    net, x = model(), clouds(2)
    p = net.likelihood(net.prior(2).rsample(3))
    assert isinstance(p, PointMixture)
    log_weight, mean, log_scale = p.parameters()
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=log_weight.unsqueeze(2)),
        torch.distributions.Independent(torch.distributions.Normal(mean.unsqueeze(2), log_scale.exp().unsqueeze(2)), 1),
    )
    torch.testing.assert_close(p.log_prob(x), mixture.log_prob(x).sum(-1))
    centre = (log_weight.exp().unsqueeze(-1) * mean).sum(2)
    torch.testing.assert_close(p.mean, centre.unsqueeze(2).expand(3, 2, *SPACE.shape))


def test_a_point_has_a_density_that_integrates_to_one() -> None:
    raw = torch.randn(1, 1, 7 * 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    p = PointMixture(raw, (1, 3), None, floor=0.2)
    side = torch.linspace(-8, 8, 101, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side, side).unsqueeze(1)  # clouds of one point
    again = PointMixture(raw.expand(1, len(grid), -1), (1, 3), None, floor=0.2)
    assert float(again.log_prob(grid).exp().sum() * 0.16**3) == pytest.approx(1, abs=1e-3)
    assert p.parameters()[2].exp().min() >= 0.2


def test_samples_have_the_moments_of_the_mixture() -> None:
    raw = torch.randn(1, 1, 7 * 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    p = PointMixture(raw, (40_000, 3), None)
    with keyed(0, torch.arange(1)):
        x = p.sample()[0, 0]
    log_weight, mean, log_scale = (each[0, 0] for each in p.parameters())
    weight = log_weight.exp()[:, None]
    first, second = (weight * mean).sum(0), (weight * (mean.square() + (2 * log_scale).exp())).sum(0)
    for power, wanted in ((1, first), (2, second)):
        value = x**power
        error = (value.mean(0) - wanted) / (value.std(0) / math.sqrt(len(x)))
        assert error.abs().max() < 4.5


def test_chunks_change_no_value_and_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    x = clouds(3)
    found = []
    for cells in (2**23, 64 * 6 * 2):
        monkeypatch.setattr(mixture, "_FLOATS", cells)
        raw = torch.randn(4, 3, 7 * 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64).requires_grad_()
        score = PointMixture(raw, SPACE.shape, None).log_prob(x)
        (gradient,) = torch.autograd.grad(score.sum(), raw)
        found.append((score.detach(), gradient))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("space", "options", "says"),
    [
        (Space((1, 8, 8), 17, "pmf"), Options(2), "is for clouds"),
        (Space((2,), None, "density"), Options(2), "is for clouds"),
    ],
)
def test_other_data_are_refused(space: Space, options: Options, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Points(space, options)


@pytest.mark.parametrize(
    "wrong", [{"latent": 0}, {"components": 0}, {"components": 10**9}, {"floor": 0.0}, {"floor": 2.0}, {"point": ()}]
)
def test_options_are_bounded(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="should"):
        Options(**{"latent": 2, **wrong})  # type: ignore[arg-type]
