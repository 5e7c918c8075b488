"""The categorical log-likelihood from logits, without copies of what does not fit a cache."""

import torch
from torch import Tensor

from vaebench.functional.transforms import transformed

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
    if dim != -1 or mapped or (logits.requires_grad and torch.is_grad_enabled()):
        return _chosen(logits, index, dim)
    rows, levels = logits.flatten(0, -2), index.flatten()
    size = max(1, _FLOATS // logits.shape[-1])
    parts = [_chosen(a, b, -1) for a, b in zip(rows.split(size), levels.split(size), strict=True)]
    return torch.cat(parts).view(index.shape)


def _chosen(logits: Tensor, index: Tensor, dim: int) -> Tensor:
    chosen: Tensor = logits.log_softmax(dim).gather(dim, index.unsqueeze(dim)).squeeze(dim)
    return chosen
