"""What code must know of `torch.func`, inside whose transforms no value can be looked at."""

import torch
from torch import Tensor


def transformed(x: Tensor) -> bool:
    """Whether `x` is seen through `torch.func.vmap` or the like: torch has no public name for this question."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(x))
