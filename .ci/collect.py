#!/usr/bin/env python3
"""Copy the files of a submission out of a pull request's merge commit, as data.

    .ci/collect.py COMMIT FOLDER

Nothing of the commit is checked out: blobs are copied from git's store, so that no hook, filter, attribute, link or
submodule of it has any effect. FOLDER stays absent where the commit is no submission: where it adds no card, or changes
anything outside of model_zoo/ and leaderboards/. Exit code 1, with a line for each fault, where it does what a
submission may not.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PLACES = re.compile(r"(model_zoo|leaderboards)/")
CARD = re.compile(r"model_zoo/[^/]+/[^/]+\.toml")
PLAIN = re.compile(r"[a-z0-9_][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)+")
BOARD = re.compile(r"leaderboards/[^/]+\.csv")
LARGEST = 50 * 2**20
MOST = 500


class Change(NamedTuple):
    mode: str
    blob: str
    status: str
    path: str


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], stdout=subprocess.PIPE, check=True).stdout


def changes(commit: str) -> Iterator[Change]:
    """What `commit` does to its first parent."""
    fields = git("diff-tree", "-r", "-z", "--no-renames", f"{commit}^1", commit).decode(errors="replace").split("\0")
    for about, path in zip(fields[:-1:2], fields[1::2], strict=True):
        _, mode, _, blob, status = about.split()
        yield Change(mode, blob, status, path)


def fault(change: Change) -> str | None:
    if change.status != "A" and not (change.status == "M" and BOARD.fullmatch(change.path)):
        return "is changed or removed; a submission adds files of its own, and lines to a board"
    if change.mode != "100644":
        return f"has mode {change.mode}; only plain files, not executable, can be submitted"
    if not PLAIN.fullmatch(change.path):
        return "has a name that is not of a-z, 0-9, '.', '_' and '-'"
    if (size := int(git("cat-file", "-s", change.blob))) > LARGEST:
        return f"has {size} bytes, more than {LARGEST}"
    return None


def main(commit: str, folder: Path) -> int:
    found = list(changes(commit))
    inside = all(PLACES.match(change.path) for change in found)
    if not inside or not any(change.status == "A" and CARD.fullmatch(change.path) for change in found):
        sys.stdout.write("no submission\n")
        return 0
    faults = [(change.path, fault(change)) for change in found[:MOST]]
    told = [f"{path!a} {text}\n" for path, text in faults if text is not None]
    if len(found) > MOST:
        told.append(f"{len(found)} files, more than {MOST}\n")
    sys.stdout.writelines(told)
    if told:
        return 1
    for change in found:
        path = folder / change.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(git("cat-file", "blob", change.blob))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
