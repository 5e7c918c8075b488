"""How blocks are mapped. In this process: in order, or several in flight on threads."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Block = TypeVar("Block")
Result = TypeVar("Result")


def in_process(
    function: Callable[[Block], Result], blocks: Sequence[Block], in_flight: int = 1
) -> Iterator[tuple[int, Result]]:
    """(position, function(block)) for every block, as each ends; at most `in_flight` run at once.

    Stops at the first exception, after the blocks already running have ended.
    """
    if in_flight == 1:
        for i, block in enumerate(blocks):
            yield i, function(block)
        return
    with ThreadPoolExecutor(in_flight) as pool:
        futures: list[Future[Result]] = [pool.submit(function, block) for block in blocks]
        try:
            for i, future in enumerate(futures):
                yield i, future.result()
        finally:
            for future in futures:
                future.cancel()
