"""Prior mass where the posterior is not (pockets), posterior mass where the prior is not (leaks); their picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor

from vaebench.core.data import Dataset, Split
from vaebench.core.metric import Column, Measurement, Metric, Run
from vaebench.core.model import LatentVariableModel
from vaebench.core.names import SHARED_IMAGES
from vaebench.distributions.noise import keyed
from vaebench.functional.aggregate import draw_mixture, lowest, mixture
from vaebench.functional.leakage import below_tail
from vaebench.metrics.shared import latent_picture as picture
from vaebench.metrics.shared.passes import Posterior, PriorLatents, PriorSample, candidates
from vaebench.metrics.shared.prior import generation, log_prior

REPEATS = 10
SHOWN = 2500


@final
@dataclass(frozen=True)
class PocketLeak(Metric):
    """The shares of p(z) in pockets and of q(z) in leaks, and a picture of both, for a latent group of two dimensions.

    `pockets`: of prior draws z ~ p, the share with log q(z) below what a share `tail` of draws of q itself falls below;
    `leaks`: the same with p and q exchanged. Both are `tail` where p = q. q(z) = (1/N) sum_n q(z|x_n) over all of
    `split`, in representation space; means over ten sets of `draws` draws of each, and their spread. The picture
    `latents.png` has the `shown` prior draws of lowest log q(z), and their decodes where the data are 2-D. Several
    latent groups: the first. Source: Bhalodia et al. 2020 (dpVAE), section 3.1, figures 1 to 3.
    """

    split: str = "train"
    draws: int = 5000
    tail: float = 0.001
    shown: int = 250

    version: ClassVar[int] = 1
    given = ("binarisation",)
    immaterial = ("shown",)
    columns: ClassVar[tuple[Column, ...]] = (
        Column("pockets", "fraction", "lower", "estimate",
               equation="P_p(q(z) < c), c such that P_q(q(z) < c) = tail"),
        Column("leaks", "fraction", "lower", "estimate", equation="P_q(p(z) < c), c such that P_p(p(z) < c) = tail"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.draws < 2 or not 0 < self.tail < 1 or not 1 <= self.shown <= self.draws:
            raise ValueError(
                f"draws = {self.draws}, tail = {self.tail} and shown = {self.shown} should be at least 2, "
                "between 0 and 1, and at most draws"
            )

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        if (reason := super().unsupported(model, dataset)) is not None:
            return reason
        with torch.no_grad(), keyed(0, torch.arange(1)):
            size = model.prior(1).rsample(1)[0].numel()
        return None if size == 2 else f"draws a plane of 2 latent dimensions; this model's first group has {size}"

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        split, count = dataset.split(self.split), REPEATS * self.draws
        found = run.shared(Posterior(), split)
        log_q = mixture(found["mean"], found["log_variance"]).log_density
        log_p = torch.no_grad()(partial(log_prior, model))
        drawn = run.shared(PriorLatents(), candidates(torch.arange(count)))
        prior = drawn["z"]
        posterior, component, rest = draw_mixture(found["mean"], found["log_variance"], count, run.seed)
        title, thin = f"{dataset.name}, {self.split} split", log_q(prior)
        sets = {"pockets": (log_q(posterior, rest), thin), "leaks": (drawn["log_p"], log_p(posterior))}
        for name, (own, other) in sets.items():
            pairs = zip(own.split(self.draws), other.split(self.draws), strict=True)
            shares = [below_tail(theirs, ours, self.tail).double().mean() for ours, theirs in pairs]
            share = Measurement.mean(name, torch.stack(shares), count)
            title += f", {share.value:.2%} of the {'prior' if name == 'pockets' else 'posterior'} in {name}"
            yield share._replace(marks=(SHARED_IMAGES,)) if count > len(split) else share
        low = lowest(thin[: self.draws], self.shown)
        label = None if split.y is None else split.y[component[: self.draws]]
        latent = picture.Space(posterior[: self.draws], prior[: self.draws], prior[low], label)
        base = self._generation(model, latent)
        data = self._data(model, split, low, run)
        run.keep("latents.png", picture.png(title, latent, log_q, log_p, base, data))

    def _generation(self, model: LatentVariableModel, latent: picture.Space) -> picture.Space | None:
        """The clouds in generation space; None where that is representation space."""
        if not model.prior(1).first().decoupled:
            return None
        with torch.no_grad():
            clouds = [generation(model, z) for z in latent[:3]]
        return picture.Space(clouds[0], clouds[1], clouds[2], latent.label)

    def _data(self, model: LatentVariableModel, split: Split, low: Tensor, run: Run) -> picture.Space | None:
        """Data and decoder means of prior samples; None where data have no two dimensions."""
        if model.space.shape != (2,):
            return None
        some, worst = (run.shared(PriorSample(), candidates(i))["x"] for i in (torch.arange(SHOWN), low))
        return picture.Space(split.x, some, worst, split.y)


plugin = {"quick": PocketLeak(draws=1000, shown=100), "standard": PocketLeak(), "paper": PocketLeak()}
