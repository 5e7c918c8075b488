"""Laws over the zoo's classifiers: each loads, is as good as it says, was made by its card, and is not a model."""

import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors import safe_open

from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.data import Dataset, Source
from vaebench.core.errors import DataError, UserError
from vaebench.core.metric import UnavailableError
from vaebench.evaluation.entry import Entry
from vaebench.evaluation.resources import LocalResources
from vaebench.evaluation.run import Settings
from vaebench.models import card as cards
from vaebench.models import classifiers as features
from vaebench.models.card import Card
from vaebench.training import classifiers
from vaebench.training import state as checkpoint

CPU = torch.device("cpu")
DATA = os.environ.get("VAEBENCH_DATA", "")  # before the tests take it away
CARDS = {card.name: card for card in features.shipped()}
SERVED = {"digits": "digits", "mnist": "mnist-grey", "mnist-grey": "mnist-grey", "mnist-static": "mnist-grey",
          "fashion-mnist": "fashion-mnist"}  # fmt: skip


def source(name: str) -> Source:
    found = plugins.load("datasets", name)
    assert isinstance(found, Source)
    return found


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return source("digits").load(Path())


@pytest.fixture
def small() -> Card:
    recipe = cards.Recipe(epochs=2, batch_size=64, schedule="cosine")
    return Card(
        "small", "digits", "Small.", "classifier", {"side": 8, "classes": 10, "serves": ["digits"]}, training=recipe
    )


def train(card: Card, dataset: Dataset, out: Path) -> Card:
    return classifiers.train(card, dataset, out, device=CPU, report=lambda *_: None)


@pytest.mark.parametrize(("dataset", "name"), SERVED.items())
def test_the_datasets_are_served(dataset: str, name: str) -> None:
    card = features.find(dataset)
    assert card is not None
    assert card.name == name
    channels, side, other = source(dataset).space.shape
    assert (channels, side) == (1, other)
    images = torch.zeros(3, 1, side, side, dtype=torch.uint8)
    assert features.load(card).features(images).shape == (3, 64)


@pytest.mark.parametrize("name", CARDS)
def test_a_classifier_is_as_its_card_says(name: str) -> None:
    card = CARDS[name]
    assert card.family == features.FAMILY
    assert re.fullmatch(r"Test accuracy \d\d\.\d\d%\.", card.notes)
    network = features.load(card)
    assert not network.training
    assert card.training is not None
    assert card.objective == classifiers.OBJECTIVE
    again = dataclasses.replace(card, model=dataclasses.asdict(features.options(card)))
    assert again.model == {
        **card.model,
        "serves": tuple(card.model["serves"]),
        "channels": tuple(card.model["channels"]),
    }
    with safe_open(card.weights_path(), "pt") as file:
        assert re.fullmatch(r"[0-9a-f]{64}", file.metadata()["digest"])


@pytest.mark.parametrize(
    "name", [name if name == "digits" else pytest.param(name, marks=pytest.mark.slow) for name in CARDS]
)
def test_weights_and_accuracy_are_those_of_card_and_data(name: str) -> None:
    """The others than digits, by hand, with VAEBENCH_DATA naming the folder of MNIST and FashionMNIST."""
    card = CARDS[name]
    dataset = source(card.dataset).load(Path(DATA))
    with safe_open(card.weights_path(), "pt") as file:
        assert file.metadata()["digest"] == checkpoint.digest(card, dataset)
    images = classifiers._images("test", dataset)
    assert card.notes == f"Test accuracy {classifiers.accuracy(features.load(card), *images):.2%}."


def test_equal_cards_give_equal_files_and_are_not_trained_twice(small: Card, digits: Dataset, tmp_path: Path) -> None:
    a, b = (train(small, digits, tmp_path / name) for name in "ab")
    assert a.weights == b.weights
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"small.toml", "small.safetensors"}
    assert features.find("digits") == CARDS["digits"]
    before = (tmp_path / "a" / "small.toml").read_bytes()
    assert train(small, digits, tmp_path / "a") == a
    assert (tmp_path / "a" / "small.toml").read_bytes() == before
    other = dataclasses.replace(small, training=cards.Recipe(epochs=1))
    with pytest.raises(UserError, match="was not made by this recipe, model and data"):
        train(other, digits, tmp_path / "a")
    assert classifiers.accuracy(features.load(a), *classifiers._images("test", digits)) > 0.6  # of 10 classes


def test_training_leaves_the_generator_and_the_threads_alone(small: Card, digits: Dataset, tmp_path: Path) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(dataclasses.replace(small, training=cards.Recipe(epochs=1)), digits, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("field", [{"optimiser": "adamax"}, {"validation": 10}, {"clip_norm": 1.0}, {"ema": 0.9}])
def test_a_recipe_that_would_not_be_followed_is_refused(
    field: dict[str, object], small: Card, digits: Dataset, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(small.training, epochs=1, **field)  # type: ignore[type-var, arg-type]
    with pytest.raises(UserError, match=r"card digits/small \[training\]: a classifier has"):
        train(dataclasses.replace(small, training=recipe), digits, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_labels_are_needed(small: Card, digits: Dataset, tmp_path: Path) -> None:
    unlabelled = {name: dataclasses.replace(split, y=None) for name, split in digits.splits.items()}
    with pytest.raises(UserError, match="no labelled grey images 'train'"):
        train(small, dataclasses.replace(digits, splits=unlabelled), tmp_path)


def test_the_command_trains_one_and_the_list_of_models_has_none(
    vaebench: Callable[..., Result], tmp_path: Path
) -> None:
    path = CARDS["digits"].path
    assert path is not None
    command = ("train", "--card", path, "--epochs", 1, "--out", tmp_path, "--json")
    assert "a classifier, which keeps no trajectory" in vaebench(*command, "--trajectory", 2).stderr
    result = vaebench(*command)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["card"] == str(tmp_path / "digits.toml")
    made = cards.read(tmp_path / "digits.toml")
    assert features.load(made).head.out_features == 10
    assert cards.FEATURES not in {dataset for dataset, _ in cards.ids()}
    assert (files.zoo() / cards.FEATURES).is_dir()


def _resources(dataset: Dataset) -> LocalResources:
    return LocalResources(Entry("any", dataset, lambda: pytest.fail("asked for"), "", ""), Settings())


def test_a_dataset_without_a_classifier_has_a_reason(digits: Dataset) -> None:
    other = dataclasses.replace(digits, name="cifar10")
    with pytest.raises(UnavailableError, match="the zoo ships no classifier for cifar10; the metric fid needs none"):
        _resources(other).features()
    digest, extract = _resources(digits).features()
    assert CARDS["digits"].weights is not None
    assert digest == CARDS["digits"].weights.sha256
    x = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(extract(x), extract(x))  # in evaluation mode: no dropout


def test_altered_weights_and_other_images_are_refused(tmp_path: Path) -> None:
    card = CARDS["digits"]
    moved = dataclasses.replace(card, path=tmp_path / "digits.toml")
    with pytest.raises(DataError, match="are absent"):
        features.load(moved)
    (tmp_path / "digits.safetensors").write_bytes(card.weights_path().read_bytes())
    wider = dataclasses.replace(moved, model={**card.model, "features": 32})
    with pytest.raises(DataError, match="do not fit card digits/digits"):
        features.load(wider)
    for wrong in (torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="features are of 8-bit images 1x8x8"):
            features.load(card).features(wrong)
