"""What every likelihood p(x|z) is: scored, sampled, and looked at place by place."""

import copy
from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint
from torch.types import _size

from vaebench.distributions import noise
from vaebench.distributions.errors import UnavailableError

_NONE = torch.Size()


def one_each(sample_shape: _size) -> None:
    """Raise ValueError unless one x is asked for of each draw of z."""
    if len(sample_shape):
        raise ValueError(f"a likelihood draws one x per latent, so sample_shape must be empty, not {sample_shape}")


class Likelihood(Distribution, ABC):
    """p(x|z) for S draws of B examples of shape `shape`; `raw` is (S, B, channels, *shape[1:]).

    `family` names it in a row's comparability class; `log_prob` is in nats on the space's measure, on which a `proper`
    one sums or integrates to 1. `bound` is what bounds a density that a model could make as large as it likes;
    `interval`, where a density has one, is what every number of x lies in: outside it is 0. Where there is no
    log p(x|z) at all, `unscored` says why: `log_prob` raises UnavailableError, and `raw` is what is shown.
    """

    family: str
    proper: bool = True
    bound: str | None = None
    unscored: str | None = None
    interval: ClassVar[tuple[float, float] | None] = None
    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(self, raw: Tensor, shape: tuple[int, ...], levels: int | None) -> None:
        self.raw, self.levels = raw, levels
        super().__init__(raw.shape[:2], torch.Size(shape), validate_args=False)

    @staticmethod
    @abstractmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        """How many numbers the decoder gives in place of `shape[0]`."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x|z), (S, B) nats, of x (B, *shape), or (S, B, *shape) where each draw has its own."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """E[x|z], (S, B, *shape), in the units of x."""

    @abstractmethod
    def sample(self, sample_shape: _size = _NONE) -> Tensor:
        """One x per (draw, example): (S, B, *shape). `sample_shape` must be empty."""

    def log_masses(self) -> Tensor:
        """log P(x_d = k | z) of every level k where dimensions are independent given z: (S, B, *shape, levels) nats.

        Raises UnavailableError if they are not, or if this is a density.
        """
        raise UnavailableError(f"the likelihood {self.family} has no mass of each level of each dimension alone")

    def repeated(self, samples: int) -> Self:
        """The same for each of `samples` draws, of this one draw."""
        return self._reading(self.raw.expand(samples, *self.raw.shape[1:]), self.event_shape)

    def some(self, index: Tensor) -> Self:
        """That of the examples `index` (M,) alone."""
        return self._reading(self.raw[:, index], self.event_shape)

    def alone(self, x: Tensor) -> tuple[Self, Tensor]:
        """This likelihood and x (S, B, *shape), each of x's P places alone: batch (S, B P), event (shape[0], 1, ...).

        It is theirs if every place is read from its own numbers of `raw`: the places' log masses then sum to x's.
        Raises UnavailableError if `raw` has no places.
        """
        places = self.event_shape[1:]
        if not places or self.raw.shape[3:] != places:
            raise UnavailableError(f"a likelihood {self.family!r} has no places that could be looked at alone")
        one = torch.Size((self.event_shape[0], *(1 for _ in places)))
        raw, x = (part.flatten(3).movedim(3, 2).flatten(1, 2) for part in (self.raw, x))
        return self._reading(raw.reshape(*raw.shape, *one[1:]), one), x.reshape(*x.shape, *one[1:])

    def _reading(self, raw: Tensor, event: torch.Size) -> Self:
        """This likelihood of another `raw`."""
        made = copy.copy(self)
        made.raw, made._batch_shape, made._event_shape = raw, raw.shape[:2], event
        return made

    def _noise(self, sample_shape: _size) -> Tensor:
        one_each(sample_shape)
        return noise.uniform((*self.batch_shape, *self.event_shape), self.raw)
