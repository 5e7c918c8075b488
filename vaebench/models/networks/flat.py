"""Encoders and decoders of the flat families: multilayer perceptrons and stride-2 convolutions."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal, final

import torch
from torch import Tensor, nn

from vaebench.core.data import Space

Activation = Literal["relu", "tanh", "silu", "softplus"]
Network = Literal["mlp", "conv", "conv5", "offset", "offset-prior"]
Build = Callable[[Space, int, int, tuple[int, ...], Activation], tuple[nn.Sequential, "Decoder"]]
WITHOUT_LAYERS = ("offset", "offset-prior")
_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU, "softplus": nn.Softplus}


class Centre(nn.Module):
    """Integers 0..levels-1 as numbers in [-1, 1], real data unchanged: in the dtype of the model."""

    scale: Tensor

    def __init__(self, levels: int | None) -> None:
        super().__init__()
        self.levels = levels
        self.register_buffer("scale", torch.tensor(1.0 if levels is None else 2.0 / (levels - 1)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.scale.dtype)
        return x if self.levels is None else x * self.scale - 1.0


def layers(widths: tuple[int, ...], activation: Activation) -> list[nn.Module]:
    """Linear layers through `widths`, an activation between each two."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        layers += ([] if i == 0 else [_ACTIVATIONS[activation]()]) + [nn.Linear(a, b)]
    return layers


@final
class Decoder(nn.Sequential):
    """Layers from z (S, B, L) to (S, B, channels, *shape): the draws of each example side by side."""

    def forward(self, z: Tensor) -> Tensor:
        raw: Tensor = super().forward(z.flatten(0, 1))  # type: ignore[no-untyped-call]
        shaped: Tensor = raw.unflatten(0, z.shape[:2])
        return shaped


def mlp(
    space: Space, channels: int, latent: int, hidden: tuple[int, ...], activation: Activation
) -> tuple[nn.Sequential, Decoder]:
    """An encoder x (B, *shape) -> (B, 2 latent), and a decoder z (S, B, latent) -> (S, B, channels, *shape[1:])."""
    out = (channels, *space.shape[1:])
    encoder = nn.Sequential(Centre(space.levels), nn.Flatten(), *layers((space.dims, *hidden, 2 * latent), activation))
    decoder = Decoder(*layers((latent, *reversed(hidden), math.prod(out)), activation), nn.Unflatten(1, out))
    return encoder, decoder


def conv(
    space: Space, channels: int, latent: int, hidden: tuple[int, ...], activation: Activation
) -> tuple[nn.Sequential, Decoder]:
    """As `mlp`, for images: `hidden` is the widths of the stride-2 4x4 convolutions, then of one dense layer.

    Each convolution halves height and width, so both must be divisible by 2**(len(hidden) - 1): two fit 28x28 and
    8x8, three 32x32, four 64x64. ValueError otherwise.
    """
    scale = 2 ** (len(hidden) - 1)
    if not space.is_image or scale < 2 or any(side % scale for side in space.shape[1:]):
        raise ValueError(f"{len(hidden) - 1} stride-2 convolutions need images with sides divisible by {scale}, "
                         f"not examples of shape {space.shape}; change hidden or use network = 'mlp'")  # fmt: skip
    return _halvings(space, channels, latent, hidden, activation, 4)


def conv5(
    space: Space, channels: int, latent: int, hidden: tuple[int, ...], activation: Activation
) -> tuple[nn.Sequential, Decoder]:
    """As `conv`, with 5x5 convolutions, for images of any size: an odd side is halved upwards (28, 14, 7, 4).

    HVAE's network on MNIST is hidden = (16, 32, 32, 450) with softplus. Raises ValueError if the examples are not
    images. Source: Caterini, Doucet & Sejdinovic 2018 (arXiv 1805.11328).
    """
    if not space.is_image or len(hidden) < 2:
        raise ValueError(f"stride-2 convolutions of widths {list(hidden[:-1])} need images, not examples of shape "
                         f"{space.shape}; change hidden or use network = 'mlp'")  # fmt: skip
    return _halvings(space, channels, latent, hidden, activation, 5)


def _halvings(
    space: Space, channels: int, latent: int, hidden: tuple[int, ...], activation: Activation, kernel: int
) -> tuple[nn.Sequential, Decoder]:
    """Convolutions of stride 2 that halve both sides, upwards, and transposed ones that undo them."""
    *widths, dense = hidden
    act, padding = _ACTIVATIONS[activation], (kernel - 1) // 2
    sides = [space.shape[1:]]
    for _ in widths:
        sides.append(tuple((side + 1) // 2 for side in sides[-1]))
    inner = (widths[-1], *sides[-1])
    down: list[nn.Module] = []
    for a, b in zip((space.shape[0], *widths), widths, strict=False):
        down += [nn.Conv2d(a, b, kernel, 2, padding), act()]
    up: list[nn.Module] = []
    reverse = widths[::-1]
    for a, b, small, large in zip(reverse, (*reverse[1:], channels), sides[::-1], sides[-2::-1], strict=False):
        short = [x - (2 * (y - 1) - 2 * padding + kernel) for x, y in zip(large, small, strict=True)]
        up += [act(), nn.ConvTranspose2d(a, b, kernel, 2, padding, (short[0], short[1]))]
    size = math.prod(inner)
    encoder = nn.Sequential(
        Centre(space.levels), *down, nn.Flatten(), nn.Linear(size, dense), act(), nn.Linear(dense, 2 * latent)
    )
    decoder = Decoder(nn.Linear(latent, dense), act(), nn.Linear(dense, size), nn.Unflatten(1, inner), *up)
    return encoder, decoder


@final
class OffsetEncoder(nn.Module):
    """x (B, *shape) to a mean a x_l + b and a log-variance c of each z_l (B, 2 L), by x's first L numbers; 0 at first.

    That is the exact posterior of z where x_l|z ~ N(z_l + delta_l, s_l^2). Not `learnt`, it stays N(0, I) for any x.
    """

    def __init__(self, latent: int, learnt: bool) -> None:
        super().__init__()
        self.latent = latent
        for name in ("slope", "shift", "log_variance"):
            zero = torch.zeros(latent)
            if learnt:
                self.register_parameter(name, nn.Parameter(zero))
            else:
                self.register_buffer(name, zero, persistent=False)
        self.slope: Tensor
        self.shift: Tensor
        self.log_variance: Tensor

    def forward(self, x: Tensor) -> Tensor:
        mean = self.slope * x.flatten(1)[:, : self.latent].to(self.slope.dtype) + self.shift
        return torch.cat([mean, self.log_variance.expand_as(mean)], 1)


@final
class OffsetDecoder(nn.Module):
    """z (N, L) to z + `delta` and `log_sigma`, which no z moves: (N, 2 L). Starts at 0 and at 3."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(latent))
        self.log_sigma = nn.Parameter(torch.full((latent,), 3.0))

    def forward(self, z: Tensor) -> Tensor:
        mean = z + self.delta
        return torch.cat([mean, self.log_sigma.expand_as(mean)], 1)


def offset(
    space: Space,
    channels: int,
    latent: int,
    hidden: tuple[int, ...],
    activation: Activation,
    learnt: bool = True,
) -> tuple[nn.Sequential, Decoder]:
    """As `mlp`, without layers: E[x|z] = z + delta with a spread of its own, for means and log-scales of each z_l.

    The model of HVAE's first figure, whose q(z_0|x) is N(0, I) if not `learnt`. Raises ValueError if the likelihood
    does not read two numbers for each latent. Source: Caterini, Doucet & Sejdinovic 2018 (arXiv 1805.11328).
    """
    out = (channels, *space.shape[1:])
    if math.prod(out) != 2 * latent:
        raise ValueError(f"network 'offset' gives a mean and a log-scale for each latent, 2 x {latent}, but the "
                         f"likelihood reads {math.prod(out)} numbers; set latent = {math.prod(out) // 2} with "
                         "'gaussian-summary' or 'gaussian', or use network = 'mlp'")  # fmt: skip
    encoder = nn.Sequential(OffsetEncoder(latent, learnt))
    return encoder, Decoder(OffsetDecoder(latent), nn.Unflatten(1, out))


def check_widths(latent: int, hidden: tuple[int, ...], network: Network) -> None:
    """Raises ValueError if `latent` or a width is not positive, or `network` has not so many layers."""
    if network in WITHOUT_LAYERS and hidden:
        raise ValueError(f"network = {network!r} has no layers, but hidden = {list(hidden)}; say hidden = []")
    if latent < 1 or (not hidden and network not in WITHOUT_LAYERS) or min(hidden, default=1) < 1:
        raise ValueError(f"latent = {latent} and hidden = {list(hidden)} should be positive widths")


@torch.no_grad()
def start_log_variance(encoder: nn.Sequential, value: float) -> None:
    """Set the bias of the log-variance, the second half of what `encoder` gives, to `value`."""
    last = encoder[-1]
    assert isinstance(last, nn.Linear)
    last.bias[len(last.bias) // 2 :] = value


NETWORKS: dict[str, Build] = {
    "mlp": mlp,
    "conv": conv,
    "conv5": conv5,
    "offset": offset,
    "offset-prior": partial(offset, learnt=False),
}
