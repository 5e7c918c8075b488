"""Layers of other projects as those of the flat family: the same function, written in other numbers."""

import torch
from torch import Tensor


def heads(state: dict[str, Tensor], *names: str) -> tuple[Tensor, Tensor]:
    """Linear layers on one input side by side: the weight (O, I) and bias (O,) of both outputs, one after the other."""
    weight, bias = ([state[f"{name}.{kind}"] for name in names] for kind in ("weight", "bias"))
    return torch.cat(weight), torch.cat(bias)


def centred(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """A linear layer on x in [0, 1] as one on 2 x - 1."""
    moved = bias.double() + weight.double().flatten(1).sum(1) / 2
    return weight / 2, moved.to(bias.dtype)


def whole(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """A convolution (O, I, k, k) of all of its k x k input as a linear layer on that input, flat."""
    return weight.flatten(1), bias


def spread(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """A transposed convolution (I, O, k, k) of one place as a linear layer to all of its k x k output, flat."""
    return weight.flatten(1).T, bias.repeat_interleave(weight[0, 0].numel())
