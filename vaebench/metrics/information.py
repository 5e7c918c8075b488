"""What the latents know of the data: mutual information, active units, total correlation, the parts of the rate."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import ClassVar, final

import torch
from torch import Tensor

from vaebench.core.data import Batch, Dataset, Split
from vaebench.core.metric import BLOCK, Column, Curve, Measurement, Metric, Run, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.latent import Moments
from vaebench.functional.aggregate import Mixture, draw_mixture, log_marginal_densities, marginals, mixture
from vaebench.functional.gaussian import log_density
from vaebench.functional.information import active_units, active_units_stderr, mutual_information
from vaebench.metrics.shared.passes import Posterior, points


def _densities(batch: Batch, seed: int, *, q: Mixture, dimensions: list[Mixture]) -> Mapping[str, Tensor]:
    parts = batch.x.chunk(2, 1)
    return {"joint": q.log_density(*parts), "alone": log_marginal_densities(parts[0], dimensions, parts[1])}


def _factors(model: LatentVariableModel) -> Moments | None:
    """The moments (1, L) of p(z) where it is a diagonal Gaussian, so that its dimensions are independent."""
    try:
        return model.prior(1).moments()
    except UnavailableError:
        return None


def _count(column: str, mean: Tensor, split: Split) -> Measurement:
    stderr = active_units_stderr(mean) if split.noisy else None
    return Measurement(column, active_units(mean), stderr, len(split))


@final
@dataclass(frozen=True)
class Information(Metric):
    """The rate E KL(q(z|x) || p(z)) and its parts over the whole of `split`, with q(z) its aggregate posterior.

    rate = mutual information + KL(q(z) || p(z)); where p is a diagonal Gaussian the last is total correlation
    KL(q(z) || prod_l q(z_l)) + sum_l KL(q(z_l) || p(z_l)), whose terms are the curve. Expectations over q(z)
    are means over `draws` draws, spread evenly over the split.
    `active_units_burda` takes the first `burda` training images. Of images read with noise a count has an error, that
    of random images; else it is exact. Several latent groups: the first.
    Source: Hoffman & Johnson 2016; Chen et al. 2018, equation 2.
    """

    draws: int = 10_000
    burda: int = 500

    version: ClassVar[int] = 2
    given = ("binarisation",)
    dear = MappingProxyType({"burda": 50})
    columns: ClassVar[tuple[Column, ...]] = (
        Column("mutual_information", "nats", "none", "estimate",
               equation="E[log q(z|x) - log q(z)], q(z) = (1/N) sum_n q(z|x_n)"),
        Column("mutual_information_cap", "nats", "none", "exact",
               equation="log N: the most that mutual_information can be on N examples"),
        Column("total_correlation", "nats", "none", "estimate", equation="KL(q(z) || prod_l q(z_l))"),
        Column("dimension_kl", "nats", "none", "estimate", equation="sum_l KL(q(z_l) || p(z_l))"),
        Column("active_units", "dimensions", "none", "exact", equation="|{l: Var_x(E_q[z_l]) > 0.01}| on the split"),
        Column("active_units_burda", "dimensions", "none", "exact",
               equation="|{l: Var_x(E_q[z_l]) > 0.01}| on the first training images"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        if min(self.draws, self.burda) < 2:
            raise ValueError(f"draws = {self.draws} and burda = {self.burda} should be at least 2")

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        split = dataset.split(self.split)
        posterior = run.shared(Posterior(), split)
        mean, log_variance = posterior["mean"], posterior["log_variance"]
        z, component, rest = draw_mixture(mean, log_variance, self.draws, run.seed)
        q, each = mixture(mean, log_variance), [one.to(run.device) for one in marginals(mean, log_variance)]
        work = partial(_densities, q=q.to(run.device), dimensions=each)
        densities = run.map(work, points(z, rest), batch=BLOCK)
        joint, alone = densities["joint"], densities["alone"]
        terms = mutual_information(joint, log_variance[component])
        yield Measurement.mean("mutual_information", terms)
        yield Measurement("mutual_information_cap", math.log(len(split)), None, len(split))
        yield Measurement.mean("total_correlation", joint - alone.sum(1))
        if (prior := _factors(model)) is not None:
            centre, spread = (each.cpu().double().mT for each in prior)  # (L, 1)
            terms = alone - log_density(z.double()[:, :, None], centre, spread)
            dimensions = tuple(map(float, range(z.shape[1])))
            curve = Curve(dimensions, tuple(terms.mean(0).tolist()), "dimension", "KL(q(z_l) || p(z_l))")
            yield Measurement.mean("dimension_kl", terms.sum(1), curve=curve)
        yield _count("active_units", mean, split)
        if "train" in dataset.splits:
            train = dataset.split("train")
            first = train.part(torch.arange(min(self.burda, len(train))), f"train-first-{self.burda}")
            found = run.shared(Posterior(), first)["mean"]
            yield _count("active_units_burda", found, first)


plugin = {"quick": Information(draws=1000), "standard": Information(), "paper": Information()}
