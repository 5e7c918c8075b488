"""How near a model's law of x comes to the one that the data were drawn from; a picture of both."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import ClassVar, final

import torch
from torch import Tensor

from vaebench.core.data import Batch, Dataset, Split
from vaebench.core.law import Law
from vaebench.core.metric import BLOCK, Column, Measurement, Metric, Run
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.metrics.shared import parameter_picture as picture
from vaebench.metrics.shared.passes import PriorLatents, candidates
from vaebench.metrics.shared.prior import generation, representation

GROUPS = 10
ROUNDING = 1e-6  # of float32: an error below is none


@final
@dataclass(frozen=True)
class ParameterRecovery(Metric):
    """Squared distances of parameters, over the dimensions, from those of the law that the data were drawn from.

    A parameter is a function theta(E[x]) of the mean of x, which the dataset gives with its law: so a model of any
    family has one, whether or not it has a weight of that name. `error` is that of a model, whose E[x] is the mean of
    E[x|z] over `draws` pairs u and -u of the prior in generation space: exact where the decoder is affine, and then
    without a standard error. `data_error` is that of the mean of `split`, about the least that can be learnt from it.
    Standard errors are the jackknife's over ten groups, of draws and of examples. `parameters.png` has both beside
    the truth. Several latent groups: skipped.

    Source: Caterini, Doucet & Sejdinovic 2018 (HVAE, arXiv 1805.11328), section 4.1, figure 1.
    """

    split: str = "train"
    draws: int = 1000

    version: ClassVar[int] = 1
    given = ()
    splits = ()
    counts = MappingProxyType({"draws": GROUPS})
    columns: ClassVar[tuple[Column, ...]] = (
        Column("error", "", "lower", "estimate", ("parameter",), "sum_k (theta_k(E_model[x]) - theta_k)^2"),
        Column("data_error", "", "none", "exact", ("parameter",), "sum_k (theta_k(mean of x) - theta_k)^2"),
    )

    def __post_init__(self) -> None:
        if self.draws < GROUPS:
            raise ValueError(f"draws = {self.draws} should be at least {GROUPS}")

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        if (reason := super().unsupported(model, dataset)) is not None:
            return reason
        if dataset.law is None:
            return f"needs data that were drawn by a known law; that of {dataset.name} is not known"
        if len(dataset.split(self.split)) < GROUPS:
            return f"needs {GROUPS} examples; the split {self.split} has {len(dataset.split(self.split))}"
        return None

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        law, split = dataset.law, dataset.split(self.split)
        assert law is not None
        with torch.no_grad():
            u = generation(model, run.shared(PriorLatents(), candidates(torch.arange(self.draws)))["z"])
        modelled = run.map(partial(_means, model=model), Split("draws of the prior", u), batch=BLOCK)["mean"]
        x = {"error": modelled.double(), "data_error": split.read(split.x).double()}
        theta = {column: law.of_mean(means.mean(0)) for column, means in x.items()}
        found, told = {}, []
        for name, true in law.parameters.items():
            found[name] = picture.Found(true, theta["data_error"][name], theta["error"][name])
            for column, means in x.items():
                value, stderr = _distance(theta[column][name], true), _jackknife(law, name, means)
                n = len(split) if column == "data_error" else 0
                known = stderr > ROUNDING * value
                df = GROUPS - 1 if known else None
                yield Measurement(column, value, stderr if known else None, n, facet={"parameter": name}, df=df)
            told.append(f"|{name}' - {name}|$^2$ = {_distance(theta['error'][name], true):.3g}")
        title = f"{run.model_name} on {dataset.name}: {', '.join(told)}"
        run.keep("parameters.png", picture.png(title, found))


def _distance(found: Tensor, true: Tensor) -> float:
    return float((found - true).square().sum())


def _jackknife(law: Law, name: str, means: Tensor) -> float:
    """The standard error of the distance of one parameter, of `means` (N, *shape) whose average is E[x]."""
    total, parts = means.sum(0), means.tensor_split(GROUPS)
    others = [law.of_mean((total - part.sum(0)) / (len(means) - len(part)))[name] for part in parts]
    values = torch.tensor([_distance(each, law.parameters[name]) for each in others], dtype=torch.float64)
    return float((values.var(correction=0) * (GROUPS - 1)).sqrt())


def _means(batch: Batch, seed: int, *, model: LatentVariableModel) -> Mapping[str, Tensor]:
    """The mean of E[x|z] at the points u and -u of generation space, u (B, L): (B, *shape) float64."""
    with keyed(seed, batch.example):
        pair = [model.likelihood(representation(model, u)).mean[0].double() for u in (batch.x, -batch.x)]
    return {"mean": (pair[0] + pair[1]) / 2}


plugin = {"quick": ParameterRecovery(draws=100), "standard": ParameterRecovery(), "paper": ParameterRecovery()}
