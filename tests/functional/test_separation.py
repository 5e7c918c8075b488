"""AUROC, average precision and FPR at 95% recall: scikit-learn's, weights and ties included; bootstrap errors."""

import numpy as np
import pytest
import torch
from scipy.special import ndtri
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor

from vaebench.functional.separation import measures, resamples, separation


def normals(count: int, shift: float, seed: int, rounded: bool = False) -> Tensor:
    x = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift
    return (2 * x).round() if rounded else x


def sklearns(score: Tensor, positive: Tensor, weight: Tensor) -> list[float]:
    arguments = positive.numpy(), score.numpy()
    fall, recall, _ = roc_curve(*arguments, sample_weight=weight.numpy(), drop_intermediate=False)
    return [
        float(roc_auc_score(*arguments, sample_weight=weight.numpy())),
        float(average_precision_score(*arguments, sample_weight=weight.numpy())),
        float(fall[np.argmax(recall >= 0.95 - 1e-12)]),
    ]


@pytest.mark.parametrize("rounded", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 1.5, 9.0])
def test_they_are_scikit_learns(shift: float, rounded: bool) -> None:
    score = torch.cat([normals(80, 0, 1, rounded), normals(60, shift, 2, rounded)])
    positive = torch.arange(140) >= 80
    weight = torch.cat([torch.ones(1, 140).double(), torch.cat([resamples(80, 9, 3), resamples(60, 9, 4)], 1)])
    found = torch.stack(measures(score, positive, weight), 1)
    for row, counts in zip(found, weight, strict=True):
        assert row.tolist() == pytest.approx(sklearns(score, positive, counts))
    swapped = torch.stack(measures(score, ~positive, weight), 1)
    assert shift == 0 or not torch.allclose(found, swapped)  # which of the two is positive


def test_a_resample_holds_as_many_and_each_about_once() -> None:
    counts = resamples(50, 4000, 0)
    assert bool((counts.sum(1) == 50).all())
    assert bool((counts == counts.round()).all())
    mean, variance = counts.mean(0), counts.var(0)
    assert float((mean - 1).abs().max()) < 5 * (0.98 / 4000) ** 0.5
    assert float(variance.mean()) == pytest.approx(1 - 1 / 50, rel=0.05)
    assert not torch.equal(counts, resamples(50, 4000, 1))


def test_errors_are_the_spread_over_samples() -> None:
    """The bootstrap error and interval of the AUROC, against the truth over many samples from two normals."""
    truth = 0.8
    shift = 2**0.5 * float(ndtri(truth))
    found = [separation(normals(60, 0, i), normals(90, shift, 1000 + i), 200, i).auroc for i in range(150)]
    values = np.array([one.value for one in found])
    assert abs(values.mean() - truth) < 4 * values.std() / 150**0.5
    assert np.mean([one.stderr for one in found]) == pytest.approx(values.std(), rel=0.2)
    assert np.mean([one.low <= truth <= one.high for one in found]) > 0.86
    assert all(one.low <= one.value <= one.high for one in found)


def test_sets_that_are_apart() -> None:
    inside, foreign = torch.arange(30.0), torch.arange(30.0) + 100
    found = separation(inside, foreign, 50, 0)
    assert [one[:2] for one in found] == [(1, 0), (1, 0), (0, 0)]
    assert [(one.low < 1, one.high) for one in found[:2]] == [(True, 1), (True, 1)]
    assert found.fpr95.low == 0 < found.fpr95.high < 0.15
    worst = separation(foreign, inside, 50, 0)
    assert (worst.auroc.value, worst.fpr95.value) == (0, 1)
    alike = separation(torch.zeros(20), torch.zeros(20), 50, 0)
    assert [alike.auroc.value, alike.auprc.value, alike.fpr95.value] == [0.5, 0.5, 1]


def test_a_score_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 of 4 examples have no finite score"):
        separation(torch.zeros(2), torch.tensor([1.0, float("nan")]), 10, 0)
