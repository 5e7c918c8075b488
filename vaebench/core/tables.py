"""Tables of TOML and JSON as dataclasses: a key that is not known suggests the nearest, a wrong type names the key."""

import dataclasses
import re
import tomllib
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vaebench.core.errors import UserError, brief, shown, unknown

Options = TypeVar("Options")
Table = Mapping[str, Any]
COUNT = 10**6
"""What a whole number in a table of options may be, where its own bound is not lower: a width, a number of draws."""
LAYERS, LATENT = 100, 2**12
"""Widths in one list of a card's, and dimensions of one latent vector, of which an image has thousands of draws."""
DEPTH, ITEMS, TEXT = 16, 10_000, 20_000
"""Tables in tables, entries of all of them, and characters of one text, in a table of a foreign file."""

_PART = r"(?:[\w-]+|\"[^\"\n]*\"|'[^'\n]*')"
_DOTTED = re.compile(rf"(?:^|[{{,\[])[ \t]*{_PART}(?:[ \t]*\.[ \t]*{_PART}){{{DEPTH},}}", re.MULTILINE)


def within(options: object, **bounds: tuple[int, int]) -> None:
    """ValueError unless each of these fields of `options` lies between its bounds, which are included; None passes.

    A list of widths has `LAYERS` at most, each between the bounds.
    """
    for name, (low, high) in bounds.items():
        value = getattr(options, name)
        if isinstance(value, tuple):
            if len(value) > LAYERS:
                raise ValueError(f"{name} has {len(value)} widths, which should be at most {LAYERS}")
            if not value:
                continue
            value = min(value) if min(value) < low else max(value)
        if value is not None and value < low:
            raise ValueError(f"{name} = {value} should be at least {low}")
        if value is not None and value > high:
            raise ValueError(f"{name} = {value} should be at most {high}")


def check_size(value: Any) -> None:
    """Raises ValueError if nested tables and lists go beyond `DEPTH`, `ITEMS` or `TEXT`, or a number beyond 64 bits.

    Said before anything walks through them by recursion.
    """
    level, items, depth = [value], 0, 0
    while level:
        depth, items = depth + 1, items + len(level)
        if depth > DEPTH or items > ITEMS:
            what = f"is nested deeper than {DEPTH} tables" if depth > DEPTH else f"has more than {ITEMS} entries"
            raise ValueError(f"it {what}")
        below: list[Any] = []
        for each in level:
            if isinstance(each, Mapping):
                below += [*each, *each.values()]
            elif isinstance(each, list | tuple):
                below += each
            elif isinstance(each, str) and len(each) > TEXT:
                raise ValueError(f"it holds a text of {len(each)} characters, more than {TEXT}: {each[:40]!r}…")
            elif isinstance(each, int) and abs(each) >= 2**63:
                raise ValueError("it holds a number that does not fit in 64 bits")
        level = below


def parse(text: str) -> dict[str, Any]:
    """The tables of a TOML text, within `check_size`. Raises ValueError or RecursionError if it is not such.

    A key of many parts is refused before it is parsed, which takes a time that grows with the square of their number.
    """
    if _DOTTED.search(text):
        raise ValueError(f"it is nested deeper than {DEPTH} tables")
    found = tomllib.loads(text)
    check_size(found)
    return found


def _fits(value: Any, kind: Any) -> bool:
    if kind is Any or kind == Table:
        return kind is Any or isinstance(value, dict)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(item, inner[0]) for item in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _describe(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, get_args(kind)))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_describe(option) for option in get_args(kind) if option is not type(None))
    if get_origin(kind) is tuple:
        return f"a list of {_describe(get_args(kind)[0])}"
    return "a table" if kind == Table or dataclasses.is_dataclass(kind) else str(getattr(kind, "__name__", kind))


def _beyond(value: Any, most: int) -> bool:
    return isinstance(value, int) and abs(value) > most


def build(cls: type[Options], table: Table, where: str, most: int = COUNT) -> Options:
    """An instance of the dataclass `cls` from `table`. UserError names `where`, the key, and the nearest known key.

    No whole number is above `most`.
    """
    try:
        check_size(table)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            raise UserError(f"{where}: {unknown('key', key, fields)}")
        kind = hints[key]
        nested: Any = next((k for k in (kind, *get_args(kind)) if dataclasses.is_dataclass(k)), None)
        if nested is not None and isinstance(value, dict):
            value = build(nested, value, f"{where} [{key}]", most)
        elif not _fits(value, kind):
            raise UserError(f"{where}: {key} = {shown(value)} should be {_describe(kind)}")
        elif large := [n for n in (value if isinstance(value, list | tuple) else [value]) if _beyond(n, most)]:
            raise UserError(f"{where}: {key} = {large[0]} should be at most {most}")
        values[key] = tuple(value) if isinstance(value, list) else value
    missing = [
        name
        for name, f in fields.items()
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{where}: missing {', '.join(missing)}")
    try:
        return cls(**values)
    except ValueError as error:
        raise UserError(f"{where}: {brief(str(error))}") from error
