"""Likelihoods p(x|z): proper masses over integer levels, or densities.

Each reads one tensor `raw`, a decoder's output for S draws of B examples, so that a decoder need know no more than
how many `channels` it must give in place of the data's first axis.
"""

import math
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.types import _size

from vaebench.distributions import noise
from vaebench.distributions.likelihood import Likelihood as Likelihood
from vaebench.distributions.likelihood import one_each
from vaebench.distributions.picture import Picture
from vaebench.distributions.summary import GaussianSummary
from vaebench.functional import bernoulli, categorical, continuous_bernoulli, logistic

_NONE = torch.Size()
MIN_LOG_SCALE = -7.0  # of a logistic, in units where x spans [-1, 1]


@final
class Bernoulli(Likelihood):
    """Independent x in {0, 1} with logits `raw`: log p = sum x l - softplus(l)."""

    family = "bernoulli"

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        if levels != 2:
            raise ValueError(
                f"a bernoulli likelihood needs 2 levels, the data has {levels}: cross-entropy with grey levels is no "
                "likelihood of them; use 'continuous-bernoulli' on their dequantised twin, binarised data, "
                "'discretised-logistic' with scale = 'fit', or 'categorical' (docs/likelihoods.md)"
            )
        return shape[0]

    def log_prob(self, x: Tensor) -> Tensor:
        logits = self.raw.flatten(2)
        return bernoulli.log_likelihood(logits, x.flatten(-len(self.event_shape)).to(logits.dtype))

    def log_masses(self) -> Tensor:
        return torch.stack([torch.zeros_like(self.raw), self.raw], -1).log_softmax(-1)

    @property
    def mean(self) -> Tensor:
        return self.raw.sigmoid()

    def sample(self, sample_shape: _size = _NONE) -> Tensor:
        return (self._noise(sample_shape) < self.mean).to(torch.uint8)


@final
class ContinuousBernoulli(Likelihood):
    """Independent real x in [0, 1] with logits `raw`: p = C lambda^x (1 - lambda)^(1 - x), C its normaliser.

    What a sigmoid and cross-entropy on grey values lacks is C. Source: Loaiza-Ganem & Cunningham 2019.
    """

    family = "continuous-bernoulli"
    interval = (0.0, 1.0)

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        if levels is not None:
            raise ValueError(
                f"a continuous-bernoulli likelihood is a density of numbers in [0, 1], but the data has {levels} "
                "integer levels; name their dequantised twin, <dataset>-dequantised (docs/likelihoods.md)"
            )
        return shape[0]

    def log_prob(self, x: Tensor) -> Tensor:
        return continuous_bernoulli.log_density(self.raw, x.to(self.raw.dtype)).flatten(2).sum(-1)

    @property
    def mean(self) -> Tensor:
        return continuous_bernoulli.mean(self.raw)

    def sample(self, sample_shape: _size = _NONE) -> Tensor:
        return continuous_bernoulli.quantile(self.raw, self._noise(sample_shape))


@final
class Categorical(Likelihood):
    """Independent x in 0..levels-1 with `levels` logits each: channel c * levels + k is the logit of x_c = k."""

    family = "categorical"

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        if levels is None:
            raise ValueError("a categorical likelihood needs integer data; use 'gaussian' for a density")
        return shape[0] * levels

    @property
    def logits(self) -> Tensor:
        """(S, B, C, levels, *shape[1:])."""
        assert self.levels is not None
        logits: Tensor = self.raw.unflatten(2, (self.event_shape[0], self.levels))
        return logits

    def log_prob(self, x: Tensor) -> Tensor:
        return categorical.log_likelihood(self.logits, x.to(torch.int64), 3).flatten(2).sum(-1)

    def log_masses(self) -> Tensor:
        return self.logits.log_softmax(3).movedim(3, -1)

    @property
    def mean(self) -> Tensor:
        weights = self.logits.softmax(3)
        level = torch.arange(weights.shape[3], dtype=weights.dtype, device=weights.device)
        return torch.einsum("sbck...,k->sbc...", weights, level)

    def sample(self, sample_shape: _size = _NONE) -> Tensor:
        below = self.logits.softmax(3).cumsum(3)[:, :, :, :-1] < self._noise(sample_shape).unsqueeze(3)
        return below.sum(3).to(torch.uint8)


def _centre(x: Tensor, levels: int | None) -> Tensor:
    """Integers 0..levels-1 as numbers in [-1, 1]."""
    assert levels is not None
    return x.to(torch.float32) * (2.0 / (levels - 1)) - 1.0


def _quantise(value: Tensor, levels: int | None) -> Tensor:
    """The level whose bin holds each value of [-1, 1] (clamped): uint8."""
    assert levels is not None
    return ((value + 1) * ((levels - 1) / 2)).round().clamp_(0, levels - 1).to(torch.uint8)


@final
class DiscretisedLogistic(Likelihood):
    """Independent discretised logistics: `raw` holds C means, then C log-scales (clamped at -7), on [-1, 1]."""

    family = "discretised-logistic"

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        if levels is None:
            raise ValueError("a discretised-logistic likelihood needs integer data; use 'gaussian' for a density")
        return 2 * shape[0]

    def _parameters(self) -> tuple[Tensor, Tensor]:
        mean, log_scale = self.raw.chunk(2, dim=2)
        return mean, log_scale.clamp(min=MIN_LOG_SCALE)

    def log_prob(self, x: Tensor) -> Tensor:
        assert self.levels is not None
        return logistic.log_mass(_centre(x, self.levels), *self._parameters(), self.levels, 0.999).flatten(2).sum(-1)

    def log_masses(self) -> Tensor:
        assert self.levels is not None
        level = _centre(torch.arange(self.levels, device=self.raw.device), self.levels)
        mean, log_scale = (parameter.unsqueeze(-1) for parameter in self._parameters())
        return logistic.log_mass(level, mean, log_scale, self.levels, 0.999)

    @property
    def mean(self) -> Tensor:
        assert self.levels is not None
        return (self._parameters()[0].clamp(-1, 1) + 1) * ((self.levels - 1) / 2)

    def sample(self, sample_shape: _size = _NONE) -> Tensor:
        mean, log_scale = self._parameters()
        return _quantise(mean + log_scale.exp() * torch.logit(self._noise(sample_shape)), self.levels)


@final
class DiscretisedLogisticMixture(Likelihood):
    """A mixture of 10 discretised logistics per pixel, the colours chained: on (1 or 3, H, W) images.

    Channels: 10 mixture logits; then per colour 10 means, 10 log-scales (clamped at -7), 10 coefficients (tanh).
    The green mean moves by c_0 red; the blue mean by c_1 red + c_2 green, in [-1, 1] (the coefficients of a single
    colour are absent). `tail` "strict" gives the upper tail to the highest level alone, so that the masses sum to 1;
    "nvae" to every x > 0.99 as NVAE's release does: at 256 levels they sum to 1 + P(255). Its mean is then the
    release's too, no expectation: it mixes means and coefficients first, and chains the colours after.

    Source: Salimans et al. 2017, section 2; Vahdat & Kautz 2020.
    """

    family = "discretised-logistic-mixture"
    components: ClassVar[int] = 10

    def __init__(self, raw: Tensor, shape: tuple[int, ...], levels: int | None, tail: str = "strict") -> None:
        if tail not in ("strict", "nvae"):
            raise ValueError(f"tail must be 'strict' or 'nvae', not {tail!r}")
        self.upper, self.released = (0.999, False) if tail == "strict" else (0.99, True)
        if self.released:
            self.family, self.proper = "discretised-logistic-mixture-nvae", False  # its masses do not sum to 1
        super().__init__(raw, shape, levels)

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        if levels is None or len(shape) != 3 or shape[0] not in (1, 3):
            raise ValueError(f"a discretised-logistic-mixture needs integer images of 1 or 3 colours, not {shape}")
        return 100 if shape[0] == 3 else 30

    def _parameters(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Log weights (S, B, 10, H, W); means, log-scales (S, B, C, 10, H, W); coefficients likewise, or None."""
        weights, rest = self.raw[:, :, :10].log_softmax(2), self.raw[:, :, 10:]
        kinds = 3 if self.event_shape[0] == 3 else 2
        parts = rest.unflatten(2, (self.event_shape[0], kinds, 10)).unbind(3)
        return weights, parts[0], parts[1].clamp(min=MIN_LOG_SCALE), parts[2].tanh() if kinds == 3 else None

    @staticmethod
    def _chain(mean: Tensor, coefficient: Tensor | None, x: Tensor) -> Tensor:
        """The means (S, B, C, 10, H, W) after the colours before them, x (S, B, C, 1, H, W)."""
        if coefficient is None:
            return mean
        red, green = x[:, :, 0], x[:, :, 1]
        moved_green = mean[:, :, 1] + coefficient[:, :, 0] * red
        moved_blue = mean[:, :, 2] + coefficient[:, :, 1] * red + coefficient[:, :, 2] * green
        return torch.stack([mean[:, :, 0].expand_as(moved_green), moved_green, moved_blue], dim=2)

    def log_prob(self, x: Tensor) -> Tensor:
        assert self.levels is not None
        weights, mean, log_scale, coefficient = self._parameters()
        centred = _centre(x, self.levels).expand(self.batch_shape + self.event_shape).unsqueeze(3)
        mean = self._chain(mean, coefficient, centred)
        colours = logistic.log_mass(centred, mean, log_scale, self.levels, self.upper).sum(2)
        return (weights + colours).logsumexp(2).flatten(2).sum(-1)

    def log_masses(self) -> Tensor:
        if self.event_shape[0] > 1:
            return super().log_masses()  # says why not: a colour depends on those before it
        assert self.levels is not None
        weights, mean, log_scale, _ = self._parameters()
        level = _centre(torch.arange(self.levels, device=self.raw.device), self.levels)
        each = logistic.log_mass(level, mean.unsqueeze(-1), log_scale.unsqueeze(-1), self.levels, self.upper)
        return (weights[:, :, None, ..., None] + each).logsumexp(3)

    @property
    def mean(self) -> Tensor:
        assert self.levels is not None
        weights, mean, _, coefficient = self._parameters()
        weights = weights.exp().unsqueeze(2)
        if self.released:
            mean = (weights * mean).sum(3, keepdim=True)
            coefficient = None if coefficient is None else (weights * coefficient).sum(3, keepdim=True)
            moved = mean
            for _ in range(self.event_shape[0] - 1):
                moved = self._chain(mean, coefficient, moved.clamp(-1, 1))
            return (moved.squeeze(3).clamp(-1, 1) + 1) * ((self.levels - 1) / 2)
        moved = mean
        for _ in range(self.event_shape[0] - 1):  # within a component each colour's mean enters those after it
            moved = self._chain(mean, coefficient, moved)
        expected: Tensor = (weights * moved).sum(3).clamp(-1, 1)
        return (expected + 1) * ((self.levels - 1) / 2)

    def sample(self, sample_shape: _size = _NONE) -> Tensor:
        weights, mean, log_scale, coefficient = self._parameters()
        choice = noise.uniform((*self.batch_shape, 1, *self.event_shape[1:]), self.raw)
        component = (weights.exp().cumsum(2)[:, :, :-1] < choice).sum(2, keepdim=True)  # (S, B, 1, H, W)
        pick = component.unsqueeze(2).expand(-1, -1, self.event_shape[0], -1, -1, -1)
        mean, log_scale = mean.gather(3, pick), log_scale.gather(3, pick)
        coefficient = None if coefficient is None else coefficient.gather(3, pick)
        spread = log_scale.exp() * torch.logit(self._noise(sample_shape)).unsqueeze(3)
        x = _quantise(mean + spread, self.levels)
        for _ in range(self.event_shape[0] - 1):  # red fixes green's mean, both fix blue's
            x = _quantise(self._chain(mean, coefficient, _centre(x, self.levels)) + spread, self.levels)
        return x.squeeze(3)


@final
class Gaussian(Likelihood):
    """Independent real x: `raw` holds the means, then the log standard deviations (clamped at -7)."""

    family = "gaussian"

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        if levels is not None:
            raise ValueError(f"a gaussian likelihood is a density, but the data has {levels} integer levels")
        return 2 * shape[0]

    def _parameters(self) -> tuple[Tensor, Tensor]:
        mean, log_sigma = self.raw.chunk(2, dim=2)
        return mean, log_sigma.clamp(min=-7.0)

    def log_prob(self, x: Tensor) -> Tensor:
        mean, log_sigma = self._parameters()
        square = ((x - mean) * (-log_sigma).exp()).square()
        return (-0.5 * (square + math.log(2 * math.pi)) - log_sigma).flatten(2).sum(-1)

    @property
    def mean(self) -> Tensor:
        return self._parameters()[0]

    def sample(self, sample_shape: _size = _NONE) -> Tensor:
        one_each(sample_shape)
        mean, log_sigma = self._parameters()
        return mean + log_sigma.exp() * noise.standard_normal(tuple(mean.shape), mean)


@final
class FixedGaussian(Likelihood):
    """Independent real x around the means `raw`, with the standard deviation `SCALE` that is not learnt.

    Where the data have as many dimensions as the latents, a learnt one goes to 0 or takes the data for noise.
    """

    family = "fixed-gaussian"
    SCALE: ClassVar[float] = 0.1

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        if levels is not None:
            raise ValueError(f"a fixed-gaussian likelihood is a density, but the data has {levels} integer levels")
        return shape[0]

    def log_prob(self, x: Tensor) -> Tensor:
        square = ((x - self.raw) / self.SCALE).square()
        return (-0.5 * (square + math.log(2 * math.pi)) - math.log(self.SCALE)).flatten(2).sum(-1)

    @property
    def mean(self) -> Tensor:
        return self.raw

    def sample(self, sample_shape: _size = _NONE) -> Tensor:
        one_each(sample_shape)
        return self.raw + self.SCALE * noise.standard_normal(tuple(self.raw.shape), self.raw)


_ALL = (
    Bernoulli,
    ContinuousBernoulli,
    Categorical,
    DiscretisedLogistic,
    DiscretisedLogisticMixture,
    Gaussian,
    FixedGaussian,
    GaussianSummary,
    Picture,
)
LIKELIHOODS: dict[str, type[Likelihood]] = {kind.family: kind for kind in _ALL}
