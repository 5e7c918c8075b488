"""NVAE's network for evaluation: the same map, with weight and batch normalisation folded into the convolutions.

Nothing of the original is changed; what needs no folding is shared with it. No gradient reaches the original's weights.
"""

import copy
from typing import TypeVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaebench.models.networks.nvae_cells import Cell, Conv, Expanded, Inverted, Normalised, Residual

Module = TypeVar("Module", bound=nn.Module)


@final
class Fixed(nn.Module):
    """A convolution with a given weight, channels last in memory."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, like: nn.Conv2d) -> None:
        super().__init__()
        weight = like.effective_weight() if isinstance(like, Conv) else like.weight
        self.register_buffer("weight", weight.detach().contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", None if like.bias is None else like.bias.detach())
        self.how = (like.stride, like.padding, like.dilation, like.groups)
        self.pointwise = like.kernel_size == (1, 1) and like.stride == (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, *self.how)  # type: ignore[arg-type]

    def then(self, scale: Tensor, shift: Tensor) -> None:
        """Become scale * this + shift, by output channel."""
        self.bias = shift if self.bias is None else self.bias * scale + shift
        self.weight = self.weight * scale.view(-1, 1, 1, 1)

    def of(self, scale: Tensor, shift: Tensor) -> None:
        """Become this of scale * x + shift, by input channel: where it is pointwise."""
        moved = self.weight.flatten(1) @ shift
        self.bias = moved if self.bias is None else self.bias + moved
        self.weight = self.weight * scale.view(1, -1, 1, 1)


@final
class Affine(nn.Module):
    """scale * x + shift, by channel: what batch norm is in evaluation."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.detach() * (norm.running_var + norm.eps).rsqrt()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", norm.bias.detach() - norm.running_mean * scale)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift.view(-1, 1, 1), x, self.scale.view(-1, 1, 1))


@final
class FoldedCell(nn.Module):
    """A `Cell` whose operations are one list of simple steps."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.skip = folded(cell.skip)
        self.steps = nn.Sequential(*_simplified([step for op in cell._ops for step in _steps(op)]))
        self.se = cell.se

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.steps(x)
        skip: Tensor = self.skip(x)
        if self.se is None:
            return torch.add(skip, y, alpha=0.1)
        return torch.addcmul(skip, y, self.se(y), value=0.1)


def _steps(op: nn.Module) -> list[nn.Module]:
    """The operation as a list of `Affine`, `Fixed`, activations and upsampling."""
    if isinstance(op, Residual):
        activation = nn.ELU if isinstance(op.activation, nn.ELU) else nn.SiLU
        normed = [] if op.bn_act is None else [Affine(op.bn_act)]
        raised = [] if op.upsample is None else [op.upsample]
        return [*normed, activation(inplace=bool(normed)), *raised, Fixed(op.conv_0)]  # else x itself would change
    assert isinstance(op, Inverted)
    steps: list[nn.Module] = []
    for part in op.conv:
        match part:
            case Normalised():
                steps.append(Affine(part.bn))
            case Expanded():
                conv, norm = part.conv
                assert isinstance(conv, nn.Conv2d)
                assert isinstance(norm, nn.BatchNorm2d)
                steps += [Fixed(conv), Affine(norm), nn.SiLU(inplace=True)]
            case nn.Conv2d():
                steps.append(Fixed(part))
            case _:
                steps.append(part)
    return steps


def _pair(a: nn.Module, b: nn.Module) -> list[nn.Module] | None:
    """What may stand for `a`, then `b`: fewer steps, or the same on a smaller image. None where there is nothing."""
    if isinstance(a, Fixed) and isinstance(b, Affine):
        a.then(b.scale, b.shift)
        return [a]
    if isinstance(a, Affine) and isinstance(b, Fixed) and b.pointwise:
        b.of(a.scale, a.shift)
        return [b]
    if isinstance(a, nn.Upsample) and (isinstance(b, Affine | nn.SiLU | nn.ELU) or getattr(b, "pointwise", False)):
        return [b, a]  # what acts on pixels alone may come before nearest upsampling
    return None


def _simplified(steps: list[nn.Module]) -> list[nn.Module]:
    """The same map, by `_pair` until nothing changes."""
    i = 0
    while i < len(steps) - 1:
        if (instead := _pair(steps[i], steps[i + 1])) is None:
            i += 1
        else:
            steps, i = [*steps[:i], *instead, *steps[i + 2 :]], 0
    return steps


def folded(module: Module) -> Module:
    """A copy of `module` that evaluates faster."""
    if isinstance(module, Cell):
        return FoldedCell(module)  # type: ignore[return-value]
    if isinstance(module, nn.Conv2d):
        return Fixed(module)  # type: ignore[return-value]
    if isinstance(module, nn.Sequential) and len(module) and isinstance(module[0], nn.Upsample):
        upsample, conv = module  # both are linear, and the weights of interpolation sum to 1
        return nn.Sequential(folded(conv), upsample)  # type: ignore[return-value]
    clone = copy.copy(module)
    clone._modules = {name: None if part is None else folded(part) for name, part in module._modules.items()}
    return clone
