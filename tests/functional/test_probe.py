"""Classifiers on embeddings against scikit-learn's own predictions, and subsets that keep the classes' shares."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from vaebench.functional import probe
from vaebench.functional.probe import logistic_probe, nearest_neighbours, stratified


def clouds(classes: int, count: int = 400, width: int = 5) -> tuple[Tensor, Tensor]:
    """Overlapping Gaussian clouds of unequal scales by dimension, labelled 3, 4, ...."""
    generator = torch.Generator().manual_seed(classes)
    label = torch.randint(classes, (count,), generator=generator)
    centres = torch.randn(classes, width, generator=generator)
    z = centres[label] + torch.randn(count, width, generator=generator)
    return z * torch.logspace(-3, 3, width) + 7, label + 3


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("inverse_penalty", [0.01, 1.0])
def test_the_probe_is_scikit_learns(classes: int, inverse_penalty: float) -> None:
    z, label = clouds(classes)
    found = logistic_probe(z[:300], label[:300], inverse_penalty)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_penalty, max_iter=500))
    theirs.fit(z[:300].double().numpy(), label[:300].numpy())
    assert found(z).tolist() == theirs.predict(z.double().numpy()).tolist()
    assert torch.equal(found(z.view(4, 100, -1)), found(z).view(4, 100))
    assert set(found(z).tolist()) <= set(label.tolist())


def test_the_units_of_a_dimension_do_not_matter_to_the_probe_and_do_to_neighbours() -> None:
    z, label = clouds(3)
    scale, moved = torch.tensor([1.0, 100.0, 0.01, 3.0, 1.0]), torch.tensor([5.0, -1.0, 0.0, 0.0, 2.0])
    first, second = logistic_probe(z, label, 1.0), logistic_probe(z * scale + moved, label, 1.0)
    assert torch.equal(first(z), second(z * scale + moved))
    ours, theirs = (nearest_neighbours(a[:300], label[:300], a[300:], 5) for a in (z, z * scale))
    assert not torch.equal(ours, theirs)


def test_what_cannot_be_fitted_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    z, label = clouds(2)
    with pytest.raises(ValueError, match="class"):
        logistic_probe(z, torch.ones_like(label), 1.0)
    z[3, 1] = torch.nan
    with pytest.raises(ValueError, match="1 of 400 embeddings are NaN"):
        logistic_probe(z, label, 1.0)
    monkeypatch.setattr(probe, "STEPS", 2)
    with pytest.raises(ValueError, match="did not converge in 2 steps"):
        logistic_probe(*clouds(4), 1.0)


def test_neighbours_vote_and_ties_go_to_the_lowest() -> None:
    z, label = torch.tensor([[0.0], [1.0], [2.0], [10.0]]), torch.tensor([5, 7, 7, 6])
    query = torch.tensor([[0.1], [9.0]])
    assert nearest_neighbours(z, label, query, 1).tolist() == [5, 6]
    assert nearest_neighbours(z, label, query, 2).tolist() == [5, 6]  # 5 against 7, 6 against 7
    assert nearest_neighbours(z, label, query, 3).tolist() == [7, 7]
    assert nearest_neighbours(z, label, query, 50).tolist() == [7, 7]  # all there are


@pytest.mark.parametrize("count", [1, 10, 37, 200, 1000])
def test_subsets_keep_the_classes_shares(count: int) -> None:
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05])
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    label = torch.arange(4).repeat_interleave((shares * 1000).long())[order]
    found = stratified(label, count, 0)
    assert len(found.unique()) == count
    assert bool((found.diff() > 0).all())
    taken = label[found].bincount(minlength=4)
    assert bool(((taken - count * shares).abs() < 1 + 1e-9).all())
    assert torch.equal(found, stratified(label, count, 0))
    if count < 1000:
        assert not torch.equal(found, stratified(label, count, 1))


def test_every_example_is_as_likely_as_another() -> None:
    label = torch.arange(20) % 3
    seen = torch.stack([stratified(label, 5, seed) for seed in range(2000)]).flatten().bincount(minlength=20) / 2000
    assert bool(((seen - 0.25).abs() < 4.5 * (0.25 * 0.75 / 2000) ** 0.5).all())


def test_more_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="11 of 10 examples"):
        stratified(torch.zeros(10, dtype=torch.int64), 11, 0)
