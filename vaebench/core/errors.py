"""Errors that a user can mend: one line that names the thing, the value and the remedy."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

LONGEST = 300  # characters of what a library or a stranger says
_OBJECT = re.compile(r" ?<[\w.]+ (name=|object at )[^>]*>")
"""How Python shows an open file, or what has no text: it tells a reader nothing."""


class UserError(Exception):
    """A mistake in what was given to vaebench: printed as one line, exit code 2."""


class DataError(UserError):
    """A file that is absent, truncated, foreign or altered: exit code 3."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest one that does."""
    names = sorted(known)
    near = get_close_matches(name[:LONGEST], names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return UserError(f"unknown {kind} {shown(name)}; {hint}")


def shown(value: object) -> str:
    """`repr(value)`, brief."""
    return brief(repr(value))


def brief(text: str) -> str:
    """`text`, of which what is beyond `LONGEST` characters is left out."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


@contextmanager
def contained() -> Iterator[None]:
    """Within the block a plug-in's code runs: where it would end the program, RuntimeError is raised instead."""
    try:
        yield
    except SystemExit as error:
        raise RuntimeError(f"it called sys.exit({error.code!r})") from error


@contextmanager
def foreign(tell: Callable[[str], Exception]) -> Iterator[None]:
    """Within the block a foreign file is read: whatever that raises becomes the one line that `tell` makes of a reason.

    Readers are libraries, and libraries raise what they like at bytes that nobody foresaw: RecursionError, MemoryError,
    NotImplementedError, OverflowError, errors of their own. A UserError, which is one line already, passes.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise tell(reason(error)) from error


def reason(error: Exception) -> str:
    """What a library's error says, on one line of at most `LONGEST` characters."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    printable = "".join(sign if sign.isprintable() else " " for sign in str(error))
    text = brief(" ".join(_OBJECT.sub("", printable).split()))
    return text if text and isinstance(error, OSError | ValueError) else f"{type(error).__name__} {text}".rstrip()
