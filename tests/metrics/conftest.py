"""What the metrics' tests share: a run in this process that collects what it is given."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch_fidelity import feature_extractor_inceptionv3 as theirs

from vaebench.core import registry as plugins
from vaebench.core.data import Dataset, Source
from vaebench.core.metric import Measurement, Metric
from vaebench.core.model import LatentVariableModel
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.models import card as cards
from vaebench.models import loading

Measure = Callable[..., dict[str, Measurement]]


@pytest.fixture
def kept() -> dict[str, bytes]:
    """The files that a metric kept, by name."""
    return {}


@pytest.fixture
def measure(kept: dict[str, bytes]) -> Measure:
    """`measure(metric, model, dataset, seed=0)`: the measurements by column."""

    def run(metric: Metric, model: LatentVariableModel, dataset: Dataset, seed: int = 0) -> dict[str, Measurement]:
        def keep(_: str, name: str, content: bytes) -> None:
            kept[name] = content

        entry = of_model(model.eval(), dataset, "model")
        made = MetricRun(entry, "metric", metric, Settings(seed=seed), Silent(), keep=keep)
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


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded random Inception in the official format, scaled so that no layer's output dies out."""
    with pytest.MonkeyPatch.context() as patch:  # built without a download
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        shapes = {n: t.shape for n, t in theirs.FeatureExtractorInceptionV3("any", ["64"]).state_dict().items()}
    generator = torch.Generator().manual_seed(0)

    def made(name: str, shape: torch.Size) -> Tensor:
        if name.endswith("num_batches_tracked"):
            return torch.tensor(0)
        if len(shape) > 1:
            return torch.randn(shape, generator=generator) * math.sqrt(2 / math.prod(shape[1:]))
        return torch.ones(shape) if name.endswith(("bn.weight", "running_var")) else torch.zeros(shape)

    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save({name: made(name, shape) for name, shape in shapes.items()}, path)
    return path
