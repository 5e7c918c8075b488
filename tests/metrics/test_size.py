"""Numbers of parameters: by hand, of parameters that are shared, and of preset quick."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open

from vaebench.core.data import Dataset
from vaebench.core.metric import Measurement
from vaebench.core.model import LatentVariableModel
from vaebench.core.space import Space
from vaebench.metrics.size import Size, plugin
from vaebench.models import card as cards
from vaebench.models.adapters.flat import Flat, Options

Measure = Callable[..., dict[str, Measurement]]
Zoo = Callable[[str], LatentVariableModel]


def counts(found: dict[str, Measurement]) -> tuple[float, float]:
    return found["total_parameters"].value, found["generative_parameters"].value


def test_affine_layers_have_their_weights_and_offsets(measure: Measure, digits: Dataset) -> None:
    model = Flat(Space((6,), 2, "pmf"), Options(3, (5,), "bernoulli"))
    encoder, decoder = 6 * 5 + 5 + 5 * 6 + 6, 3 * 5 + 5 + 5 * 6 + 6
    assert counts(measure(Size(), model, digits)) == (encoder + decoder, decoder)


def test_a_shared_parameter_counts_once_and_a_buffer_not(measure: Measure, digits: Dataset) -> None:
    model = Flat(Space((6,), 2, "pmf"), Options(3, (5,), "bernoulli"))
    before = counts(measure(Size(), model, digits))
    model.again = model.decoder
    model.register_buffer("statistics", torch.zeros(100))
    assert counts(measure(Size(), model, digits)) == before


def test_a_file_of_weights_holds_as_many(measure: Measure, zoo: Zoo, digits: Dataset) -> None:
    model = zoo("vae")
    path: Path = cards.find("vae", "digits").weights_path()
    with safe_open(path, "pt") as file:  # type: ignore[no-untyped-call]
        held = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert counts(measure(Size(), model, digits))[0] == held


def test_presets_are_one_class_whatever_the_data_hold(digits: Dataset) -> None:
    assert plugin["quick"].quick(digits, dear=True) == plugin["standard"]
    assert plugin["standard"].reads == ()
