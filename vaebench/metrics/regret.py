"""Likelihood Regret and its baselines: how well each tells OOD images from the dataset's."""

import copy
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import ClassVar, final

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from vaebench.core.data import Batch, Dataset, Split
from vaebench.core.metric import BLOCK, Column, Measurement, Metric, Run, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.functional.complexity import compressed_bits, input_complexity
from vaebench.functional.random import derive
from vaebench.functional.separation import separation
from vaebench.metrics.shared import bounds
from vaebench.metrics.shared.outliers import PAIRS, outliers

SCORES = ("regret", "likelihood", "complexity", "ratio")
_FLOATS = 2**24  # of the copies of the inference parameters held at once; optimiser and gradients are three times more


def negative_elbo(model: LatentVariableModel, x: Tensor) -> Tensor:
    """-log p(x|z) + KL(q(z|x) || p(z)) at one draw z of q for each x (B, *shape), (B,) nats.

    The KL is exact between diagonal Gaussians, and log q(z|x) - log p(z) at the same draw otherwise.
    """
    draws, rate = model.draw_with_rate(x, 1)
    return rate - draws.log_likelihood[0]


@final
class ExampleBound(nn.Module):
    """`negative_elbo` of one example, whose draw is keyed by `seed`, the example and the step."""

    def __init__(self, model: LatentVariableModel, seed: int) -> None:
        super().__init__()
        self.model, self.seed = model, seed

    def forward(self, x: Tensor, example: Tensor, step: int) -> Tensor:
        with keyed(self.seed, example[None], step):
            return negative_elbo(self.model, x[None])[0]


def tuned(model: LatentVariableModel, batch: Batch, seed: int, metric: "Regret") -> dict[str, Tensor]:
    """The inference parameters of `model` by name after `metric.steps` of Adam on each example alone: (B, *shape).

    Every example has a copy of them all; what p(x, z) depends on is shared and stays. `model` must be a copy.
    """
    model.space.check(batch.x)
    module = ExampleBound(model.requires_grad_(False), seed)
    names = [name for name, _ in model.inference_parameters()]
    copies = {
        f"model.{name}": parameter.detach().expand(len(batch.x), *parameter.shape).clone().requires_grad_()
        for name, parameter in model.inference_parameters()
    }
    optimiser = torch.optim.Adam(
        list(copies.values()),
        lr=metric.learning_rate,
        betas=metric.betas,
        weight_decay=metric.weight_decay,
        fused=batch.x.device.type in ("cpu", "cuda"),
    )
    for step in range(metric.steps):

        def loss(parameters: Mapping[str, Tensor], x: Tensor, example: Tensor, step: int = step) -> Tensor:
            value: Tensor = functional_call(module, dict(parameters), (x, example, step))
            return value

        with torch.enable_grad():
            optimiser.zero_grad()
            vmap(loss)(copies, batch.x, batch.example).sum().backward()  # each loss has parameters of its own
        optimiser.step()
    return {name: copies[f"model.{name}"].detach() for name in names}


def plain(batch: Batch, _: int, *, model: LatentVariableModel, own: int, samples: int, rows: int) -> dict[str, Tensor]:
    """`nll` under the seed `own`."""
    return {"nll": bounds.score(batch, own, model=model, samples=samples, rows=rows)["nll"]}


def regrets(
    batch: Batch, _: int, *, model: LatentVariableModel, own: int, metric: "Regret", rows: int
) -> dict[str, Tensor]:
    """`nll` of each example by q(z|x) as it is, and by the q tuned on that example alone, at the same noise.

    The noise is of the seed `own`, which unlike a pass's does not depend on which OOD sets were at hand.
    """
    model = copy.deepcopy(model)  # blocks run side by side, and parameters are exchanged
    nll = partial(plain, model=model, own=derive(own, "draws"), samples=metric.samples, rows=rows)
    before = nll(batch, 0)["nll"]
    copies, after = tuned(model, batch, derive(own, "steps"), metric), []
    for i in range(len(batch.x)):
        for name, parameter in model.inference_parameters():
            parameter.copy_(copies[name][i])
        one = Batch(batch.x[i : i + 1], None, batch.example[i : i + 1])
        after.append(nll(one, 0)["nll"])
    return {"before": before, "after": torch.cat(after)}


@final
@dataclass(frozen=True)
class Regret(Metric):
    """Four out-of-distribution (OOD) scores of the first `images` of `split`, and of each OOD set pinned for it.

    * regret: LR(x) = log p_after(x) - log p_before(x), both by `samples` importance-weighted draws: before with q(z|x),
      after with all inference parameters tuned on x alone, `steps` steps of Adam on -log p(x|z) + KL at one draw each.
      Batch norm uses its running statistics throughout. Before and after see the same noise.
    * likelihood: -log p_before(x).
    * complexity: -log2 p_before(x) - L(x), L the bits of the shorter of the PNG and JPEG 2000 files. Images only.
    * ratio: log p_background(x) - log p_before(x), of the zoo's model `background` ("{model}" is the evaluated model's
      name), trained with objective "mutated". Left out where there is none.

    For each, with facets `score` and `set`: area under the ROC curve, average precision and false positive rate at a
    recall of 95%, OOD images being positive; standard errors over `resamples` bootstrap samples of both sets, and
    intervals as in `functional.separation`. OOD sets not at hand are left out. `regret` alone is the mean over the
    dataset's own images. The score of each image is kept beside the rows.

    Source: Xiao, Yan & Amit 2020 (arXiv 2003.02977); Serra et al. 2020 (arXiv 1909.11480); Ren et al. 2019
    (arXiv 1906.02845).
    """

    images: int = 500
    samples: int = 1000
    steps: int = 100
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 5e-5
    background: str = "{model}-background"
    resamples: int = 1000

    version: ClassVar[int] = 1
    given = ("levels", "binarisation", "mass")
    immaterial = ("resamples",)
    splits = ()
    counts = MappingProxyType({"images": 2})
    dear = MappingProxyType({"images": 5, "samples": 10, "steps": 5})
    columns: ClassVar[tuple[Column, ...]] = (
        Column("regret", "nats", "none", "estimate",
               equation="log p(x) with q(z|x) tuned on x - log p(x) with q(z|x) as it is"),
        Column("auroc", "", "higher", "estimate", ("score", "set"),
               equation="P(score of an OOD image > score of one of the dataset), ties one half"),
        Column("auprc", "", "higher", "estimate", ("score", "set"),
               equation="sum_n (R_n - R_{n-1}) P_n, precision P_n and recall R_n at each threshold, OOD positive"),
        Column("fpr95", "", "lower", "estimate", ("score", "set"),
               equation="the share of the dataset's images above the threshold that 95% of OOD images are above"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name, low in {"images": 2, "samples": 1, "steps": 0, "resamples": 2}.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} = {getattr(self, name)} should be at least {low}")

    @classmethod
    def on_request(cls, dataset: Dataset) -> bool:
        return True

    @property
    def effort(self) -> tuple[str, ...]:
        return (f"({self.steps:,} steps and twice {self.samples:,} draws)",)

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        if (reason := super().unsupported(model, dataset) or bounds.unscored(model)) is not None:
            return reason
        if dataset.name not in PAIRS:
            return f"no OOD sets are pinned for {dataset.name}; there are for {', '.join(PAIRS)}"
        return None

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        split = dataset.split(self.split)
        own = split.thinned(torch.arange(min(self.images, len(split))), f"{split.name} first {self.images}")
        try:
            background = run.resources.model(self.background.replace("{model}", run.model_name))
        except UnavailableError as error:
            run.warn(f"regret: no likelihood ratio: {error}")
            background = None
        sets: dict[str, dict[str, Tensor]] = {}
        for ood in outliers(dataset, split, self.images, run.resources):
            if ood.split is None:
                run.warn(f"regret: {ood.name} is left out: {ood.reason}")
            else:
                sets[ood.name] = self._scores(model, background, ood.split, ood.stream, run)
        if not sets:
            raise UnavailableError(
                f"none of {', '.join(PAIRS[dataset.name])} is at hand to compare {dataset.name} with"
            )
        inside = self._scores(model, background, own, f"{split.stream} first", run)
        yield Measurement.mean("regret", inside["regret"])
        run.keep_values({"regret": inside["regret"]})
        run.keep("scores.parquet", _table({dataset.name: inside, **sets}))
        for name, scores in sets.items():
            for score in SCORES:
                if score in inside:
                    seed = derive("regret", name)  # the same samples for all scores
                    found = separation(inside[score], scores[score], self.resamples, seed)
                    facet = {"score": score, "set": name}
                    for column, each in found._asdict().items():
                        yield Measurement(column, each.value, each.stderr, len(own) + len(scores[score]), None, facet,
                                          low=each.low, high=each.high)  # fmt: skip

    def _scores(
        self, model: LatentVariableModel, background: LatentVariableModel | None, part: Split, stream: str, run: Run
    ) -> dict[str, Tensor]:
        """Every score of every image of `part`, and what they are made of, each (N,) float64."""
        seed, rows = derive(run.seed, stream), run.rows(model)
        size = sum(parameter.numel() for _, parameter in model.inference_parameters())
        batch = max(1, min(BLOCK, rows, _FLOATS // max(1, size)))
        found = run.map(partial(regrets, model=model, own=seed, metric=self), part, batch=batch, rows=rows)
        values = {
            "nll_before": found["before"],
            "nll_after": found["after"],
            "regret": found["before"] - found["after"],
            "likelihood": found["before"],
        }
        if model.space.is_image:
            values["bits"] = compressed_bits(part.x)
            values["complexity"] = input_complexity(found["before"], values["bits"])
        if background is not None:
            rows = run.rows(background)
            other = partial(plain, model=background, own=seed, samples=self.samples)
            values["nll_background"] = run.map(other, part, batch=max(1, rows // self.samples), rows=rows)["nll"]
            values["ratio"] = found["before"] - values["nll_background"]
        return values


def _table(sets: Mapping[str, Mapping[str, Tensor]]) -> bytes:
    """A Parquet file with a line for each image: its set, its place there, and every score."""
    columns: dict[str, list[str] | list[int] | list[float]] = {
        "set": [name for name, scores in sets.items() for _ in scores["regret"]],
        "index": [i for scores in sets.values() for i in range(len(scores["regret"]))],
    }
    for score in next(iter(sets.values())):
        columns[score] = torch.cat([scores[score] for scores in sets.values()]).tolist()
    pq.write_table(pa.table(columns), buffer := io.BytesIO())
    return buffer.getvalue()


plugin = {"quick": Regret(images=50, samples=50, steps=20, resamples=200), "standard": Regret(), "paper": Regret()}
