"""Finding a dataset's files, fetching them where that is asked for, and saying in one line what is wrong with them."""

import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path


def require(name: str, root: Path, files: Sequence[str], download: bool, fetch: Callable[[], object]) -> None:
    """Return once all `files` are under `root`, calling `fetch()` first where one is absent and `download` is true.

    FileNotFoundError otherwise. What `fetch` prints goes to stderr: stdout belongs to the user's data.
    """
    absent = _absent(root, files)
    if not absent:
        return
    if not download:
        state = "is not" if len(absent) == len(files) else f"without {absent[0]} is"
        raise FileNotFoundError(f"{name} {state} under {root}; run: {remedy(name, root)}")
    try:
        with redirect_stdout(sys.stderr):
            fetch()
    except Exception as error:  # each downloader has its own; the cause stays attached
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileNotFoundError(
            f"{name} could not be downloaded to {root}: {reason}; try again, or put there by hand: {', '.join(absent)}"
        ) from error
    absent = _absent(root, files)
    if absent:
        raise FileNotFoundError(f"{name} was downloaded to {root}, but {absent[0]} is not there; put it there by hand")


def size_of(name: str, root: Path, file: str, most: int) -> int:
    """The bytes of `file`, which is not opened for it. ValueError unless it is a regular file of at most `most`."""
    about = (root / file).stat()
    if not stat.S_ISREG(about.st_mode):
        raise damaged(name, root, file, "is not a regular file")
    if about.st_size > most:
        raise damaged(name, root, file, f"has {about.st_size} bytes, more than {most}")
    return about.st_size


def damaged(name: str, root: Path, file: str, problem: str) -> ValueError:
    """The error for `file` of dataset `name`: which file, what is wrong with it, and how to replace it."""
    return ValueError(f"{name}: {root / file} {problem}; remove it and run: {remedy(name, root)}")


def remedy(name: str, root: Path) -> str:
    """The command that downloads dataset `name` to `root`."""
    return f"vaebench data get {name} --data {root}"


def _absent(root: Path, files: Sequence[str]) -> list[str]:
    return [file for file in files if not (root / file).exists()]
