"""How the blocks of a pass are computed. In this process: one after another, or several in flight on threads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vaebench.core import device as memory
from vaebench.core.arithmetic import arithmetic
from vaebench.core.data import Batch, Split
from vaebench.core.errors import UserError
from vaebench.distributions.noise import keyed
from vaebench.functional.random import derive

Values = Mapping[str, Tensor]
Finished = Callable[[range, Values, int], None]


class LostError(UserError):
    """What blocks are computed with is gone: the run ends, and what is finished stays."""


class Pass(NamedTuple):
    """A pass of `function` over `split`, read over and over: all that the values of a block depend on.

    `function` is given `rows` where that is not None. `cut` is what `batch` and `rows` are divided by at first.
    """

    function: Callable[..., Values]
    split: Split
    seed: int
    batch: int
    rows: int | None
    cut: int
    device: torch.device
    dtype_of: Callable[[range], torch.dtype]

    def __call__(self, block: range, cut: int) -> tuple[Values, int]:
        """The values of the examples `block`, on the CPU, and the `cut` that was needed to have the memory."""
        memory.keep_freed()
        return memory.backing_off(partial(self._values, block), cut, max(self.batch, self.rows or 1))

    def _values(self, block: range, cut: int) -> Values:
        batch = max(1, self.batch // cut)
        function = self.function if self.rows is None else partial(self.function, rows=max(1, self.rows // cut))
        parts: dict[str, list[Tensor]] = {}
        for start in range(block.start, block.stop, batch):
            example = torch.arange(start, min(start + batch, block.stop))
            with torch.no_grad(), arithmetic(self.dtype_of(block)):
                for name, value in function(self._take(example), self.seed).items():
                    parts.setdefault(name, []).append(value.detach().cpu())
        return {name: torch.cat(part) for name, part in parts.items()}

    def _take(self, example: Tensor) -> Batch:
        """The examples at the positions `example`, on the device; their numbers tell readings apart."""
        number = self.split.number(example)
        with keyed(derive(self.seed, "data"), number):
            x, y, _ = self.split.take(example % len(self.split))
        return Batch(x.to(self.device), None if y is None else y.to(self.device), number.to(self.device))


class Executor(Protocol):
    """How the blocks of one pass after another are computed."""

    def __call__(self, work: Pass, blocks: Sequence[range], finished: Finished) -> None:
        """Call `finished(block, *work(block, cut))` for every block as it ends, in any order and from any thread.

        The exception of a block ends the pass. Raises LostError if nothing is left to compute with.
        """
        ...


@contextmanager
def threads(in_flight: int) -> Iterator[int]:
    """Within the block, torch uses for each operation the threads that one of so many blocks has: as many are given."""
    before = torch.get_num_threads()
    share = max(1, before // in_flight)
    torch.set_num_threads(share)
    try:
        yield share
    finally:
        torch.set_num_threads(before)


def in_process(work: Pass, blocks: Sequence[range], finished: Finished, *, in_flight: int) -> None:
    """`Executor` of this process: `in_flight` blocks run at once, and share torch's threads between them.

    Stops at the first exception, after the blocks already running have ended.
    """

    cut = work.cut

    def run(block: range) -> None:
        nonlocal cut
        values, found = work(block, cut)
        cut = max(cut, found)
        finished(block, values, found)

    if in_flight == 1 or len(blocks) <= 1:
        for block in blocks:
            run(block)
        return
    with (
        threads(in_flight) as share,
        ThreadPoolExecutor(in_flight, initializer=torch.set_num_threads, initargs=(share,)) as pool,
    ):
        futures = [pool.submit(run, block) for block in blocks]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()
