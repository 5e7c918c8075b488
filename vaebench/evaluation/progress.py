"""Where a run reports to."""

from typing import Protocol, final


class Progress(Protocol):
    """Where a run reports to."""

    def begin(self, metric: str, place: int, metrics: int) -> None:
        """`metric` begins, the one at `place`, from 1, of so many."""
        ...

    def start(self, metric: str, blocks: int) -> None:
        """`metric` has begun a pass of so many blocks."""
        ...

    def advance(self, blocks: int) -> None:
        """So many more blocks of the pass are done."""
        ...

    def failed(self, metric: str, error: Exception) -> None:
        """`metric` ended in `error`; the other metrics go on."""
        ...

    def tell(self, text: str) -> None:
        """How much work lies ahead."""
        ...

    def warn(self, text: str) -> None:
        """Something that the user should know and that stops nothing."""
        ...

    def fetch(self, done: int, total: int | None, name: str) -> None:
        """`done` of `total` bytes of `name` are here, as `remote.Fetching`."""
        ...


@final
class Silent:
    """A `Progress` that says nothing."""

    def begin(self, metric: str, place: int, metrics: int) -> None: ...
    def start(self, metric: str, blocks: int) -> None: ...
    def advance(self, blocks: int) -> None: ...
    def failed(self, metric: str, error: Exception) -> None: ...
    def tell(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...
    def fetch(self, done: int, total: int | None, name: str) -> None: ...
