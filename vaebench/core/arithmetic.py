"""What networks compute in: the dtype of their weights or, within a block, bfloat16."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_reduced: ContextVar[bool] = ContextVar("arithmetic", default=False)


@contextmanager
def arithmetic(dtype: torch.dtype) -> Iterator[None]:
    """Within the block, networks called by `through` compute in bfloat16 where `dtype` is that."""
    token = _reduced.set(dtype == torch.bfloat16)
    try:
        yield
    finally:
        _reduced.reset(token)


def reduced() -> bool:
    """Whether networks compute in bfloat16 now."""
    return _reduced.get()


def through(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """network(x), whose products and convolutions are in bfloat16 within such a block; the result is then float32.

    Adapters call by it what gives the parameters of a distribution. Densities stay in the dtype of the weights.
    """
    if not reduced():
        return network(x)
    with torch.autocast(x.device.type, torch.bfloat16):
        return network(x).float()
