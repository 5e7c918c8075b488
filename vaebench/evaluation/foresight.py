"""How much work a pass is, said before its first block; and whether it fits the time that is left."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, final

from torch import Tensor

from vaebench.core.data import Dataset
from vaebench.core.metric import Metric
from vaebench.evaluation.budget import Budget, told
from vaebench.evaluation.executor import Pass, threads

if TYPE_CHECKING:
    from vaebench.evaluation.progress import Progress

SHORT = 10.0  # seconds: a pass that is shorter is not measured for longer, nor told of unless it is the first
ENOUGH, PART = 1.0, 0.05  # seconds that are measured, and what part of the time left that may be
MARGIN = 0.9  # of the time left, that is filled
PATIENCE = 15.0  # seconds that may pass before anything is told
TIMES = "\N{MULTIPLICATION SIGN}"


class OverBudgetError(Exception):
    """A pass does not fit the time left: a `share` of its examples would; one takes `each` seconds of those `left`."""

    def __init__(self, share: float, each: float, left: float) -> None:
        there = f"{told(left)} of the budget is left" if left > 0 else "the budget is spent"
        super().__init__(f"too few examples fit: one takes about {told(each)}, and {there}; give a longer one")
        self.share = share


class Trial(NamedTuple):
    """Seconds that an example takes, and that trying took; the `cut` that was needed; the block's values if all of it
    was tried.
    """

    each: float
    spent: float
    cut: int
    values: Mapping[str, Tensor] | None


def tried(work: Pass, block: range, cut: int, *, count: int, left: float) -> Trial:
    """What examples of `block` take, of which so many lie ahead in the seconds `left`: more and more of them at once.

    It ends where they are seen to be done within `SHORT`, since more at once take less each; and else with as many as
    the pass computes at once, or as can be tried in a small part of the time left.
    """
    size, begun, enough = 1, time.perf_counter(), min(ENOUGH, PART * left)
    while True:
        started = time.perf_counter()
        values, cut = work(range(block.start, block.start + size), cut)
        now = time.perf_counter()
        each, done, spent = (now - started) / size, size == len(block), now - begun
        more = min(len(block), work.batch if spent >= enough else 4 * size)
        if done or each * count < min(SHORT, MARGIN * left) or (spent >= enough and size >= work.batch):
            break
        if each * more > max(enough, min(4 * PART * left, PATIENCE)):
            break
        size = more
    return Trial(each, time.perf_counter() - begun, cut, values if done else None)


@final
class Foresight:
    """What the passes of one metric take. `at_once` blocks are computed side by side; None where that is elsewhere."""

    def __init__(
        self,
        name: str,
        metric: Metric,
        dataset: Dataset,
        progress: "Progress",
        at_once: int | None,
        budget: Budget | None,
    ) -> None:
        self._name, self._effort, self._dataset, self._progress = name, metric.effort, dataset, progress
        self._at_once, self._budget, self._first = at_once, budget, True

    def __call__(self, work: Pass, blocks: Sequence[range], total: int) -> Trial | None:
        """Say how much `blocks` of the `total` examples are: what was seen of the first of them, where that is here.

        Raises OverBudgetError if they do not fit the time that is left.
        """
        first, self._first = self._first, False
        if not (count := sum(map(len, blocks))):
            return None
        amount = self._amount(work, total, first) + (f", {total - count:,} of them done" if count < total else "")
        if self._at_once is None:
            if first:
                self._progress.tell(f"{self._name}: {amount}")
            return None
        budget, at_once = self._budget or Budget(math.inf), min(self._at_once, len(blocks))
        with threads(at_once):
            trial = tried(work, blocks[0], work.cut, count=-(-count // at_once), left=budget.left)
        ahead = count if trial.values is None else count - len(blocks[0])
        needed, left = trial.each * ahead / at_once, budget.left
        if needed > MARGIN * left:
            raise OverBudgetError(max(0.0, MARGIN * left / needed), trial.each, left)
        if first or needed >= SHORT:
            about = f"about {told(trial.each * count / at_once)} on this machine ({told(trial.spent)} measured)"
            self._progress.tell(f"{self._name}: {amount}, {about}")
        return trial

    def _amount(self, work: Pass, total: int, first: bool) -> str:
        """ "10,000 images x 3 readings x 1,000 draws"."""
        split, space = work.split, self._dataset.space
        if split.reading is None and tuple(split.x.shape[1:]) != space.shape:
            return f"{total:,} {split.name}"
        what = "images" if space.is_image else "clouds" if space.is_cloud else "examples"
        repeats = total // len(split)
        factors = [f"{len(split):,} {what}", *([f"{repeats:,} readings"] if repeats > 1 else ())]
        return f" {TIMES} ".join([*factors, *(self._effort if first else ())])
