"""How well drawn clouds match real ones as a set: 1-NNA, coverage and minimum matching distance under Chamfer."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from vaebench.core.data import Batch, Dataset, Split
from vaebench.core.metric import Column, Measurement, Metric, Run
from vaebench.core.model import LatentVariableModel
from vaebench.functional.clouds import chamfer_matrix, chamfer_ring, from_ring, set_match
from vaebench.functional.statistics import wilson_stderr
from vaebench.metrics.shared.passes import PriorSample, candidates, varied

ROW = 10  # clouds whose distances to all others are a part of a pass


@final
@dataclass(frozen=True)
class CloudSamples(Metric):
    """As many draws of the prior, decoded, as `split` has clouds, at most `clouds`: how alike the two sets are.

    * one_nna: how often the nearest neighbour of a cloud, of either set, is of its own set. 1/2 is best; below it
      the drawn clouds lie nearer to real ones than these to each other, as copies do.
    * cov: the fraction of real clouds that are the nearest one of a drawn cloud. Near 0.6 for a perfect model.
    * mmd: the mean Chamfer distance of a real cloud to the nearest drawn one.

    Each reads a cloud of `points` points. Standard errors: of one_nna and cov at least the Wilson interval's, of mmd
    over real clouds. Source: Yang et al. 2019 (PointFlow), section 5.1.
    """

    clouds: int = 500
    points: int = 512
    temperature: float = 1.0

    version: ClassVar[int] = 1
    given = ("binarisation",)
    splits = ()
    counts = MappingProxyType({"clouds": 2})
    columns: ClassVar[tuple[Column, ...]] = (
        Column("one_nna", "fraction", "none", "estimate",
               equation="the share of clouds of both sets whose nearest neighbour in their union is of their own set"),
        Column("cov", "fraction", "higher", "estimate",
               equation="|{the real cloud nearest to y: y drawn}| / |real clouds|"),
        Column("mmd", "squared units", "lower", "estimate",
               equation="mean over real x of min over drawn y of chamfer(x, y)"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.clouds < 2 or self.points < 1 or not 0 < self.temperature < float("inf"):
            raise ValueError(f"clouds = {self.clouds} should be at least 2, points = {self.points} at least 1, "
                             f"temperature = {self.temperature} positive")  # fmt: skip

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        if not dataset.space.is_cloud:
            return f"only clouds of points are compared; {dataset.name} holds none"
        return super().unsupported(model, dataset)

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        split = dataset.split(self.split)
        count = min(self.clouds, len(split))
        real = run.map(_read, split.part(torch.arange(count), f"{split.name} first {count}"), batch=100)["x"]
        drawn = run.shared(PriorSample("sample", self.temperature), candidates(torch.arange(count)))["x"]
        real, drawn = (x[:, : self.points].contiguous() for x in (real, varied(drawn, "samples of the prior")))
        cross = run.map(partial(_cross, others=drawn), Split("clouds cross", real), batch=ROW)["distance"]
        found = set_match(_within("real", real, run), cross, _within("drawn", drawn, run))
        yield Measurement.proportion("one_nna", found.one_nna, wilson_stderr(found.one_nna, 2 * count), 2 * count)
        yield Measurement.proportion("cov", found.coverage, wilson_stderr(found.coverage, count), count)
        yield Measurement.mean("mmd", cross.amin(1))


def _within(which: Literal["real", "drawn"], x: Tensor, run: Run) -> Tensor:
    """Chamfer distances (N, N) of clouds x (N, P, 3), as a pass over them."""
    return from_ring(run.map(partial(_ring, clouds=x), Split(f"clouds {which}", x), batch=ROW)["distance"])


def _read(batch: Batch, seed: int) -> dict[str, Tensor]:
    return {"x": batch.x}


def _cross(batch: Batch, seed: int, *, others: Tensor) -> dict[str, Tensor]:
    return {"distance": chamfer_matrix(batch.x, others.to(batch.x.device))}


def _ring(batch: Batch, seed: int, *, clouds: Tensor) -> dict[str, Tensor]:
    return {"distance": chamfer_ring(clouds.to(batch.x.device), batch.example)}


plugin = {"quick": CloudSamples(clouds=100, points=256), "standard": CloudSamples(), "paper": CloudSamples(clouds=2000)}
