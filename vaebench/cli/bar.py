"""How far the work is: a bar with the time left, or a line now and then in a log."""

import traceback
from datetime import timedelta
from types import TracebackType
from typing import final

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vaebench.cli import tables as terminal

TELL_EVERY = 60.0
"""Seconds between two lines where stderr is not a terminal."""

SPEED_PERIOD = 1800.0
"""Seconds that the time left is reckoned from: a single block may take minutes."""


@final
class Bar:
    """A progress bar on stderr with the time left, or a line every minute where stderr is not a terminal.

    A context manager.
    """

    def __init__(self, debug: bool = False) -> None:
        self._debug = debug
        self._console = terminal.stderr()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(
            *columns,
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            speed_estimate_period=SPEED_PERIOD,
        )
        self._due = self._progress.get_time() + TELL_EVERY
        self._task: TaskID | None = None
        self._fetching: TaskID | None = None
        self._pairs: TaskID | None = None
        self._where = self._metric = ""

    def __enter__(self) -> "Bar":
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def pair(self, text: str, done: int, total: int) -> None:
        """`sweep.View`: a pair begins, with a bar of its own above that of the pass; what is said names it."""
        if self._pairs is None:
            self._pairs = self._progress.add_task(text, total=total)
        self._progress.update(self._pairs, completed=done, description=text)
        self._where = f"{text}: "

    def begin(self, metric: str, place: int, metrics: int) -> None:
        """`progress.Progress`: a metric begins, which its passes are told of with: "metric 3 of 11"."""
        self._metric = f"metric {place} of {metrics}, " if metrics > 1 else ""

    def tell(self, text: str) -> None:
        """`progress.Progress`: how much work lies ahead, above the bar."""
        self.warn(text)

    def start(self, metric: str, blocks: int) -> None:
        """`progress.Progress`: a pass begins."""
        for task in (self._task, self._fetching):
            if task is not None:
                self._progress.remove_task(task)
        self._fetching = None
        self._task = self._progress.add_task(f"{self._metric}{metric}", total=blocks)

    def advance(self, blocks: int) -> None:
        """`progress.Progress`: blocks are done."""
        if self._task is not None:
            self._progress.advance(self._task, blocks)
            self._tell(self._task)

    def fetch(self, done: int, total: int | None, name: str) -> None:
        """`remote.Fetching`: `done` of `total` bytes are here, shown in megabytes."""
        if self._fetching is None:
            self._fetching = self._progress.add_task(f"MB of {name}", total=None)
        self._progress.update(self._fetching, completed=done / 1e6, total=None if total is None else total / 1e6)
        self._tell(self._fetching)
        if done == total:
            self._progress.remove_task(self._fetching)
            self._fetching = None

    def warn(self, text: str) -> None:
        """`progress.Progress`: something to say, above the bar."""
        self._console.print(f"{self._where}{text.rstrip()}", markup=False)

    def failed(self, metric: str, error: Exception) -> None:
        """`progress.Progress`: a metric has failed; with its traceback where debugging."""
        trace = "".join(traceback.format_exception(error)) if self._debug else ""
        self.warn(f"{trace}{metric} failed: {type(error).__name__}: {error}")

    def report(self, step: int, steps: int, text: str) -> None:
        """`training.Report`: `step` of `steps` are done."""
        if self._task is None:
            self._task = self._progress.add_task(text, total=steps, completed=step)
        self._progress.update(self._task, completed=step, description=text)
        self._tell(self._task)

    def _tell(self, which: TaskID) -> None:
        """Where nobody sees the bar, say how far it is if that was not said for a while."""
        now = self._progress.get_time()
        task = next(task for task in self._progress.tasks if task.id == which)
        if self._console.is_terminal or now < self._due or not task.completed:
            return
        self._due = now + TELL_EVERY
        total = "" if task.total is None else f" of {task.total:.0f}"
        times = ((task.elapsed, "gone"), (task.time_remaining, "left"))
        told = "".join(f", {timedelta(seconds=int(time))} {what}" for time, what in times if time and time >= 1)
        self.warn(f"{task.description}: {task.completed:.0f}{total}{told}")
