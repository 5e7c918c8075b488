"""The law that a dataset was drawn from, where it is known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Law:
    """The true `parameters` (K,) by name, and what they are of a law with the mean E[x] (*shape): `of_mean`."""

    parameters: Mapping[str, Tensor]
    of_mean: Callable[[Tensor], Mapping[str, Tensor]]
