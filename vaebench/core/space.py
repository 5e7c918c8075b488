"""The set that one example lies in."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vaebench.functional.transforms import transformed


@dataclass(frozen=True)
class Space:
    """The set that one example x belongs to, and what a likelihood on it is.

    `shape` is (channels, height, width) for images, (points, 3) for clouds of points, (features,) otherwise. With
    `measure` "pmf", x holds integers 0..levels-1 and a likelihood is a mass that sums to 1 over them; with "density",
    x is real, `levels` is None and a likelihood is a density. `interval` is then what every number of the data lies
    in, or None; a model's samples may leave it.
    """

    shape: tuple[int, ...]
    levels: int | None
    measure: Literal["pmf", "density"]
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if (self.levels is None) != (self.measure == "density"):
            raise ValueError(f"a {self.measure} space cannot have levels={self.levels}")
        if self.interval is not None and (self.levels is not None or not self.interval[0] < self.interval[1]):
            raise ValueError(f"a {self.measure} space cannot have interval={self.interval}")

    @property
    def dims(self) -> int:
        """D, the number of dimensions of one example."""
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether an example is an image (channels, height, width)."""
        return len(self.shape) == 3

    @property
    def is_picture(self) -> bool:
        """Whether an example is an image whose darkest and brightest values are known."""
        return self.is_image and (self.levels is not None or self.interval is not None)

    @property
    def is_cloud(self) -> bool:
        """Whether an example is a cloud of real points (points, 3), in no order."""
        return len(self.shape) == 2 and self.shape[1] == 3 and self.levels is None

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every x (..., *shape) lies in this space."""
        if tuple(x.shape[-len(self.shape) :]) != self.shape:
            raise ValueError(f"examples have shape {tuple(x.shape)}, but the space's examples are {self.shape}")
        if transformed(x):
            return  # inside torch.func.vmap no value can be looked at: who maps a batch checks it first
        if self.levels is None:
            told = "examples of a density must be finite floating-point numbers"
            if not x.is_floating_point():
                raise ValueError(f"{told}, not {x.dtype}")
            if not bool((finite := torch.isfinite(x)).all()):
                raise ValueError(f"{told}; {self._first(~finite)} is not")
            return
        if x.is_floating_point():
            raise ValueError(f"examples of a pmf are integers 0..{self.levels - 1}, not {x.dtype}")
        if x.numel() and (int(x.min()) < 0 or int(x.max()) >= self.levels):
            first = self._first((x < 0) | (x >= self.levels))
            raise ValueError(
                f"examples lie in [{int(x.min())}, {int(x.max())}], outside the {self.levels} levels "
                f"0..{self.levels - 1} ({first}); rescale them or choose another dataset"
            )

    def _first(self, odd: Tensor) -> str:
        """ "example 17": where the first True of `odd` (..., *shape) is."""
        return f"example {int(odd.reshape(-1, self.dims).any(1).nonzero()[0])}"
