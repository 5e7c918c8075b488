"""Laws of the likelihood metric on a trained model: values do not depend on how the work is cut up."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from vaebench.core import registry as plugins
from vaebench.core.data import Binarised, Dataset, Source, Space, Split, Subsampled
from vaebench.core.metric import Measurement
from vaebench.evaluation import runner
from vaebench.evaluation.entry import Entry, of_model
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.metrics.likelihood import Likelihood
from vaebench.models import card as cards
from vaebench.models import loading
from vaebench.models.adapters.flat import Flat, Options
from vaebench.models.adapters.points import Options as PointsOptions
from vaebench.models.adapters.points import Points

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def entry(digits: Dataset) -> Entry:
    card = cards.find("vae", "digits")
    model = loading.build_model(card, Space((1, 8, 8), 17, "pmf"))
    loading.load_weights(model, card.weights_path())
    return of_model(model.eval(), digits, "vae")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """The first 130 test images: a full block and a part of one."""
    source = plugins.load("datasets", "digits")
    assert isinstance(source, Source)
    dataset = source.load(Path())
    return dataclasses.replace(dataset, splits={"test": dataset.split("test").part(torch.arange(130), "test")})


def measure(entry: Entry, metric: Likelihood, **settings: Any) -> dict[str, Measurement]:
    run = MetricRun(entry, "likelihood", metric, Settings(**settings), Silent())
    return {m.column: m for m in metric.measure(entry.model, entry.dataset, run)}


CUTS = [(37, 1), (37, 3), (500, 1), (4000, 1), (4000, 3)]


def test_the_cut_changes_nothing_and_equal_cuts_give_equal_bits(entry: Entry) -> None:
    metric = Likelihood(samples=100)
    found = {(rows, n): measure(entry, metric, max_draws=rows, in_flight=n) for rows, n in CUTS}
    assert found[37, 1] == found[37, 3] == measure(entry, metric, max_draws=37)
    assert found[4000, 1] == found[4000, 3]
    for values in found.values():
        assert values.keys() == found[37, 1].keys()
        for name, value in values.items():
            assert value.value == pytest.approx(found[500, 1][name].value, rel=1e-5)
            assert value.stderr == pytest.approx(found[500, 1][name].stderr, rel=1e-5)


def test_a_thousand_draws_do_not_see_the_cut(entry: Entry) -> None:
    digits = entry.dataset
    some = dataclasses.replace(digits, splits={"test": digits.split("test").part(torch.arange(30), "test")})
    a, b = (
        measure(dataclasses.replace(entry, dataset=some), Likelihood(samples=1000), max_draws=rows)
        for rows in (37, 4000)
    )
    for name, value in a.items():
        assert value.value == pytest.approx(b[name].value, rel=1e-5)


def test_columns_are_those_declared_with_their_identities(entry: Entry) -> None:
    found = measure(entry, Likelihood(samples=100))
    assert set(found) == {column.name for column in Likelihood.columns} - {"nll_point"}
    value = {name: m.value for name, m in found.items()}
    assert value["elbo"] == pytest.approx(-value["rate"] - value["distortion"], rel=1e-9)
    assert value["bpd"] == pytest.approx(value["nll"] / (64 * math.log(2)), rel=1e-12)
    assert value["nll"] < value["nll_tenth"] < -value["elbo"]
    assert 1 < value["ess"] < 100
    assert all(m.n == 130 and m.stderr for m in found.values())
    assert 80 < value["nll"] < 110  # nats: the card's validation bound is 93


def test_seeds_differ_within_their_errors(entry: Entry) -> None:
    a, b = (measure(entry, Likelihood(samples=100), seed=seed)["nll"] for seed in (0, 1))
    assert a.value != b.value
    assert a.stderr is not None
    assert abs(a.value - b.value) < a.stderr


def small(dataset: Dataset, likelihood: Any) -> Entry:
    torch.manual_seed(0)
    return of_model(Flat(dataset.space, Options(2, (4,), likelihood)).eval(), dataset, "small")


def test_a_density_has_no_bits_per_dimension() -> None:
    space = Space((2,), None, "density")
    dataset = Dataset("toy", space, {"test": Split("test", torch.randn(5, 2))}, "")
    found = measure(small(dataset, "gaussian"), Likelihood(samples=3))
    assert set(found) == {column.name for column in Likelihood.columns} - {"bpd", "nll_point"}


def test_a_cloud_has_nats_per_point_and_its_reading_and_floor_in_its_class() -> None:
    torch.manual_seed(0)
    space = Space((16, 3), None, "density")
    splits = {"test": Split("test", torch.rand(5, 20, 3) - 0.5, reading=Subsampled(16, 0.02))}
    model = Points(space, PointsOptions(2, (4,), (4,), components=3, floor=0.05)).eval()
    (rows,) = runner.measure(
        of_model(model, Dataset("toy", space, splits, "f" * 64), "small"),
        {"likelihood": Likelihood(samples=3)},
        Settings(CPU),
        progress=Silent(),
    )
    found = {row.column: row for row in rows}
    assert set(found) == {column.name for column in Likelihood.columns} - {"bpd"}
    assert found["nll"].value is not None
    assert found["nll_point"].value == pytest.approx(found["nll"].value / 16, rel=1e-12)
    told = json.loads(found["nll"].comparability)
    assert told["binarisation"] == "Subsampled(points=16, noise=0.02)"
    assert told["mass"] == "proper, floor 0.05"
    assert told["repeats"] == 3


def test_a_dynamic_split_is_read_afresh_and_averaged_per_image() -> None:
    space = Space((1, 2, 2), 2, "pmf")
    grey = torch.full((50, 1, 2, 2), 128, dtype=torch.uint8)
    dynamic = Dataset("toy", space, {"test": Split("test", grey, reading=Binarised())}, "")
    one, many = (measure(small(dynamic, "bernoulli"), Likelihood(samples=10, repeats=r))["nll"] for r in (1, 30))
    assert one.n == many.n == 50
    assert one.stderr is not None
    assert many.stderr is not None
    assert many.stderr < 0.4 * one.stderr  # every image is grey: only the readings differ
    assert abs(one.value - many.value) < 4 * one.stderr


def test_a_static_split_is_read_once(entry: Entry) -> None:
    a, b = (measure(entry, Likelihood(samples=10, repeats=r)) for r in (1, 3))
    assert a == b


def test_an_absent_split_is_a_reason(entry: Entry) -> None:
    assert Likelihood().unsupported(entry.model, entry.dataset) is None
    assert Likelihood(split="validation").unsupported(entry.model, entry.dataset) == "digits has no split 'validation'"


@pytest.mark.parametrize("name", ["samples", "repeats"])
def test_counts_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} = 0 should be at least 1"):
        Likelihood(**{name: 0})
