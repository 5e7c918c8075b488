"""Laws over every card of the zoo: it reads, builds, loads its weights, keeps its promises, and is written back."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from weekly import weekly

from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.checks import check_model
from vaebench.core.data import Source
from vaebench.core.errors import DataError, UserError
from vaebench.core.model import LatentVariableModel
from vaebench.models import card as cards
from vaebench.models import loading
from vaebench.models.card import Card
from vaebench.training.state import digest, resolve

IDS = cards.ids()
CARDS = {f"{dataset}/{name}": cards.find(name, dataset) for dataset, name in IDS}
WEIGHTED = [i for i, card in CARDS.items() if card.weights is not None]
TWINS = [(f"{d}/{n}", f"{d}/{n.removeprefix('dp')}") for d, n in IDS
         if n.startswith("dp") and (d, n.removeprefix("dp")) in IDS]  # fmt: skip


def built(card: Card) -> LatentVariableModel:
    source = plugins.load("datasets", card.dataset)
    assert isinstance(source, Source)
    return loading.build_model(card, source.space)


def test_the_zoo_has_digits_cards_with_weights() -> None:
    assert {"digits/vae", "digits/dpvae"} <= set(WEIGHTED)
    assert TWINS


def outdated(card: Card) -> bool:
    """Whether the weights were made by an older version of the objective: until they are replaced, with their rows."""
    return card.dataset != "digits" and card.objective["name"] in ("capacity", "consistency", "factor")


@pytest.mark.parametrize("card_id", CARDS)
def test_a_card_reads_and_builds(card_id: str) -> None:
    card = CARDS[card_id]
    assert card.id == card_id
    assert card.summary.endswith(".")
    if card.objective["name"] == "capacity" and outdated(card):  # its C was not yet a part of a rate
        with pytest.raises(UserError, match="unknown key 'capacity'"):
            resolve(card)
    elif card.training is not None:  # a submitted model may have been trained elsewhere
        resolve(card)  # every option of the objective exists
    model = built(card)
    assert sum(p.numel() for p in model.parameters()) > 0
    assert dict(model.inference_parameters()).keys() < dict(model.named_parameters()).keys()


@pytest.mark.parametrize("card_id", CARDS)
def test_a_card_is_written_back_as_it_was(card_id: str, tmp_path: Path) -> None:
    card = CARDS[card_id]
    path = tmp_path / f"{card.name}.toml"
    cards.write(card, path)
    again = cards.read(path)
    assert again == card
    content = path.read_bytes()
    cards.write(again, path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("card_id", WEIGHTED)
def test_weights_are_those_of_the_card_and_load_strictly(card_id: str) -> None:
    card = CARDS[card_id]
    path = card.weights_path()
    assert card.weights is not None
    assert files.sha256(path) == card.weights.sha256
    model = built(card)
    loading.load_weights(model, path)
    found = loading.read_tensors(path)
    assert found.keys() == model.state_dict().keys()
    assert all(tensor.equal(found[name].to(tensor.dtype)) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "card_id", [i for i in WEIGHTED if i.startswith("digits/") and CARDS[i].trained and CARDS[i].training]
)
def test_weights_were_made_by_the_recipe_of_the_card(card_id: str) -> None:
    """The digest that training wrote into the weights is that of the card's tables and the data."""
    card = CARDS[card_id]
    source = plugins.load("datasets", card.dataset)
    assert isinstance(source, Source)
    with safe_open(card.weights_path(), "pt") as file:
        same = file.metadata()["digest"] == digest(resolve(card), source.load(Path()))
    assert same


@pytest.mark.parametrize(
    "card_id",
    weekly((i for i in CARDS if i.startswith("digits/")), *(f"digits/{i}" for i in ("vae", "dpvae", "hvae"))),
)
def test_a_digits_model_keeps_its_promises(card_id: str) -> None:
    model = built(CARDS[card_id])
    if CARDS[card_id].weights is not None:
        loading.load_weights(model, CARDS[card_id].weights_path())
    assert [check for check in check_model(model) if not check.passed] == []


@pytest.mark.parametrize(("decoupled", "plain"), TWINS)
def test_a_dp_twin_differs_in_the_prior_alone(decoupled: str, plain: str) -> None:
    dp, twin = CARDS[decoupled], CARDS[plain]
    assert dp.family == twin.family
    assert dp.objective == twin.objective
    assert dp.training == twin.training
    assert (dp.model["prior"], twin.model["prior"]) == ("coupling", "normal")
    assert {**dp.model, "prior": "normal"} == twin.model
    tensors, fewer = built(dp).state_dict(), built(twin).state_dict()
    assert {n: t.shape for n, t in tensors.items() if not n.startswith("flow.")} == {
        n: t.shape for n, t in fewer.items()
    }


def test_altered_and_absent_weights_are_refused(tmp_path: Path) -> None:
    card = CARDS["digits/vae"]
    assert card.weights is not None
    content = bytearray(card.weights_path().read_bytes())
    moved = dataclasses.replace(card, path=tmp_path / "vae.toml")
    with pytest.raises(DataError, match=r"are absent; train them: vaebench train --card .*vae.toml --out DIR"):
        moved.weights_path()
    content[-1] ^= 1
    (tmp_path / card.weights.file).write_bytes(content)
    with pytest.raises(DataError, match="but the card says"):
        moved.weights_path()


def spoilt(tensors: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    name = sorted(tensors)[0]
    if how == "missing":
        del tensors[name]
    elif how == "unknown":
        tensors["ghost"] = torch.zeros(1)
    elif how == "is":
        tensors[name] = tensors[name][None].contiguous()
    else:
        tensors[name].view(-1)[0] = float("nan")
    return tensors


@pytest.mark.parametrize("how", ["missing", "unknown", "is", "NaN or infinity in"])
def test_weights_that_do_not_fit_are_refused_and_change_nothing(how: str, tmp_path: Path) -> None:
    card = CARDS["digits/vae"]
    tensors = spoilt(loading.read_tensors(card.weights_path()), how)
    save_file(tensors, tmp_path / "spoilt.safetensors")
    model = built(card)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(DataError, match=f"do not fit the card: .*{how} "):
        loading.load_weights(model, tmp_path / "spoilt.safetensors")
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latnet": 3}, "unknown key 'latnet'; did you mean 'latent'"),
        ({"latent": "8"}, "latent = '8' should be int"),
        ({"prior": "copuling"}, "prior = 'copuling' should be one of 'normal', 'coupling'"),
        ({"latent": 0}, "should be positive widths"),
        ({"likelihood": "bernoulli"}, "needs 2 levels, the data has 17"),
        ({"latent": 1, "prior": "coupling"}, "at least 2 latent dimensions"),
    ],
)
def test_options_that_do_not_fit_name_the_card(change: dict[str, Any], message: str) -> None:
    card = dataclasses.replace(CARDS["digits/vae"], model={**CARDS["digits/vae"].model, **change})
    with pytest.raises(UserError, match=r"^card digits/vae \[model\]: ") as error:
        built(card)
    assert message in str(error.value)
