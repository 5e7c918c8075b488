"""Minibatch estimates of log q(z) and log prod q(z_l): the authors' values, the exact mixture, the limit of large B."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vaebench.functional.total_correlation import aggregate, minibatch_stratified, minibatch_weighted

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = ["sharp", "moderate"]


def load(case: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"tcvae_minibatch_{case}.npz") as file:
        return {name: torch.from_numpy(np.array(file[name])).double() for name in file}


def same(found: tuple[Tensor, Tensor], golden: dict[str, Tensor], name: str) -> None:
    torch.testing.assert_close(found[0], golden[f"{name}_logqz"], rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(found[1], golden[f"{name}_logqz_prodmarginals"], rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_equal_the_published_code(case: str) -> None:
    g = load(case)
    inputs, size = (g["z"], g["mu"], g["logvar"]), int(g["dataset_size"])
    same(minibatch_weighted(*inputs, size), g, "weighted")
    same(aggregate(*inputs, g["stratified_weight_matrix_official"].log()), g, "stratified")
    same(minibatch_stratified(*inputs, size), g, "stratified_diagonal_variant")
    wrongs: list[Callable[[], None]] = [
        lambda: same(minibatch_weighted(*inputs, size + 60), g, "weighted"),
        lambda: same(minibatch_weighted(g["z"], g["mu"], 2 * g["logvar"], size), g, "weighted"),
        lambda: same(minibatch_stratified(*inputs, size), g, "stratified"),  # the official quirk is not ours
    ]
    for wrong in wrongs:
        with pytest.raises(AssertionError):
            wrong()


def gaussians(batch: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(batch, 2, generator=generator, dtype=torch.float64)
    log_variance = torch.randn(batch, 2, generator=generator, dtype=torch.float64) - 1
    return mean + 0.3 * torch.randn(batch, 2, generator=generator, dtype=torch.float64), mean, log_variance


def exact(z: Tensor, mean: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
    """The equally weighted mixture by torch's own distributions."""
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    each = normal.log_prob(z[:, None]).exp()  # (points, N, L)
    return each.prod(-1).mean(1).log(), each.mean(1).log().sum(-1)


def test_with_one_example_counted_the_weighted_estimate_is_the_batch_mixture() -> None:
    inputs = gaussians(30)
    for found, expected in zip(minibatch_weighted(*inputs, 1), exact(*inputs), strict=True):
        torch.testing.assert_close(found, expected)


def test_dataset_size_shifts_the_weighted_estimate_by_constants() -> None:
    one, many = minibatch_weighted(*gaussians(30), 1), minibatch_weighted(*gaussians(30), 500)
    torch.testing.assert_close(one[0] - many[0], torch.full_like(one[0], math.log(500)))
    torch.testing.assert_close(one[1] - many[1], torch.full_like(one[1], 2 * math.log(500)))


def unbiased(diagonal: bool) -> None:
    """exp(log q(z_0)) averaged over random batches that hold x_0 is the mixture over the whole dataset."""
    z, mean, log_variance = gaussians(24)
    truth = exact(z, mean, log_variance)[0][0].exp()
    generator = torch.Generator().manual_seed(3)
    found = []
    for _ in range(1500):
        others = 1 + torch.randperm(23, generator=generator)[:5]
        batch = torch.cat([torch.zeros(1, dtype=torch.int64), others])
        if not diagonal:  # x_0 last: 1/N is then another's
            batch = batch.roll(-1)
        rows = (z[:1].expand(6, 2), mean[batch], log_variance[batch])
        found.append(minibatch_stratified(*rows, 24)[0][0].exp())
    draws = torch.stack(found)
    assert abs(draws.mean() - truth) < 4.5 * draws.std() / len(draws) ** 0.5


def test_stratified_sampling_is_unbiased() -> None:
    unbiased(diagonal=True)
    with pytest.raises(AssertionError):
        unbiased(diagonal=False)


def test_total_correlation_of_correlated_gaussians_in_the_limit() -> None:
    covariance = torch.tensor([[1.0, 0.8, 0.3], [0.8, 1.5, 0.0], [0.3, 0.0, 0.7]], dtype=torch.float64)
    truth = 0.5 * float(covariance.diag().log().sum() - covariance.logdet())
    generator, noise = torch.Generator().manual_seed(0), 0.1
    root = torch.linalg.cholesky(covariance - noise * torch.eye(3, dtype=torch.float64))
    errors = []
    for batch in (60, 2000):
        mean = torch.randn(batch, 3, generator=generator, dtype=torch.float64) @ root.T
        z = mean + noise**0.5 * torch.randn(batch, 3, generator=generator, dtype=torch.float64)
        joint, marginals = minibatch_weighted(z, mean, torch.full_like(mean, math.log(noise)), 1)
        errors.append(float((joint - marginals).mean() - truth))
    assert abs(errors[1]) < 0.06 < abs(errors[0])
    assert errors[0] > 0  # each point is close to its own component


@pytest.mark.parametrize("estimate", [minibatch_weighted, minibatch_stratified])
def test_a_batch_of_one_is_its_own_posterior(estimate: object) -> None:
    assert callable(estimate)
    z, mean, log_variance = (t[:1] for t in gaussians(2))
    joint, marginals = estimate(z, mean, log_variance, 1)
    torch.testing.assert_close(joint, exact(z, mean, log_variance)[0])
    torch.testing.assert_close(joint, marginals)


def test_a_batch_larger_than_the_dataset_is_refused() -> None:
    with pytest.raises(ValueError, match="batch of 30 was not drawn from a dataset of 29"):
        minibatch_stratified(*gaussians(30), 29)
