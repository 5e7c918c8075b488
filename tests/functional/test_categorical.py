"""The categorical log-likelihood: torch's own, for every layout in memory, under vmap, and with gradients."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical

from vaebench.functional import categorical
from vaebench.functional.categorical import log_likelihood


def logits(last: bool) -> Tensor:
    """(4, 3, 2, 7, 5): levels along dimension 3, side by side in memory where `last`."""
    generator = torch.Generator().manual_seed(0)
    if last:
        return (9 * torch.randn(4, 3, 2, 5, 7, generator=generator, dtype=torch.float64)).movedim(-1, 3)
    return 9 * torch.randn(4, 3, 2, 7, 5, generator=generator, dtype=torch.float64)


X = torch.randint(0, 7, (3, 2, 5), generator=torch.Generator().manual_seed(1))


def expected(values: Tensor) -> Tensor:
    return Categorical(logits=values.movedim(3, -1)).log_prob(X)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("floats", [1, 60, 2**18])
def test_it_is_torchs(last: bool, floats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(categorical, "_FLOATS", floats)
    values = logits(last)
    torch.testing.assert_close(log_likelihood(values, X, 3), expected(values))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(log_likelihood(values, X.flip(-1), 3), expected(values))


@pytest.mark.parametrize("last", [False, True])
def test_gradients_to_the_second(last: bool) -> None:
    values = logits(last).requires_grad_()
    (ours,) = torch.autograd.grad(log_likelihood(values, X, 3).square().sum(), values, create_graph=True)
    (theirs,) = torch.autograd.grad(expected(values).square().sum(), values, create_graph=True)
    torch.testing.assert_close(ours, theirs)
    second = [torch.autograd.grad(g.pow(3).sum(), values, retain_graph=True)[0] for g in (ours, theirs)]
    torch.testing.assert_close(*second)


@pytest.mark.parametrize("last", [False, True])
def test_a_graph_is_gone_back_through_once_or_an_error_says_so(last: bool) -> None:
    values = logits(last).requires_grad_()
    total = log_likelihood(values, X, 3).square().sum()
    (ours,) = torch.autograd.grad(total, values, retain_graph=True)
    torch.testing.assert_close(ours, torch.autograd.grad(expected(values).square().sum(), values)[0])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(total, values)


@pytest.mark.parametrize("last", [False, True])
def test_it_maps(last: bool) -> None:
    values = logits(last)
    found = torch.func.vmap(lambda one: log_likelihood(one, X, 2))(values)
    torch.testing.assert_close(found, expected(values))


def test_extreme_logits_stay_finite() -> None:
    values = torch.tensor([[3e4, -3e4, 0.0], [-3e4, -3e4, -3e4]])
    found = log_likelihood(values, torch.tensor([1, 2]), 1)
    torch.testing.assert_close(found, torch.tensor([-6e4, -torch.tensor(3.0).log()]))
