"""Any nn.Module that encodes and decodes, one's own or a library's, as a model by its wiring."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, final

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from vaebench.core.arithmetic import through
from vaebench.core.data import Space, Split
from vaebench.core.errors import contained, reason
from vaebench.core.model import FactoredModel, LatentDistribution, Latents, channels
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.likelihoods import LIKELIHOODS, MIN_LOG_SCALE, Likelihood
from vaebench.distributions.noise import keyed
from vaebench.distributions.picture import Picture
from vaebench.distributions.point import Point
from vaebench.functional.random import derive
from vaebench.models.adapters._wiring import BY_LOGITS, Wiring, WiringError, decoded, moments, with_scale

FITTED = 1000
"""Images that a scale is fitted on, spread evenly over the training split."""
UNFITTED = "scale = 'fit' is found on trained weights and training data, and nothing is known before"
CLOSE, FAR = 1e-3, 3.0
"""How far beyond [0, 1] a mean may lie that must not, and one that rarely does: a decoder may end in a linear layer."""
SPAN = 9.0
"""Width of the log-scales that are searched, up from the least."""


class _Call:
    """A method or part of a network, called on a batch; an object of its own, by which results are remembered."""

    def __init__(self, network: nn.Module, name: str, read: Callable[[Any], Tensor]) -> None:
        self.network, self.name, self.read, self.flat = network, name, read, False

    def __call__(self, x: Tensor) -> Tensor:
        with contained():
            return self.read(getattr(self.network, self.name)(x.flatten(1) if self.flat else x))


class _Seen(NamedTuple):
    """What one call of each half shows."""

    latent: tuple[int, ...]
    inferred: tuple[str, ...]
    """The parameters that q(z|x) depends on and p(x|z) does not."""


def _squeezed(shape: tuple[int, ...]) -> list[int]:
    return [length for length in shape if length != 1]


@final
class Module(FactoredModel):
    """q(z|x) = N(mean(x), diag variance(x)), or one z, and p(x|z) by the halves of `network`; p(z) = N(0, I).

    Latents of any shape are one vector here, and have their shape when the network decodes them. A network that takes
    examples as flat vectors gets them so. In the state dict, `network.` stands before its own names.

    Raises WiringError if a half cannot be called, or does not give what `wiring` says.
    """

    origin: Tensor

    def __init__(self, space: Space, wiring: Wiring, network: nn.Module) -> None:
        super().__init__(space)
        if not isinstance(network, nn.Module):
            raise WiringError(f"a {type(network).__name__} is not a network; give a torch.nn.Module")
        for half, name in (("encode", wiring.encode), ("decode", wiring.decode)):
            if not callable(getattr(network, name, None)):
                raise WiringError(f"{type(network).__name__} has no {name!r} to {half} by; set {half} = NAME")
        self.channels = channels(LIKELIHOODS[wiring.likelihood], space)
        if wiring.means_alone:
            self.channels = space.shape[0]
        self.wiring, self.network = wiring, network
        self.scale = None if isinstance(wiring.scale, str) else wiring.scale
        self._encoder = _Call(network, wiring.encode, moments)
        self._decoder = _Call(network, wiring.decode, decoded)
        self.latent, self._inferred = self._look()
        wanted = (wiring.latent,) if isinstance(wiring.latent, int) else wiring.latent
        if wanted is not None and tuple(wanted) != self.latent:
            raise WiringError(f"encode gives latents of shape {self.latent}, not latent = {wanted}; leave latent out")
        like = next(network.parameters(), torch.empty(()))
        self.register_buffer("origin", torch.zeros(math.prod(self.latent), device=like.device), persistent=False)

    def _look(self) -> _Seen:
        """What the network does with two made-up examples; it is left as it was."""
        modes = {part: part.training for part in self.network.modules()}
        trained = {parameter: parameter.requires_grad for parameter in self.network.parameters()}
        before = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        named = dict(self.network.named_parameters())
        like = next(iter(trained), torch.empty(()))
        x = torch.zeros((2, *self.space.shape), dtype=torch.uint8 if self.space.levels else like.dtype)
        self.network.eval()
        try:
            with torch.random.fork_rng([]), torch.enable_grad():
                for parameter in named.values():
                    parameter.requires_grad_(parameter.is_floating_point())
                found = self._probed(self._encoder, "encode", self._given(x.to(like.device)))
                if found.ndim < 3 or len(found) != 2:
                    raise WiringError(f"encode gives a mean {tuple(found[:, 0].shape)} for 2 examples")
                z = found[:, 0].detach()
                raw = self._probed(self._decoder, "decode", z)
                if len(raw) != 2:
                    raise WiringError(f"decode gives {tuple(raw.shape)} for 2 examples")
                self._shaped(raw)
                uses, leaks = (_reached(value, named) for value in (found, raw))
        finally:
            for part, mode in modes.items():
                part.training = mode
            for parameter, wanted in trained.items():
                parameter.requires_grad_(wanted)
            for name, buffer in self.network.named_buffers():
                if not buffer.is_meta:
                    buffer.copy_(before[name])
        return _Seen(tuple(z.shape[1:]), tuple(f"network.{name}" for name in named if name in uses - leaks))

    def _probed(self, call: _Call, half: str, given: Tensor) -> Tensor:
        """call(given), as it is or, where the network does not take it, with flat examples. WiringError if neither."""
        try:
            return call(given)
        except WiringError:
            raise
        except Exception as error:  # whatever a network raises
            first = reason(error)
        call.flat = True
        try:
            return call(given)
        except WiringError:
            raise
        except Exception as error:
            flat = given.flatten(1)
            tried = f"{tuple(given.shape)}: {first}"
            if flat.shape != given.shape:
                tried += f"; nor {tuple(flat.shape)}: {reason(error)}"
            raise WiringError(f"{half} ({call.name!r}) does not take {tried}") from error

    def _given(self, x: Tensor) -> Tensor:
        """x as the network wants it, in the dtype of its weights."""
        x = x.to(next((p.dtype for p in self.network.parameters() if p.is_floating_point()), torch.get_default_dtype()))
        if self.wiring.input == "levels":
            if self.space.levels is None:
                raise WiringError("input = 'levels' is of data that have levels, and these are real; say 'unit'")
            return x
        if self.space.levels is None and self.space.interval is None:
            return x
        low, high = self.space.interval or (0, (self.space.levels or 1) - 1)
        unit = (x - low) / (high - low)
        return unit if self.wiring.input == "unit" else 2 * unit - 1

    def _shaped(self, raw: Tensor) -> Tensor:
        """What the decoder gives, (N, channels, *shape[1:]). Raises WiringError if it is of another size."""
        wanted, found = (self.channels, *self.space.shape[1:]), tuple(raw.shape[1:])
        if _squeezed(found) not in (_squeezed(wanted), _squeezed((math.prod(wanted),))):
            needs = f"{self.wiring.likelihood} on examples {self.space.shape} reads {wanted}, or as many in a row"
            raise WiringError(f"decode gives {found} for an example; {needs}")
        return raw.reshape(-1, *wanted)

    def prior(self, batch: int, temperature: float = 1.0) -> LatentDistribution:
        log_variance = self.origin + 2 * torch.tensor(temperature).log().item()
        return DiagonalGaussian(self.origin.expand(batch, -1), log_variance.expand(batch, -1))

    def posterior(self, x: Tensor) -> LatentDistribution:
        self.space.check(x)
        found = self._moments(x).flatten(2).unbind(1)
        return DiagonalGaussian(*found) if len(found) == 2 else Point(*found)

    def _moments(self, x: Tensor) -> Tensor:
        return through(self._encoder, self._given(x))

    def likelihood(self, latents: Latents) -> Likelihood:
        (z,) = latents
        raw = self._shaped(through(self._decoder, z.reshape(-1, *self.latent)))
        if self.wiring.means_alone and self.scale is None:
            return Picture(self._in_units(raw).unflatten(0, z.shape[:2]), self.space.shape, self.space.levels, UNFITTED)
        raw = self._read(raw).unflatten(0, z.shape[:2])
        return LIKELIHOODS[self.wiring.likelihood](raw, self.space.shape, self.space.levels)

    def _read(self, raw: Tensor) -> Tensor:
        """What the likelihood reads, of what the decoder gives."""
        if self.wiring.likelihood == Picture.family:
            return self._in_units(raw)
        if self.wiring.likelihood in BY_LOGITS and self.wiring.output in ("unit", "centred"):
            p = self._unit(raw, CLOSE)
            limits = torch.finfo(p.dtype)
            p = p.clamp(limits.tiny, 1 - limits.eps / 2)  # the numbers nearest to 0 and 1, where a sigmoid is full
            return p.log() - torch.log1p(-p)
        if self.scale is None:
            return raw
        self._unit(raw, FAR)
        return with_scale(raw, self.scale, self.wiring.likelihood, self.wiring.output, self.space, 1)

    def _in_units(self, raw: Tensor) -> Tensor:
        """A picture in the units of x."""
        if self.wiring.output == "raw":
            return raw
        low, high = self.space.interval or (0, (self.space.levels or 2) - 1)
        return low + (high - low) * self._unit(raw, FAR)

    def _unit(self, raw: Tensor, beyond: float) -> Tensor:
        """A picture as [0, 1]. Raises WiringError if a number lies further `beyond`: then it is not what is said."""
        if self.wiring.output == "raw":
            return raw
        unit = raw if self.wiring.output == "unit" else (raw + 1) / 2
        off = torch.maximum(-unit.min(), unit.max() - 1)
        if bool(off > beyond):
            worst = raw.flatten()[(unit - 0.5).abs().argmax()].item()
            ends, last = ("[0, 1]", "a sigmoid") if self.wiring.output == "unit" else ("[-1, 1]", "a tanh")
            others = "say output = 'logits', or " if self.wiring.likelihood in BY_LOGITS else ""
            raise WiringError(f"decode gives {worst:.4g}, but output = {self.wiring.output!r} are means in {ends}; "
                              f"{others}end it in {last}")  # fmt: skip
        return unit

    @torch.no_grad()
    def fit_scale(self, split: Split) -> None:
        """Set `scale` to what makes the ELBO of some images of `split` highest, and `remark` to what was done.

        The rate does not depend on it: the expected log p(x|z) is searched, between bounds, at one draw z of
        each image. Raises ValueError if a mean is not finite.
        """
        index = torch.arange(0, len(split), max(1, len(split) // FITTED))[:FITTED]
        parts = []
        for part in index.split(100):
            with keyed(derive("scale"), part):
                x = split.take(part).x
                z = self.posterior(x).rsample(1)[0].reshape(-1, *self.latent)
            parts.append((x, self._shaped(through(self._decoder, z))))
        x, raw = (torch.cat(each) for each in zip(*parts, strict=True))
        if not bool(torch.isfinite(raw).all()):
            raise ValueError("the decoder gives a number that is not finite")

        def loss(log_scale: float) -> float:
            self.scale = math.exp(log_scale)
            found = LIKELIHOODS[self.wiring.likelihood](self._read(raw)[None], self.space.shape, self.space.levels)
            return -float(found.log_prob(x).double().mean())

        low = MIN_LOG_SCALE - (math.log(2) if self.wiring.output == "unit" else 0.0)
        found = minimize_scalar(loss, bounds=(low, low + SPAN), method="bounded", options={"xatol": 1e-4})
        self.scale = float(f"{math.exp(found.x):.4g}")
        self.remark = f"scale = {self.scale:g} was fitted on {len(index)} images of {split.name}"

    def embed(self, x: Tensor) -> Tensor:
        self.space.check(x)
        return self._moments(x)[:, 0].flatten(1)

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        named = dict(self.named_parameters())
        return ((name, named[name]) for name in self._inferred)


def _reached(value: Tensor, named: Mapping[str, nn.Parameter]) -> set[str]:
    """The parameters that `value` depends on, by its graph."""
    inputs = [parameter for parameter in named.values() if parameter.requires_grad]
    if not value.requires_grad or not inputs:
        return set()
    found = torch.autograd.grad(value.sum(), inputs, allow_unused=True)
    reached = {id(p) for p, gradient in zip(inputs, found, strict=True) if gradient is not None}
    return {name for name, parameter in named.items() if id(parameter) in reached}
