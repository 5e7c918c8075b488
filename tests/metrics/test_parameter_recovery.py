"""Distances from a known law: exact where the decoder is affine, those of the data beside them, the picture."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from vaebench.core import registry as plugins
from vaebench.core.data import Dataset, Source
from vaebench.core.metric import Measurement, Run
from vaebench.datasets._toy import of_mean, parameters
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.metrics.parameter_recovery import ParameterRecovery
from vaebench.models.adapters.flat import Flat, Options
from vaebench.models.adapters.hamiltonian import Hamiltonian
from vaebench.models.adapters.hamiltonian import Options as HamiltonianOptions

D = 25


def toy(dims: int = D) -> Dataset:
    source = plugins.load("datasets", f"gaussian-toy-{dims}")
    assert isinstance(source, Source)
    return source.load(Path())


def off(made: Any, delta: float, sigma: float) -> Any:
    """A model whose parameters are off by so much in every dimension."""
    truth = parameters(D)
    with torch.no_grad():
        made.decoder[0].delta.copy_(truth["delta"] + delta)
        made.decoder[0].log_sigma.copy_((truth["sigma"] + sigma).log())
    return made.eval()


def flat(delta: float, sigma: float) -> Any:
    return off(Flat(toy().space, Options(D, (), "gaussian-summary", "offset")), delta, sigma)


def found(model: Any, metric: ParameterRecovery, data: Dataset | None = None) -> Iterator[Measurement]:
    data, kept = data or toy(), dict[str, bytes]()
    entry = of_model(model, data, "model")
    run: Run = MetricRun(entry, "parameter-recovery", metric, Settings(), Silent(),
                         keep=lambda _, name, content: kept.update({name: content}))  # fmt: skip
    yield from metric.measure(model, data, run)
    picture = Image.open(io.BytesIO(kept["parameters.png"]))
    assert picture.format == "PNG"
    assert min(picture.size) > 500


def by_name(rows: Iterator[Measurement]) -> dict[tuple[str, str], Measurement]:
    return {(row.column, row.facet["parameter"]): row for row in rows}


def test_of_an_affine_decoder_the_distance_is_exact() -> None:
    hamiltonian = Hamiltonian(toy().space, HamiltonianOptions(D, (), "gaussian-summary", "offset-prior"))
    for model in (flat(0.2, 0.01), off(hamiltonian, 0.2, 0.01)):
        rows = by_name(found(model, ParameterRecovery(draws=20)))
        assert rows["error", "delta"].value == pytest.approx(D * 0.2**2, rel=1e-4)
        assert rows["error", "sigma"].value == pytest.approx(D * 0.01**2, rel=1e-3)
        assert rows["error", "delta"].stderr is None
        assert rows["error", "delta"].df is None


def test_the_data_are_as_far_as_chance_has_it() -> None:
    """The mean of 1,000 averages of variance 1 + sigma^2 / N, and of as many log-variances of 2 / (N - 1)."""
    for dims in (25, 201):
        data, truth = toy(dims), parameters(dims)
        model = Flat(data.space, Options(dims, (), "gaussian-summary", "offset")).eval()
        rows = by_name(found(model, ParameterRecovery(draws=10), data))
        expected = {"delta": dims / 1000, "sigma": float(truth["sigma"].square().sum()) / 2 / 9999 / 1000}
        for name, value in expected.items():
            assert rows["data_error", name].value == pytest.approx(value, rel=5 * (2 / dims) ** 0.5)
            assert rows["data_error", name].n == 1000
            assert rows["data_error", name].stderr


def test_a_curved_decoder_has_an_error_that_covers() -> None:
    data = toy()
    torch.manual_seed(0)
    model = Flat(data.space, Options(D, (8,), "gaussian-summary", activation="tanh")).eval()
    for part in model.decoder:
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.5)
    few, many = (by_name(found(model, ParameterRecovery(draws=n))) for n in (200, 20_000))
    for name in ("delta", "sigma"):
        row = few["error", name]
        assert row.stderr is not None
        assert abs(row.value - many["error", name].value) < 4 * row.stderr


def test_parameters_are_read_from_means() -> None:
    truth = parameters(D)
    model = flat(0.0, 0.0)
    with torch.no_grad():
        read = of_mean(model.likelihood((torch.zeros(1, 1, D),)).mean[0, 0])
    torch.testing.assert_close(read["delta"], truth["delta"], rtol=0, atol=1e-6)
    torch.testing.assert_close(read["sigma"], truth["sigma"], rtol=1e-5, atol=0)
    assert truth["sigma"][[0, D // 2, -1]].tolist() == pytest.approx([1.0, 0.1, 1.0])
    assert truth["delta"][[0, D // 2, -1]].tolist() == pytest.approx([-2.4, 0.0, 2.4])


def test_where_no_law_is_known_it_is_skipped(digits: Dataset) -> None:
    metric = ParameterRecovery()
    assert metric.unsupported(flat(0, 0), toy()) is None
    assert metric.unsupported(flat(0, 0), digits) == (
        "needs data that were drawn by a known law; that of digits is not known"
    )
    assert "has no split" in str(ParameterRecovery(split="nowhere").unsupported(flat(0, 0), toy()))
    assert ParameterRecovery(split="test[::50]").unsupported(flat(0, 0), toy()) == (
        "needs 10 examples; the split test[::50] has 4"
    )


def test_too_few_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="draws = 9 should be at least 10"):
        ParameterRecovery(draws=9)
