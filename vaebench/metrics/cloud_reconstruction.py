"""How close reconstructed clouds of points come to the data: Chamfer and earth mover's distances."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

from torch import Tensor

from vaebench.core.data import Batch, Dataset
from vaebench.core.metric import BLOCK, Column, Measurement, Metric, Run
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.functional.clouds import chamfer, earth_mover
from vaebench.metrics.shared.passes import displayed


def reconstruct(batch: Batch, seed: int, *, model: LatentVariableModel, assigned: int) -> dict[str, Tensor]:
    """Per-cloud `chamfer` and, of the first `assigned` points of either, `emd`: each (B,) float64."""
    with keyed(seed, batch.example):
        found = displayed(model.likelihood(model.posterior(batch.x).rsample(1)), "sample", model.space)[0]
    return {
        "chamfer": chamfer(found, batch.x).cpu(),
        "emd": earth_mover(found[:, :assigned], batch.x[:, :assigned]),
    }


@final
@dataclass(frozen=True)
class CloudReconstruction(Metric):
    """Distances between a cloud x and a cloud drawn from p(x|z), z a draw of q(z|x): `draws` for each, the mean.

    chamfer: the mean squared distance to the nearest point, both ways, summed. emd: the mean distance of points that
    the best one-to-one assignment of `assigned` points pairs. Points are drawn, not means: a mixture's mean is one
    point. Both are above 0 for a perfect model too, whose points are other draws from the same surface. Standard errors
    are over clouds, whose values are kept beside the rows. Source: Fan, Su & Guibas 2017.
    """

    draws: int = 3
    assigned: int = 256

    version: ClassVar[int] = 1
    given = ("binarisation",)
    columns: ClassVar[tuple[Column, ...]] = (
        Column("chamfer", "squared units", "lower", "estimate",
               equation="mean_i min_j |x_i - y_j|^2 + mean_j min_i |x_i - y_j|^2, y a cloud of p(x|z), z ~ q(z|x)"),
        Column("emd", "units", "lower", "estimate",
               equation="min over assignments s of mean_i |x_i - y_s(i)|, y a cloud of p(x|z), z ~ q(z|x)"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.draws < 1 or not 1 <= self.assigned <= 4096:
            raise ValueError(f"draws = {self.draws} should be at least 1, assigned = {self.assigned} lie in 1..4096")

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        if not dataset.space.is_cloud:
            return f"only clouds of points are compared; {dataset.name} holds none"
        return super().unsupported(model, dataset)

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        split, assigned = dataset.split(self.split), min(self.assigned, dataset.space.shape[0])
        function = partial(reconstruct, model=model, assigned=assigned)
        found = run.map(function, split, repeats=self.draws, batch=BLOCK)
        values = {name: value.reshape(self.draws, len(split)).mean(0) for name, value in found.items()}
        for name, value in values.items():
            yield Measurement.mean(name, value)
        run.keep_values(values)


plugin = {
    "quick": CloudReconstruction(draws=1, assigned=128),
    "standard": CloudReconstruction(),
    "paper": CloudReconstruction(draws=10, assigned=512),
}
