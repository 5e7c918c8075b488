"""Laws of the decoupled prior: a bijection, its exact Jacobian, a density that integrates to 1."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal
from weekly import weekly

from vaebench.distributions.coupling import CouplingFlow, DecoupledPrior

WIDTHS = [2, 3, 8]


def flow(width: int, couplings: int = 6) -> CouplingFlow:
    """A flow that is far from the identity, in float64."""
    torch.manual_seed(width)
    made = CouplingFlow(width, couplings).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1.5)
    return made


def points(count: int, width: int) -> Tensor:
    return 2 * torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize("width", WIDTHS)
def test_forward_and_inverse_undo_each_other(width: int) -> None:
    g, u = flow(width), points(50, width)
    torch.testing.assert_close(g(g.inverse(u))[0], u)
    torch.testing.assert_close(g.inverse(g(u)[0]), u)
    assert float((g(u)[0] - u).abs().max()) > 0.1


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("couplings", [1, 2, 6])
def test_log_det_is_that_of_the_jacobian(width: int, couplings: int) -> None:
    g = flow(width, couplings)
    for z in points(5, width):
        jacobian = torch.autograd.functional.jacobian(lambda v: g(v)[0], z)
        torch.testing.assert_close(g(z)[1], torch.linalg.slogdet(jacobian).logabsdet)


@pytest.mark.parametrize("width", WIDTHS)
def test_two_couplings_move_every_coordinate(width: int) -> None:
    g = flow(width, 2)
    assert g.mask.sum(0).tolist() == [1] * width
    assert bool(((g(points(5, width))[0] - points(5, width)).abs() > 1e-6).all())


@pytest.mark.parametrize("temperature", weekly([0.5, 1.0], 0.5))
@torch.no_grad()
def test_density_integrates_to_one(temperature: float) -> None:
    line = torch.linspace(-14, 14, 281, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)[:, None]
    density = DecoupledPrior(flow(2), 1, temperature).log_prob((grid,)).exp()
    assert float(density.sum() * (line[1] - line[0]) ** 2) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
@torch.no_grad()
def test_constant_couplings_give_a_gaussian(temperature: float) -> None:
    g = flow(4)
    for net in (*g.s, *g.t):
        for name, parameter in net.named_parameters():
            if name.startswith("4.weight"):
                parameter.zero_()
    centre = g.inverse(torch.zeros(4, dtype=torch.float64))
    spread = g.inverse(torch.ones(4, dtype=torch.float64)) - centre
    z = points(30, 4)[:, None]
    expected = Independent(Normal(centre, temperature * spread), 1).log_prob(z)
    torch.testing.assert_close(DecoupledPrior(g, 1, temperature).log_prob((z,)), expected)


@torch.no_grad()
def test_draws_are_standard_normal_in_generation_space_times_the_temperature() -> None:
    g, n = flow(3), 20_000
    torch.manual_seed(0)
    (z,) = DecoupledPrior(g, 2, 0.6).rsample(n)
    assert z.shape == (n, 2, 3)
    unit = g(z)[0] / 0.6
    assert float(unit.mean(0).abs().max()) < 4.5 / n**0.5
    assert float((unit.square().mean(0) - 1).abs().max()) < 4.5 * (2 / n) ** 0.5


@torch.no_grad()
def test_entropy_of_draws_is_that_of_the_density() -> None:
    """E_p[log p] = -L/2 log(2 pi e) + E[log |det|]; and E_p[r / p] = 1 for a normal r."""
    g, n = flow(2), 20_000
    torch.manual_seed(0)
    (z,) = DecoupledPrior(g, 1).rsample(n)
    reference = Independent(Normal(z.mean(0), z.std(0)), 1)
    other = reference.sample(torch.Size([n]))
    weight = (DecoupledPrior(g, 1).log_prob((other,)) - reference.log_prob(other)).exp()
    assert abs(float(weight.mean() - 1)) < 4.5 * float(weight.std()) / n**0.5
    log_p = DecoupledPrior(g, 1).log_prob((z,))
    difference = log_p - (g(z)[1] - math.log(2 * math.pi * math.e))
    assert abs(float(difference.mean())) < 4.5 * float(difference.std()) / n**0.5


@pytest.mark.parametrize("width", [0, 1])
def test_a_single_latent_cannot_be_coupled(width: int) -> None:
    with pytest.raises(ValueError, match=f"needs at least 2 latent dimensions, not {width}"):
        CouplingFlow(width)
