"""Power iteration: singular values of many matrices, and their gradients."""

import torch

from vaebench.functional.spectral import power_iteration


def matrices() -> torch.Tensor:
    return torch.randn(5, 4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_it_finds_the_largest_singular_values() -> None:
    w, start = matrices(), torch.ones(5, 4, dtype=torch.float64)
    sigma, left = power_iteration(w, start, 200)
    torch.testing.assert_close(sigma, torch.linalg.svdvals(w)[:, 0])
    torch.testing.assert_close(power_iteration(w, left, 1)[0], sigma)
    few = power_iteration(w, start, 1)[0]
    assert bool((few <= sigma + 1e-12).all())
    assert float((sigma - few).max()) > 1e-3


def test_its_gradient_is_that_of_the_singular_value() -> None:
    w = matrices().requires_grad_()
    sigma, _ = power_iteration(w, torch.ones(5, 4, dtype=w.dtype), 300)
    (found,) = torch.autograd.grad(sigma.sum(), w)
    (exact,) = torch.autograd.grad(torch.linalg.svdvals(w)[:, 0].sum(), w)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-6)
