"""What output goes through: terminals that know only ASCII, streams that are closed, files on a full disk."""

import codecs
import errno
import io
import os
import sys
from contextlib import suppress
from typing import TextIO, cast, final

ASCII = {
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{MIDDLE DOT}": "-",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{MINUS SIGN}": "-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{SUPERSCRIPT TWO}": "2",
    "\N{RIGHTWARDS ARROW}": "->",
}
"""What stands for a sign where the stream cannot hold it."""
_ERRORS = "vaebench"
_OUTPUT = (errno.EBADF, errno.EIO, errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    signs = error.object[error.start : error.end]
    return "".join(ASCII.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in signs), error.end


def plain(text: str, encoding: str | None) -> str:
    """`text` as a stream of this encoding will show it: its widths can then be counted."""
    try:
        return text.encode(encoding or "utf-8", _ERRORS).decode(encoding or "utf-8")
    except LookupError:
        return text


def prepare() -> None:
    """Let both streams show every sign, or what stands for it. stdout refuses what it cannot write, stderr drops it."""
    codecs.register_error(_ERRORS, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)
    if sys.stdout is None:
        sys.stdout = _Closed()
    if not isinstance(sys.stderr, Talk):
        sys.stderr = cast(TextIO, Talk(sys.stderr))


def is_of_output(error: OSError) -> bool:
    """Whether this is of a stream that could not be written: such errors name no file."""
    return error.filename is None and error.errno in _OUTPUT


def give_up() -> None:
    """Let what is left for stdout go nowhere, so that Python's end does not fail for it once more."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@final
class _Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


@final
class Talk(io.TextIOBase):
    """stderr, where what cannot be said stops nothing."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8" if self._stream is None else self._stream.encoding

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        return -1 if self._stream is None else self._stream.fileno()

    def write(self, text: str) -> int:
        with suppress(OSError):
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            if self._stream is not None:
                self._stream.flush()
