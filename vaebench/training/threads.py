"""How many of the CPU's threads training uses."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

SMALL = 2**20
"""Parameters of a network without convolutions up to which a second thread costs more than it saves."""
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Within the block torch computes on at most `count` threads of the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, count))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def useful(model: nn.Module) -> int:
    """How many threads training `model` gains from: one where its products are too short to be divided."""
    short = sum(p.numel() for p in model.parameters()) <= SMALL
    return (
        1 if short and not any(isinstance(part, _CONVOLUTIONS) for part in model.modules()) else torch.get_num_threads()
    )
