"""How well labels can be read off embeddings: logistic regression and nearest neighbours, by training-set size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from vaebench.core.data import Dataset, Split
from vaebench.core.metric import Column, Curve, Measurement, Metric, Run
from vaebench.core.model import LatentVariableModel
from vaebench.core.names import SHARED_IMAGES
from vaebench.functional import intervals
from vaebench.functional.probe import logistic_probe, nearest_neighbours, stratified
from vaebench.functional.random import derive
from vaebench.functional.statistics import wilson_stderr
from vaebench.metrics.shared.passes import Embedding, Posterior, readings

SIZES = (100, 1_000, 10_000)
CLASSIFIERS = {"probe": "logistic regression", "knn": "a vote of nearest neighbours"}
REPEATED = 1_000  # of subsets up to this size several are taken
Classify = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From training embeddings (N, F), their labels (N,) and test embeddings (M, F) to predicted labels (M,)."""


def labelled(split: Split) -> Tensor:
    """The examples of `split` that have a label, (M,) int64: negative labels mark what belongs to no class."""
    assert split.y is not None
    return (split.y >= 0).nonzero()[:, 0]


def accuracy(column: str, correct: Tensor, readings: Tensor | None = None) -> Measurement:
    """The mean of `correct` (R, N), of N test examples after R trainings, with its standard error and interval.

    The error joins the half-width of the Wilson interval over N, divided by 1.96, and the spread over trainings
    s^2 / R; the interval is Wilson's of as many trials as have both variances. Where `correct` is of one training, and
    `readings` (M, N) of it and of others, on the same examples read again, the spread is the s^2 of those.
    """
    each, size = correct.double().mean(1), correct.shape[1]
    value = float(each.mean())
    trainings = each if readings is None else readings.double().mean(1)
    spread = float(trainings.var() / len(each)) if len(trainings) > 1 else 0.0
    stderr = float((wilson_stderr(value, size) ** 2 + spread) ** 0.5)
    low, high = intervals.trained(value, size, spread)
    return Measurement(column, value, stderr, size, low=low, high=high)


@final
@dataclass(frozen=True)
class Probe(Metric):
    """The accuracy on `split` of classifiers trained on embeddings of `train`, by the number of training examples.

    `probe_*` is multinomial logistic regression on dimensions standardised over its training examples, L2 penalty
    1 / (2 `inverse_penalty`) on the summed loss: fixed, not chosen by validation. `knn_*` is the vote of the
    `neighbours` nearest in the embedding as it is, in which a unit is one of the prior's. Training subsets are random
    and stratified; of up to 1,000 examples `subsets` of them are averaged, and marked `shared images` if any two have
    an example in common. A size that the split lacks is left out.
    Standard errors and intervals are as in `accuracy`: where training examples are read with noise, and one set of them
    is taken, it is read again to see what that adds. The embedding of a hierarchical model joins all groups;
    `probe_top_group` is its first group's mean alone, all training examples. Whether each test image was classified
    rightly with all training examples is kept beside the rows.
    Source: Locatello et al. 2019 (disentanglement_lib) for the sizes.
    """

    train: str = "train"
    inverse_penalty: float = 1.0
    neighbours: int = 5
    subsets: int = 5

    version: ClassVar[int] = 1
    given = ("binarisation",)
    splits = ("split", "train")
    columns: ClassVar[tuple[Column, ...]] = (
        *(Column(f"{kind}_{size}", "fraction", "higher", "estimate",
                 equation=f"accuracy of {classifier} trained on {size} embeddings of `train`")
          for kind, classifier in CLASSIFIERS.items() for size in (*SIZES, "all")),
        Column("probe_top_group", "fraction", "higher", "estimate",
               equation="accuracy of logistic regression trained on the first group's means alone"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name in ("neighbours", "subsets"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} should be at least 1")
        if self.inverse_penalty <= 0:
            raise ValueError(f"inverse_penalty = {self.inverse_penalty} should be more than 0")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.train, self.split)

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        if (reason := super().unsupported(model, dataset)) is not None:
            return reason
        for name in self.reads:
            if (y := dataset.split(name).y) is None:
                return f"{dataset.name} has no labels"
            if len(y[y >= 0].unique()) < (2 if name == self.train else 1):
                return f"the labels of {dataset.name}'s split {name!r} are of too few classes"
        return None

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        train, test = dataset.split(self.train), dataset.split(self.split)
        assert train.y is not None
        assert test.y is not None
        keep, asked = labelled(train), labelled(test)
        y, truth = train.y[keep], test.y[asked]
        z = readings(Embedding(), "embedding", train, run)[:, keep]
        query = run.shared(Embedding(), test)["embedding"][asked]
        kept: dict[str, Tensor] = {}
        for kind, classify in (("probe", self._logistic), ("knn", self._nearest)):
            found: dict[int, Measurement] = {}
            for size in sorted({*(s for s in SIZES if s <= len(y)), len(y)}):
                parts = self._parts(y, size, run.seed)
                taken = z if len(parts) == 1 else z[:1]
                correct = torch.stack([classify(e[part], y[part], query) == truth for e in taken for part in parts])
                marks = (SHARED_IMAGES,) if len(torch.cat(parts).unique()) < len(parts) * size else ()
                found[size] = accuracy(f"{kind}_{size}", correct[: len(parts)], correct)._replace(marks=marks)
                if size in SIZES:
                    yield found[size]
            heights = tuple(each.value for each in found.values())
            curve = Curve(tuple(map(float, found)), heights, "training examples", "accuracy")
            yield found[len(y)]._replace(column=f"{kind}_all", curve=curve)
            kept[f"{kind}_all"] = correct[0].float()
        if len(asked) == len(test):
            run.keep_values(kept)
        if model.prior(1).chained:
            top = readings(Posterior(), "mean", train, run)[:, keep]
            query = run.shared(Posterior(), test)["mean"][asked]
            correct = torch.stack([self._logistic(each, y, query) == truth for each in top])
            yield accuracy("probe_top_group", correct[:1], correct)

    def _logistic(self, z: Tensor, y: Tensor, query: Tensor) -> Tensor:
        return logistic_probe(z, y, self.inverse_penalty)(query)

    def _nearest(self, z: Tensor, y: Tensor, query: Tensor) -> Tensor:
        return nearest_neighbours(z, y, query, self.neighbours)

    def _parts(self, y: Tensor, size: int, seed: int) -> list[Tensor]:
        """The training sets of `size` examples of labels `y`, each (size,) int64."""
        if size == len(y):
            return [torch.arange(size)]
        count = self.subsets if size <= REPEATED else 1
        return [stratified(y, size, derive(seed, size, number)) for number in range(count)]


plugin = {"quick": Probe(), "standard": Probe(), "paper": Probe()}
