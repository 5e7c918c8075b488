"""Networks of point clouds: an encoder that no order of points changes, and a decoder to a mixture's parameters."""

from typing import final

import torch
from torch import Tensor, nn

from vaebench.models.networks.flat import Activation, Decoder, layers


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
        found: Tensor = self.cloud(self._critical(x) if torch.is_grad_enabled() else self.point(x).amax(1))
        return found

    def _critical(self, x: Tensor) -> Tensor:
        """The maximum over points of each feature (B, F), computed from the point that attains it."""
        with torch.no_grad():
            attained = self.point(x).max(1).indices  # (B, F)
        *before, last = self.point
        assert isinstance(last, nn.Linear)
        critical = x.gather(1, attained[..., None].expand(-1, -1, x.shape[-1]))
        for layer in before:
            critical = layer(critical)
        found: Tensor = (critical * last.weight).sum(-1) + last.bias
        return found


def decoder(latent: int, hidden: tuple[int, ...], channels: int, activation: Activation) -> Decoder:
    """z (S, B, latent) -> (S, B, channels): the widths of `hidden` from the data inwards."""
    return Decoder(*layers((latent, *hidden[::-1], channels), activation))
