"""What networks compute in: the dtype of their weights or, within a block, bfloat16; and what they compute once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
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

    Adapters call by it what gives the parameters of a distribution. Densities stay in the dtype of the weights. Within
    `torch.autocast`, as in training, the result is float32 as well.
    """
    return remembered(network, x, partial(_through, network))


def _through(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not reduced() and not torch.is_autocast_enabled(x.device.type):
        return network(x)
    with torch.autocast(x.device.type, torch.bfloat16):
        return network(x).float()


NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class _Memory:
    inputs: tuple[Tensor, ...]
    found: dict[tuple[int, int], Any]


_memory: ContextVar[_Memory | None] = ContextVar("memory", default=None)


@contextmanager
def once(*inputs: Tensor) -> Iterator[None]:
    """Within the block, what `remembered` is asked for of one of these very tensors is computed once, graph and all."""
    token = _memory.set(_Memory(inputs, {}))
    try:
        yield
    finally:
        _memory.reset(token)


def remembered(network: object, x: Tensor, compute: Callable[[Tensor], T]) -> T:
    """compute(x), the result of `network` on x: within a block of `once` for x, what it gave before."""
    memory = _memory.get()
    if memory is None or not any(x is known for known in memory.inputs):
        return compute(x)
    key = id(network), id(x)
    if key not in memory.found:
        memory.found[key] = compute(x)
    found: T = memory.found[key]
    return found


@contextmanager
def still_statistics(model: nn.Module) -> Iterator[None]:
    """Within the block, batch norms in training mode use the batch's statistics, and leave their running ones alone."""
    norms = [part for part in model.modules() if isinstance(part, NORMS) and part.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
