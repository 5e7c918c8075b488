"""How far the aggregate posterior and the prior are apart: symmetric KL, both directions, by neighbours; leakage."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor

from vaebench.core.data import Batch, Dataset
from vaebench.core.metric import Column, Curve, Measurement, Metric, Run, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.core.names import SHARED_IMAGES
from vaebench.distributions.noise import keyed
from vaebench.functional import random
from vaebench.functional.aggregate import draw_mixture, mixture
from vaebench.functional.intervals import joined
from vaebench.functional.knn_kl import CoincidentError, knn_kl
from vaebench.functional.leakage import leakage, threshold, thresholds
from vaebench.functional.statistics import mean_stderr
from vaebench.metrics.shared.passes import Posterior, PriorLatents, candidates, log_aggregate
from vaebench.metrics.shared.prior import log_base, log_prior

TAIL = 0.01  # of the prior, below whose threshold a draw of q(z) counts as leaked in the scalar columns
REPEATS = 3


def divergences(log_p: tuple[Tensor, Tensor], log_q: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Per-draw terms of KL(p || q) at draws of p, and of KL(q || p) at draws of q, (M,).

    `log_p` and `log_q` are log p(z) and log q(z), (M,) nats, at the draws of p and at those of q.
    """
    return log_p[0] - log_q[0], log_q[1] - log_p[1]


def _draw(batch: Batch, seed: int, *, model: LatentVariableModel) -> dict[str, Tensor]:
    with keyed(seed, batch.example):
        return {"z": model.posterior(batch.x).rsample(1)[0][0].flatten(1)}


@final
@dataclass(frozen=True)
class LatentGap(Metric):
    """KL(p || q) + KL(q || p) of prior p(z) and aggregate posterior q(z) = (1/N) sum_n q(z|x_n) over all of `split`.

    In representation space, unhalved, by `draws` draws of each and both densities; `skl_knn` is the same by first
    neighbours of as many draws, whose spread is over three sets of draws (left out where draws coincide). Leakage:
    E_q[F_tau] with F as in `functional.leakage`, for z ~ q(z); the scalar columns at the threshold that 1% of the base
    density lies below, the curves at thresholds shared by all models of one latent size. Several latent groups: the
    first. Where q(z|x) is not a diagonal Gaussian, q(z) has no density at hand and only `skl_knn` and `leaked` are
    measured.
    Source: Bhalodia et al. 2020 (dpVAE), equation 6; Perez-Cruz 2008, equation 14.
    """

    split: str = "train"
    draws: int = 5000

    version: ClassVar[int] = 1
    given = ("binarisation",)
    columns: ClassVar[tuple[Column, ...]] = (
        Column("skl", "nats", "lower", "estimate",
               equation="KL(p || q) + KL(q || p), q(z) = (1/N) sum_n q(z|x_n), by densities"),
        Column("kl_prior_aggregate", "nats", "lower", "estimate", equation="KL(p || q) = E_p[log p(z) - log q(z)]"),
        Column("kl_aggregate_prior", "nats", "lower", "estimate", equation="KL(q || p) = E_q[log q(z) - log p(z)]"),
        Column("skl_knn", "nats", "lower", "estimate",
               equation="(L/n) sum_i log(s_i / r_i) + log(m / (n - 1)), both ways; r, s: to own, other neighbour"),
        Column("leakage", "nats", "lower", "estimate",
               equation="E_q[F(z)], F = log q(z) - l(z) where l(z) = log N(g(z); 0, I) < tau, else 0"),
        Column("leakage_given_leak", "nats", "lower", "estimate", equation="E_q[F(z) | l(z) < tau]"),
        Column("leaked", "fraction", "lower", "estimate", equation="P_q(l(z) < tau)"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.draws < 2:
            raise ValueError(f"draws = {self.draws} should be at least 2")

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        split = dataset.split(self.split)
        drawn = run.shared(PriorLatents(), candidates(torch.arange(REPEATS * self.draws)))
        prior = drawn["z"]
        try:
            posterior = run.shared(Posterior(), split)
        except UnavailableError:
            needed = REPEATS * self.draws
            found = run.map(partial(_draw, model=model), split, repeats=-(-needed // len(split)))["z"]
            order = random.keys(run.seed, torch.arange(len(found))).argsort(stable=True)
            aggregate = found[order[:needed]]
            yield from self._neighbours(aggregate, prior, len(split), run)
            try:
                with torch.no_grad():
                    base = log_base(model, aggregate[: self.draws])
            except UnavailableError:
                return
            yield self._leaked(base, aggregate.shape[1])
            return
        mean, log_variance = posterior["mean"], posterior["log_variance"]
        aggregate, _, rest = draw_mixture(mean, log_variance, REPEATS * self.draws, run.seed)
        yield from self._neighbours(aggregate.double() + rest, prior, len(split), run)
        q, own = mixture(mean, log_variance), slice(self.draws)
        draws = torch.cat([prior[own].to(mean), aggregate[own]])
        log_q = log_aggregate(draws, q, run, torch.cat([torch.zeros_like(rest[own]), rest[own]])).split(self.draws)
        with torch.no_grad():
            yield from self._densities(model, aggregate[own], drawn["log_p"][own], (log_q[0], log_q[1]))

    def _neighbours(self, aggregate: Tensor, prior: Tensor, images: int, run: Run) -> Iterator[Measurement]:
        pairs = zip(prior.split(self.draws), aggregate.split(self.draws), strict=True)
        try:
            values = torch.tensor([knn_kl(p, q) + knn_kl(q, p) for p, q in pairs])
        except CoincidentError as error:
            run.warn(f"latent-gap: skl_knn is left out: {error}")
        else:
            found = Measurement.mean("skl_knn", values, self.draws)
            yield found._replace(marks=(SHARED_IMAGES,)) if len(aggregate) > images else found

    def _densities(
        self, model: LatentVariableModel, aggregate: Tensor, log_p: Tensor, log_q: tuple[Tensor, Tensor]
    ) -> Iterator[Measurement]:
        forward, backward = divergences((log_p, log_prior(model, aggregate)), log_q)
        both = Measurement.mean("kl_prior_aggregate", forward), Measurement.mean("kl_aggregate_prior", backward)
        yield from both
        stderr, df = joined(*((each.stderr or 0.0, each.df) for each in both))
        yield Measurement("skl", both[0].value + both[1].value, stderr, self.draws, df=df)
        try:
            base = log_base(model, aggregate)
        except UnavailableError:
            return
        yield from self._leakage(log_q[1], base, aggregate.shape[1])

    def _leaked(self, base: Tensor, latent: int) -> Measurement:
        taus = thresholds(latent)
        shares = tuple(float((base < tau).double().mean()) for tau in taus)
        leaked = base < threshold(latent, TAIL)
        curve = Curve(tuple(taus), shares, "tau (nats)", "P(l < tau)")
        return Measurement.proportion("leaked", *mean_stderr(leaked), self.draws, curve)

    def _leakage(self, log_q: Tensor, base: Tensor, latent: int) -> Iterator[Measurement]:
        taus = thresholds(latent)
        found = [leakage(log_q, base, tau) for tau in taus]
        some = [(tau, f) for tau, f in zip(taus, found, strict=True) if bool(f.leaked.any())]
        at = leakage(log_q, base, threshold(latent, TAIL))
        unconditional = Curve(tuple(taus), tuple(float(f.term.mean()) for f in found), "tau (nats)", "E[F]")
        yield Measurement.mean("leakage", at.term, curve=unconditional)
        yield self._leaked(base, latent)
        if int(at.leaked.sum()) > 1:
            given = Curve(
                tuple(tau for tau, _ in some),
                tuple(float(f.term[f.leaked].mean()) for _, f in some),
                "tau (nats)",
                "E[F | l < tau]",
            )
            leaked = at.term[at.leaked]
            yield Measurement.mean("leakage_given_leak", leaked, curve=given)


plugin = {"quick": LatentGap(draws=1000), "standard": LatentGap(), "paper": LatentGap()}
