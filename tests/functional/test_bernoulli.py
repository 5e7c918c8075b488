"""The fast form of the Bernoulli likelihood equals the plain one."""

import pytest
import torch
from torch.distributions import Bernoulli

from vaebench.functional.bernoulli import log_likelihood


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
