"""The categorical log-likelihood from logits, without copies of what does not fit a cache."""

import math
from typing import Any

import torch
from torch import Tensor

from vaebench.functional.transforms import transformed

_LOG2_E = 1 / math.log(2)
_FLOATS = 2**18  # of logits that are normalised at once where nothing has to be kept for a gradient


def log_likelihood(logits: Tensor, x: Tensor, dim: int) -> Tensor:
    """log softmax(logits)[x] along `dim`, nats: the shape of `logits` without `dim`.

    `x` holds int64 levels and broadcasts against that shape. Logits whose levels lie side by side in memory (a
    channels-last convolution gives them so) are read as they lie, and without gradients in parts of about 1 MB: 256
    logits a pixel are a decoder's largest tensor by far, and fresh memory for a second one of its size costs more than
    the exponentials. Differentiable twice in `logits`.
    """
    if logits.stride(dim) == 1:
        logits, dim = logits.movedim(dim, -1), -1
    index = x.expand(logits.select(dim, 0).shape)
    mapped = transformed(logits)
    graph = logits.requires_grad and torch.is_grad_enabled()
    if graph and not mapped and logits.dtype == torch.float64:  # in single precision torch's own is as fast
        total: Tensor = _Chosen.apply(logits, index, dim)
        return total
    if dim != -1 or mapped or graph:
        return _chosen(logits, index, dim)
    rows, levels = logits.flatten(0, -2), index.flatten()
    size = max(1, _FLOATS // logits.shape[-1])
    parts = [_chosen(a, b, -1) for a, b in zip(rows.split(size), levels.split(size), strict=True)]
    return torch.cat(parts).view(index.shape)


class _Chosen(torch.autograd.Function):
    """`_chosen`, whose gradient onehot(x) - softmax(logits) is made in place of the exponentials of the forward pass.

    They are powers of 2, which take half the time of those of e. Two passes back through one graph raise RuntimeError.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, index: Tensor, dim: int) -> Tensor:
        peak, where = logits.amax(dim, keepdim=True), index.unsqueeze(dim)
        powers = torch.add(peak * -_LOG2_E, logits, alpha=_LOG2_E).exp2_()
        total = powers.sum(dim, keepdim=True)
        ctx.save_for_backward(logits, where, powers, total)
        ctx.dim = dim
        chosen: Tensor = (logits.gather(dim, where) - peak - total.log()).squeeze(dim)
        return chosen

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits, where, powers, total = ctx.saved_tensors
        given = gradients[0].unsqueeze(ctx.dim)
        if torch.is_grad_enabled():  # it is to be differentiated again
            return torch.zeros_like(logits).scatter(ctx.dim, where, given) - given * logits.softmax(ctx.dim), None, None
        return powers.mul_(-given / total).scatter_add_(ctx.dim, where, given), None, None


def _chosen(logits: Tensor, index: Tensor, dim: int) -> Tensor:
    chosen: Tensor = logits.log_softmax(dim).gather(dim, index.unsqueeze(dim)).squeeze(dim)
    return chosen
