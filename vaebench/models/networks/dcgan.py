"""The DCGAN-style encoder and decoder of Likelihood Regret, under the names of its official state dicts."""

from typing import final

import torch
from torch import Tensor, nn

SIDE = 32
LEVELS = 256


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    """Weights of convolutions N(0, 0.02^2), of batch norms N(1, 0.02^2). Source: Radford, Metz & Chintala 2016."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            part.weight.normal_(0.0, 0.02)
        elif isinstance(part, nn.BatchNorm2d):
            part.weight.normal_(1.0, 0.02)


@final
class Encoder(nn.Module):
    """x (B, C, 32, 32), integers 0..255, to the mean and log-variance of q(z|x) side by side: (B, 2 latent).

    x / 255, three 4x4 convolutions of stride 2 (width, 2 width, 4 width channels) with batch norm and ReLU,
    then one 4x4 convolution for the mean (`conv1`) and one for the log-variance (`conv2`).
    State: `main.input-conv.weight`, `main.input-BN.*`, `main.pyramid:{a}-{b}:conv.weight`,
    `main.pyramid:{b}:batchnorm.*`, `conv1.*`, `conv2.*`. That both nets use ReLU was found from official weights: their
    running statistics and scores are met with it, and missed with LeakyReLU(0.2).

    Source: Xiao, Yan & Amit 2020 (arXiv 2003.02977).
    """

    def __init__(self, colours: int, latent: int, width: int) -> None:
        super().__init__()
        main = nn.Sequential()
        main.add_module("input-conv", nn.Conv2d(colours, width, 4, 2, 1, bias=False))
        main.add_module("input-BN", nn.BatchNorm2d(width))
        main.add_module("input-relu", nn.ReLU())
        for a, b in ((width, 2 * width), (2 * width, 4 * width)):
            main.add_module(f"pyramid:{a}-{b}:conv", nn.Conv2d(a, b, 4, 2, 1, bias=False))
            main.add_module(f"pyramid:{b}:batchnorm", nn.BatchNorm2d(b))
            main.add_module(f"pyramid:{b}:relu", nn.ReLU())
        self.main = main
        self.conv1 = nn.Conv2d(4 * width, latent, 4)
        self.conv2 = nn.Conv2d(4 * width, latent, 4)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.main(x.to(self.conv1.weight.dtype) / (LEVELS - 1))
        return torch.cat([self.conv1(hidden), self.conv2(hidden)], dim=1).flatten(1)


@final
class Decoder(nn.Module):
    """z (S, B, latent) to logits (S, B, 256 C, 32, 32): channel 256 c + k is the logit of x_c = k.

    A 4x4 transposed convolution to 4x4 pixels, then three of stride 2; batch norm and ReLU between (4 width, 2 width,
    width channels), none after the last. No convolution has a bias. Channels are last in the memory of the last one and
    its logits: on a CPU it is then four times as fast, and a pixel's 256 logits lie side by side.
    State: `main.initial:{a}-{b}:convt.weight`, `main.initial:{b}:batchnorm.*`, `main.pyramid:{a}-{b}:convt.weight`,
    `main.pyramid:{b}:batchnorm.*`, `main.final:{width}-{C}:convt.weight`.

    Source: Xiao, Yan & Amit 2020 (arXiv 2003.02977).
    """

    def __init__(self, colours: int, latent: int, width: int) -> None:
        super().__init__()
        main = nn.Sequential()
        steps = (("initial", latent, 4 * width), ("pyramid", 4 * width, 2 * width), ("pyramid", 2 * width, width))
        for part, a, b in steps:
            stride, padding = (1, 0) if part == "initial" else (2, 1)
            main.add_module(f"{part}:{a}-{b}:convt", nn.ConvTranspose2d(a, b, 4, stride, padding, bias=False))
            main.add_module(f"{part}:{b}:batchnorm", nn.BatchNorm2d(b))
            main.add_module(f"{part}:{b}:relu", nn.ReLU())
        last = nn.ConvTranspose2d(width, LEVELS * colours, 4, 2, 1, bias=False)
        main.add_module(f"final:{width}-{colours}:convt", last)
        self.main = main
        _initialise(self)

    def forward(self, z: Tensor) -> Tensor:
        hidden: Tensor = self.main[:-1](z.flatten(0, 1)[:, :, None, None])
        hidden = hidden.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # vmap knows no torch.channels_last
        logits: Tensor = self.main[-1](hidden).unflatten(0, z.shape[:2])
        return logits
