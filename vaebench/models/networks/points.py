"""Networks of point clouds: an encoder that no order of points changes, and a decoder to a mixture's parameters."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from vaebench.models.networks.flat import Activation, Decoder, layers

_POINTS = 2**11  # whose features are held at once where no gradient needs them: what a cache holds


@final
class PointNet(nn.Module):
    """x (B, N, 3) -> (B, out): one network for each point, the maximum over points, one network for the cloud.

    A maximum has a gradient in the points alone that attain it: where gradients are on, all points pass without one,
    and those again with one, each for its own feature.
    Source: Qi et al. 2017 (PointNet), without its alignment networks: the moves that a cloud may have are about one
    axis, and a model learns them from the data.
    """

    def __init__(self, point: tuple[int, ...], hidden: tuple[int, ...], out: int, activation: Activation) -> None:
        super().__init__()
        self.point = nn.Sequential(*layers((3, *point), activation))
        self.cloud = nn.Sequential(*layers((point[-1], *hidden, out), activation))

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            pooled = self._critical(x)
        else:
            pooled = torch.cat([self.point(some).amax(1) for some in _few(x)])
        found: Tensor = self.cloud(pooled)
        return found

    def _critical(self, x: Tensor) -> Tensor:
        """The maximum over points of each feature (B, F), computed from the point that attains it."""
        with torch.no_grad():
            attained = torch.cat([self.point(some).max(1).indices for some in _few(x)])  # (B, F)
        *before, last = self.point
        assert isinstance(last, nn.Linear)
        critical = x.gather(1, attained[..., None].expand(-1, -1, x.shape[-1]))
        for layer in before:
            critical = layer(critical)
        found: Tensor = (critical * last.weight).sum(-1) + last.bias
        return found


def _few(x: Tensor) -> Sequence[Tensor]:
    """Clouds x (B, N, 3) in parts of few points."""
    parts: Sequence[Tensor] = x.split(max(1, _POINTS // x.shape[1]))
    return parts


def decoder(latent: int, hidden: tuple[int, ...], channels: int, activation: Activation) -> Decoder:
    """z (S, B, latent) -> (S, B, channels): the widths of `hidden` from the data inwards."""
    return Decoder(*layers((latent, *hidden[::-1], channels), activation))
