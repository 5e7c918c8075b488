"""Levels of images as real numbers: with uniform noise that makes a density one of the levels, or as they are."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from vaebench.core.data import Reading, Space
from vaebench.distributions import noise


@final
@dataclass(frozen=True)
class Dequantised(Reading):
    """Levels k = 0..levels-1 as real numbers (k + u) / levels in [0, 1], u uniform on (0, 1).

    By Jensen's inequality E_u[-log p] + D log levels bounds -log P(k), where P(k) is p's mass in the cell of k.
    Source: Uria, Murray & Larochelle 2013; Theis, van den Oord & Bethge 2016, section 3.1.
    """

    levels: int = 256

    @property
    def stored_levels(self) -> int:
        return self.levels

    @property
    def cell(self) -> float:
        return -math.log(self.levels)

    def check(self, stored: Tensor, space: Space) -> None:
        if space.interval != (0.0, 1.0):
            raise ValueError(f"dequantised levels lie in [0, 1], not in {space.interval}")
        Space(space.shape, self.levels, "pmf").check(stored)

    def __call__(self, stored: Tensor) -> Tensor:
        u = noise.uniform((1, *stored.shape), torch.empty((), device=stored.device)).squeeze(0)
        return (stored + u) / self.levels


@final
@dataclass(frozen=True)
class Centred(Reading):
    """Levels k = 0..255 as the real numbers 2 k / 255 - 1 in [-1, 1], with no noise, as NVAE's release reads colour.

    A density of such numbers has no bound, and its bits/dim, -log p / (D ln 2) as the release counts them, are bits of
    nothing: they compare with their like alone. Source: Vahdat & Kautz 2020 (arXiv 2007.03898).
    """

    noisy: ClassVar[bool] = False

    @property
    def stored_levels(self) -> int:
        return 256

    @property
    def cell(self) -> float:
        return 0.0

    def check(self, stored: Tensor, space: Space) -> None:
        if space.interval != (-1.0, 1.0):
            raise ValueError(f"centred levels lie in [-1, 1], not in {space.interval}")
        Space(space.shape, 256, "pmf").check(stored)

    def __call__(self, stored: Tensor) -> Tensor:
        return stored.to(torch.float32) * (2 / 255) - 1
