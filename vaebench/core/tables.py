"""Tables of TOML and JSON as dataclasses: a key that is not known suggests the nearest, a wrong type names the key."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vaebench.core.errors import UserError, unknown

Options = TypeVar("Options")
Table = Mapping[str, Any]


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


def build(cls: type[Options], table: Table, where: str) -> Options:
    """An instance of the dataclass `cls` from `table`. UserError names `where`, the key, and the nearest known key."""
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            raise UserError(f"{where}: {unknown('key', key, fields)}")
        kind = hints[key]
        nested: Any = next((k for k in (kind, *get_args(kind)) if dataclasses.is_dataclass(k)), None)
        if nested is not None and isinstance(value, dict):
            value = build(nested, value, f"{where} [{key}]")
        elif not _fits(value, kind):
            raise UserError(f"{where}: {key} = {value!r} should be {_describe(kind)}")
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
        raise UserError(f"{where}: {error}") from error
