"""What a decoder shows that has no likelihood."""

from typing import final

import torch
from torch import Tensor
from torch.types import _size

from vaebench.distributions.errors import UnavailableError
from vaebench.distributions.likelihood import Likelihood, one_each

NO_LIKELIHOOD = "the model has no likelihood p(x|z): its decoder gives a picture, trained to look right"
_NONE = torch.Size()


@final
class Picture(Likelihood):
    """One x for each z, with no p(x|z): of decoders that were trained by perception, or by a discriminator.

    `raw` is that picture, in the units of x. Anything that needs log p(x|z) is told that there is none, and why.
    """

    family = "none"

    def __init__(self, raw: Tensor, shape: tuple[int, ...], levels: int | None, unscored: str = NO_LIKELIHOOD) -> None:
        super().__init__(raw, shape, levels)
        self.unscored = unscored

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        return shape[0]

    def log_prob(self, x: Tensor) -> Tensor:
        raise UnavailableError(self.unscored)

    def log_masses(self) -> Tensor:
        raise UnavailableError(self.unscored)

    @property
    def mean(self) -> Tensor:
        return self.raw if self.levels is None else self.raw.clamp(0, self.levels - 1)

    def sample(self, sample_shape: _size = _NONE) -> Tensor:
        one_each(sample_shape)
        return self.mean if self.levels is None else self.mean.round().to(torch.uint8)
