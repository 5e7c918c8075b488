"""What a release asks of the boards: that no row is older than it and still unverified. Imports no torch."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime

from vaebench.boards.rows import Row
from vaebench.core.errors import DataError

_HEADING = re.compile(r"## (\d+\.\d+\.\d+), (\d{4}-\d{2}-\d{2})")
PENDING = "## Unreleased"


def releases(changelog: str) -> Mapping[str, date]:
    """The day of each release by its version, newest first, of headings such as "## 0.2.0, 2026-12-24".

    Raises DataError for another heading of the second level, but for "## Unreleased".
    """
    found: dict[str, date] = {}
    for line in changelog.splitlines():
        if not line.startswith("## ") or line == PENDING:
            continue
        try:
            heading = _HEADING.fullmatch(line)
            found[heading[1]] = date.fromisoformat(heading[2])  # type: ignore[index]
        except (TypeError, ValueError) as error:
            raise DataError(f'{line!r} is not a release; write "## 0.2.0, 2026-12-24", or {PENDING!r}') from error
    return found


def overdue(rows: Iterable[Row], released: date) -> list[Row]:
    """The measured `rows` with a value that were made before the day of a release and that nobody has verified."""
    day = datetime(released.year, released.month, released.day, tzinfo=UTC)
    return [
        row
        for row in rows
        if row.origin == "measured" and row.status == "ok" and row.verified == "unverified"
        if datetime.fromisoformat(row.created) < day
    ]
