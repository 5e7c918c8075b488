"""The probe metric: a Bayes rate that is known, chance for labels that mean nothing, intervals that cover."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats
from torch import Tensor

from vaebench.core.data import Dataset, Reading, Space, Split
from vaebench.core.metric import Measurement
from vaebench.core.model import LatentVariableModel
from vaebench.distributions import noise
from vaebench.functional.statistics import wilson
from vaebench.metrics.probe import Probe, accuracy
from vaebench.models.oracles import LinearGaussian, oracles

Measure = Callable[..., dict[str, Measurement]]
Zoo = Callable[[str], LatentVariableModel]
WIDTH = 4


@torch.no_grad()
def plain() -> LatentVariableModel:
    """A model whose embedding is x itself."""
    model = LinearGaussian(torch.eye(WIDTH), torch.zeros(WIDTH), 0.0)
    model.head.weight.copy_(torch.eye(WIDTH))
    model.head.bias.zero_()
    return model


@final
@dataclasses.dataclass(frozen=True)
class Blurred(Reading):
    """x + e, e ~ N(0, I)."""

    def check(self, stored: Tensor, space: Space) -> None:
        space.check(stored)

    def __call__(self, stored: Tensor) -> Tensor:
        return stored + noise.standard_normal((1, *stored.shape), stored).squeeze(0)


def clouds(gap: float, train: int = 3000, test: int = 20_000, seed: int = 0, labels: bool = True) -> Dataset:
    """Two standard normals `gap` apart, or one whose labels are tossed where `labels` is False."""
    generator = torch.Generator().manual_seed(seed)
    splits = {}
    for name, count in (("train", train), ("test", test)):
        y = torch.randint(2, (count,), generator=generator)
        x = torch.randn(count, WIDTH, generator=generator)
        x[:, 1] += gap * y
        splits[name] = Split(name, x, y if labels else torch.randint(2, (count,), generator=generator))
    return Dataset("clouds", plain().space, splits, "")


@pytest.mark.parametrize("gap", [0.5, 2.0])
def test_the_probe_reaches_the_bayes_rate(gap: float, measure: Measure) -> None:
    found = measure(Probe(), plain(), clouds(gap))
    rate = float(stats.norm.cdf(gap / 2))
    probe = found["probe_all"]
    assert probe.stderr is not None
    assert abs(probe.value - rate) < 4 * probe.stderr + 0.002  # of 3,000 examples, not of infinitely many
    assert found["probe_100"].value < rate + 4 * (found["probe_100"].stderr or 0)
    assert 0.5 < found["knn_all"].value < rate
    assert set(found) == {f"{kind}_{size}" for kind in ("probe", "knn") for size in (100, 1000, "all")}
    assert {m.n for m in found.values()} == {20_000}
    curve = found["probe_all"].curve
    assert curve is not None
    assert curve.x == (100.0, 1000.0, 3000.0)
    assert curve.y == tuple(found[f"probe_{size}"].value for size in (100, 1000, "all"))


def test_labels_that_mean_nothing_give_chance(measure: Measure) -> None:
    for found in measure(Probe(), plain(), clouds(2.0, labels=False)).values():
        assert found.stderr is not None
        assert abs(found.value - 0.5) < 4 * found.stderr


@pytest.mark.slow
def test_small_subsets_are_averaged(measure: Measure) -> None:
    dataset = clouds(2.0, train=1500, test=4000)
    many = measure(Probe(subsets=20), plain(), dataset)["probe_100"]
    several = [measure(Probe(subsets=1), plain(), dataset, seed=seed)["probe_100"].value for seed in range(1, 6)]
    spread = torch.tensor(several, dtype=torch.float64)
    error = float(spread.std())
    assert error > 0
    assert abs(many.value - float(spread.mean())) < 4 * error * (1 / 5 + 1 / 20) ** 0.5


def test_training_sets_that_overlap_say_so(measure: Measure) -> None:
    found = measure(Probe(), plain(), clouds(2.0, train=1500, test=100))
    marked = {column for column, each in found.items() if each.marks == ("shared images",)}
    assert marked == {"probe_100", "probe_1000", "knn_100", "knn_1000"}
    found = measure(Probe(subsets=1), plain(), clouds(2.0, train=1500, test=100))
    assert not any(each.marks for each in found.values())


def test_the_spread_of_several_trainings_is_in_the_error() -> None:
    correct = torch.arange(1000)[None] < torch.tensor([[600], [700], [800]])
    found = accuracy("probe_100", correct)
    low, high = wilson(0.7, 1000, 1.96)
    assert found.value == pytest.approx(0.7)
    assert found.stderr == pytest.approx(math.hypot((high - low) / 3.92, 0.1 / 3**0.5))
    assert found.high is not None
    assert found.high - 0.7 == pytest.approx(1.96 * found.stderr, rel=0.25)


def test_readings_of_one_training_set_are_in_the_error() -> None:
    correct = torch.arange(1000)[None] < torch.tensor([[600], [700], [800]])
    found = accuracy("probe_all", correct[:1], correct)
    assert found.value == pytest.approx(0.6)
    alone = accuracy("probe_all", correct[:1]).stderr
    assert alone is not None
    assert found.stderr == pytest.approx(math.hypot(alone, 0.1))
    assert accuracy("probe_all", correct[:1], correct[:1]) == accuracy("probe_all", correct[:1])


def test_few_training_examples_that_are_read_with_noise(measure: Measure) -> None:
    """Wilson's error of 20,000 test examples, 0.003, knows nothing of the noise that 30 training examples have."""
    clean = clouds(2.0, train=30)
    splits = {name: dataclasses.replace(split, reading=Blurred()) for name, split in clean.splits.items()}
    noisy = dataclasses.replace(clean, splits=splits)
    found = [measure(Probe(), plain(), noisy, seed=seed)["probe_all"] for seed in range(8)]
    pairs = [(each.value, each.stderr) for each in found]
    values, errors = (torch.tensor(each, dtype=torch.float64) for each in zip(*pairs, strict=True))
    assert values.std() > 3 * 0.003
    assert float((errors**2).mean().sqrt() / values.std()) == pytest.approx(1, abs=0.5)
    alone = measure(Probe(), plain(), clean)["probe_all"]
    assert alone == accuracy("probe_all", torch.arange(20_000)[None] < alone.value * 20_000)._replace(curve=alone.curve)


def test_the_error_of_one_training_is_wilsons() -> None:
    found = accuracy("probe_100", torch.arange(263)[None] < 81)  # Newcombe 1998, table I: 0.2553 to 0.3662
    assert found.value == pytest.approx(81 / 263)
    assert found.stderr == pytest.approx((0.36621 - 0.25530) / 3.92, abs=1e-5)
    assert found.interval == pytest.approx((0.2553, 0.3662), abs=5e-5)
    perfect = accuracy("probe_100", torch.ones(1, 360, dtype=torch.bool))
    assert perfect.stderr is not None
    assert perfect.stderr > 0.002
    assert perfect.interval == pytest.approx((0.98944, 1), abs=1e-5)


def test_sizes_that_the_split_lacks_are_left_out(measure: Measure) -> None:
    assert set(measure(Probe(), plain(), clouds(1.0, train=99, test=50))) == {"probe_all", "knn_all"}
    exact = measure(Probe(), plain(), clouds(1.0, train=1000, test=50))
    assert set(exact) == {f"{kind}_{size}" for kind in ("probe", "knn") for size in (100, 1000, "all")}
    for kind in ("probe", "knn"):
        assert exact[f"{kind}_1000"].value == exact[f"{kind}_all"].value


def test_foreign_examples_are_neither_trained_on_nor_asked_about(measure: Measure, kept: dict[str, bytes]) -> None:
    clean = clouds(2.0, train=500, test=300)
    wanted = measure(Probe(), plain(), clean)
    kept.clear()
    splits = {}
    for name, split in clean.splits.items():
        assert split.y is not None
        x, y = torch.cat([split.x, torch.full((40, WIDTH), 50.0)]), torch.cat([split.y, torch.full((40,), -1)])
        splits[name] = Split(name, x, y)
    found = measure(Probe(), plain(), dataclasses.replace(clean, splits=splits))
    assert found == wanted
    assert not kept  # values for each example of the split cannot be had


def test_each_test_image_is_kept(measure: Measure, kept: dict[str, bytes], tmp_path: Path) -> None:
    found = measure(Probe(), plain(), clouds(1.0, test=200))
    (content,) = kept.values()
    (tmp_path / "values.parquet").write_bytes(content)
    table = pq.read_table(tmp_path / "values.parquet").to_pydict()
    assert set(table) == {"probe_all", "knn_all"}
    for name, values in table.items():
        assert set(values) == {0.0, 1.0}
        assert sum(values) / 200 == pytest.approx(found[name].value)


def test_the_top_group_of_a_hierarchy_is_its_own_column(measure: Measure) -> None:
    oracle = oracles(count=3000)[2]
    x = oracle.dataset.split("test").x
    y = (oracle.model.embed(x)[:, 0] > 0).long()  # plain to see in the embedding; z_1 is a shrunken copy of it
    splits = {"train": Split("train", x[:1500], y[:1500]), "test": Split("test", x[1500:], y[1500:])}
    found = measure(Probe(), oracle.model, dataclasses.replace(oracle.dataset, splits=splits))
    assert found["probe_all"].value > 0.97
    assert found["probe_top_group"].value == pytest.approx(found["probe_all"].value, abs=0.01)


def test_an_embedding_that_is_not_a_number_fails(measure: Measure) -> None:
    model = plain()
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)  # type: ignore[operator, union-attr]
    with pytest.raises(ValueError, match="50 of 50 embeddings are NaN"):
        measure(Probe(), model, clouds(1.0, train=50, test=50))


def test_what_cannot_be_probed_has_a_reason() -> None:
    dataset = clouds(1.0, train=50, test=50)
    train, test = dataset.splits["train"], dataset.splits["test"]

    def reason(**splits: Split) -> str | None:
        return Probe().unsupported(plain(), dataclasses.replace(dataset, splits=splits))

    assert reason(train=train, test=test) is None
    assert reason(test=test) == "clouds has no split 'train'"
    assert reason(train=train) == "clouds has no split 'test'"
    assert reason(train=train, test=Split("test", test.x)) == "clouds has no labels"
    one = Split("train", train.x, torch.zeros(50, dtype=torch.int64))
    assert reason(train=one, test=test) == "the labels of clouds's split 'train' are of too few classes"


@pytest.mark.parametrize("field", ["neighbours", "subsets", "inverse_penalty"])
def test_parameters_are_positive(field: str) -> None:
    values: dict[str, Any] = {field: 0}
    with pytest.raises(ValueError, match=f"{field} = 0 should be"):
        Probe(**values)


def test_trained_digits_beat_chance_by_far_and_beta_costs_accuracy(measure: Measure, zoo: Zoo, digits: Dataset) -> None:
    plain_vae, pressed = (measure(Probe(subsets=1), zoo(name), digits) for name in ("vae", "beta-vae-h"))
    for name, found in plain_vae.items():
        assert found.value > 0.75
        assert found.value > pressed[name].value
    assert plain_vae["probe_100"].value < plain_vae["probe_1000"].value
    assert plain_vae["knn_100"].value < plain_vae["knn_1000"].value < plain_vae["knn_all"].value
