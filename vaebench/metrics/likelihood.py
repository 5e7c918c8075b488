"""Importance-weighted NLL, ELBO, rate, distortion, bits/dim and effective sample size, from one pass of draws."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, final

from vaebench.core.data import Dataset, Space, Split
from vaebench.core.metric import Column, Given, Measurement, Metric, Run
from vaebench.core.model import LatentVariableModel
from vaebench.core.names import BOUND_LOOSE, UNIFORM
from vaebench.functional.convergence import bound_loose
from vaebench.metrics.shared.bounds import score


@final
@dataclass(frozen=True)
class Likelihood(Metric):
    """-L_K on `split` with exactly `samples` = K draws of q(z|x) per image.

    A split that is binarised or dequantised when read is read `repeats` times and each image's values averaged;
    standard errors are over images, and say nothing of how far the bound lies above the truth: where it has not
    converged (`bound_loose`), nll and bpd are marked. bits/dim = nats / (D ln 2), marked where guessing at random has
    fewer; of densities only those whose reading says how they come from levels, (nats + D log levels) / (D ln 2) where
    they are dequantised. Each image's NLL and ELBO are kept beside the rows.
    Source: Burda et al. 2016, equation 8.
    """

    samples: int = 1000
    repeats: int = 3

    version: ClassVar[int] = 1
    given = ("levels", "measure", "binarisation", "mass")
    dear = MappingProxyType({"samples": 50})
    columns: ClassVar[tuple[Column, ...]] = (
        Column("nll", "nats", "lower", "upper", equation="-log mean_k p(x, z_k) / q(z_k|x), z_1 .. z_K ~ q(z|x)"),
        Column("bpd", "bits/dim", "lower", "upper",
               equation="nll / (D log 2); (nll + D log levels) / (D log 2) of dequantised data"),
        Column("nll_point", "nats/point", "lower", "upper", equation="nll / points of a cloud"),
        Column("elbo", "nats", "higher", "lower", equation="E_q[log p(x, z) - log q(z|x)]"),
        Column("nll_tenth", "nats", "lower", "upper", equation="nll with K / 10 draws"),
        Column("rate", "nats", "none", "estimate", equation="E_q[log q(z|x) - log p(z)]"),
        Column("distortion", "nats", "none", "estimate", equation="-E_q[log p(x|z)]"),
        Column("ess", "draws", "none", "estimate",
               equation="(sum_k w_k)^2 / sum_k w_k^2, w_k = p(x, z_k) / q(z_k|x)"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name in ("samples", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} should be at least 1")

    @property
    def effort(self) -> tuple[str, ...]:
        return (f"{self.samples:,} draws",)

    def depends(self, given: Given) -> Mapping[str, Any]:
        once = given.binarisation == "none"  # then `repeats` is not used
        return {name: value for name, value in super().depends(given).items() if not (once and name == "repeats")}

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        split, rows = dataset.split(self.split), run.rows(model)
        repeats = self.repeats if split.noisy else 1
        function = partial(score, model=model, samples=self.samples)
        values = run.map(function, split, repeats=repeats, batch=max(1, rows // self.samples), rows=rows)
        values = {name: value.reshape(repeats, len(split)).mean(0) for name, value in values.items()}
        found = {name: Measurement.mean(name, value) for name, value in values.items()}
        nll = found["nll"]
        if bound_loose(nll.value, found["nll_tenth"].value, found["ess"].value, self.samples):
            nll = found["nll"] = nll._replace(marks=(BOUND_LOOSE,))
        yield from found.values()
        for column, shift, unit in _units(dataset.space, split):
            stderr = None if nll.stderr is None else nll.stderr / unit
            each = nll._replace(column=column, value=(nll.value + shift) / unit, stderr=stderr)
            levels = dataset.space.levels or (split.stored_levels if shift else None)
            if column == "bpd" and levels and each.value > (most := math.log2(levels)):
                run.warn(f"likelihood: {each.value:.4g} bits/dim is more than the {most:.4g} of guessing at random")
                each = each._replace(marks=(*nll.marks, UNIFORM))
            yield each
        run.keep_values({name: values[name] for name in ("nll", "elbo")})


def _units(space: Space, split: Split) -> Iterator[tuple[str, float, float]]:
    """A line for each column that is the NLL in other units: its name, the nats added, and the nats of one unit."""
    cell = 0.0 if space.measure == "pmf" else None if split.reading is None else split.reading.cell
    if cell is not None:
        yield "bpd", -space.dims * cell, space.dims * math.log(2)
    if space.is_cloud:
        yield "nll_point", 0.0, space.shape[0]


plugin = {"quick": Likelihood(samples=100), "standard": Likelihood(), "paper": Likelihood(samples=5000)}
