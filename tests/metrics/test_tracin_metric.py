"""Laws of the tracin metric: vectorised as one by one, from the right checkpoints, and nothing is changed by it."""

import dataclasses
import io
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import pytest
import torch
from click.testing import Result
from torch import Tensor

from vaebench.core.data import Batch, Dataset, Space, Split, fingerprint
from vaebench.core.metric import Measurement, Run, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.evaluation.entry import Entry, of_card
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.resources import LocalResources
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.metrics import tracin
from vaebench.metrics.tracin import Tracin, example_gradients
from vaebench.models import card as cards
from vaebench.models import loading, trajectory
from vaebench.models.adapters.flat import Flat, Options
from vaebench.models.card import Card, Recipe
from vaebench.training import loop as training
from vaebench.training import schedule

CPU = torch.device("cpu")
SMALL = Tracin(samples=2, queries=12, top=3)


# gradients


def built(name: str) -> LatentVariableModel:
    card = cards.find(name, "digits")
    model = loading.build_model(card, Space((1, 8, 8), 17, "pmf"))
    loading.load_weights(model, card.weights_path())
    return model.eval().double()


def fresh(likelihood: Any, space: Space, **options: Any) -> LatentVariableModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Flat(space, Options(2, likelihood=likelihood, **options)).eval().double()


MODELS: dict[str, Callable[[], LatentVariableModel]] = {
    "vae": lambda: built("vae"),
    "dpvae": lambda: built("dpvae"),
    "hvae": lambda: built("hvae"),
    "conv": lambda: fresh("discretised-logistic", Space((1, 8, 8), 17, "pmf"), network="conv", hidden=(4, 8, 16)),
    "bernoulli": lambda: fresh("bernoulli", Space((1, 4, 4), 2, "pmf"), hidden=(8,)),
    "mixture": lambda: fresh("discretised-logistic-mixture", Space((3, 4, 4), 256, "pmf"), hidden=(8,)),
    "gaussian": lambda: fresh("gaussian", Space((5,), None, "density"), hidden=(8,)),
}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_one_example_at_a_time(name: str) -> None:
    model, shape = MODELS[name](), (4, *MODELS[name]().space.shape)
    levels, generator = model.space.levels, torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    if levels is not None:
        x = torch.randint(levels, shape, generator=generator, dtype=torch.uint8)
    example = torch.tensor([7, 0, 3, 11])
    with torch.no_grad():  # as inside a run
        found = example_gradients(model, x, example, 5, 3, 2.0)
    for i in range(4):
        with keyed(5, example[i : i + 1]):
            draws = model.draw(x[i : i + 1], 3)
        loss = -draws.log_likelihood.mean() + 2.0 * (draws.log_posterior - draws.log_prior).mean()
        parts = torch.autograd.grad(loss, list(model.parameters()))
        torch.testing.assert_close(found[i], torch.cat([part.flatten() for part in parts]), rtol=1e-8, atol=1e-8)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_foreign_data_is_still_refused() -> None:
    with pytest.raises(ValueError, match="outside the 17 levels"):
        example_gradients(built("vae"), torch.full((2, 1, 8, 8), 17), torch.arange(2), 0, 1, 1.0)


# the metric, on a small model trained here


@cache
def bits() -> Dataset:
    """150 noisy copies of two patterns to train on, the last 12 of them coin tosses; 20 to query."""
    generator = torch.Generator().manual_seed(1)
    splits = {}
    for name, count, foreign in (("train", 138, 12), ("test", 20, 0)):
        which = torch.randint(2, (count, 1), generator=generator)
        x = which ^ (torch.rand((count, 6), generator=generator) < 0.05)
        x = torch.cat([x, torch.randint(2, (foreign, 6), generator=generator)]).to(torch.uint8)
        splits[name] = Split(name, x, torch.cat([which[:, 0], torch.full((foreign,), -1)]))
    return Dataset("bits", Space((6,), 2, "pmf"), splits, fingerprint(splits))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Card:
    model = {"latent": 2, "hidden": [8], "likelihood": "bernoulli", "activation": "tanh"}
    card = Card("tiny", "bits", "", "flat", model, training=Recipe(40, 20, 1e-2, schedule="cosine"))
    out = tmp_path_factory.mktemp("tracin")
    return training.train(card, bits(), out, device=CPU, report=lambda *_: None, checkpoints=3)


def entry(card: Card, dataset: Dataset | None = None) -> Entry:
    one = of_card(card, card.weights_path(), dataset or bits(), name="tiny")
    one.model.eval()
    return one


def measure(
    card: Card,
    metric: Tracin = SMALL,
    dataset: Dataset | None = None,
    kept: dict[str, bytes] | None = None,
    **settings: Any,
) -> dict[str, Measurement]:
    one, files = entry(card, dataset), {} if kept is None else kept

    def keep(_: str, file: str, content: bytes) -> None:
        files[file] = content

    how = Settings(**settings)
    run = MetricRun(one, "tracin", metric, how, Silent(), LocalResources(one, how), keep)
    before = {name: tensor.clone() for name, tensor in one.model.state_dict().items()}
    found = {m.column: m for m in metric.measure(one.model, one.dataset, run)}
    assert all(tensor.equal(before[name]) for name, tensor in one.model.state_dict().items())
    assert not one.model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in one.model.parameters())
    return found


def test_every_column_where_there_are_labels_and_foreign_examples(trained: Card) -> None:
    kept: dict[str, bytes] = {}
    found = measure(trained, kept=kept)
    assert set(found) == {column.name for column in Tracin.columns}
    assert [found[name].n for name in ("cleaning_auc", "self_retrieval", "proponent_agreement")] == [150, 12, 12]
    assert found["self_influence_r2"].n == 138
    curve = found["cleaning_auc"].curve
    assert curve is not None
    assert (curve.y[0], curve.y[-1]) == (0.0, 1.0)
    assert found["proponent_agreement"].value > 0.8
    assert found["cleaning_auc"].value > 0.6
    table = pq.read_table(io.BytesIO(kept["training_examples.parquet"])).to_pydict()
    assert table["label"] == cast(Tensor, bits().split("train").y).tolist()
    assert min(table["self_influence"]) > 0


def test_no_way_of_cutting_changes_a_value(trained: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    one = measure(trained, in_flight=1)
    assert measure(trained, in_flight=3) == one
    parameters = sum(p.numel() for p in entry(trained).model.parameters())
    monkeypatch.setattr(tracin, "_FLOATS", 7 * parameters)
    cut = measure(trained, in_flight=2)
    for name, value in one.items():
        assert cut[name].value == pytest.approx(value.value, rel=1e-4)


def test_absent_labels_and_foreign_examples_leave_columns_out(trained: Card) -> None:
    train, test = bits().split("train"), bits().split("test")
    without = {"train": Split("train", train.x), "test": Split("test", test.x)}
    found = measure(trained, dataset=dataclasses.replace(bits(), splits=without))
    assert set(found) == {"self_retrieval", "self_influence_r2"}
    native = {"train": Split("train", train.x, cast(Tensor, train.y).clamp(min=0)), "test": test}
    found = measure(trained, dataset=dataclasses.replace(bits(), splits=native))
    assert set(found) == {column.name for column in Tracin.columns if not column.name.startswith("cleaning")}


def test_what_was_not_trained_on_this_split_is_unavailable(trained: Card) -> None:
    other = dataclasses.replace(bits(), fingerprint="0" * 64)
    with pytest.raises(UnavailableError, match="other data than bits"):
        measure(trained, dataset=other)
    part = {"train": bits().split("train").part(torch.arange(149), "train"), "test": bits().split("test")}
    with pytest.raises(UnavailableError, match="trained on 150 of the 149 examples"):
        measure(trained, dataset=dataclasses.replace(bits(), splits=part))
    one = entry(trained)
    run = MetricRun(one, "tracin", SMALL, Settings(), Silent())
    with pytest.raises(UnavailableError, match="a training trajectory is not at hand"):
        list(SMALL.measure(one.model, bits(), run))


class Direct:
    """A `Run` whose passes have seed 0, so that a test can repeat them."""

    device = CPU

    def __init__(self, card: Card) -> None:
        self.resources = LocalResources(entry(card), Settings())
        self.kept: dict[str, bytes] = {}

    def map(
        self, function: Callable[[Batch, int], Mapping[str, Tensor]], split: Split, *, batch: int = 1,
        stream: str | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        with torch.no_grad():
            return dict(function(split.take(torch.arange(len(split))), 0))

    def keep(self, name: str, content: bytes) -> None:
        self.kept[name] = content


@pytest.mark.parametrize("projection", [0, 64])
def test_influences_are_the_weighted_sum_over_checkpoints(trained: Card, projection: int) -> None:
    run, one, metric = Direct(trained), entry(trained), dataclasses.replace(SMALL, projection=projection)
    found = {m.column: m for m in metric.measure(one.model, bits(), cast(Run, run))}
    train, test = bits().split("train"), bits().split("test")
    own, asked = (tracin._some(split, 12) for split in (train, test))
    total, products = torch.zeros(150, dtype=torch.float64), torch.zeros(150, 24, dtype=torch.float64)
    weights = trained.weights_path()
    rates = [schedule.learning_rate(cast(Recipe, trained.training), t, 320) for t in range(320)]
    before = 0
    for checkpoint in trajectory.read(trajectory.beside(weights), trajectory.run_digest(weights)).checkpoints:
        checkpoint.load(one.model)
        rows = []
        for split, which in ((train, torch.arange(150)), (train, own), (test, asked)):
            rows.append(torch.stack([by_hand(one.model, split.x[i], k) for k, i in enumerate(which)]).double())
        weight = sum(rates[before : checkpoint.step]) * 20 / 150
        total += weight * rows[0].square().sum(1)
        right = torch.cat(rows[1:])
        products += weight * (metric.reduced(rows[0]) @ metric.reduced(right).T)
        before = checkpoint.step
    table = pq.read_table(io.BytesIO(run.kept["training_examples.parquet"])).to_pydict()
    assert table["self_influence"] == pytest.approx(total.tolist(), rel=1e-4)
    assert found["self_retrieval"].value == pytest.approx(float((products[:, :12].argmax(0) == own).double().mean()))
    order = products[:, 12:].argsort(0, descending=True)
    for name, best in (("proponent_agreement", order[:3]), ("opponent_agreement", order[-3:])):
        agreement = (cast(Tensor, train.y)[best] == cast(Tensor, test.y)[asked]).double().mean()
        assert found[name].value == pytest.approx(float(agreement), abs=1e-9)


def test_the_picture_shows_the_training_images_of_most_and_of_least_influence(
    trained: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(tracin, "png", lambda title, bands, columns: seen.append((bands, columns)) or b"")
    train, shown = bits().split("train"), bits().split("test").x[:2]
    influences = torch.zeros(len(train), 3)
    influences[[7, 3, 9], 0] = torch.tensor([5.0, 4.0, -6.0])
    influences[[1, 2], 1] = torch.tensor([1.0, -1.0])
    tracin._picture("title", shown, influences, train, bits(), cast(Run, Direct(trained)))
    ((first, second),), columns = seen[0]
    white = 255 * train.x
    assert torch.equal(first.blocks[0], 255 * shown[:1])
    assert torch.equal(first.blocks[1][:2], white[[7, 3]])
    assert torch.equal(first.blocks[2][0], white[9])
    assert torch.equal(second.blocks[1][0], white[1])
    assert torch.equal(second.blocks[2][0], white[2])
    assert columns == ["image", "+1", "+2", "+3", "+4", "+5", "-1", "-2", "-3", "-4", "-5"]


def by_hand(model: LatentVariableModel, x: Tensor, example: int) -> Tensor:
    with keyed(0, torch.tensor([example])):
        loss = -model.draw(x[None], 2).log_weight.mean()
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


@pytest.mark.parametrize(("field", "value"), [("samples", 0), ("queries", 1), ("top", 0), ("projection", -1)])
def test_counts_are_positive(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field} = {value} should be at least"):
        Tracin(**{field: value})  # type: ignore[arg-type]


def test_what_can_never_be_measured_has_a_reason(trained: Card) -> None:
    model = entry(trained).model
    assert SMALL.unsupported(model, bits()) is None
    assert Tracin(queried="valid").unsupported(model, bits()) == "bits has no split 'valid'"
    assert "fewer than top = 151" in str(Tracin(top=151).unsupported(model, bits()))


# out of the box


def test_the_zoos_model_finds_the_foreign_digits(vaebench: Callable[..., Result], boards: Path) -> None:
    run = ("run", "--model", "vae", "--dataset", "digits-contaminated", "--metric", "tracin", "--preset", "quick")
    result = vaebench(*run, "--leaderboards", boards, "--json")
    assert result.exit_code == 0, result.stderr
    rows = {row["column"]: row for row in json.loads(result.stdout)}
    assert rows.keys() == {column.name for column in Tracin.columns}
    assert rows["cleaning_auc"]["value"] > 0.9
    assert rows["self_retrieval"]["value"] > 0.75
    assert rows["proponent_agreement"]["value"] - 4 * rows["proponent_agreement"]["stderr"] > 0.2


def test_a_model_without_a_trajectory_is_skipped_with_the_remedy(vaebench: Callable[..., Result], boards: Path) -> None:
    run = ("run", "--model", "vae", "--dataset", "digits", "--metric", "tracin", "--leaderboards", boards, "--json")
    rows = json.loads(vaebench(*run).stdout)
    assert {row["status"] for row in rows} == {"skipped"}
    assert all("train with --trajectory N" in row["reason"] for row in rows)
