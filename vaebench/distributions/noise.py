"""Where a sampler takes its noise from.

Every sampler of this package asks `standard_normal` or `uniform` for its noise. Outside a `keyed` block they are
torch's own generator (training). Inside one (evaluation: the runner opens it) the noise of example b, draw s is a
function of (seed, b, s, how many calls came before) alone, so that no batch size, chunk or device changes it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from vaebench.functional import random


class _Keyed:
    def __init__(self, seed: int, examples: Tensor, first_draw: int) -> None:
        self.seed, self.examples, self.first_draw, self.calls = seed, examples, first_draw, 0

    def keys(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        samples, batch = shape[:2]
        if batch != len(self.examples):
            raise ValueError(f"noise for a batch of {batch} was asked for while {len(self.examples)} examples are open")
        self.calls += 1
        draw = torch.arange(self.first_draw, self.first_draw + samples, device=device)[:, None]
        return random.keys(random.derive(self.seed, self.calls), self.examples.to(device)[None], draw)


_current: ContextVar[_Keyed | None] = ContextVar("noise", default=None)


@contextmanager
def keyed(seed: int, examples: Tensor, first_draw: int = 0) -> Iterator[None]:
    """Within the block, noise of shape (S, B, ...) is keyed by `seed`, `examples` (B, int64) and draw number.

    The draws asked for are numbered from `first_draw`; each call inside the block opens a new, independent stream.
    """
    token = _current.set(_Keyed(seed, examples, first_draw))
    try:
        yield
    finally:
        _current.reset(token)


def standard_normal(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """N(0, 1) noise of `shape` (S, B, *event) with the dtype and device of `like`."""
    if (source := _current.get()) is None:
        return torch.randn(shape, dtype=like.dtype, device=like.device)
    return random.normal(source.keys(shape, like.device), shape[2:]).to(like.dtype)


def uniform(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Uniform noise on (0, 1) of `shape` (S, B, *event) with the dtype and device of `like`."""
    if (source := _current.get()) is None:
        return torch.rand(shape, dtype=like.dtype, device=like.device).clamp_(min=2.0**-24)
    return random.uniform(source.keys(shape, like.device), shape[2:]).to(like.dtype)
