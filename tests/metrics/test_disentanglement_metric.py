"""The metric on models that know their factors: poles, keyed reading, and that no cut of the work changes a value."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import final

import pytest
import torch
from torch import Tensor, nn

from vaebench.core import registry as plugins
from vaebench.core.data import Dataset, GroundTruth, Source, Space, Split
from vaebench.core.metric import Measurement
from vaebench.core.model import FactoredModel, LatentDistribution, Latents, LatentVariableModel
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.likelihoods import Gaussian, Likelihood
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.functional.factors import uniform_factors
from vaebench.metrics import disentanglement
from vaebench.metrics.disentanglement import Disentanglement, plugin
from vaebench.metrics.shared.encoder import Encoder
from vaebench.models import card as cards
from vaebench.models import loading

Measure = Callable[..., dict[str, Measurement]]
SIZES = (10, 20, 12)
SMALL = Disentanglement(
    points=1500, test_points=400, mixture=1500, draws=600, dci_points=200, dci_repeats=2, trees=3, votes=150,
    test_votes=100, vote_size=16, centres=4, local_points=400,
)  # fmt: skip


@final
class Known(FactoredModel):
    """q(z|x) = N(A x, 0.1^2), x the standardised factors."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(Space((len(SIZES),), None, "density"))
        self.matrix = nn.Parameter(matrix)

    def prior(self, batch: int, temperature: float = 1.0) -> LatentDistribution:
        zero = torch.zeros(batch, len(self.matrix))
        return DiagonalGaussian(zero, zero)

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        mean = x @ self.matrix.T
        return DiagonalGaussian(mean, torch.full_like(mean, -4.6))

    def likelihood(self, latents: Latents) -> Likelihood:
        (z,) = latents
        return Gaussian(torch.stack([z, torch.zeros_like(z)], -2), self.space.shape, None)

    def embed(self, x: Tensor) -> Tensor:
        return self.posterior(x).mean

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield "matrix", self.matrix


def standardised(factors: Tensor) -> Tensor:
    size = torch.tensor(SIZES)
    return (factors - (size - 1) / 2) / ((size.square() - 1) / 12).sqrt()


TRUTH = GroundTruth(("a", "b", "c"), SIZES, standardised)


def dataset() -> Dataset:
    x = standardised(uniform_factors(0, SIZES, torch.arange(50)))
    return Dataset("toy", Space((len(SIZES),), None, "density"), {"test": Split("test", x)}, "", TRUTH)


MIXED = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]


def test_a_perfect_code_scores_above_a_rotated_one_in_every_column(measure: Measure) -> None:
    perfect, rotated = (measure(SMALL, Known(matrix), dataset()) for matrix in (torch.eye(3), MIXED))
    assert set(perfect) == set(rotated) == {column.name for column in Disentanglement.columns}
    for name, found in perfect.items():
        assert found.stderr is not None
        assert found.stderr >= 0
        if name not in ("explicitness", "dci_informativeness", "beta_vae_score"):  # these ask for no axes
            assert found.value > rotated[name].value + 2 * found.stderr, name
        if name not in ("sap", "explicitness", "dci_informativeness", "mig_chen"):
            assert found.value > 0.88, name
    for name in ("local_mig", "local_modularity"):
        curve = perfect[name].curve
        assert curve is not None
        assert curve.x == (0.1, 0.2, 0.3, 0.6, 1.0)
        assert curve.y[0] == perfect[name].value


def test_a_code_of_one_factor_alone_has_no_gap_for_the_others(measure: Measure) -> None:
    """Two codes alike: no gap at all, though each knows one factor alone."""
    found = measure(SMALL, Known(torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])), dataset())
    for name in ("mig_dlib", "sap", "local_mig"):
        assert abs(found[name].value) < 0.01
    assert found["modularity"].value > 0.99
    assert found["dci_disentanglement"].value < 1
    assert found["factor_vae_score"].value < 0.6


@pytest.mark.slow
def test_no_cut_of_the_work_changes_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Known(MIXED).eval()
    before = model.matrix.detach().clone()
    found = []
    for images, in_flight in ((256, 1), (256, 3), (37, 1)):
        monkeypatch.setattr(disentanglement, "IMAGES", images)
        settings = Settings(torch.device("cpu"), in_flight=in_flight)
        run = MetricRun(of_model(model, dataset(), "m"), "metric", SMALL, settings, Silent())
        found.append({m.column: m for m in SMALL.measure(model, dataset(), run)})
    assert found[0] == found[1]
    for name, one in found[0].items():
        assert found[2][name].value == pytest.approx(one.value, abs=2e-3)
    assert model.matrix.equal(before)


def test_images_are_binarised_as_a_split_is() -> None:
    source = plugins.load("datasets", "three-dots")
    assert isinstance(source, Source)
    assert source.ground_truth is not None
    encoder = Encoder(Known(MIXED), source.ground_truth, binarise=True)
    factors = uniform_factors(0, source.ground_truth.sizes, torch.arange(1)).expand(400, 2, -1)
    x = encoder.images(factors, torch.arange(400), 5)
    grey = source.ground_truth.render(factors[0, :1]).double() / 255
    assert x.dtype == torch.uint8
    assert x.shape == (400, 2, 1, 64, 64)
    off = (x.double().mean((0, 1)) - grey[0]) / (grey[0] * (1 - grey[0]) / 800).sqrt().clamp(min=1e-9)
    assert off.abs().max() < 5
    edge = (grey[0] > 0.2) & (grey[0] < 0.8)
    pairs = [torch.stack([x[:, 0, edge].flatten(), x[:, 1, edge].flatten()]), x[:, 0, edge].T[:2]]
    shared = edge.sum()
    assert shared > 30
    for pair in pairs:  # the two places of an example, and two pixels: independent beyond their common mean
        assert not pair[0].equal(pair[1])
    assert encoder.images(factors[[7, 3]], torch.tensor([7, 3]), 5).equal(x[[7, 3]])
    assert not encoder.images(factors[:1], torch.tensor([0]), 6).equal(x[:1])
    grey_encoder = dataclasses.replace(encoder, binarise=False)
    assert grey_encoder.images(factors[:1], torch.arange(1), 5)[0, 0].equal(
        source.ground_truth.render(factors[0, :1])[0]
    )


def test_data_without_factors_is_not_supported(digits: Dataset, zoo: Callable[[str], LatentVariableModel]) -> None:
    metric = plugin["quick"]
    assert metric.unsupported(zoo("vae"), digits) == "digits is not rendered from known factors"
    one = dataclasses.replace(dataset(), ground_truth=GroundTruth(("x",), (9,), standardised))
    assert metric.unsupported(zoo("vae"), one) == "toy has one factor: there is nothing to tell it from"
    assert metric.unsupported(zoo("vae"), dataset()) is None
    assert Disentanglement(split="train").unsupported(zoo("vae"), dataset()) == "toy has no split 'train'"


@pytest.mark.parametrize(("field", "value", "says"), [
    ("points", 1, "points = 1 should be at least 2"), ("votes", 9, "votes = 9 should be at least 10"),
    ("local_points", 150, "local_points = 150 should be below 100 or a multiple of it"),
])  # fmt: skip
def test_senseless_parameters_are_refused(field: str, value: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Disentanglement(**{field: value})


def test_factors_of_few_values_only_have_no_neighbourhoods(measure: Measure) -> None:
    few = GroundTruth(("a", "b", "c"), (3, 4, 5), standardised)
    found = measure(SMALL, Known(torch.eye(3)), dataclasses.replace(dataset(), ground_truth=few))
    assert {column.name for column in Disentanglement.columns} - set(found) == {"local_mig", "local_modularity"}


@pytest.mark.slow
def test_the_zoos_models_are_scored_on_three_dots(measure: Measure) -> None:
    """Global scores near 0, because the discs are alike; see the metric's docstring."""
    source = plugins.load("datasets", "three-dots")
    assert isinstance(source, Source)
    card = cards.find("beta-vae-h", "three-dots")
    model = loading.build_model(card, source.space)
    loading.load_weights(model, card.weights_path())
    small = dataclasses.replace(SMALL, points=500, test_points=200, mixture=500, draws=200, dci_points=150, trees=1,
                                votes=40, test_votes=40, vote_size=8, centres=2, local_points=200)  # fmt: skip
    found = measure(small, model, source.load(Path()))
    assert set(found) == {column.name for column in Disentanglement.columns}
    assert found["mig_dlib"].value < 0.05
    assert all(0 <= one.value <= 1 for one in found.values())
