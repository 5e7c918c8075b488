"""The Frechet distance: closed forms, laws, scipy's matrix root, torch-fidelity's own function; moments in parts."""

from functools import reduce

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor
from torch_fidelity.metric_fid import (
    KEY_METRIC_FID,
    fid_features_to_statistics,
    fid_statistics_to_metric,
)

from vaebench.functional.frechet import frechet_distance, gaussian_distance, merge, moments

F = 6


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def covariance(seed: int, rank: int = F) -> Tensor:
    factor = torch.randn(F, rank, generator=generator(seed), dtype=torch.float64)
    return factor @ factor.T


def features(seed: int, count: int, width: int = F) -> Tensor:
    g = generator(seed)
    return torch.randn(count, width, generator=g) @ torch.randn(width, width, generator=g) + torch.randn(
        width, generator=g
    )


def by_root(mean_a: Tensor, a: Tensor, mean_b: Tensor, b: Tensor) -> float:
    root = linalg.sqrtm((a @ b).numpy())
    return float((mean_a - mean_b).square().sum() + a.trace() + b.trace() - 2 * np.trace(root).real)


def test_commuting_covariances_have_a_closed_form() -> None:
    """Along shared axes the distance is that of one-dimensional Gaussians: (m - n)^2 + (s - t)^2 each."""
    axes = torch.linalg.qr(torch.randn(F, F, generator=generator(0), dtype=torch.float64)).Q
    s, t = (torch.rand(F, generator=generator(i), dtype=torch.float64) * 3 for i in (1, 2))
    s[0] = t[1] = 0.0  # of lower rank, each in its own direction
    m, n = (torch.randn(F, generator=generator(i), dtype=torch.float64) for i in (3, 4))
    found = gaussian_distance(axes @ m, axes * s**2 @ axes.T, axes @ n, axes * t**2 @ axes.T)
    assert found == pytest.approx(float((m - n).square().sum() + (s - t).square().sum()), rel=1e-12)


def test_one_dimension_and_one_direction_each() -> None:
    one = torch.ones(1)
    assert gaussian_distance(one, 4 * one[None], 3 * one, 9 * one[None]) == pytest.approx(4 + 1, rel=1e-12)
    u, v = torch.tensor([1.0, 0.0]), torch.tensor([0.6, 0.8])
    zero = torch.zeros(2)  # rank 1: tr (S_u S_v)^(1/2) = |u.v|
    assert gaussian_distance(zero, u.outer(u), zero, v.outer(v)) == pytest.approx(2 - 2 * 0.6, rel=1e-6)


@pytest.mark.parametrize("ranks", [(F, F), (F, 2), (2, 3), (1, 1)])
def test_it_meets_the_matrix_root_of_scipy(ranks: tuple[int, int]) -> None:
    a, b = covariance(0, ranks[0]), covariance(1, ranks[1])
    means = torch.randn(2, F, generator=generator(2), dtype=torch.float64)
    # the root of a singular product is accurate to the root of the rounding only
    close = 1e-10 if ranks == (F, F) else 1e-6
    assert gaussian_distance(means[0], a, means[1], b) == pytest.approx(by_root(means[0], a, means[1], b), rel=close)


@pytest.mark.parametrize(("sizes", "width"), [((500, 300), F), ((40, 30), 64)])
def test_it_meets_torch_fidelity(sizes: tuple[int, int], width: int) -> None:
    x, y = features(0, sizes[0], width).double(), features(1, sizes[1], width).double()
    theirs = fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), verbose=False)
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(theirs[KEY_METRIC_FID], rel=1e-6)


@pytest.mark.parametrize("count", [1000, 3])  # 3 vectors: covariances of rank 2
def test_laws(count: int) -> None:
    a, b = features(0, count), features(1, count)
    x, y = moments(a), moments(b)
    distance, scale = frechet_distance(x, y), float(x.covariance.trace())
    assert abs(frechet_distance(x, x)) < 1e-12 * scale  # not the 1e-8 that roots of rounded eigenvalues leave
    assert distance > 0
    assert frechet_distance(y, x) == pytest.approx(distance, rel=1e-10)
    order = torch.randperm(count, generator=generator(2))
    assert frechet_distance(moments(a[order]), y) == pytest.approx(distance, rel=1e-10)
    turn = torch.linalg.qr(torch.randn(F, F, generator=generator(3), dtype=torch.float64)).Q
    turned = frechet_distance(moments(a.double() @ turn + 5), moments(b.double() @ turn + 5))
    assert turned == pytest.approx(distance, rel=1e-10)
    assert frechet_distance(moments(3 * a), moments(3 * b)) == pytest.approx(9 * distance, rel=1e-5)


def test_a_shift_alone_is_its_square() -> None:
    a = features(0, 100).double()
    assert frechet_distance(moments(a), moments(a + 2)) == pytest.approx(4 * F, rel=1e-10)


@pytest.mark.parametrize("parts", [1, 7, 100, 999])
def test_moments_in_parts_are_the_moments_of_all(parts: int) -> None:
    a = features(0, 1000) + 1000  # far from 0, where sums of squares would cancel
    together = reduce(merge, map(moments, a.split(parts)))
    assert together.size == 1000
    torch.testing.assert_close(together.mean, a.double().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(together.covariance, torch.cov(a.double().T), rtol=1e-9, atol=1e-9)


def test_few_and_sick_features_are_refused() -> None:
    with pytest.raises(ValueError, match="1 feature vectors have no covariance"):
        _ = moments(torch.ones(1, 2)).covariance
    with pytest.raises(ValueError, match="NaN or infinite"):
        moments(torch.tensor([[1.0, float("nan")], [0.0, 0.0]]))
