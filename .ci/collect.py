#!/usr/bin/env python3
"""Copy the files of a submission out of a pull request's merge commit, as data.

    .ci/collect.py COMMIT FOLDER

Nothing of the commit is checked out: blobs are copied from git's store, so that no hook, filter, attribute, link or
submodule of it has any effect. FOLDER stays absent where the commit is no submission: where it adds no card, or changes
anything outside of the folders of `vaebench/submission/tree.py`. Exit code 1, with a line for each fault, where it does
what a submission may not.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package of this checkout, installed or not
from vaebench.submission import tree

LARGEST = tree.MAX_WEIGHTS
STATUS = {"A": "added", "M": "modified", "D": "removed"}


class Blob(NamedTuple):
    """What becomes of a path."""

    mode: str
    name: str
    change: tree.Change


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], stdout=subprocess.PIPE, check=True).stdout


def changes(commit: str) -> Iterator[Blob]:
    """What `commit` does to its first parent; a renamed file is one that is removed and one that is added."""
    fields = git("diff-tree", "-r", "-z", "--no-renames", f"{commit}^1", commit).decode(errors="replace").split("\0")
    for about, path in zip(fields[:-1:2], fields[1::2], strict=True):
        _, mode, _, blob, status = about.split()
        yield Blob(mode, blob, tree.Change(path, STATUS.get(status, "changed")))


def fault(blob: Blob) -> str | None:
    if (told := tree.faults([blob.change]).get(blob.change.path)) is not None:
        return told
    if blob.mode != "100644":
        return f"has mode {blob.mode}; only plain files, not executable, can be submitted"
    if (size := int(git("cat-file", "-s", blob.name))) > LARGEST:
        return f"has {size} bytes, more than {LARGEST}"
    return None


def main(commit: str, folder: Path) -> int:
    found = list(changes(commit))
    if not tree.is_submission([blob.change for blob in found]):
        sys.stdout.write("no submission\n")
        return 0
    faults = [(blob.change.path, fault(blob)) for blob in found[: tree.MOST]]
    told = [f"{path!a} {text}\n" for path, text in faults if text is not None]
    if len(found) > tree.MOST:
        told.append(f"{len(found)} files, more than {tree.MOST}\n")
    sys.stdout.writelines(told)
    if told:
        return 1
    for blob in found:
        path = folder / blob.change.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(git("cat-file", "blob", blob.name))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
