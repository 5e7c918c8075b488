"""Mutual information of codes and factors: known poles, a quadrature, the published codes' values."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score
from torch import Tensor

from vaebench.functional.aggregate import draw_mixture
from vaebench.functional.bootstrap import bootstrap_stderr
from vaebench.functional.disentanglement import (
    entropies,
    histogram_bins,
    information_gap,
    latent_information_terms,
    mig_chen,
    modularity,
    mutual_information,
)
from vaebench.functional.factors import neighbourhood, uniform_factors

GOLDEN = Path(__file__).parents[1] / "golden"
SIZES = (4, 12, 5, 8)


def load(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: torch.from_numpy(np.array(file[key])) for key in file}


def code(kind: str, factors: Tensor, noise: float = 0.02) -> Tensor:
    """Codes (N, 4): each factor by itself, pure noise, or an orthogonal mixture of all; a little noise on each."""
    generator = torch.Generator().manual_seed(1)
    size = torch.tensor(SIZES).double()
    unit = (factors - (size - 1) / 2) / ((size.square() - 1) / 12).sqrt()
    jitter = torch.randn(unit.shape, generator=generator, dtype=torch.float64)
    if kind == "noise":
        return jitter
    if kind == "rotated":
        unit = unit @ torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))[0]
    return unit + noise * jitter


def scores(codes: Tensor, factors: Tensor, bins: int = 20) -> tuple[float, float]:
    information = mutual_information(histogram_bins(codes, bins), factors)
    return information_gap(information, entropies(factors)), modularity(information)


def test_a_perfect_a_rotated_and_a_useless_code() -> None:
    factors = uniform_factors(0, SIZES, torch.arange(10_000))
    perfect, rotated, noise = (scores(code(kind, factors), factors) for kind in ("perfect", "rotated", "noise"))
    assert perfect[0] > 0.95
    assert perfect[1] > 0.999
    assert rotated[0] < 0.3
    assert rotated[1] < 0.95
    assert noise[0] < 0.01
    order, sign = torch.tensor([2, 0, 3, 1]), torch.tensor([1.0, -2.0, 0.5, 3.0])
    assert scores(code("perfect", factors)[:, order] * sign, factors)[0] == pytest.approx(perfect[0], abs=0.02)


def test_information_is_zero_at_constants_entropy_at_copies_and_symmetric() -> None:
    factors = uniform_factors(0, SIZES, torch.arange(999))
    constant = torch.full((999, 1), 3)
    assert mutual_information(constant, factors).tolist() == [[0.0] * 4]
    assert entropies(constant).tolist() == [0.0]
    assert modularity(mutual_information(constant, factors)) == 0
    other = (factors.sum(1, keepdim=True) * 7) % 5
    one, two = mutual_information(other, factors), mutual_information(factors, other)
    torch.testing.assert_close(one, two.T)
    for f in range(4):
        assert float(one[0, f]) == pytest.approx(mutual_info_score(other[:, 0], factors[:, f]), abs=1e-12)
        shares = factors[:, f].bincount().double() / 999
        assert float(entropies(factors)[f]) == pytest.approx(float(-(shares * shares.log()).sum()), abs=1e-12)


def test_gaps_leave_constant_factors_out_and_modularity_counts_them() -> None:
    information = torch.tensor([[0.6, 0.0, 0.1], [0.2, 0.0, 0.9]], dtype=torch.float64)
    scale = torch.tensor([0.8, 0.0, 1.0], dtype=torch.float64)
    assert information_gap(information, scale) == pytest.approx((0.4 / 0.8 + 0.8 / 1.0) / 2)
    assert information_gap(information[:1], scale) == pytest.approx((0.6 / 0.8 + 0.1) / 2)
    rest = [0.01 / (0.36 * 2), 0.04 / (0.81 * 2)]
    assert modularity(information) == pytest.approx(1 - sum(rest) / 2)
    with pytest.raises(ValueError, match="no factor varies"):
        information_gap(information, torch.zeros(3))


def test_bins_are_equal_parts_of_the_range() -> None:
    codes = torch.tensor([[0.0, 5.0], [0.24, 5.0], [0.26, 5.0], [0.5, 5.0], [1.0, 5.0]])
    assert histogram_bins(codes, 4)[:, 0].tolist() == [0, 0, 1, 2, 3]
    assert len(histogram_bins(codes, 4)[:, 1].unique()) == 1


@pytest.mark.parametrize(("case", "mig", "modular"), [
    ("perfect", 0.997442030867079, 0.9999964484085353), ("rotated", 0.17309264101534005, 0.8521783891619263),
])  # fmt: skip
def test_mig_and_modularity_equal_the_published_code(case: str, mig: float, modular: float) -> None:
    g = load(f"dlib_stored_{case}")
    factors = g["factors_train"].long()
    information = mutual_information(histogram_bins(g["codes_train"], 20), factors)
    torch.testing.assert_close(information, g["mutual_information"], atol=1e-12, rtol=0)
    assert scores(g["codes_train"], factors) == pytest.approx((mig, modular), abs=1e-12)
    assert scores(g["codes_train"], factors, 5) != pytest.approx((mig, modular), abs=1e-6)


@pytest.mark.parametrize("case", ["clean", "constant_factors"])
def test_local_scores_and_neighbourhoods_equal_the_published_code(case: str) -> None:
    g = load(f"jl1_local_{case}")
    sizes = tuple(g["factor_sizes"].tolist())
    for codes, factors, mig, modular in zip(g["codes"], g["factors"].long(), g["mig"], g["modularity"], strict=True):
        assert scores(codes, factors, 5) == pytest.approx((float(mig), float(modular)), abs=1e-12)
        found = factors.amin(0), factors.amax(0)
        for f, size in enumerate(sizes):
            if case == "constant_factors" and f == 2:
                continue  # held fixed by a list, which our datasets have not
            ranges = [neighbourhood(torch.tensor([c]), (size,), 0.1) for c in range(size)]
            assert (int(found[0][f]), int(found[1][f])) in [(int(low), int(high)) for low, high in ranges]


def exact_information(spacing: float, deviation: float, values: int) -> float:
    """I(z; v) for z = spacing v + deviation noise, v uniform on 0..values-1, by a sum over a fine grid."""
    z = torch.linspace(-8 * deviation, spacing * (values - 1) + 8 * deviation, 200_001, dtype=torch.float64)
    density = sum(torch.exp(-0.5 * ((z - spacing * v) / deviation) ** 2) for v in range(values))
    assert isinstance(density, Tensor)
    density = density / (values * deviation * math.sqrt(2 * math.pi))
    entropy = -float(torch.xlogy(density, density).sum() * (z[1] - z[0]))
    return entropy - 0.5 * math.log(2 * math.pi * math.e * deviation**2)


@pytest.mark.parametrize("deviation", [0.2, 0.6, 2.0])
def test_information_of_sampled_latents_is_the_quadratures(deviation: float) -> None:
    """Codes of a full grid of two factors, so that both mixtures are exact; a third code knows of neither."""
    sizes = (4, 6)
    factors = torch.cartesian_prod(*map(torch.arange, sizes)).repeat(5, 1)
    mean = torch.cat([factors.float(), torch.zeros(len(factors), 1)], 1)
    log_variance = torch.full_like(mean, 2 * math.log(deviation))
    terms = latent_information_terms(draw_mixture(mean, log_variance, 6000, 0), mean, log_variance, factors)
    exact = [exact_information(1.0, deviation, size) for size in sizes]
    found, error = terms.mean(0), terms.std(0) / 6000**0.5
    for f, value in enumerate(exact):
        assert abs(float(found[f, f]) - value) < 4 * float(error[f, f])
    assert found[[0, 1, 2, 2], [1, 0, 0, 1]].abs().max() < 1e-6
    gap = sum(value / math.log(size) for value, size in zip(exact, sizes, strict=True)) / 2
    spread = bootstrap_stderr(lambda index: mig_chen(terms[index], sizes), 6000, 1)
    assert abs(mig_chen(terms, sizes) - gap) < 4 * spread
    faulty = information_gap(terms.mean(0), torch.tensor(sizes).double().log().flip(0))
    assert abs(faulty - gap) > 4 * spread


def test_a_bootstrap_has_the_error_of_a_mean() -> None:
    values = torch.randn(2000, generator=torch.Generator().manual_seed(0)).double()
    found = bootstrap_stderr(lambda index: float(values[index].mean()), 2000, 0, 400)
    assert found == pytest.approx(float(values.std()) / 2000**0.5, rel=4 / 800**0.5)
    assert found == bootstrap_stderr(lambda index: float(values[index].mean()), 2000, 0, 400)
    with pytest.raises(ValueError, match="resamples = 1 should be at least 2"):
        bootstrap_stderr(lambda index: 0.0, 10, 0, 1)
