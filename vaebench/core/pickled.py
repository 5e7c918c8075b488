"""Arrays of numpy in a pickle, read by a machine that knows a few words and calls nothing.

A pickle is a program, and running one runs whatever it names. Here its words are looked at one by one: those that build
dictionaries, texts, numbers and numpy's arrays of numbers have a meaning, and any other ends the reading.
"""

import io
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, final

import numpy as np
from numpy.typing import NDArray

_NAMES = {
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
}
"""What a pickle of arrays names, and what stands for it: a word, and nothing that could be called."""
_NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
DEPTH, WORDS = 1000, 10**6
"""How many values, and how many marks, may wait at once; and how many words there may be: for some 25,000 tensors."""


class RefusedError(ValueError):
    """The pickle has a word, or names a thing, that arrays do not need."""


@final
@dataclass
class _Named:
    """One of the values of `_NAMES`."""

    what: str


@final
@dataclass
class _Kind:
    """A type of numbers, without its byte order until `order` is set."""

    code: str
    order: str = "="


@final
@dataclass
class _Array:
    """An array whose content comes later."""

    made: list[NDArray[Any]] = field(default_factory=list)


def read(content: bytes) -> Any:
    """The dictionaries of arrays, texts and numbers that `content` pickles.

    RefusedError for anything else, which is not run; other ValueErrors where it is not a pickle.
    """
    machine = _Machine()
    for word, argument in words(io.BytesIO(content)):
        if word == "STOP":
            return _finished(machine.pop())
        machine.do(word, argument)
    raise ValueError("it does not end")


def words(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """The words of the pickle at the place of `file`, each with its argument, to its end. Nothing is done.

    Raises RefusedError if there are more than `WORDS`, or more than `DEPTH` marks wait; other ValueErrors at what is
    not a pickle.
    """
    marks = 0
    for count, (word, argument, _) in enumerate(pickletools.genops(file)):
        marks += (word.name == "MARK") - (pickletools.markobject in word.stack_before)
        if count > WORDS:
            raise RefusedError(f"it has more than {WORDS} words")
        if marks > DEPTH:
            raise RefusedError(f"more than {DEPTH} marks wait at once")
        yield word.name, argument


def _finished(value: Any, depth: int = 0) -> Any:
    """`value` with arrays in place of those that were waited for."""
    if isinstance(value, dict) and depth < 20:
        return {key: _finished(each, depth + 1) for key, each in value.items()}
    if isinstance(value, _Array) and value.made:
        return value.made[0]
    if isinstance(value, str | int | float | None):
        return value
    raise RefusedError(f"it holds a {type(value).__name__}")


@final
class _Machine:
    """The stack, the marks in it, and the memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        if not self.stack or (self.marks and len(self.stack) <= self.marks[-1]):
            raise ValueError("its stack is empty")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("it has no mark")
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def do(self, word: str, argument: Any) -> None:
        """One word of the pickle."""
        if word in ("PROTO", "FRAME"):
            return
        if word in _LITERALS:
            self.stack.append(argument)
        elif word in _CONSTANTS:
            self.stack.append(_CONSTANTS[word]())
        elif word == "MARK":
            self.marks.append(len(self.stack))
        elif word in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            value = self.pop()
            self.stack.append(value)
            self.memo[len(self.memo) if word == "MEMOIZE" else argument] = value
        elif word in ("BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise ValueError("it asks for what it has not kept")
            self.stack.append(self.memo[argument])
        elif word in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(self.since_mark() if word == "TUPLE" else self._last(int(word[-1]))))
        elif word in ("SETITEM", "SETITEMS"):
            items = self._last(2) if word == "SETITEM" else self.since_mark()
            self._set(items)
        elif word in ("GLOBAL", "STACK_GLOBAL"):
            self.stack.append(_named(argument if word == "GLOBAL" else " ".join(map(str, self._last(2)))))
        elif word == "REDUCE":
            function, arguments = self._last(2)
            self.stack.append(_made(function, arguments))
        elif word == "BUILD":
            target, state = self._last(2)
            _build(target, state)
            self.stack.append(target)
        else:
            raise RefusedError(f"it has the word {word}")
        if len(self.stack) > DEPTH:
            raise RefusedError(f"more than {DEPTH} values wait at once")

    def _last(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def _set(self, items: list[Any]) -> None:
        table = self.pop()
        if not isinstance(table, dict) or len(items) % 2 or not all(isinstance(key, str) for key in items[::2]):
            raise RefusedError("it sets something else than texts in a dictionary")
        table.update(zip(items[::2], items[1::2], strict=True))
        self.stack.append(table)


_LITERALS = (
    "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BINFLOAT",
)  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}


def _named(name: str) -> _Named:
    if name not in _NAMES:
        raise RefusedError(f"it names {name.replace(' ', '.')[:100]}, which could run code")
    return _Named(_NAMES[name])


def _made(function: Any, arguments: Any) -> _Kind | _Array:
    """What stands for numpy's dtype or array, whose constructors are not called."""
    if not isinstance(function, _Named) or not isinstance(arguments, tuple) or not arguments:
        raise RefusedError("it calls what is not numpy's")
    if function.what == "dtype" and arguments[0] in _NUMBERS:
        return _Kind(arguments[0])
    if function.what == "array" and arguments[0] == _Named("ndarray"):
        return _Array()
    raise RefusedError("it makes an array of something else than numbers")


def _build(target: Any, state: Any) -> None:
    """Give a type its byte order, or an array its content: (version, shape, type, whether by columns, bytes)."""
    if isinstance(target, _Kind) and isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|"):
        target.order = state[1]
        return
    match state:
        case (int(), tuple() as shape, _Kind() as kind, bool() as columns, bytes() as content):
            if not isinstance(target, _Array) or not all(isinstance(side, int) and side >= 0 for side in shape):
                raise RefusedError("an array has no proper shape")
            flat = np.frombuffer(content, np.dtype(f"{kind.order}{kind.code}"))
            target.made = [flat.reshape(shape, order="F" if columns else "C")]
        case _:
            raise RefusedError("it builds something else than numbers")
