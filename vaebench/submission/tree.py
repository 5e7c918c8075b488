"""What a pull request that submits a model may touch. Imports no library, for `.ci/` reads it as well."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vaebench.core.names import DEVICES

ROOTS = ("model_zoo", "leaderboards")
NAME = r"[a-z0-9][a-z0-9._-]*"
CARD = re.compile(rf"model_zoo/{NAME}/{NAME}\.toml")
PLAIN = re.compile(rf"({'|'.join(ROOTS)})(/{NAME})+")
RENDERED = re.compile(r"leaderboards/(.*\.csv|CLAIMS\.md)")
MAX_CARD, MAX_WEIGHTS, MAX_RESULT = 64 * 2**10, 50 * 2**20, 20 * 2**20
"""Bytes of one file at most; larger weights lie at a URL."""
MOST = 500
"""Files at most."""


class Change(NamedTuple):
    """What is done to a file, in GitHub's words: added, modified, removed, renamed …; `previous` is its former path."""

    path: str
    status: str
    previous: str | None = None


def is_submission(changes: Sequence[Change]) -> bool:
    """Whether all of this lies in `ROOTS`, and did so under its former names, and a card is added."""
    names = [name for change in changes for name in (change.path, change.previous) if name is not None]
    inside = all(name.partition("/")[0] in ROOTS and "/" in name for name in names)
    return inside and any(change.status == "added" and CARD.fullmatch(change.path) for change in changes)


def faults(changes: Iterable[Change]) -> dict[str, str]:
    """Why a submission may not do this, by path."""
    return {change.path: text for change in changes if (text := _fault(change)) is not None}


def _fault(change: Change) -> str | None:
    if change.status != "added":
        return "is changed or removed; a submission adds files of its own, and boards are rendered after it is merged"
    if change.previous is not None:
        return "had another name; a submission adds files of its own"
    if RENDERED.fullmatch(change.path):
        return "is rendered from the rows after it is merged; leave it out"
    if not PLAIN.fullmatch(change.path):
        return "has a name that is not of a-z, 0-9, '.', '_' and '-'"
    if any(part.endswith(".") or DEVICES.fullmatch(part) for part in change.path.split("/")):
        return "has a name that Windows cannot hold"
    return None


def allowed(card: str, laid_out: bool) -> dict[str, int]:
    """Patterns of the files that go with a card, each with the bytes that such a file may have."""
    base = re.escape(card.removesuffix(".toml"))
    found = {rf"{base}\.toml": MAX_CARD, rf"{base}\.safetensors": MAX_WEIGHTS}
    if not laid_out:
        found[rf"{base}\.log\.jsonl"] = MAX_RESULT  # which training leaves, and nobody reads
    else:
        board = base.replace("model_zoo", "leaderboards", 1)
        kept = rf"{board}/{NAME}/{NAME}\.(parquet|png)"
        found |= dict.fromkeys((rf"{board}\.parquet", kept), MAX_RESULT)
    return found
