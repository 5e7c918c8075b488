"""Torch's own generators, which training draws from: seeded for a block, and kept to go on where it stopped."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Within the block torch's generators (the CPU's and `device`'s) start from `seed`; then they are as before."""
    index = [device.index if device.index is not None else torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=index):
        torch.default_generator.manual_seed(seed)
        for i in index:
            torch.cuda.default_generators[i].manual_seed(seed)
        yield


def states(device: torch.device) -> list[Tensor]:
    """The states of the generators that `seeded` seeds."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def restore(kept: Sequence[Tensor], device: torch.device) -> None:
    """Give the generators the states `kept`; an accelerator's stays as it is where they were kept without one.

    Raises RuntimeError or TypeError if they are not such states.
    """
    torch.set_rng_state(kept[0])
    if device.type == "cuda" and len(kept) > 1:
        torch.cuda.set_rng_state(kept[1], device)
