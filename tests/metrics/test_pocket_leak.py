"""Pockets and leaks in two latent dimensions: planted ones are found, a matched prior has none; the picture."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from stored import Stored, dataset, leak, means, pocket

from vaebench.core import registry as plugins
from vaebench.core.data import Dataset, Source
from vaebench.core.metric import Measurement
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.coupling import CouplingFlow
from vaebench.functional.leakage import below_tail
from vaebench.metrics.pocket_leak import PocketLeak
from vaebench.models import card as cards
from vaebench.models import loading

Measure = Callable[..., dict[str, Measurement]]
QUICK = PocketLeak(draws=500, tail=0.01, shown=50)


def off(found: Measurement, exact: float) -> float:
    """In standard errors."""
    assert found.stderr is not None
    return abs(found.value - exact) / found.stderr


@pytest.fixture(scope="module")
def moons() -> Dataset:
    source = plugins.load("datasets", "two-moons")
    assert isinstance(source, Source)
    whole = source.load(Path())
    some = whole.split("train").part(torch.arange(2000), "train")
    return dataclasses.replace(whole, splits={"train": some})


def moons_model(name: str, moons: Dataset) -> LatentVariableModel:
    card = cards.find(name, "two-moons")
    model = loading.build_model(card, moons.space)
    loading.load_weights(model, card.weights_path())
    return model.eval()


def test_a_share_of_a_densitys_own_draws_is_below_its_tail() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(400, 2, 999, generator=generator)
    shares = torch.stack([below_tail(theirs, own, 0.02).double().mean() for own, theirs in draws])
    assert abs(float(shares.mean()) - 0.02) < 4 * float(shares.std()) / 20
    assert below_tail(torch.tensor([-9.0, 9.0]), draws[0, 0], 0.02).tolist() == [True, False]
    with pytest.raises(ValueError, match=r"a tail of 0\.0001 cannot be told from 999 draws; take more"):
        below_tail(draws[0, 0], draws[0, 1], 0.0001)


def test_a_matched_prior_has_neither_pockets_nor_leaks(measure: Measure) -> None:
    found = measure(QUICK, Stored(-1.0217), dataset(means(5000, 0, 0.8)))  # 0.8^2 + exp(-1.0217) = 1
    assert set(found) == {"pockets", "leaks"}
    assert all(off(value, QUICK.tail) < 4 and value.n == 5000 for value in found.values())


def test_a_pocket_and_a_leak_are_found_each_in_its_column(measure: Measure) -> None:
    x, model = means(5000, 0, 0.95), Stored(-2.3)
    hollow, leaking = (measure(QUICK, model, dataset(f(x))) for f in (pocket, leak))
    assert hollow["pockets"].value > 0.2
    assert hollow["leaks"].value < 5 * QUICK.tail  # the third that is left holds all of the tail
    assert leaking["leaks"].value == pytest.approx(0.1, abs=0.02)
    assert leaking["pockets"].value < 2 * QUICK.tail


@pytest.mark.slow
def test_the_picture_has_a_panel_more_in_generation_space_and_is_the_same_again(
    measure: Measure, kept: dict[str, bytes]
) -> None:
    data, sizes = dataset(means(500, 0, 0.8)), []
    torch.manual_seed(0)
    flow = CouplingFlow(2)
    for model in (Stored(-1.0), Stored(-1.0, flow), Stored(-1.0, flow)):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        measure(QUICK, model, data)
        assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
        sizes.append(kept["latents.png"])
    pictures = [Image.open(io.BytesIO(content)) for content in sizes]
    assert all(picture.format == "PNG" and picture.size[1] > 400 for picture in pictures)
    assert pictures[0].size[0] < pictures[1].size[0]
    assert sizes[1] == sizes[2]


@pytest.mark.slow
def test_a_dp_twin_has_fewer_pockets_on_two_moons(measure: Measure, moons: Dataset) -> None:
    plain, twin = (measure(QUICK, moons_model(name, moons), moons)["pockets"] for name in ("vae", "dpvae"))
    assert plain.stderr is not None
    assert twin.value < plain.value - 4 * plain.stderr
    assert off(twin, 0.01) < off(plain, 0.01)


def test_only_two_latent_dimensions_are_drawn(
    zoo: Callable[[str], LatentVariableModel], digits: Dataset, moons: Dataset
) -> None:
    reason = "draws a plane of 2 latent dimensions; this model's first group has 16"
    assert PocketLeak().unsupported(zoo("vae"), digits) == reason
    assert PocketLeak().unsupported(moons_model("vae", moons), moons) is None
    assert PocketLeak(split="nowhere").unsupported(moons_model("vae", moons), moons)


@pytest.mark.parametrize("fields", [{"draws": 1}, {"tail": 0.0}, {"shown": 0}, {"draws": 10, "shown": 11}])
def test_parameters_are_checked(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="should be at least 2"):
        PocketLeak(**fields)  # type: ignore[arg-type]
