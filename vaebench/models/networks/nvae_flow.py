"""NVAE's flow: volume-preserving autoregressive shifts of a group's latents, by masked convolutions.

Source: Vahdat & Kautz 2020 (arXiv 2007.03898), section 3.4.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaebench.models.networks.nvae_cells import Conv

EXPANSION = 6
TOLERANCE = 1e-6


def causal_mask(inputs: int, outputs: int, kernel: int, *, depthwise: bool, strict: bool, mirrored: bool) -> Tensor:
    """What a masked convolution may see, (outputs, inputs or 1, kernel, kernel) of 0 and 1.

    All of the rows above the centre and of the pixels left of it; of the pixel itself, the channels before an output's
    own, and with `strict` false its own too. Channels come in as many blocks as the fewer of inputs and outputs.
    `mirrored` turns both axes of the image, not the channels.
    """
    blocks, middle = min(inputs, outputs), kernel // 2
    own = torch.arange(outputs)[:, None] * blocks // outputs  # the block that each output, each input is in
    seen = torch.arange(inputs)[None] * blocks // inputs
    centre = (seen < own if strict else seen <= own).float()
    if depthwise:
        centre = torch.full((outputs, 1), 0.0 if strict else 1.0)
    mask = torch.zeros(*centre.shape, kernel, kernel)
    mask[:, :, :middle] = 1
    mask[:, :, middle, :middle] = 1
    mask[:, :, middle, middle] = centre
    return mask.flip(2, 3) if mirrored else mask


class _Context(nn.Module):
    def __init__(self, latent: int, hidden: int, mirrored: bool) -> None:
        super().__init__()
        first = causal_mask(latent, hidden, 3, depthwise=False, strict=True, mirrored=mirrored)
        second = causal_mask(hidden, hidden, 5, depthwise=True, strict=False, mirrored=mirrored)
        self.convz = nn.Sequential(
            Conv(latent, hidden, 3, bias=False, mask=first),
            nn.ELU(),
            Conv(hidden, hidden, 5, groups=hidden, bias=False, mask=second),
            nn.ELU(),
        )


class _Head(nn.Module):
    def __init__(self, latent: int, hidden: int, mirrored: bool) -> None:
        super().__init__()
        mask = causal_mask(hidden, latent, 1, depthwise=False, strict=False, mirrored=mirrored)
        self.conv_0 = Conv(hidden, latent, 1, mask=mask)


@final
class Shift(nn.Module):
    """z - m(z), where m at a pixel and channel sees only those before it: log |det| = 0. (N, L, h, w) to the same.

    The order is by rows, pixels, channels; `mirrored` turns rows and pixels round.
    """

    def __init__(self, latent: int, mirrored: bool) -> None:
        super().__init__()
        self.conv = _Context(latent, EXPANSION * latent, mirrored)
        self.mu = _Head(latent, EXPANSION * latent, mirrored)

    def amount(self, z: Tensor) -> Tensor:
        """m(z)."""
        m: Tensor = self.mu.conv_0(F.elu(self.conv.convz(z.to(self.mu.conv_0.weight.dtype))))  # ELU twice: as released
        return m.to(z.dtype)

    def forward(self, z: Tensor) -> Tensor:
        return z - self.amount(z)

    def inverse(self, y: Tensor) -> Tensor:
        """The z that `forward` takes to y, by z <- y + m(z): exact after as many rounds as z has numbers, at most."""
        z = y
        for _ in range(y[0].numel()):
            before, z = z, y + self.amount(z)
            if bool(((z - before).abs() <= TOLERANCE * (1 + z.abs())).all()):
                break
        return z


@final
class FlowPair(nn.Module):
    """Two shifts in opposite orders."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.cell1, self.cell2 = Shift(latent, False), Shift(latent, True)

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = self.cell2(self.cell1(z))
        return y

    def inverse(self, y: Tensor) -> Tensor:
        """The z that `forward` takes to y."""
        return self.cell1.inverse(self.cell2.inverse(y))


@final
@dataclass(frozen=True)
class GroupFlow:
    """The pairs of shifts of one group, on (S, B, L, h, w). A `Bijection`."""

    pairs: tuple[FlowPair, ...]

    def forward(self, z: Tensor) -> Tensor:
        """From what is Gaussian to the latents."""
        y = z.flatten(0, 1)
        for pair in self.pairs:
            y = pair(y)
        return y.view(z.shape)

    def inverse(self, z: Tensor) -> Tensor:
        """Back again."""
        y = z.flatten(0, 1)
        for pair in reversed(self.pairs):
            y = pair.inverse(y)
        return y.view(z.shape)
