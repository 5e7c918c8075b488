"""The fast forms equal the plain ones."""

import pytest
import torch
from torch.distributions import Bernoulli

from vaebench.functional.bernoulli import log_likelihood
from vaebench.functional.relu import relu_linear


@pytest.mark.parametrize("dims", [1, 7, 101, 784, 3072])
def test_log_likelihood_is_that_of_bernoullis(dims: int) -> None:
    generator = torch.Generator().manual_seed(dims)
    logits = 20 * torch.randn(5, 3, dims, generator=generator)
    x = torch.randint(0, 2, (3, dims), generator=generator).float()
    exact = Bernoulli(logits=logits.double()).log_prob(x.double().expand_as(logits)).sum(-1)
    torch.testing.assert_close(log_likelihood(logits, x).double(), exact, rtol=1e-6, atol=1e-6)


def test_log_likelihood_of_extreme_logits_is_finite_or_minus_infinity() -> None:
    logits = torch.tensor([[1e30, -1e30, 0.0]])
    assert float(log_likelihood(logits, torch.tensor([[1.0, 0.0, 1.0]]))) == pytest.approx(-0.693147, rel=1e-5)
    assert float(log_likelihood(logits, torch.tensor([[0.0, 0.0, 1.0]]))) == pytest.approx(-1e30)


def test_log_likelihood_differentiates_twice_and_under_vmap() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 10, dtype=torch.float64, generator=generator).requires_grad_()
    x = torch.randint(0, 2, (4, 10), generator=generator).double()
    assert torch.autograd.gradcheck(lambda value: log_likelihood(value, x), logits)
    assert torch.autograd.gradgradcheck(lambda value: log_likelihood(value, x), logits)
    each = torch.func.vmap(torch.func.grad(log_likelihood))(logits.detach(), x)
    torch.testing.assert_close(each, x - logits.detach().sigmoid())


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.3, 3.0])
@pytest.mark.parametrize("widths", [(3, 40, 11), (40, 8, 5), (2, 1, 1)])
def test_relu_linear_is_the_plain_product(spread: float, widths: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    inner, hidden, outer = widths
    shapes = ((hidden, inner), (hidden,), (outer, hidden), (outer,))
    w1, b1, w2, b2 = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes)
    centre = torch.randn(inner, generator=generator, dtype=torch.float64)
    inputs = centre + spread * torch.randn(50, inner, generator=generator, dtype=torch.float64)
    plain = (inputs @ w1.T + b1).relu() @ w2.T + b2
    torch.testing.assert_close(relu_linear(inputs, w1, b1, w2, b2), plain)


def test_relu_linear_drops_what_is_off_and_folds_what_is_on() -> None:
    """Units that never switch may have any weight size: the dropped ones are not even read as NaN."""
    inputs = torch.ones(4, 1) + torch.arange(4)[:, None] / 100
    w1, b1 = torch.tensor([[1.0], [1.0], [1.0], [-1.0]]), torch.tensor([0.0, 1.0, 2.0, 0.0])
    w2 = torch.tensor([[1.0, 2.0, 3.0, float("nan")]])
    result = relu_linear(inputs, w1, b1, w2, torch.zeros(1))
    torch.testing.assert_close(result, inputs + 2 * (inputs + 1) + 3 * (inputs + 2))
