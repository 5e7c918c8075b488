"""The Kullback-Leibler divergence between diagonal Gaussians: torch's own, its direction, its gradient."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from vaebench.functional.divergence import kl_gaussian


def pair() -> list[Tensor]:
    return [torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(4)]


def expected(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    one = Independent(Normal(mean, (0.5 * log_variance).exp()), 1)
    two = Independent(Normal(other_mean, (0.5 * other_log_variance).exp()), 1)
    found: Tensor = kl_divergence(one, two)
    return found


def test_equals_torchs() -> None:
    a, b, c, d = pair()
    torch.testing.assert_close(kl_gaussian(a, b, c, d), expected(a, b, c, d))
    torch.testing.assert_close(kl_gaussian(a, b, c, d, dims=2), expected(a, b, c, d).sum(-1))


@pytest.mark.parametrize("wrong", ["swapped", "scale for variance", "mean for sum"])
def test_the_comparison_sees_faults(wrong: str) -> None:
    a, b, c, d = pair()
    found = {
        "swapped": lambda: kl_gaussian(c, d, a, b),
        "scale for variance": lambda: kl_gaussian(a, 2 * b, c, 2 * d),
        "mean for sum": lambda: kl_gaussian(a, b, c, d) / 3,
    }[wrong]()
    with pytest.raises(AssertionError):
        torch.testing.assert_close(found, expected(a, b, c, d))


def test_against_a_standard_normal_and_against_itself() -> None:
    a, b, _, _ = pair()
    zero = torch.zeros_like(a)
    expected = 0.5 * (a.square() + b.exp() - b - 1).sum(-1)  # Kingma & Welling 2014, appendix B
    torch.testing.assert_close(kl_gaussian(a, b, zero, zero), expected)
    assert torch.equal(kl_gaussian(a, b, a, b), torch.zeros(2, 5, dtype=torch.float64))


def test_gradients_are_right() -> None:
    assert torch.autograd.gradcheck(kl_gaussian, tuple(t.requires_grad_() for t in pair()))
