"""No row outlives a release unverified: which are refused, and that CI asks."""

import dataclasses
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from board_rows import row

from vaebench.boards import store
from vaebench.boards.release import overdue, releases
from vaebench.core.errors import DataError

ROOT = Path(__file__).parents[2]
DAY = date(2026, 12, 24)
VALUELESS = dict.fromkeys(("value", "stderr", "df", "low", "high", "n")) | {"status": "failed", "reason": "no"}
BEFORE, AFTER = "2026-12-23T23:59:59+00:00", "2026-12-24T00:00:00+00:00"


def test_releases_are_the_dated_headings_newest_first() -> None:
    text = "# Changelog\n\n## Unreleased\n\n- a\n\n## 0.2.0, 2026-12-24\n\n- b\n### c\n\n## 0.1.0, 2026-07-01\n"
    assert list(releases(text).items()) == [("0.2.0", DAY), ("0.1.0", date(2026, 7, 1))]
    assert releases("# Changelog\n\n## Unreleased\n") == {}


@pytest.mark.parametrize("heading", ["## 0.2.0", "## v0.2.0, 2026-12-24", "## 0.2.0, 2026-13-24", "## unreleased"])
def test_a_heading_that_dates_nothing_is_an_error(heading: str) -> None:
    with pytest.raises(DataError, match="is not a release"):
        releases(f"# Changelog\n\n{heading}\n")


@pytest.mark.parametrize(
    ("changes", "late"),
    [
        ({}, True),
        ({"created": AFTER}, False),
        ({"created": "2026-12-24T00:30:00+02:00"}, True),
        ({"verified": "verified"}, False),
        ({"verified": "refuted"}, False),
        (VALUELESS, False),
        ({"origin": "published", "source": "a paper"}, False),
    ],
)  # fmt: skip
def test_what_is_late_is_measured_old_and_unverified(changes: dict[str, Any], late: bool) -> None:
    found = dataclasses.replace(row(), **{"created": BEFORE, "verified": "unverified", **changes})
    assert bool(overdue([found], DAY)) is late


def asked(*arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / ".ci" / "verified.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_ci_refuses_a_row_that_is_older_than_the_last_release(tmp_path: Path) -> None:
    changelog, boards = tmp_path / "CHANGELOG.md", tmp_path / "boards"
    changelog.write_text("# Changelog\n\n## Unreleased\n\n## 0.2.0, 2026-12-24\n\n## 0.1.0, 2026-07-01\n")
    old = dataclasses.replace(row(), created=BEFORE, verified="unverified")
    store.write(boards, [old])
    done = asked(changelog, boards)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(f"{old.dataset}: 1 rows of {old.metric} of {old.model} are older than 0.2.0 and unv")
    assert f"vaebench verify {old.model} {old.dataset} --metric {old.metric}" in done.stdout
    store.write(boards, [dataclasses.replace(old, verified="verified")])
    assert asked(changelog, boards).returncode == 0


def test_ci_asks_it_of_this_repository() -> None:
    assert "python .ci/verified.py" in (ROOT / ".ci" / "run").read_text().splitlines()
    done = asked()
    assert done.returncode == 0, done.stdout
