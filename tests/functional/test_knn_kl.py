"""Perez-Cruz's estimator: others' values, a law, and its tendency to the exact divergence."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from vaebench.functional.knn_kl import knn_kl

GOLDEN = Path(__file__).parents[1] / "golden" / "knn_kl_d5.npz"
SHARED = Path(__file__).parents[3] / "shared" / "golden" / "knn_kl"


def test_equals_the_published_code_with_exact_neighbours() -> None:
    with np.load(GOLDEN) as file:
        x, y = (torch.from_numpy(np.array(file[name])) for name in "xy")
    assert knn_kl(x, y) == pytest.approx(1.6918072219507199, rel=1e-9)
    assert knn_kl(y, x) == pytest.approx(2.101028703072638, rel=1e-9)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the larger reference values are not beside the repository")
@pytest.mark.parametrize("case", ["d1", "d2", "d10", "same"])
def test_equals_the_published_code_on_the_larger_reference_samples(case: str) -> None:
    expected = json.loads((SHARED / f"{case}.json").read_text())["expected_with_exact_neighbours_(eps=0)"]
    with np.load(SHARED / f"{case}.npz") as file:
        x, y = (torch.from_numpy(np.array(file[name])) for name in "xy")
    assert knn_kl(x, y) == pytest.approx(expected["KL(x||y)"], rel=1e-9, abs=1e-9)
    assert knn_kl(y, x) == pytest.approx(expected["KL(y||x)"], rel=1e-9, abs=1e-9)


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
