"""The Gaussian of NVAE's release on images whose bits are reduced first."""

from typing import final

import torch
from torch import Tensor
from torch.types import _size

from vaebench.distributions.likelihoods import Gaussian, Likelihood

_NONE = torch.Size()


def reduced_to(x: Tensor, bits: int) -> Tensor:
    """Images of 8 bits in [-1, 1], 2 k / 255 - 1, as 2 floor(k / 2^(8 - bits)) / (2^bits - 1) - 1.

    What is reduced already stays as it is. Source: Vahdat & Kautz 2020, whose release reduces so.
    """
    level = ((x + 1) * 127.5).round()
    kept: Tensor = (level / 2 ** (8 - bits)).floor() * (2 / (2**bits - 1)) - 1
    return kept


@final
class CoarseGaussian(Likelihood):
    """A `Gaussian` density at x in [-1, 1] after `bits` of its 8 bits are kept: of x itself it is not a density."""

    proper = False

    def __init__(self, raw: Tensor, shape: tuple[int, ...], levels: int | None, bits: int) -> None:
        self.bits, self.family = bits, f"gaussian-{bits}-bit"
        super().__init__(raw, shape, levels)

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        return Gaussian.channels(shape, levels)

    @property
    def _whole(self) -> Gaussian:
        return Gaussian(self.raw, tuple(self.event_shape), None)

    def log_prob(self, x: Tensor) -> Tensor:
        return self._whole.log_prob(reduced_to(x, self.bits))

    @property
    def mean(self) -> Tensor:
        return self._whole.mean

    def sample(self, sample_shape: _size = _NONE) -> Tensor:
        return self._whole.sample(sample_shape)
