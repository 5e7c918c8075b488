"""How blocks are mapped. In this process: in order, or several in flight on threads."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Block = TypeVar("Block")
Result = TypeVar("Result")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Within the block, torch uses `count` threads for each operation."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_process(function: Callable[[Block], Result], blocks: Sequence[Block], in_flight: int) -> Iterator[Result]:
    """function(block) for every block, in order; `in_flight` run at once, and share torch's threads between them.

    Stops at the first exception, after the blocks already running have ended.
    """
    if in_flight == 1 or len(blocks) == 1:
        yield from map(function, blocks)
        return
    share = max(1, torch.get_num_threads() // in_flight)
    with _threads(share), ThreadPoolExecutor(in_flight, initializer=torch.set_num_threads, initargs=(share,)) as pool:
        futures: list[Future[Result]] = [pool.submit(function, block) for block in blocks]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
