"""The cells of NVAE: weight-normalised convolutions, residual cells, squeeze-and-excitation.

Names of modules are those of the release's state dict. Source: Vahdat & Kautz 2020 (arXiv 2007.03898), sections 3.1 to
3.3.
"""

import re
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Direction = Literal["normal", "down", "up"]
Arch = Literal[
    "res_mbconv", "res_bnswish", "res_bnelu", "res_elu", "mbconv_sep", "mbconv_sep11", "res53_mbconv", "res35_mbconv"
]
PLACES = ("pre", "enc", "dec", "post")
_RES, _EXPAND = ("res_bnswish", "res_bnswish"), {"dec": ("mconv_e6k5g0",), "post": ("mconv_e3k5g0",)}
ARCHS: dict[Arch, dict[str, tuple[str, ...]]] = {
    "res_mbconv": {"pre": _RES, "enc": _RES, **_EXPAND},
    "res_bnswish": dict.fromkeys(PLACES, _RES),
    "res_bnelu": dict.fromkeys(PLACES, ("res_bnelu", "res_bnelu")),
    "res_elu": dict.fromkeys(PLACES, ("res_elu", "res_elu")),
    "mbconv_sep": {"pre": _EXPAND["post"], "enc": _EXPAND["dec"], **_EXPAND},
    "mbconv_sep11": {**dict.fromkeys(PLACES, ("mconv_e6k11g0",)), **dict.fromkeys(("pre", "post"), ("mconv_e3k11g0",))},
    "res53_mbconv": {**dict.fromkeys(PLACES, ("res_bnswish5", "res_bnswish")), **_EXPAND},
    "res35_mbconv": {**dict.fromkeys(PLACES, ("res_bnswish", "res_bnswish5")), **_EXPAND},
}
"""The operations, one after another, of the cells at each place. Only `res_mbconv` is in the paper and in the published
configurations; the others are what their names say, and a checkpoint's own list of operations goes before this table.
"""


class Conv(nn.Conv2d):
    """A convolution with weight exp(log_weight_norm) W / (||W|| + 1e-5), the norm over each output channel.

    `mask`, where given, multiplies W first.
    """

    mask: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        mask: Tensor | None = None,
    ) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(
            inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias
        )
        self.register_buffer("mask", mask, persistent=False)
        self.log_weight_norm = nn.Parameter((self._norm(self._masked().detach()) + 1e-2).log())

    def _masked(self) -> Tensor:
        return self.weight if self.mask is None else self.weight * self.mask

    @staticmethod
    def _norm(weight: Tensor) -> Tensor:
        norm: Tensor = weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return norm

    def effective_weight(self) -> Tensor:
        """The weight that x is convolved with, of the shape of W."""
        weight = self._masked()
        effective: Tensor = self.log_weight_norm.exp() * weight / (self._norm(weight) + 1e-5)
        return effective

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, self.effective_weight(), self.bias)
        return y


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with NVAE's momentum."""
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.05)


class Normalised(nn.Module):
    """Batch norm alone, under the name `bn`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = batch_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(x)
        return y


class Expanded(nn.Module):
    """A convolution without bias, batch norm, swish."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv, batch_norm(conv.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv(x))


class Residual(nn.Module):
    """[Batch norm,] activation, [nearest x2,] 3x3 convolution: `res_bnswish`, `res_bnelu`, `res_elu`, and `...5`.

    The 5 is the field of a 3x3 kernel dilated by 2.
    """

    bn_act: nn.BatchNorm2d | None

    def __init__(self, inputs: int, outputs: int, direction: Direction, kind: str) -> None:
        super().__init__()
        self.bn_act = batch_norm(inputs) if "bn" in kind else None
        self.activation: nn.Module = nn.ELU() if "elu" in kind else nn.SiLU()
        self.upsample = nn.Upsample(scale_factor=2) if direction == "up" else None
        stride, dilation = 2 if direction == "down" else 1, 2 if kind.endswith("5") else 1
        self.conv_0 = Conv(inputs, outputs, 3, stride=stride, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        for step in (self.bn_act, self.activation, self.upsample, self.conv_0):
            x = x if step is None else step(x)
        return x


class Inverted(nn.Module):
    """Batch norm, expand by `expansion`, depthwise `kernel` x `kernel`, project, batch norm: `mconv_eEkKg0`."""

    def __init__(self, inputs: int, outputs: int, direction: Direction, expansion: int, kernel: int) -> None:
        super().__init__()
        hidden, stride = inputs * expansion, 2 if direction == "down" else 1
        before: list[nn.Module] = [nn.Upsample(scale_factor=2)] if direction == "up" else []
        self.conv = nn.Sequential(
            *before,
            Normalised(inputs),
            Expanded(nn.Conv2d(inputs, hidden, 1, bias=False)),
            Expanded(nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            Normalised(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


def operation(name: str, inputs: int, outputs: int, direction: Direction) -> nn.Module:
    """The operation `name`. Raises ValueError for a name that is none."""
    if re.fullmatch(r"res_(bnswish|bnelu|elu)5?", name):
        return Residual(inputs, outputs, direction, name)
    if match := re.fullmatch(r"mconv_e([1-9]\d?)k(\d?[13579])g0", name):
        return Inverted(inputs, outputs, direction, int(match[1]), int(match[2]))
    raise ValueError(f"{name!r} is not an operation of NVAE; name one like 'res_bnswish' or 'mconv_e6k5g0'")


class SqueezeExcitation(nn.Module):
    """A gate in (0, 1) for each channel, from the means of all: (N, C, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 4)
        self.se = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.se(x.mean((2, 3)))
        return gate[..., None, None]


class Halving(nn.Module):
    """The skip of a DOWN cell: swish, then four stride-2 1x1 convolutions of shifted images, side by side."""

    SHIFTS: ClassVar[tuple[tuple[int, int], ...]] = ((0, 0), (1, 1), (0, 1), (1, 0))

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        quarter = outputs // 4
        self.conv_1, self.conv_2, self.conv_3 = (Conv(inputs, quarter, 1, stride=2) for _ in range(3))
        self.conv_4 = Conv(inputs, outputs - 3 * quarter, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x, convs = F.silu(x), (self.conv_1, self.conv_2, self.conv_3, self.conv_4)
        shifted = (conv(x[:, :, row:, column:]) for conv, (row, column) in zip(convs, self.SHIFTS, strict=True))
        return torch.cat(list(shifted), 1)


def _doubling(inputs: int, outputs: int) -> nn.Sequential:
    """The skip of an UP cell."""
    bilinear = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    return nn.Sequential(bilinear, Conv(inputs, outputs, 1, bias=False))


@final
class Cell(nn.Module):
    """skip(x) + 0.1 SE(ops(x)); a DOWN cell halves the image and doubles the channels, an UP cell the other way."""

    def __init__(self, inputs: int, direction: Direction, operations: tuple[str, ...], excite: bool) -> None:
        super().__init__()
        outputs = {"normal": inputs, "down": 2 * inputs, "up": inputs // 2}[direction]
        self.skip: nn.Module = nn.Identity()
        if direction != "normal":
            self.skip = (Halving if direction == "down" else _doubling)(inputs, outputs)
        self._ops = nn.ModuleList(
            operation(name, outputs if i else inputs, outputs, "normal" if i else direction)
            for i, name in enumerate(operations)
        )
        self.se = SqueezeExcitation(outputs) if excite else None

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for step in self._ops:
            y = step(y)
        skip: Tensor = self.skip(x)
        return skip + 0.1 * (y if self.se is None else self.se(y) * y)


class Combiner(nn.Module):
    """A 1x1 convolution under the name `conv`: what joins a decoder feature with an encoder's, or with a latent."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y
