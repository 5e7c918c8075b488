"""What the metrics' tests share: a run in this process that collects what it is given."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vaebench import card as cards
from vaebench import loading, plugins
from vaebench.data import Dataset, Source
from vaebench.metric import Measurement, Metric
from vaebench.metric_run import MetricRun, NoResources, Settings, Subject, Surroundings
from vaebench.model import LatentVariableModel

Measure = Callable[..., dict[str, Measurement]]


class Silent:
    """A progress that nobody reads."""

    def start(self, metric: str, blocks: int) -> None: ...
    def advance(self, blocks: int) -> None: ...
    def failed(self, metric: str, error: Exception) -> None: ...
    def warn(self, text: str) -> None: ...


@pytest.fixture
def kept() -> dict[str, bytes]:
    """The files that a metric kept, by name."""
    return {}


@pytest.fixture
def measure(kept: dict[str, bytes]) -> Measure:
    """`measure(metric, model, dataset, seed=0)`: the measurements by column."""

    def run(metric: Metric, model: LatentVariableModel, dataset: Dataset, seed: int = 0) -> dict[str, Measurement]:
        around = Surroundings(NoResources(), lambda _, name, content: kept.update({name: content}), {})
        subject, settings = Subject("model", model.eval(), "", ""), Settings(torch.device("cpu"))
        made = MetricRun(subject, dataset, "metric", metric, seed, settings, None, Silent(), around)
        return {found.column: found for found in metric.measure(model, dataset, made)}

    return run


@pytest.fixture(scope="session")
def digits() -> Dataset:
    source = plugins.load("datasets", "digits")
    assert isinstance(source, Source)
    return source.load(Path())


@pytest.fixture
def zoo(digits: Dataset) -> Callable[[str], LatentVariableModel]:
    """`zoo(name)`: the zoo's model on digits."""

    def build(name: str) -> LatentVariableModel:
        card = cards.find(name, "digits")
        model = loading.build_model(card, digits.space)
        loading.load_weights(model, card.weights_path())
        return model.eval()

    return build
