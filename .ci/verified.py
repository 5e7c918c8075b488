#!/usr/bin/env python3
"""Fails where a board holds an unverified row that is older than the last release.

    .ci/verified.py [CHANGELOG.md [LEADERBOARDS]]

One line for each model: how many rows, and what to do. Exit code 1 where there is one.
"""

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package of this checkout, installed or not
from vaebench.boards import store
from vaebench.boards.release import overdue, releases

ROOT = Path(__file__).resolve().parents[1]


def main(changelog: Path = ROOT / "CHANGELOG.md", root: Path = ROOT / "leaderboards") -> None:
    if not (released := releases(changelog.read_text(encoding="utf-8"))):
        print(f"{changelog.name} names no release yet")
        return
    version, day = next(iter(released.items()))
    late = Counter(
        (dataset, row.model, row.metric)
        for dataset in store.datasets(root)
        for row in overdue(store.read(root, dataset), day)
    )
    for (dataset, model, metric), count in sorted(late.items()):
        remedy = f"vaebench verify {model} {dataset} --metric {metric} --leaderboards {root.name}"
        print(f"{dataset}: {count} rows of {metric} of {model} are older than {version} and unverified; run: {remedy}")
    if late:
        sys.exit(1)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
