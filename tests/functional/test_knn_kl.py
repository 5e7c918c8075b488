"""Perez-Cruz's estimator: others' values, a law, and its tendency to the exact divergence."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from vaebench.functional.knn_kl import knn_kl

GOLDEN = Path(__file__).parents[1] / "golden"
PUBLISHED = {  # KL(x, y) and KL(y, x) with exact neighbours
    "d1": (0.34698676316771987, 0.508119093419882),
    "d2": (0.8344461380839614, 1.5143998819983446),
    "d5": (1.6918072219507199, 2.101028703072638),
    "same": (0.011628308308510728, -0.01390388883098245),
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_equals_the_published_code_with_exact_neighbours(case: str) -> None:
    with np.load(GOLDEN / f"knn_kl_{case}.npz") as file:
        x, y = (torch.from_numpy(np.array(file[name])) for name in "xy")
    assert (knn_kl(x, y), knn_kl(y, x)) == pytest.approx(PUBLISHED[case], rel=1e-9, abs=1e-9)


def test_tends_to_the_exact_divergence_in_one_dimension() -> None:
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(20):
        x, y = (torch.randn(4000, 1, generator=generator, dtype=torch.float64) for _ in range(2))
        found.append(knn_kl(x, 1 + 2 * y))
    exact = math.log(2) + (1 + 1) / 8 - 0.5
    values = torch.tensor(found)
    assert abs(float(values.mean()) - exact) < 4 * float(values.std()) / 20**0.5 + 0.005


def test_does_not_see_a_change_of_scale() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(500, 3, generator=generator), torch.randn(400, 3, generator=generator)
    assert knn_kl(1000 * x, 1000 * y) == pytest.approx(knn_kl(x, y), abs=1e-6)


def test_coinciding_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="two samples coincide"):
        knn_kl(torch.zeros(5, 2), torch.randn(5, 2))
