"""Finding a dataset's files, fetching them where that is asked for, and saying in one line what is wrong with them."""

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from itertools import islice
from pathlib import Path, PurePosixPath

DEPTH, FOLDERS, FILES = 4, 200, 1000
"""How far files are looked for that are not where they should be: folders down, folders, files of each."""


def require(
    name: str, root: Path, files: Sequence[str], download: bool, fetch: Callable[[], object] | str, packed: bool = False
) -> None:
    """Return once all `files` are under `root`, calling `fetch()` first where one is absent and `download` is true.

    Where no server has them, `fetch` is the sentence that says so: there is nothing to run, and nothing to try again.
    Where `packed`, a file's .gz stands for it. FileNotFoundError otherwise; where the files are nearly there, in
    another folder or by another name, it says so, and nothing is fetched. What `fetch` prints goes to stderr: stdout
    belongs to the user's data. Folders that it leaves empty are removed.
    """
    absent = _absent(root, files, packed)
    if not absent:
        return
    if (near := nearly(root, absent[0])) is not None:
        raise FileNotFoundError(f"{name} is not under {root}: {near}")
    state = "is not" if len(absent) == len(files) else f"without {absent[0]} is"
    if isinstance(fetch, str):
        raise FileNotFoundError(f"{name} {state} under {root}; {fetch}; put there by hand: {', '.join(absent)}")
    if not download:
        raise FileNotFoundError(f"{name} {state} under {root}; run: {remedy(name, root)}")
    new = [folder for file in files for folder in (root / file).parents if not folder.exists()]
    try:
        with redirect_stdout(sys.stderr):
            fetch()
    except Exception as error:  # each downloader has its own; the cause stays attached
        for folder in sorted(set(new), reverse=True):
            with suppress(OSError):  # of one that holds something
                folder.rmdir()
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileNotFoundError(
            f"{name} could not be downloaded to {root}: {reason}; try again, or put there by hand: {', '.join(absent)}"
        ) from error
    absent = _absent(root, files, packed)
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


def damaged(name: str, root: Path, file: str, problem: str, fetched: bool = True) -> ValueError:
    """The error for `file` of dataset `name`: which file, what is wrong with it, and how to replace it.

    `fetched` is false of files that no server has, which only their owner can replace.
    """
    replace = f"remove it and run: {remedy(name, root)}" if fetched else "put a sound one in its place"
    return ValueError(f"{name}: {root / file} {problem}; {replace}")


def remedy(name: str, root: Path) -> str:
    """The command that downloads dataset `name` to `root`."""
    return f"vaebench data get {name} --data {root}"


def nearly(root: Path, file: str) -> str | None:
    """Where `file`, which should lie under `root`, was seen under another name or in another folder, and what to do."""
    for folder in list(root.absolute().parents)[:2]:
        there = any((folder / each).exists() for each in (file, f"{file}.gz"))
        if there and root.name in PurePosixPath(file).parts:
            return f"it is one of its folders, and the files are under {folder}; run with --data {folder}"
    wanted = PurePosixPath(file)
    places = {_plain(part) for part in wanted.parts}  # not a sibling's folder: the files of MNIST have many namesakes
    for path in _below(root):
        seen = path.relative_to(root).as_posix().removesuffix(".gz")
        if seen.endswith(f"/{file}"):
            folder = root / seen.removesuffix(f"/{file}")
            return f"the files are under {folder}; run with --data {folder}"
        above = PurePosixPath(seen).parts[:-1]
        alike = _plain(PurePosixPath(seen).name) == _plain(wanted.name) and all(
            _plain(each) in places for each in above
        )
        if seen != file and alike:
            found = path.relative_to(root).as_posix()
            wanted_file = f"{file}.gz" if path.suffix == ".gz" else file
            return f"there is {found}, and {wanted_file} was expected; move it there, and the others alike"
    return None


def _below(root: Path) -> Iterator[Path]:
    """The first files below `root`, at most four folders down, in order."""
    found = ((Path(folder), folders, names) for folder, folders, names in os.walk(root))
    for folder, folders, names in islice(found, FOLDERS):
        if len(folder.relative_to(root).parts) >= DEPTH:
            folders.clear()
        folders.sort()
        yield from (folder / name for name in sorted(names)[:FILES])


def _plain(name: str) -> str:
    """A name without what people change in it: its case, dots and dashes."""
    return "".join(sign for sign in name.lower() if sign.isalnum())


def _absent(root: Path, files: Sequence[str], packed: bool) -> list[str]:
    return [file for file in files if not (root / file).exists() and not (packed and (root / f"{file}.gz").exists())]
