"""Laws of the continuous Bernoulli: it integrates to 1, samples follow it, and nothing cancels about lambda = 1/2."""

import math

import pytest
import torch
from scipy import integrate, stats

from vaebench.functional import continuous_bernoulli as cb
from vaebench.functional import random

LOGITS = [-90.0, -20.0, -3.0, -0.26, -0.25, -0.24, -1e-3, -1e-8, 0.0, 1e-30, 1e-5, 0.01, 0.2499, 0.2501, 1.0, 7.0, 90.0]


def one(logit: float, x: float, dtype: torch.dtype = torch.float64) -> float:
    return float(cb.log_density(torch.tensor(logit, dtype=dtype), torch.tensor(x, dtype=dtype)))


@pytest.mark.parametrize("logit", LOGITS)
def test_it_integrates_to_one(logit: float) -> None:
    edges = [0.5] if abs(logit) < 5 else [1 - 5 / logit if logit > 0 else -5 / logit]
    total, error = integrate.quad(lambda x: math.exp(one(logit, x)), 0, 1, points=edges, epsabs=1e-12, epsrel=1e-12)
    assert total == pytest.approx(1, abs=1e-10 + 2 * error)
    assert one(logit, -1e-6) == one(logit, 1 + 1e-6) == -math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", LOGITS)
def test_the_papers_form_and_torchs(logit: float, dtype: torch.dtype) -> None:
    """C = 2 atanh(1 - 2 lambda) / (1 - 2 lambda) where that is stable; torch's, which has a Taylor series."""
    x = torch.tensor([0.0, 0.1, 0.5, 0.93, 1.0], dtype=dtype)
    at = torch.tensor(logit, dtype=dtype)
    found = cb.log_density(at, x).double()
    if 0.2 < abs(logit) < 10:
        chance = 1 / (1 + math.exp(-logit))
        log_c = math.log(2 * math.atanh(1 - 2 * chance) / (1 - 2 * chance))
        wanted = x.double() * math.log(chance) + (1 - x.double()) * math.log(1 - chance) + log_c
    else:
        wanted = x.double() * logit - torch.nn.functional.softplus(torch.tensor(logit, dtype=torch.float64))
        wanted += math.log(2) if abs(logit) < 1e-7 else math.log(logit / math.tanh(logit / 2))
    rounding = 4e-7 if dtype == torch.float32 else 2e-14
    assert found.tolist() == pytest.approx(wanted.tolist(), rel=rounding, abs=rounding * (1 + abs(logit)))
    if abs(logit) < 10:
        torchs = torch.distributions.ContinuousBernoulli(logits=at.double(), validate_args=False)
        near = 1e-4 if abs(logit) < 0.1 else 1e-6  # its cut about 1/2 is a coarse one
        assert found.tolist() == pytest.approx(torchs.log_prob(x.double()).tolist(), abs=near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_do_not_cancel(dtype: torch.dtype) -> None:
    """d/dl log p = x - E[x]."""
    logits = torch.tensor(LOGITS, dtype=dtype, requires_grad=True)
    (found,) = torch.autograd.grad(cb.log_density(logits, torch.full_like(logits, 0.3)).sum(), logits)
    exact = torch.tensor([0.3 - (1 / -math.expm1(-a) - 1 / a if abs(a) > 0.05 else 0.5 + a / 12) for a in LOGITS])
    torch.testing.assert_close(found.double(), exact.double(), rtol=0, atol=2e-6)
    torch.testing.assert_close(0.3 - cb.mean(logits.detach()).double(), exact.double(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("logit", LOGITS)
def test_samples_follow_it(logit: float) -> None:
    u = random.uniform(random.keys(3, torch.arange(20_000)), ()).double()
    x = cb.quantile(torch.tensor(logit).double(), u)
    assert bool(((x >= 0) & (x <= 1)).all())
    cut = stats.truncexpon(b=abs(logit), scale=1 / abs(logit)) if abs(logit) > 1e-6 else stats.uniform()
    falling = (1 - x if logit > 0 else x) if abs(logit) > 1e-6 else x
    assert stats.kstest(falling.numpy(), cut.cdf).pvalue > 1e-3
    mean = float(cb.mean(torch.tensor(logit).double()))
    assert abs(float(x.mean()) - mean) < 5 * float(x.std()) / len(x) ** 0.5
