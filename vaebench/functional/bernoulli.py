"""The Bernoulli log-likelihood from logits, fast enough for a thousand draws an image."""

from typing import Any

import torch
from torch import Tensor

_PRODUCT = 100  # factors in [1/2, 1] multiplied before a logarithm: 2**-100 is well inside float32


class _LogLikelihood(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, x: Tensor) -> Tensor:
        size = logits.shape[-1]
        group = max(g for g in range(1, min(size, _PRODUCT) + 1) if size % g == 0)
        signed = logits * (1 - 2 * x)
        factors = logits.abs().sigmoid_()  # |s| = |l|
        products = factors.unflatten(-1, (size // group, group)).prod(-1)
        likelihood: Tensor = products.log_().sum(-1) - signed.relu_().sum(-1)
        return likelihood

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        logits, x = ctx.saved_tensors
        return gradients[0].unsqueeze(-1) * (x - logits.sigmoid()), None


def log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    """sum_d log Bernoulli(x_d; logit l_d) = -sum_d log(1 + exp((1 - 2 x_d) l_d)), nats: (..., D) -> (...).

    `x` in {0, 1} broadcasts against `logits` and has their dtype. With s = (1 - 2x) l, each term is max(s, 0) -
    log sigmoid(|s|), and the second is taken as one logarithm of a product for up to 100 dimensions: on a CPU the
    logarithm costs several times the sigmoid. Differentiable in `logits`.
    """
    total: Tensor = _LogLikelihood.apply(logits, x)
    return total
