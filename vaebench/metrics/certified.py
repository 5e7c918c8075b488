"""Likelihoods by annealed importance sampling, certified on images that the model itself draws."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import ClassVar, Literal, Self, final

import torch
from torch import Tensor

from vaebench.core.arithmetic import arithmetic
from vaebench.core.data import Batch, Dataset, Split
from vaebench.core.metric import Column, Curve, Measurement, Metric, Run, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.joint import Joint
from vaebench.distributions.noise import keyed, standard_normal, uniform
from vaebench.functional.ais import Annealed, Chains, forward, lower_bound, pilot, schedule, side_by_side, upper_bound
from vaebench.functional.random import derive
from vaebench.metrics.shared.bounds import score
from vaebench.metrics.shared.passes import candidates

TOGETHER = 20  # images journalled together
QUICK = ((28 * 28, 20), (3 * 32 * 32, 5))
"""Numbers of an image, and how many images of at most so many preset quick anneals: 2 of larger ones."""
PILOTS = 2  # chains that step sizes are found with
FRACTIONS = (4, 2)  # of the steps, at which the bound is computed too
PART = 3  # of the draws that can be decoded at once, those whose gradients are computed at once: one in so many


@final
@dataclass(frozen=True)
class Source:
    """The noise of one set of chains, keyed by (seed, example, chain) and by the transition."""

    seed: int
    example: Tensor
    chains: int
    size: int

    def start(self) -> Tensor:
        """Where the chains begin, (S, B, E) float64."""
        with keyed(derive(self.seed, "start"), self.example):
            return standard_normal((self.chains, len(self.example), self.size), self._like)

    def __call__(self, t: int) -> tuple[Tensor, Tensor]:
        with keyed(derive(self.seed, t), self.example):
            momenta = standard_normal((self.chains, len(self.example), self.size), self._like)
            return momenta, uniform((self.chains, len(self.example)), self._like)

    @property
    def _like(self) -> Tensor:
        return torch.empty((), dtype=torch.float64, device=self.example.device)


def with_gradient(log_weight: Callable[[Tensor], Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
    """`log_weight` (S, B) at `noise` (S, B, E) and its gradient there; no graph is kept."""
    with torch.enable_grad():
        at = noise.detach().requires_grad_()
        value = log_weight(at)
        (gradient,) = torch.autograd.grad(value.sum(), at)
    return value.detach(), gradient


@final
@dataclass(frozen=True)
class Path:
    """The annealing of one batch: p(x, z) over noise, step sizes from a pilot, and whose noise the chains have."""

    joint: Joint
    metric: "Certified"
    steps: Tensor
    seed: int
    example: Tensor

    @staticmethod
    def of(joint: Joint, metric: "Certified", seed: int, example: Tensor) -> "Path":
        """The path whose steps are found now, by chains that are weighted nowhere."""
        source, betas = Source(derive(seed, "pilot"), example, PILOTS, joint.size), schedule(metric.steps)
        tilt = partial(with_gradient, joint.log_weight)
        return Path(joint, metric, pilot(tilt, source.start(), betas, source, metric.leapfrogs), seed, example)

    def _source(self, stream: str) -> Source:
        return Source(derive(self.seed, stream), self.example, self.metric.chains, self.joint.size)

    def forward(self, steps: int) -> Annealed:
        """Forward chains in so many steps, whose sizes are the pilot's at the nearest of its own."""
        source, betas = self._source("forward"), schedule(steps)
        places = [round(t * self.metric.steps / steps) - 1 for t in range(1, steps)]
        tilt = partial(with_gradient, self.joint.log_weight)
        return forward(tilt, source.start(), betas, self.steps[places], source, self.metric.leapfrogs)

    def unannealed(self) -> Tensor:
        """The log weights of where the forward chains begin, (S, B)."""
        return self.joint.log_weight(self._source("forward").start())

    def both(self, latents: tuple[Tensor, ...], rows: int) -> list[Annealed]:
        """Forward chains, and reverse ones, all from `latents` (1, B, ...), an exact draw of p(z|x).

        They move side by side where the gradients of both are computed at once, as `rows` has it.
        """
        back = self.joint.noise_of(latents).expand(self.metric.chains, -1, -1)
        source, betas = self._source("forward"), schedule(self.metric.steps)
        sets = [Chains(source.start(), source, back=False), Chains(back, self._source("reverse"), back=True)]
        anneal = partial(side_by_side, partial(with_gradient, self.joint.log_weight))
        beside = PART * 2 * self.metric.chains * len(self.example) <= rows
        parts = [sets] if beside else [[each] for each in sets]
        return [found for part in parts for found in anneal(part, betas, self.steps, self.metric.leapfrogs)]


def _by_draws(
    model: LatentVariableModel, x: Tensor, example: Tensor, seed: int, metric: "Certified", rows: int
) -> Tensor:
    """-L_K for x (B, *shape), (B,) nats."""
    found = score(Batch(x, None, example), derive(seed, "draws"), model=model, samples=metric.samples, rows=rows)
    return found["nll"]


def real(batch: Batch, seed: int, *, model: LatentVariableModel, metric: "Certified", rows: int) -> dict[str, Tensor]:
    """Bounds on -log p(x) of images, each (B,) nats: annealed, in fewer steps, and by K draws; and acceptance.

    `model` is in double precision: were acceptance a matter of rounding, a value would depend on its batch.
    """
    x = batch.x.double() if batch.x.is_floating_point() else batch.x
    with arithmetic(torch.float64):
        path = Path.of(model.joint(x, metric.start), metric, seed, batch.example)
        values = {"steps 1": -lower_bound(path.unannealed())}
        for steps in metric.shorter:
            values[f"steps {steps}"] = -lower_bound(path.forward(steps).log_weight)
        found = path.forward(metric.steps)
        values["nll_k"] = _by_draws(model, x, batch.example, seed, metric, rows)
    return {**values, "nll_ais": -lower_bound(found.log_weight), "acceptance": found.acceptance}


def simulated(
    batch: Batch, seed: int, *, model: LatentVariableModel, metric: "Certified", rows: int
) -> dict[str, Tensor]:
    """What separates both bounds from above on log p(x) and those from below, of images drawn from the model: (B,)."""
    with arithmetic(torch.float64):
        with keyed(derive(seed, "image"), batch.example):
            latents = model.prior(len(batch.example)).rsample(1)
            x = model.likelihood(latents).sample()[0]
        path = Path.of(model.joint(x, metric.start), metric, seed, batch.example)
        there, back = (annealed.log_weight for annealed in path.both(latents, rows))
        above, below = upper_bound(back), lower_bound(there)
        nll_k = _by_draws(model, x, batch.example, seed, metric, rows)
    return {"bdmc_gap": above - below, "k_gap": above + nll_k}


@final
@dataclass(frozen=True)
class Certified(Metric):
    """-log p(x) by annealed importance sampling of `images` evenly spaced images of `split`, and how far it can be off.

    * nll_ais: -log mean w of `chains` chains from q(z|x) (or from the prior: `start`) to p(z|x) in `steps` = T steps of
      a sigmoid schedule; each transition is Hamiltonian with `leapfrogs` steps whose size depends on the image and t
      alone, found by a pilot for 65% acceptance. An upper bound in expectation. Its curve is the bound in T.
    * k_bias: what `samples` = K draws of q(z|x) give in place of it, minus it, on the same images.
    * bdmc_gap: on as many images drawn from the model, the bound from above on log p(x) by chains back from the draw
      that made x, minus the bound from below. In expectation it is at least the error of nll_ais *on such images*: a
      likelihood is certified to the gap on simulated images, and a lower bound on log p(x) on real ones.
    * k_gap: the same for the K draws.
    * acceptance: of the forward chains.

    Chains move in the noise that makes z of the distribution they start from, all groups of latents at once; a
    Hamiltonian model's start at its q(z_0|x). All is in double precision.
    Source: Neal 2001; Grosse, Ghahramani & Adams 2015 (arXiv 1511.02543); Wu et al. 2017 (arXiv 1611.04273).
    """

    images: int = 100
    steps: int = 500
    chains: int = 16
    leapfrogs: int = 5
    samples: int = 1000
    start: Literal["posterior", "prior"] = "posterior"

    version: ClassVar[int] = 1
    given = ("levels", "measure", "binarisation", "mass")
    splits = ()
    counts = MappingProxyType({"images": 2})
    dear = MappingProxyType({"images": 2, "steps": 10, "chains": 2, "samples": 50})
    columns: ClassVar[tuple[Column, ...]] = (
        Column("nll_ais", "nats", "lower", "upper",
               equation="-log mean_m w_m, w = prod_t pi_{t+1}(z_t) / pi_t(z_t), pi_t = q(z|x)^(1 - b_t) p(x, z)^b_t"),
        Column("k_bias", "nats", "none", "estimate", equation="nll of K draws - nll_ais, image by image"),
        Column("bdmc_gap", "nats", "none", "upper",
               equation="-log mean_m 1 / w_m, back from the z that made x ~ p(x), - log mean_m w_m, towards p(z|x)"),
        Column("k_gap", "nats", "none", "upper",
               equation="-log mean_m 1 / w_m, back from the z that made x ~ p(x), - log mean_k p(x, z_k) / q(z_k|x)"),
        Column("acceptance", "fraction", "none", "estimate",
               equation="accepted transitions / transitions, of the chains on images of the split"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name, low in {"images": 2, "steps": 2, "chains": 1, "leapfrogs": 1, "samples": 1}.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} = {getattr(self, name)} should be at least {low}")
        if self.start not in ("posterior", "prior"):
            raise ValueError(f"start = {self.start!r} should be 'posterior' or 'prior'")

    def quick(self, dataset: Dataset, *, dear: bool) -> Self:
        """Of fewer images where they are large, as `QUICK` says."""
        images = next((images for most, images in QUICK if dataset.space.dims <= most), 2)
        small = Metric.quick(self, dataset, dear=dear)
        return replace(small, images=min(small.images, images))

    @classmethod
    def on_request(cls, dataset: Dataset) -> bool:
        return True

    @property
    def effort(self) -> tuple[str, ...]:
        return f"{self.steps:,} steps", f"{self.chains:,} chains"

    @property
    def shorter(self) -> tuple[int, ...]:
        """Fewer steps than `steps`, at which the bound is computed too."""
        return tuple(self.steps // fraction for fraction in FRACTIONS if self.steps // fraction >= 2)

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        if (reason := super().unsupported(model, dataset)) is not None:
            return reason
        with keyed(0, torch.arange(1)):
            x = dataset.split(self.split).take(torch.arange(1)).x.to(next(model.parameters()).device)
        with keyed(0, torch.arange(1, device=x.device)), torch.no_grad():
            latents = model.prior(1).rsample(1)
        if not all(group.is_floating_point() for group in latents):
            return "the latents are discrete, and annealing moves along a gradient"
        try:
            with torch.no_grad():
                _ = model.joint(x, self.start).size
        except UnavailableError as error:
            return str(error)
        with torch.enable_grad():
            latents = tuple(group.detach().requires_grad_() for group in latents)
            score = model.likelihood(latents).log_prob(x).sum()
            slopes = torch.autograd.grad(score, latents, allow_unused=True) if score.requires_grad else ()
        if all(slope is None for slope in slopes):
            return "log p(x|z) has no gradient in z, along which annealing moves"
        return None

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        rows = run.rows(model)
        batch = max(1, min(TOGETHER, rows // (PART * self.chains)))
        double = copy.deepcopy(model).cpu().double().to(run.device).requires_grad_(False)
        split = spaced(dataset.split(self.split), self.images)
        chains = partial(run.map, batch=batch, rows=rows, block=TOGETHER)
        found = chains(partial(real, model=double, metric=self), split)
        counts = (1, *self.shorter, self.steps)
        bounds = [found["nll_ais" if steps == self.steps else f"steps {steps}"] for steps in counts]
        curve = Curve(counts, tuple(float(bound.mean()) for bound in bounds), "T (steps)", "-log p(x) (nats)")
        yield Measurement.mean("nll_ais", found["nll_ais"], curve=curve)
        bias = found["nll_k"] - found["nll_ais"]
        yield Measurement.mean("k_bias", bias)
        yield Measurement.mean("acceptance", found["acceptance"])
        run.keep_values({"nll_ais": found["nll_ais"], "k_bias": bias})
        gaps = chains(partial(simulated, model=double, metric=self), candidates(torch.arange(self.images)))
        for name in ("bdmc_gap", "k_gap"):
            yield Measurement.mean(name, gaps[name])


def spaced(split: Split, images: int) -> Split:
    """`images` evenly spaced images of `split`, or all where it has fewer: some splits are in an order.

    The noise of an image does not depend on how many there are.
    """
    if images >= len(split):
        return split
    return split.thinned(torch.arange(images) * len(split) // images, f"{images} of {split.name}")


plugin = {
    "quick": Certified(images=20, steps=100, chains=8),
    "standard": Certified(),
    "paper": Certified(images=1000, steps=1000),
}
