"""What the latents know of the data: mutual information, active units, total correlation, the parts of the rate."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ..data import Dataset
from ..distributions.gaussian import DiagonalGaussian
from ..functional.aggregate import draw_mixture, log_marginal_densities, log_mixture_density
from ..functional.gaussian import log_density
from ..functional.statistics import mean_stderr
from ..metric import Column, Curve, Measurement, Metric, Run
from ..model import LatentVariableModel
from ..stages import Posterior

ACTIVE = 0.01


def mutual_information(mean: Tensor, log_variance: Tensor, z: Tensor) -> Tensor:
    """Per-example terms of I_q(x; z) = E[log q(z|x)] - E[log q(z)], (N,) float64 nats; z (N, L), one draw an example.

    q(z) is over all N examples, so that the mean is at most about log N. The first expectation is exact:
    -(1/2) sum_l (1 + log 2 pi + log variance_l). Source: Hoffman & Johnson 2016; He et al. 2019.
    """
    conditional = -0.5 * (1 + math.log(2 * math.pi) + log_variance.double()).sum(1)
    return conditional - log_mixture_density(z, mean, log_variance)


def active_units(mean: Tensor, limit: float = ACTIVE) -> int:
    """How many dimensions have Var_x(E_q[z_l]) > `limit`, the unbiased variance over mean (N, L).

    Source: Burda et al. 2016, section 5.1; He et al. 2019 take the whole test set.
    """
    return int((mean.double().var(0) > limit).sum())


@final
@dataclass(frozen=True)
class Information(Metric):
    """The rate E KL(q(z|x) || p(z)) and its parts over the whole of `split`, with q(z) its aggregate posterior.

    rate = mutual information + KL(q(z) || p(z)); where p is a standard normal the last is total correlation
    KL(q(z) || prod_l q(z_l)) + sum_l KL(q(z_l) || p(z_l)), whose terms are the curve. One draw of z an example.
    `active_units_burda` takes the first `burda` training images. Of several latent groups, the first.
    Source: PROTOCOLS decision 12; Hoffman & Johnson 2016; Chen et al. 2018, equation 2.
    """

    burda: int = 500

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[Column, ...]] = (
        Column("mutual_information", "nats", "none", "estimate"),
        Column("mutual_information_cap", "nats", "none", "exact"),
        Column("total_correlation", "nats", "none", "estimate"),
        Column("dimension_kl", "nats", "none", "estimate"),
        Column("active_units", "dimensions", "none", "exact"),
        Column("active_units_burda", "dimensions", "none", "exact"),
    )

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        if self.split not in dataset.splits:
            return f"{dataset.name} has no split {self.split!r}"
        return None

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        split = dataset.split(self.split)
        posterior = run.shared(Posterior(), split)
        mean, log_variance = posterior["mean"], posterior["log_variance"]
        count = len(split)
        z, component = draw_mixture(mean, log_variance, count, run.seed)
        terms = mutual_information(mean[component], log_variance[component], z)
        yield Measurement("mutual_information", *mean_stderr(terms), count)
        yield Measurement("mutual_information_cap", math.log(count), None, count)
        marginals = log_marginal_densities(z, mean, log_variance)
        total = log_mixture_density(z, mean, log_variance) - marginals.sum(1)
        yield Measurement("total_correlation", *mean_stderr(total), count)
        if isinstance(model.prior(1), DiagonalGaussian):
            zero = torch.zeros(1, 1, dtype=torch.float64)
            each = marginals - log_density(z.double()[:, None, :, None], zero, zero)[:, 0]
            curve = Curve(
                tuple(map(float, range(z.shape[1]))), tuple(each.mean(0).tolist()), "dimension", "KL(q(z_l) || p(z_l))"
            )
            yield Measurement("dimension_kl", *mean_stderr(each.sum(1)), count, curve)
        yield Measurement("active_units", active_units(mean), None, count)
        if "train" in dataset.splits:
            train = dataset.split("train")
            first = train.part(torch.arange(min(self.burda, len(train))), f"train-first-{self.burda}")
            found = run.shared(Posterior(), first)["mean"]
            yield Measurement("active_units_burda", active_units(found), None, len(first))


plugin = {"quick": Information(), "standard": Information(), "paper": Information()}
