"""A small convolutional classifier of grey images, whose last hidden layer is what sample quality is measured on."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from vaebench.core.size import PARAMETERS


@dataclass(frozen=True)
class Options:
    """Images of `side` x `side`, `classes` labels; `serves` names the datasets whose samples it measures."""

    side: int
    classes: int
    serves: tuple[str, ...]
    channels: tuple[int, ...] = (32, 64)
    features: int = 64

    def __post_init__(self) -> None:
        if len(self.channels) != 2 or min(*self.channels, self.features, self.classes) < 1 or self.side < 4:
            raise ValueError(
                f"channels = {list(self.channels)} should be two widths, features = {self.features} and "
                f"classes = {self.classes} positive, side = {self.side} at least 4"
            )
        a, b = self.channels
        parameters = 9 * a * (b + 1) + self.features * (b * (self.side // 4) ** 2 + self.classes)
        if parameters > PARAMETERS:
            raise ValueError(f"side, channels, features and classes make {parameters:,} parameters, which should be at "
                             f"most {PARAMETERS:,}")  # fmt: skip


@final
class FeatureNet(nn.Module):
    """Two 3x3 convolutions with batch norm, each halved by max-pooling, then a hidden layer and the labels."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        a, b = options.channels
        inner = b * (options.side // 4) ** 2
        self.side = options.side
        self.body = nn.Sequential(
            nn.Conv2d(1, a, 3, padding=1, bias=False),
            nn.BatchNorm2d(a),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(a, b, 3, padding=1, bias=False),
            nn.BatchNorm2d(b),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(inner, options.features),
            nn.ReLU(),
        )
        self.head = nn.Linear(options.features, options.classes)

    def features(self, x: Tensor) -> Tensor:
        """The hidden layer (B, features) of 8-bit images x (B, 1, side, side). Raises ValueError for another shape."""
        if x.dtype != torch.uint8 or tuple(x.shape[1:]) != (1, self.side, self.side):
            raise ValueError(
                f"features are of 8-bit images 1x{self.side}x{self.side}, not {x.dtype} {list(x.shape[1:])}"
            )
        hidden: Tensor = self.body(x.to(self.head.weight.dtype) / 255)
        return hidden

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits
