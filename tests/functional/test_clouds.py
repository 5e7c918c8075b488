"""Distances between clouds: naive formulas, exact cases, laws of the scores of sets."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vaebench.functional import clouds, mixture
from vaebench.functional.clouds import chamfer, chamfer_matrix, chamfer_ring, earth_mover, from_ring, set_match


def some(count: int, points: int, seed: int = 0) -> Tensor:
    return torch.rand(count, points, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5


def naive(a: Tensor, b: Tensor) -> float:
    square = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
    return float(square.min(1).values.mean() + square.min(0).values.mean())


@pytest.mark.parametrize("cells", [2**18, 100, 1])
def test_chamfer_is_the_naive_one(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "CELLS", cells)
    a, b = some(5, 17), some(5, 23, 1)
    wanted = torch.tensor([[naive(x, y) for y in b] for x in a], dtype=torch.float64)
    torch.testing.assert_close(chamfer_matrix(a, b), wanted)
    torch.testing.assert_close(chamfer(a, b), wanted.diagonal())
    torch.testing.assert_close(chamfer(a.float(), b.float()), wanted.diagonal(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(chamfer_matrix(b, a), wanted.T)


@pytest.mark.parametrize("count", [2, 3, 7, 8])
def test_a_ring_has_the_distances_of_all_pairs(count: int) -> None:
    x = some(count, 11)
    ring = torch.cat([chamfer_ring(x, of) for of in torch.arange(count).split(3)])
    assert ring.shape == (count, count // 2)
    torch.testing.assert_close(from_ring(ring), chamfer_matrix(x, x), rtol=1e-9, atol=1e-12)


def test_distances_of_a_cloud_to_itself_moved() -> None:
    a = some(3, 20)
    far = torch.tensor([10.0, 0, 0], dtype=torch.float64)
    assert float(chamfer(a, a).abs().max()) < 1e-12
    assert float(earth_mover(a, a[:, torch.randperm(20)]).max()) < 1e-12
    torch.testing.assert_close(earth_mover(a, a + far), torch.full((3,), 10.0, dtype=torch.float64))


def test_the_earth_movers_distance_is_the_best_assignment() -> None:
    a, b = some(2, 6), some(2, 6, 1)
    for x, y, found in zip(a, b, earth_mover(a, b), strict=True):
        cost = np.linalg.norm(x.numpy()[:, None] - y.numpy()[None], axis=-1)
        assert float(found) == pytest.approx(cost[linear_sum_assignment(cost)].mean())
        assert float(found) <= cost.diagonal().mean()
    with pytest.raises(ValueError, match="one to one"):
        earth_mover(a, b[:, :5])


def matched(real: Tensor, drawn: Tensor) -> tuple[float, float, float]:
    found = set_match(chamfer_matrix(real, real), chamfer_matrix(real, drawn), chamfer_matrix(drawn, drawn))
    assert float(found.nearest.mean()) == pytest.approx(found.one_nna)
    return found.one_nna, found.coverage, found.mmd


def test_scores_of_sets_at_their_poles() -> None:
    real = some(40, 16)
    assert matched(real, real.clone())[0] == 0.0  # each copy is nearest to what it copies
    assert matched(real, real.clone())[1:] == (1.0, pytest.approx(0, abs=1e-12))
    apart = matched(real, some(40, 16, 1) + 5)
    assert apart[0] == 1.0
    one = matched(real, real[:1].expand(40, -1, -1) + 1e-6 * some(40, 16, 2))
    assert one[1] == 1 / 40
    alike = np.mean([matched(some(60, 16, 2 * s), some(60, 16, 2 * s + 1))[0] for s in range(8)])
    assert abs(alike - 0.5) < 5 * 0.5 / np.sqrt(8 * 120)


def test_the_mixture_is_stable_where_a_point_is_far_or_a_scale_small() -> None:
    log_weight = torch.tensor([[0.3, 0.7]]).log()
    mean, log_scale = torch.tensor([[[0.0, 0, 0], [0.5, 0.5, 0.5]]]), torch.full((1, 2, 3), 0.01).log()
    x = torch.tensor([[[0.003, -0.001, 0.0], [0.5, 0.51, 0.5], [50.0, 0, 0]]])
    found = mixture.log_density(x, log_weight, mean, log_scale)
    wanted = mixture.log_density(x.double(), log_weight.double(), mean.double(), log_scale.double())
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-3)


def components(count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    raw = torch.randn(2, count, 7, 4, generator=generator, dtype=dtype)
    return raw[:, :, 0].log_softmax(-1), raw[:, :, 1:4].mT, 0.3 * raw[:, :, 4:].mT


@pytest.mark.parametrize("floats", [1, 3 * 5 * 4, 2**18])
def test_a_clouds_likelihood_is_the_sum_over_its_points(floats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its gradient, which is found another way, in parts of one cloud, of three and of all."""
    monkeypatch.setattr(mixture, "_FLOATS", floats)
    x, numbers = some(3, 5).double(), [each.requires_grad_() for each in components(3, torch.float64)]
    score = mixture.log_likelihood(x, *numbers)
    wanted = torch.stack([mixture.log_density(x, *(each[s] for each in numbers)).sum(-1) for s in range(2)])
    torch.testing.assert_close(score, wanted)
    weight = torch.arange(1.0, 7).view(2, 3).double()
    slopes = (torch.autograd.grad((weight * value).sum(), numbers) for value in (score, wanted))
    for slope, exact in zip(*slopes, strict=True):
        torch.testing.assert_close(slope, exact)


def test_a_clouds_likelihood_can_be_differentiated_twice_and_in_its_points() -> None:
    x, numbers = some(2, 3).double(), tuple(each.requires_grad_() for each in components(2, torch.float64))
    assert torch.autograd.gradgradcheck(lambda *each: mixture.log_likelihood(x, *each), numbers)
    assert torch.autograd.gradcheck(lambda y: mixture.log_likelihood(y, *numbers), x.clone().requires_grad_())
    each = torch.func.vmap(lambda *of: mixture.log_likelihood(x, *of))(*(n.detach() for n in numbers))
    torch.testing.assert_close(each, mixture.log_likelihood(x, *numbers).detach())
