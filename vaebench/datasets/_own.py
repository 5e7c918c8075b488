"""Files of a user's own: a table of options beside them, and which of them are to test."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from vaebench.core.errors import UserError, foreign
from vaebench.core.tables import build, parse
from vaebench.functional import random

Options = TypeVar("Options")
MOST = 2**20
"""Bytes of a table or a list."""
SPLITS = ("train", "valid", "test")


def options(kind: type[Options], text: str | None, where: object) -> Options:
    """The dataclass `kind` of a TOML text; its defaults where there is none. ValueError names `where`."""
    if text is None:
        return kind()
    with foreign(lambda reason: ValueError(f"{where} is not TOML: {reason}")):
        table = parse(text)
    try:
        return build(kind, table, str(where))
    except UserError as error:
        raise ValueError(str(error)) from error


def text(path: Path) -> str | None:
    """What a file of at most `MOST` bytes says; None where there is none.

    Raises ValueError if it is not such a text.
    """
    if not path.exists():
        return None
    if not path.is_file() or path.stat().st_size > MOST:
        raise ValueError(f"{path} is not a file of at most {MOST} bytes")
    with foreign(lambda reason: ValueError(f"{path} is not a text: {reason}")):
        return path.read_text(encoding="utf-8")


def split_of(name: str, files: Sequence[str], lists: dict[str, str | None], where: object) -> list[str]:
    """The split of each of `files`: of those that `lists` has a text for, one name a line; the rest is "train".

    Where there is no list, a fifth of the files is to test, those whose names have the lowest hashes: a file that is
    added moves one other at most.
    Raises ValueError if a list names a file that is not there, or one that another list has.
    """
    if all(listed is None for listed in lists.values()):
        order = sorted(files, key=lambda file: random.derive(name, file))
        tested = set(order[: -(-len(files) // 5)])
        return ["test" if file in tested else "train" for file in files]
    found, known = dict[str, str](), set(files)
    for split, listed in lists.items():
        for line in (listed or "").splitlines():
            if not (file := line.strip()):
                continue
            if file not in known:
                raise ValueError(f"{where}: {split}.txt names {file}, which is not there")
            if found.setdefault(file, split) != split:
                raise ValueError(f"{where}: {file} is in both {found[file]}.txt and {split}.txt")
    return [found.get(file, "train") for file in files]


def indices(splits: Sequence[str], where: object, what: str) -> dict[str, Tensor]:
    """The places (N,) of each split, in order. Raises ValueError if there is nothing to train on or to test on."""
    remedies = {"train": "leave some out of test.txt", "test": "list some in test.txt"}
    for split, remedy in remedies.items():
        if split not in splits:
            raise ValueError(f"{where}: of {len(splits)} {what} none is in the split {split!r}; {remedy}")
    return {
        split: torch.tensor([i for i, each in enumerate(splits) if each == split])
        for split in SPLITS
        if split in splits
    }
