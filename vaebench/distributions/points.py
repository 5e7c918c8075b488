"""A likelihood of point clouds: points that are independent given z, under a mixture of diagonal Gaussians."""

import math
from typing import ClassVar, Self, final

import torch
from torch import Tensor
from torch.types import _size

from vaebench.distributions import noise
from vaebench.distributions.likelihoods import Likelihood
from vaebench.functional import mixture

_NONE = torch.Size()
TOP = math.log(2.0)  # of a log scale: beyond the unit ball


@final
class PointMixture(Likelihood):
    """p(x|z) = prod_i sum_k w_k N(x_i; m_k, diag s_k^2) of clouds x (N, 3): an exchangeable density.

    `raw` (S, B, 7 K) holds K logits, 3 K means and 3 K raw log scales, which are brought smoothly into
    [log `floor`, log 2]: points lie on surfaces, where a density without a floor is unbounded.
    """

    family = "point-mixture"
    components: ClassVar[int] = 64

    def __init__(self, raw: Tensor, shape: tuple[int, ...], levels: int | None, floor: float = 0.01) -> None:
        if levels is not None or len(shape) != 2 or shape[1] != 3:
            raise ValueError(f"a point mixture needs clouds of real points (N, 3), not {shape} with {levels} levels")
        super().__init__(raw, shape, levels)
        self.floor, self.bound = floor, f"floor {floor:g}"

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        return 7 * PointMixture.components

    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights (S, B, K), means and log scales (S, B, K, 3)."""
        count = self.raw.shape[-1] // 7
        logits, mean, spread = self.raw.split([count, 3 * count, 3 * count], -1)
        low = math.log(self.floor)
        log_scale = low + (TOP - low) * torch.sigmoid(spread - 1.0)
        return logits.log_softmax(-1), mean.unflatten(-1, (count, 3)), log_scale.unflatten(-1, (count, 3))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x|z), (S, B) nats a cloud."""
        log_weight, mean, log_scale = self.parameters()
        return mixture.log_likelihood(x.to(mean.dtype), log_weight, mean, log_scale)

    def alone(self, x: Tensor) -> tuple[Self, Tensor]:
        points, raw = x.shape[2], self.raw.repeat_interleave(x.shape[2], 1)
        return self._reading(raw, torch.Size((1, 3))), x.reshape(x.shape[0], x.shape[1] * points, 1, 3)

    @property
    def mean(self) -> Tensor:
        """The mixture's mean, the same for each of the N points."""
        log_weight, mean, _ = self.parameters()
        centre: Tensor = (log_weight.exp().unsqueeze(-1) * mean).sum(2, keepdim=True)
        return centre.expand(*self.batch_shape, *self.event_shape)

    def sample(self, sample_shape: _size = _NONE) -> Tensor:
        log_weight, mean, log_scale = self.parameters()
        points = self.event_shape[0]
        uniform = noise.uniform((*self.batch_shape, points), self.raw)
        bounds = log_weight.exp().cumsum(-1)[..., :-1].contiguous()
        component = torch.searchsorted(bounds, uniform.contiguous()).unsqueeze(-1).expand(-1, -1, -1, 3)
        epsilon = noise.standard_normal((*self.batch_shape, points, 3), self.raw)
        return mean.gather(2, component) + log_scale.exp().gather(2, component) * epsilon
