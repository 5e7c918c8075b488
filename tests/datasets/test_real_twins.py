"""Laws of datasets read as real numbers: the files, splits and content of another; bits/dim that bound its own."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result

from vaebench.core import checks
from vaebench.core import registry as plugins
from vaebench.core.data import Dataset, Source, Space, Split
from vaebench.core.readings import Centred, Dequantised
from vaebench.distributions.noise import keyed
from vaebench.evaluation.api import evaluate
from vaebench.metrics.likelihood import Likelihood
from vaebench.models.adapters.flat import Flat, Options

TWINS = sorted(name for name in plugins.names("datasets") if name.endswith(("-dequantised", "-centred")))


def source(name: str) -> Source:
    found = plugins.load("datasets", name)
    assert isinstance(found, Source)
    return found


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_has_the_content_of_its_base(name: str) -> None:
    base, _, suffix = name.rpartition("-")
    twin, other = source(name), source(base)
    assert twin.name == name
    assert (twin.fingerprint, twin.origin, twin.licence) == (other.fingerprint, other.origin, other.licence)
    assert twin.space == Space(other.space.shape, None, "density", (0, 1) if suffix == "dequantised" else (-1, 1))


def test_a_twin_is_listed_as_its_base_is(tmp_path: Path, vaebench: Callable[..., Result]) -> None:
    listed = json.loads(vaebench("data", "ls", "--data", tmp_path, "--json").stdout)
    rows = {row.pop("name"): row for row in listed}
    for name in TWINS:
        assert rows[name]["state"] == rows[str(source(name).twin_of)]["state"]
        assert source(name).twin_of == name.rpartition("-")[0]


def test_digits_dequantised() -> None:
    dataset, base = source("digits-dequantised").load(Path()), source("digits").load(Path())
    assert [check for check in checks.check_dataset(dataset) if not check.passed] == []
    index = torch.arange(360)
    with keyed(0, index):
        x = dataset.split("test").take(index).x
    stored = base.split("test").x
    assert bool((x * 17).floor().eq(stored).all())
    assert abs(float((x * 17 - stored).mean()) - 0.5) < 0.01
    with keyed(1, index):
        assert not torch.equal(dataset.split("test").take(index).x, x)


def test_celeba64_centred(tmp_path: Path, write_celeba: Callable[[Path], None]) -> None:
    write_celeba(tmp_path)
    dataset, base = source("celeba64-centred").load(tmp_path), source("celeba64").load(tmp_path)
    x = dataset.split("valid").take(torch.arange(2)).x
    np.testing.assert_allclose(x.numpy(), base.split("valid").x.numpy() / 127.5 - 1, atol=1e-6)
    assert float(x.std()) > 0.1


@pytest.mark.parametrize("reading", [Dequantised(17), Centred()])
def test_examples_that_do_not_fit_are_refused(reading: Dequantised | Centred) -> None:
    interval = (0.0, 1.0) if isinstance(reading, Dequantised) else (-1.0, 1.0)
    x = torch.full((2, 1, 2, 2), 300, dtype=torch.int16)
    with pytest.raises(ValueError, match=r"examples lie in \[300, 300\]"):
        reading.check(x, Space((1, 2, 2), None, "density", interval))
    with pytest.raises(ValueError, match=r"not in \(2, 3\)"):
        reading.check(x, Space((1, 2, 2), None, "density", (2, 3)))
    with pytest.raises(ValueError, match="cannot have interval"):
        Space((1, 2, 2), 17, "pmf", (0, 1))


def flat(space: Space, likelihood: str) -> Flat:
    torch.manual_seed(0)
    return Flat(space, Options(2, (8,), likelihood)).eval()  # type: ignore[arg-type]


def test_bits_of_a_density_are_those_of_levels() -> None:
    """Bits of the uniform density are log2 of the levels; another density's are (NLL + D log levels) / (D ln 2)."""
    dataset = source("digits-dequantised").load(Path())
    model = flat(dataset.space, "continuous-bernoulli")
    results = evaluate(model, dataset, {"likelihood": Likelihood(samples=4, repeats=2)})
    nll, bits = results["nll"].value, results["bpd"].value
    assert bits == pytest.approx((nll + 64 * math.log(17)) / (64 * math.log(2)), abs=1e-9)
    assert abs(bits - math.log2(17)) < 0.2
    assert abs(nll) < 10
    rows = {row.column: row for row in results.rows}
    assert "Dequantised(levels=17)" in rows["bpd"].comparability
    for parameter in model.parameters():
        parameter.data.zero_()
    flat_bits = evaluate(model, dataset, {"likelihood": Likelihood(samples=4, repeats=2)})["bpd"].value
    assert flat_bits == pytest.approx(math.log2(17), abs=1e-6)


def test_bits_bound_those_of_the_cells() -> None:
    """E_u[-log p] + log levels is at least -log of the mass of the level's cell under the same density."""
    model = flat(Space((1, 1, 1), None, "density", (0.0, 1.0)), "continuous-bernoulli")
    for parameter in model.parameters():
        parameter.data.zero_()  # q is the prior, and z changes nothing
    list(model.decoder.parameters())[-1].data.fill_(4.0)
    dataset = Dataset(
        "one", model.space, {"test": Split("test", torch.arange(5).view(5, 1, 1, 1), None, Dequantised(5))}, "0" * 64
    )
    found = evaluate(model, dataset, {"likelihood": Likelihood(samples=1, repeats=2000)})["bpd"].value
    edges = torch.expm1(4 * torch.linspace(0, 1, 6).double()) / math.expm1(4)
    exact = float(-edges.diff().log().mean()) / math.log(2)
    assert exact < found < exact + 0.1


def test_what_is_read_without_noise_is_read_once() -> None:
    space = Space((1, 2, 2), None, "density", (-1.0, 1.0))
    stored = torch.arange(8).view(2, 1, 2, 2) * 30
    once = Dataset("few", space, {"test": Split("test", stored, None, Centred())}, "0" * 64)
    plain = dataclasses.replace(once, splits={"test": Split("test", stored.float() / 127.5 - 1)})
    model = flat(space, "gaussian")
    read, given = (evaluate(model, each, {"likelihood": Likelihood(samples=5, repeats=3)}) for each in (once, plain))
    assert read["nll"].value == pytest.approx(given["nll"].value, rel=1e-5)
    assert read["bpd"].value == pytest.approx(read["nll"].value / (4 * math.log(2)), rel=1e-9)
    assert "bpd" not in {row.column for row in given.rows}
