"""Likelihoods are proper or refused: each fault that a plug-in could have is found, and nothing sound is."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, final

import pytest
import torch
from torch import Tensor, nn
from torch.types import _size
from weekly import weekly

from vaebench.core import normaliser
from vaebench.core.checks import PROPER, check_model
from vaebench.core.data import Space
from vaebench.core.model import FactoredModel, Latents
from vaebench.core.normaliser import Finding, mass_fault, normalised
from vaebench.distributions import noise
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.likelihoods import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    DiscretisedLogistic,
    DiscretisedLogisticMixture,
    FixedGaussian,
    Gaussian,
    Likelihood,
)
from vaebench.distributions.points import PointMixture
from vaebench.functional import bernoulli, continuous_bernoulli, logistic

NONE = torch.Size()


def pmf(levels: int, *shape: int) -> Space:
    return Space(shape, levels, "pmf")


def density(*shape: int) -> Space:
    return Space(shape, None, "density")


def unit(*shape: int) -> Space:
    return Space(shape, None, "density", (0.0, 1.0))


@final
class Toy(FactoredModel):
    """A model of one latent, whose decoder adds it to numbers of its own: p(x|z) as `kind` reads them."""

    def __init__(self, kind: Callable[..., Likelihood], space: Space, raw: Tensor) -> None:
        super().__init__(space)
        self.kind, self.weight = kind, nn.Parameter(torch.zeros(()))
        self.register_buffer("made", raw)
        self.made: Tensor

    def prior(self, batch: int, temperature: float = 1.0) -> DiagonalGaussian:
        zero = torch.zeros(batch, 1)
        return DiagonalGaussian(zero, zero)

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        self.space.check(x)
        return DiagonalGaussian(self.weight.expand(len(x), 1), torch.zeros(len(x), 1))

    def likelihood(self, latents: Latents) -> Likelihood:
        moved = 0.05 * latents[0][(..., *(None,) * (self.made.ndim - 1))]
        return self.kind(self.made + moved, self.space.shape, self.space.levels)

    def embed(self, x: Tensor) -> Tensor:
        return x.flatten(1).float()

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield "weight", self.weight


def toy(kind: Any, space: Space, scale: float = 1.0, shift: float = 0.0, channels: int | None = None) -> Toy:
    generator = torch.Generator().manual_seed(0)
    size = (kind.channels(space.shape, space.levels) if channels is None else channels, *space.shape[1:])
    if len(space.shape) == 2:
        size = (channels or 28,)
    return Toy(kind, space, shift + scale * torch.randn(size, generator=generator))


SOUND = {
    "bernoulli": lambda: toy(Bernoulli, pmf(2, 1, 6, 6), 3),
    "categorical": lambda: toy(Categorical, pmf(17, 1, 6, 6)),
    "categorical, colours": lambda: toy(Categorical, pmf(256, 3, 4, 4)),
    "logistic": lambda: toy(DiscretisedLogistic, pmf(256, 1, 6, 6), 1, -1.5),
    "narrow logistic": lambda: toy(DiscretisedLogistic, pmf(256, 1, 6, 6), 1, -6),
    "mixture": lambda: toy(DiscretisedLogisticMixture, pmf(256, 1, 6, 6), 1, -1),
    "mixture, colours": lambda: toy(DiscretisedLogisticMixture, pmf(256, 3, 4, 4), 1, -2),
    "gaussian images": lambda: toy(Gaussian, density(1, 6, 6)),
    "gaussian colours": lambda: toy(Gaussian, density(3, 4, 4)),
    "gaussian vectors": lambda: toy(Gaussian, density(6)),
    "gaussian, data in an interval": lambda: toy(Gaussian, unit(1, 6, 6)),
    "continuous bernoulli": lambda: toy(ContinuousBernoulli, unit(1, 6, 6), 6),
    "continuous bernoulli, flat": lambda: toy(ContinuousBernoulli, unit(1, 6, 6), 1e-4),
    "continuous bernoulli, two colours": lambda: toy(ContinuousBernoulli, unit(2, 4, 4), 20),
    "continuous bernoulli, colours": lambda: toy(ContinuousBernoulli, unit(3, 4, 4), 4),
    "fixed": lambda: toy(FixedGaussian, density(2), 3),
    "one number": lambda: toy(Gaussian, density(1)),
    "points": lambda: toy(PointMixture, density(30, 3), 1.0),
    "levels of a vector": lambda: toy(Categorical, pmf(5, 8)),
}


@pytest.mark.parametrize("name", weekly(SOUND, *(name for name in SOUND if name != "mixture, colours")))
def test_what_is_proper_is_found_so(name: str) -> None:
    assert normalised(SOUND[name]()) == Finding("ok")


def test_an_encoder_may_overflow_far_from_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def posterior(self: Toy, x: Tensor) -> DiagonalGaussian:
        bright = x.flatten(1).float().mean(1, keepdim=True) == 1.0
        return DiagonalGaussian(self.weight.expand(len(x), 1), torch.where(bright, 2000.0, 0.0))

    monkeypatch.setattr(Toy, "posterior", posterior)
    assert normalised(SOUND["bernoulli"]()) == Finding("ok")


class Logistic(Likelihood):
    """A likelihood from outside: raw holds means and log scales, on [-1, 1]."""

    family = "planted"

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        return 2 * shape[0]

    def _parameters(self) -> tuple[Tensor, Tensor]:
        mean, log_scale = self.raw.chunk(2, dim=2)
        return mean, log_scale - 2

    def _score(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        return logistic.log_mass(x, mean, log_scale, self.levels or 1, 0.999)

    def log_prob(self, x: Tensor) -> Tensor:
        assert self.levels is not None
        centred = x.to(self.raw.dtype) * (2 / (self.levels - 1)) - 1
        return self._score(centred, *self._parameters()).flatten(2).sum(-1)

    @property
    def mean(self) -> Tensor:
        return torch.zeros(*self.batch_shape, *self.event_shape)

    def sample(self, sample_shape: _size = NONE) -> Tensor:
        assert self.levels is not None
        mean, log_scale = self._parameters()
        at = mean + log_scale.exp() * torch.logit(self._noise(sample_shape))
        return ((at + 1) * ((self.levels - 1) / 2)).round().clamp(0, self.levels - 1).to(torch.uint8)


@final
class LogisticDensity(Logistic):
    """A density where a mass should be."""

    def _score(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        u = (x - mean) * (-log_scale).exp()
        return -u - log_scale - 2 * nn.functional.softplus(-u)


@final
class EdgesDropped(Logistic):
    """The outermost bins are as wide as the others, and the tails are nowhere."""

    def _score(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        assert self.levels is not None
        half = 1 / (self.levels - 1)
        high, low = (torch.sigmoid((x + side - mean) * (-log_scale).exp()) for side in (half, -half))
        return (high - low).clamp(min=1e-30).log()


@final
class Levels(Logistic):
    """Bernoulli logits on more than two levels."""

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        return shape[0]

    def log_prob(self, x: Tensor) -> Tensor:
        return bernoulli.log_likelihood(self.raw.flatten(2), x.flatten(-len(self.event_shape)).to(self.raw.dtype))

    def sample(self, sample_shape: _size = NONE) -> Tensor:
        return (self._noise(sample_shape) < self.raw.sigmoid()).to(torch.uint8)


@final
class Doubled(Logistic):
    """A mass twice too small: the normaliser alone is wrong."""

    def _score(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        assert self.levels is not None
        return logistic.log_mass(x, mean, log_scale, self.levels, 0.999) - math.log(2) / self.event_shape.numel()


@final
class Leaking(Logistic):
    """A mass of which each number loses a thousandth: nothing in a pixel, and 0.0014 bits/dim in a rank."""

    def _score(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        assert self.levels is not None
        return logistic.log_mass(x, mean, log_scale, self.levels, 0.999) - 1e-3


class CrossEntropy(Likelihood):
    """A sigmoid and cross-entropy on grey pixels, which half the world trains: the normaliser is left out."""

    family = "planted"
    interval = (0.0, 1.0)

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        return shape[0]

    def log_prob(self, x: Tensor) -> Tensor:
        score = bernoulli.log_likelihood(self.raw.flatten(2), x.flatten(-len(self.event_shape)).to(self.raw.dtype))
        outside = ((x < 0) | (x > 1)).flatten(-len(self.event_shape)).any(-1)
        return score.masked_fill(outside, -torch.inf)

    @property
    def mean(self) -> Tensor:
        return self.raw.sigmoid()

    def sample(self, sample_shape: _size = NONE) -> Tensor:
        return continuous_bernoulli.quantile(self.raw, self._noise(sample_shape))


def official_tail(raw: Tensor, shape: tuple[int, ...], levels: int | None) -> Likelihood:
    """NVAE's release, labelled strict."""
    found = DiscretisedLogisticMixture(raw, shape, levels, "nvae")
    found.family, found.proper = "discretised-logistic-mixture", True
    return found


official_tail.channels = DiscretisedLogisticMixture.channels  # type: ignore[attr-defined]


def changed(kind: type[Likelihood], change: Callable[[Tensor], Tensor]) -> Callable[..., Likelihood]:
    """`kind` with another log_prob."""

    def make(*arguments: Any) -> Likelihood:
        found = kind(*arguments)
        named = type("Changed", (kind,), {"log_prob": lambda self, x: change(kind.log_prob(self, x))})  # type: ignore[misc]
        found.__class__ = named
        return found

    make.channels = kind.channels  # type: ignore[attr-defined]
    return make


FAULTS: dict[str, tuple[Callable[[], Toy], str]] = {
    "density for a mass": (lambda: toy(LogisticDensity, pmf(256, 1, 6, 6)), "masses sum to|above 1"),
    "density for a mass, few levels": (lambda: toy(LogisticDensity, pmf(17, 1, 6, 6)), "masses sum to|above 1"),
    "edge bins dropped": (lambda: toy(EdgesDropped, pmf(256, 1, 6, 6), 0.5), r"masses sum to 0\.\d+ instead of 1"),
    "bernoulli on 256 levels": (lambda: toy(Levels, pmf(256, 1, 6, 6), 0.3), "masses sum to|above 1"),
    "a thousandth of each mass": (lambda: toy(Leaking, pmf(256, 1, 6, 6)), r"masses sum to 0\.999 instead of 1"),
    "half the mass": (lambda: toy(Doubled, pmf(17, 1, 2, 2)), "masses of 4 numbers sum to 0.5 "),
    "half the mass, colours": (lambda: toy(Doubled, pmf(17, 3, 2, 2)), "masses of 12 numbers sum to 0.5 "),
    "official tail": (lambda: toy(official_tail, pmf(256, 1, 6, 6), 1.0, 0.5), r"masses sum to 1\.\d+ instead"),
    "official tail, colours": (lambda: toy(official_tail, pmf(256, 3, 4, 4), 0.3, 0.9), "instead of 1"),
    "gaussian off": (lambda: toy(changed(Gaussian, lambda s: s + 0.3), density(2)), "integrates to 1.35"),
    "gaussian off, 6": (lambda: toy(changed(Gaussian, lambda s: s + 0.3), density(6)), "sums to 1.3"),
    "gaussian scaled": (lambda: toy(changed(Gaussian, lambda s: 0.9 * s), density(1, 6, 6)), "integrates to"),
    "cross-entropy on grey": (lambda: toy(CrossEntropy, unit(1, 6, 6), 3), r"integrates to 0\.\d+ instead of 1"),
    "cross-entropy on colour": (lambda: toy(CrossEntropy, unit(3, 6, 6), 1), r"sums to 0\.\d+ instead of 1"),
    "points off": (lambda: toy(changed(PointMixture, lambda s: 1.1 * s), density(30, 3), 1.0, 0.0, 28), "sums to"),
    "not finite": (lambda: toy(Bernoulli, pmf(2, 1, 2, 2), math.nan), "not finite"),
}


@pytest.mark.parametrize("name", weekly(FAULTS, *(name for name in FAULTS if name != "official tail, colours")))
def test_each_fault_is_found(name: str) -> None:
    make, says = FAULTS[name]
    found = normalised(make())
    assert found.outcome == "failed" if says else found.outcome != "ok", found

    assert re.search(says, found.detail)
    assert "\n" not in found.detail
    if name == "official tail":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DiscretisedLogisticMixture, "proper", False)
            assert normalised(toy(DiscretisedLogisticMixture, pmf(256, 1, 6, 6))) == Finding("ok")


@final
class Chain(Likelihood):
    """A likelihood whose numbers depend on one another: x_d is x_(d-1) with probability 3/4, else anything."""

    family = "planted"

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        return shape[0]

    def log_prob(self, x: Tensor) -> Tensor:
        assert self.levels is not None
        flat = x.expand(*self.batch_shape, *self.event_shape).flatten(2)
        same = (flat[..., 1:] == flat[..., :-1]).to(self.raw.dtype)
        terms = (0.25 / self.levels + 0.75 * same).log().sum(-1) - math.log(self.levels)
        return terms + self.fault

    fault: ClassVar[float] = 0.0

    @property
    def mean(self) -> Tensor:
        raise NotImplementedError

    def sample(self, sample_shape: _size = NONE) -> Tensor:
        assert self.levels is not None
        size = (*self.batch_shape, self.event_shape.numel())
        fresh = (noise.uniform(size, self.raw) * self.levels).to(torch.uint8)
        keep = noise.uniform(size, self.raw) < 0.75
        x = [fresh[..., 0]]
        for d in range(1, size[-1]):
            x.append(torch.where(keep[..., d], x[-1], fresh[..., d]))
        return torch.stack(x, -1).unflatten(-1, self.event_shape)


@pytest.mark.parametrize(
    ("size", "fault", "outcome"),
    [(3, 0.0, "ok"), (3, 0.5, "failed"), pytest.param(40, 0.0, "undecided", marks=pytest.mark.slow)],
)
def test_what_cannot_be_enumerated_is_held_against_a_reference_or_not_decided(
    size: int, fault: float, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither places nor numbers of it are independent."""
    monkeypatch.setattr(Chain, "fault", fault)
    found = normalised(toy(Chain, pmf(4, 1, 1, size)))
    assert found.outcome == outcome, found
    checks = {check.name: check for check in check_model(toy(Chain, pmf(4, 1, 1, size)), quick=True)}
    assert (checks[PROPER].passed, checks[PROPER].failed, checks[PROPER].undecided) == (
        outcome == "ok", outcome == "failed", outcome == "undecided"
    )  # fmt: skip


def test_a_likelihood_that_cannot_be_taken_apart_is_not_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Likelihood, *_: Any) -> None:
        raise RuntimeError("not\nso")

    monkeypatch.setattr(Chain, "alone", refuse)
    assert normalised(toy(Chain, pmf(4, 1, 1, 3))) == Finding("ok")  # as a whole
    monkeypatch.setattr(Chain, "repeated", refuse)
    assert normalised(toy(Chain, pmf(4, 1, 1, 3))) == Finding("ok")  # decoded anew
    monkeypatch.setattr(normaliser, "_vectors", refuse)
    found = normalised(toy(Chain, pmf(4, 1, 1, 3)))
    assert found.outcome == "undecided"
    assert found.detail == "whether p(x|z) is proper: RuntimeError not so"


def test_a_mass_above_one_is_a_fault_and_a_density_above_one_none() -> None:
    space = pmf(256, 1, 28, 28)
    assert mass_fault(torch.tensor([-1.0, 0.0, 7e-4]), space) == ""
    assert "log p(x|z) is 0.5 in a draw" in mass_fault(torch.tensor([[-1.0, 0.5]]), space)
    assert mass_fault(torch.tensor(30.0), density(2)) == ""
    assert mass_fault(torch.empty(0), space) == ""


def test_the_suite_says_which_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    sound, faulty = SOUND["categorical"](), FAULTS["half the mass"][0]()
    assert [check for check in check_model(sound, quick=True) if not check.passed] == []
    broken = [check for check in check_model(faulty, quick=True) if not check.passed]
    assert [check.name for check in broken] == [PROPER]
    assert broken[0].failed
    assert normaliser.LIMIT == 5
