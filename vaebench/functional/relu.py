"""A ReLU layer and the linear layer after it, for many inputs that lie close together."""

import torch
from torch import Tensor


def relu_linear(inputs: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """W2 relu(W1 u + b1) + b2 for each row u of `inputs` (S, L), (S, D): equal to the plain product within rounding.

    The draws of one posterior lie close together, so that many hidden units are off for all of them and many on for
    all: the first add nothing, and the second are linear in u, W2_on (W1_on u + b1_on) = (W2_on W1_on) u + W2_on b1_on.
    Only the units that switch stay in the large product. W1 (H, L), W2 (D, H).
    """
    hidden = torch.addmm(b1, inputs, w1.T)  # (S, H)
    low, high = hidden.amin(0), hidden.amax(0)
    on = low >= 0
    if int(on.sum()) <= inputs.shape[1]:  # folding would widen the product
        on = torch.zeros_like(on)
    always, switching = on.nonzero()[:, 0], ((high > 0) & ~on).nonzero()[:, 0]
    left = [hidden.index_select(1, switching).relu_()]
    right = [w2.index_select(1, switching)]
    if len(always):
        folded = w2.index_select(1, always)
        left.append(inputs)
        right.append(folded @ w1.index_select(0, always))
        b2 = torch.addmv(b2, folded, b1.index_select(0, always))
    return torch.addmm(b2, torch.cat(left, 1), torch.cat(right, 1).T)
