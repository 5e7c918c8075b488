"""The parts of the rate on trained models: identities between them."""

import math
from collections.abc import Callable

import pytest
import torch
from pixels import Pixels

from vaebench.core.data import Binarised, Dataset, Space, Split
from vaebench.core.metric import Measurement
from vaebench.core.model import LatentVariableModel
from vaebench.functional.divergence import kl_gaussian
from vaebench.functional.information import active_units, active_units_stderr
from vaebench.metrics.information import Information

Measure = Callable[..., dict[str, Measurement]]
Zoo = Callable[[str], LatentVariableModel]


def test_the_parts_sum_to_the_rate(measure: Measure, zoo: Zoo, digits: Dataset) -> None:
    model = zoo("vae")
    found = measure(Information(), model, digits)
    with torch.no_grad():
        q = model.posterior(digits.split("test").x)
    zero = torch.zeros_like(q.mean)  # type: ignore[attr-defined]
    rate = kl_gaussian(q.mean, q.log_variance, zero, zero)  # type: ignore[attr-defined]
    parts = [found[name] for name in ("mutual_information", "total_correlation", "dimension_kl")]
    error = sum(part.stderr or 0.0 for part in parts)
    assert abs(sum(part.value for part in parts) - float(rate.mean())) < 4 * error
    assert found["mutual_information"].value < found["mutual_information_cap"].value == pytest.approx(math.log(360))
    curve = found["dimension_kl"].curve
    assert curve is not None
    assert sum(curve.y) == pytest.approx(found["dimension_kl"].value)
    assert found["active_units"].value == 16
    assert found["active_units_burda"].n == 500


def test_a_strong_rate_penalty_closes_units(measure: Measure, zoo: Zoo, digits: Dataset) -> None:
    plain, pressed = (measure(Information(), zoo(name), digits) for name in ("vae", "beta-vae-h"))
    assert pressed["active_units"].value < plain["active_units"].value
    assert pressed["mutual_information"].value < plain["mutual_information"].value


def test_a_decoupled_prior_has_no_marginals_to_compare_with(measure: Measure, zoo: Zoo, digits: Dataset) -> None:
    assert "dimension_kl" not in measure(Information(), zoo("dpvae"), digits)


def test_a_count_of_random_examples_has_an_error() -> None:
    """Dimensions of variances about the limit: the spread of the count over samples of 500 is what one of them says."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.05, 0.15, 40)
    samples = [scale * torch.randn(500, 40, generator=generator) for _ in range(400)]
    counts = torch.tensor([active_units(each) for each in samples], dtype=torch.float64)
    said = torch.tensor([active_units_stderr(each) for each in samples], dtype=torch.float64)
    assert float((said**2).mean().sqrt() / counts.std()) == pytest.approx(1, abs=0.25)
    assert active_units_stderr(torch.zeros(500, 3)) == 0
    assert active_units_stderr(torch.randn(500, 3, generator=generator)) < 1e-6


def test_counts_are_exact_of_what_is_read_without_noise(measure: Measure, zoo: Zoo, digits: Dataset) -> None:
    found = measure(Information(draws=100), zoo("vae"), digits)
    assert found["active_units"].stderr is found["active_units_burda"].stderr is None


def test_counts_of_binarised_images_have_errors(measure: Measure) -> None:
    space, generator = Space((1, 4, 6), 2, "pmf"), torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (300, 1, 4, 6), generator=generator).to(torch.uint8)
    splits = {name: Split(name, x, None, Binarised()) for name in ("train", "test")}
    found = measure(Information(draws=100), Pixels(space), Dataset("binarised", space, splits, ""))
    assert found["active_units"].stderr == found["active_units_burda"].stderr == 0  # all 24 vary by far
    assert found["active_units"].value == 24
