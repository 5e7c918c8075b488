"""The table of HVAE's Gaussian problem on the page of papers is what the zoo's models give."""

from pathlib import Path

import pytest

from vaebench.core import registry as plugins
from vaebench.core.data import Source
from vaebench.datasets._toy import of_mean
from vaebench.models import card as cards
from vaebench.models import loading

PAGE = (Path(__file__).parents[2] / "docs" / "papers.md").read_text(encoding="utf-8")
LINES = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith(("| delta, ", "| sigma, "))]
MODELS = ("hvae", "hvae-untempered", "vae")


@pytest.mark.parametrize("dims", [25, 51, 101, 201])
def test_the_table_is_measured(dims: int) -> None:
    source = plugins.load("datasets", f"gaussian-toy-{dims}")
    assert isinstance(source, Source)
    assert source.law is not None
    data, truth = source.load(Path()), source.law.parameters
    of_data = of_mean(data.split("train").x.double().mean(0))
    found = {name: [float((of_data[name] - true).square().sum())] for name, true in truth.items()}
    for name in MODELS:
        card = cards.find(name, data.name)
        model = loading.build_model(card, data.space)
        loading.load_weights(model, card.weights_path())
        weights = model.state_dict()
        found["delta"].append(float((weights["decoder.0.delta"].double() - truth["delta"]).square().sum()))
        found["sigma"].append(float((weights["decoder.0.log_sigma"].double().exp() - truth["sigma"]).square().sum()))
    for name, values in found.items():
        (shown,) = (line[1:] for line in LINES if line[0] == f"{name}, {dims}")
        assert [float(text) for text in shown] == pytest.approx(values, rel=0.01)
