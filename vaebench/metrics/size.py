"""How many numbers training had to find: all of a model, and those of p(x, z)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, final

from vaebench.core.data import Dataset
from vaebench.core.metric import Column, Measurement, Metric, Run
from vaebench.core.model import LatentVariableModel


@final
@dataclass(frozen=True)
class Size(Metric):
    """The parameters of a model, each counted once however often it is used.

    `generative_parameters` are those without the ones that only q(z|x) depends on: what it takes to draw from the
    model. Buffers, such as the running statistics of batch norm, are not found by gradients and are left out. No
    example is read, whatever `split` says: n is 0.
    """

    version: ClassVar[int] = 1
    given = ()
    immaterial = ("split",)
    splits = ()
    columns: ClassVar[tuple[Column, ...]] = (
        Column("total_parameters", "parameters", "none", "exact", equation="|theta| + |phi|, of p(x, z) and q(z|x)"),
        Column("generative_parameters", "parameters", "none", "exact", equation="|theta|, of p(x, z)"),
    )

    @property
    def reads(self) -> tuple[str, ...]:
        return ()

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        inferred = {id(parameter) for _, parameter in model.inference_parameters()}
        sizes = {id(parameter): parameter.numel() for parameter in model.parameters()}
        yield Measurement("total_parameters", sum(sizes.values()), None, 0)
        generative = sum(size for whose, size in sizes.items() if whose not in inferred)
        yield Measurement("generative_parameters", generative, None, 0)


plugin = {"quick": Size(), "standard": Size(), "paper": Size()}
