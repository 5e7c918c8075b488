"""How a network of any kind is called, and what the numbers that it is given and gives mean."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vaebench.core.data import Space

Input = Literal["unit", "centred", "levels"]
Output = Literal["logits", "unit", "centred", "raw"]
WITH_SCALE = ("discretised-logistic", "gaussian")
_WITH_LOGITS = ("bernoulli", "continuous-bernoulli", "categorical")
BY_LOGITS = ("bernoulli", "continuous-bernoulli")
"""Likelihoods that read logits of numbers in [0, 1], which a network can give as well."""
_RETURNS = "return (mean, log-variance), a torch Normal, or an object with latent_dist or latents"


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """How a network is called, and what its numbers mean.

    `encode` and `decode` name its methods, or its parts. `input` is what it is given of data that have levels: x in
    [0, 1] ("unit"), in [-1, 1] ("centred"), or the numbers 0..levels-1; so are real data that lie in an interval, and
    others are given as they are. `output` is what it gives: logits, means in [0, 1] or [-1, 1], or "raw": all that the
    likelihood reads. `scale` is the standard deviation (gaussian) or scale (discretised-logistic) of a decoder that
    gives means alone, in the units of those: "fit" finds it on the training split. `latent` is the shape of one
    example's latents, which is found where it is None. The likelihood "none" is of decoders that were trained to look
    right: what they give is shown, and nothing that needs p(x|z) is measured.
    """

    likelihood: Literal[
        "bernoulli",
        "continuous-bernoulli",
        "categorical",
        "discretised-logistic",
        "discretised-logistic-mixture",
        "gaussian",
        "fixed-gaussian",
        "none",
    ]
    encode: str = "encode"
    decode: str = "decode"
    input: Input = "unit"
    output: Output = "raw"
    latent: int | tuple[int, ...] | None = None
    scale: float | Literal["fit"] | None = None

    def __post_init__(self) -> None:
        if self.scale == "fit" and self.likelihood != "discretised-logistic":
            raise ValueError(f"scale = 'fit' is of discretised-logistic alone, not of {self.likelihood!r}")
        if isinstance(self.scale, float | int) and not 0 < self.scale < math.inf:
            raise ValueError(f"scale = {self.scale} should be positive")
        if self.scale is not None and self.likelihood not in WITH_SCALE:
            raise ValueError(f"scale = {self.scale} is of {' and '.join(WITH_SCALE)} alone; leave it out")
        if self.output == "logits" and self.likelihood not in _WITH_LOGITS:
            raise ValueError(f"output = 'logits' is of {', '.join(_WITH_LOGITS)}, not of {self.likelihood!r}")
        if self.output in ("unit", "centred") and self.likelihood not in (*BY_LOGITS, "discretised-logistic", "none"):
            raise ValueError(f"output = {self.output!r} is not what {self.likelihood!r} reads; say 'raw'")
        if self.output in ("unit", "centred") and self.likelihood in WITH_SCALE and self.scale is None:
            raise ValueError(f"output = {self.output!r} gives means alone; give their scale = NUMBER, or 'fit'")

    @property
    def means_alone(self) -> bool:
        """Whether the decoder gives means, to which `scale` is put."""
        return self.scale is not None


class WiringError(ValueError):
    """A network does not do what its wiring says."""


def with_scale(mean: Tensor, scale: float, likelihood: str, output: Output, space: Space, dim: int) -> Tensor:
    """What a `likelihood` of means and log-scales reads, of means alone: both in the units that it has, side by side.

    `mean` and `scale` are as `Wiring` says; a discretised logistic's are on [-1, 1], a Gaussian's in the units of x.
    """
    if output == "unit":
        low, high = (-1.0, 1.0) if likelihood == "discretised-logistic" else space.interval or (0.0, 1.0)
        mean, scale = low + (high - low) * mean, (high - low) * scale
    return torch.cat([mean, torch.full_like(mean, math.log(scale))], dim)


def _described(found: object) -> str:
    if isinstance(found, tuple | list):
        return f"{len(found)} things ({', '.join(type(each).__name__ for each in found)})"
    return f"one tensor {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"


def _inner(found: object) -> object:
    return found.base_dist if isinstance(found, torch.distributions.Independent) else found


def moments(found: Any) -> Tensor:
    """Mean and log-variance, (B, 2, *latent), of whatever an encoder gives; or the one z, (B, 1, *latent).

    Raises WiringError if it gives neither.
    """
    if (inner := getattr(found, "latent_dist", None)) is not None:
        mean, log_variance = inner.mean, inner.logvar
    elif isinstance(_inner(found), torch.distributions.Normal):
        mean, log_variance = found.mean, 2 * found.stddev.log()
    elif isinstance(found, tuple | list) and len(found) == 2 and all(isinstance(each, Tensor) for each in found):
        mean, log_variance = found
    elif isinstance(latents := getattr(found, "latents", None), Tensor):
        return latents.unsqueeze(1)
    else:
        raise WiringError(f"encode gives {_described(found)}; it should {_RETURNS}")
    if mean.shape != log_variance.shape:
        shapes = f"{tuple(mean.shape)} and a log-variance {tuple(log_variance.shape)}"
        raise WiringError(f"encode gives a mean {shapes}; they should be of one shape")
    return torch.stack([mean, log_variance], dim=1)


def decoded(found: Any) -> Tensor:
    """The tensor of whatever a decoder gives. Raises WiringError if there is none."""
    inner = found if isinstance(found, Tensor) else getattr(found, "sample", None)
    if not isinstance(inner, Tensor):
        raise WiringError(f"decode gives {_described(found)}; it should return a tensor, or an object with sample")
    return inner
