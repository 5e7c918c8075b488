"""The parts of the rate on trained models: identities between them."""

import math
from collections.abc import Callable

import pytest
import torch

from vaebench.core.data import Dataset
from vaebench.core.metric import Measurement
from vaebench.core.model import LatentVariableModel
from vaebench.functional.divergence import kl_gaussian
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
