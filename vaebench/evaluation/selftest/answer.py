"""One comparison of an estimate with its exact value, and the ways to make one."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.core.data import Dataset, Split, fingerprint
from vaebench.core.metric import Measurement, Metric
from vaebench.core.model import LatentVariableModel
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.functional.statistics import mean_stderr

LIMIT = 4.0  # standard errors: a right estimator exceeds this once in 16,000 comparisons


class Answer(NamedTuple):
    """One comparison: the exact value, its estimate, the estimate's standard error, and what rounding may do."""

    estimator: str
    exact: float
    estimate: float
    stderr: float
    rounding: float

    @property
    def error(self) -> float:
        """(estimate - exact) in standard errors, the rounding of the arithmetic allowed for."""
        slack = abs(self.estimate - self.exact) - self.rounding
        return 0.0 if slack <= 0 else (slack / self.stderr if self.stderr else float("inf"))

    @property
    def passed(self) -> bool:
        return self.error <= LIMIT


def rounding(dtype: torch.dtype, exact: float) -> float:
    """How far the arithmetic of `dtype` may move a value of the size of `exact`."""
    return 16 * torch.finfo(dtype).eps * max(1.0, abs(exact))


def equal(
    estimator: str, exact: float, estimate: float | Tensor, dtype: torch.dtype = torch.float64, size: float = 1.0
) -> Answer:
    """A value without noise; `size` is that of the numbers which it is computed from."""
    return Answer(estimator, exact, float(estimate), 0.0, size * rounding(dtype, exact))


def worst(
    estimator: str, exact: Tensor, estimates: Tensor, dtype: torch.dtype = torch.float64, size: float = 1.0
) -> Answer:
    """The furthest off of many values without noise, both (N,)."""
    exact, estimates = exact.double().cpu().flatten(), estimates.double().cpu().flatten()
    difference = (estimates - exact).abs()
    at = int(torch.where(difference.isnan(), torch.inf, difference).argmax())
    return equal(estimator, float(exact[at]), float(estimates[at]), dtype, size)


def average(estimator: str, exact: Tensor | float, terms: Tensor, allowed: float) -> Answer:
    """The mean of `terms` (N,) against that of `exact` (N,): the error is that of the differences alone."""
    exact = torch.as_tensor(exact, dtype=torch.float64).expand(len(terms))
    difference, stderr = mean_stderr(terms.double().cpu() - exact)
    truth = float(exact.mean())
    return Answer(estimator, truth, truth + difference, stderr or 0.0, allowed)


def dataset(name: str, model: LatentVariableModel, **splits: Split) -> Dataset:
    """Splits of the model's space."""
    return Dataset(name, model.space, splits, fingerprint(splits))


def measured(
    metric: Metric, model: LatentVariableModel, data: Dataset, device: torch.device, dtype: torch.dtype
) -> dict[str, Measurement]:
    """What `metric` measures of `model` on `data`, by column: the whole way that a run takes, but for the board."""
    splits = {
        name: replace(part, x=part.x.to(dtype)) if part.x.is_floating_point() else part
        for name, part in data.splits.items()
    }
    data = replace(data, splits=splits)
    entry = of_model(model.to(device=device, dtype=dtype).eval(), data, "selftest")
    run = MetricRun(entry, "selftest", metric, Settings(device, dtype), Silent())
    return {found.column: found for found in metric.measure(entry.model, data, run)}


def column(estimator: str, exact: float, found: Measurement, allowed: float) -> Answer:
    """What a metric measured, with its own standard error."""
    return Answer(estimator, exact, found.value, found.stderr or 0.0, allowed)
