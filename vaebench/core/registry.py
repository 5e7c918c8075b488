"""The one registry: a plug-in is a file of its kind's folder, or an entry point of the group `vaebench.<kind>`.

Names come from the file system and from package metadata, so that listing them imports nothing.
"""

import ast
import importlib
from collections.abc import Callable
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from vaebench.core import files
from vaebench.core.errors import DataError, UserError, contained, reason, unknown

if TYPE_CHECKING:
    from vaebench.core.data import Dataset, Source, Space

Answer = TypeVar("Answer")
Kind = Literal["adapters", "datasets", "importers", "metrics", "objectives"]

FOLDERS: dict[Kind, str] = {  # where the built-in plug-ins of a kind are files
    "adapters": "models/adapters",
    "datasets": "datasets",
    "importers": "models/formats",
    "metrics": "metrics",
    "objectives": "training/objectives",
}


@cache
def _entry_points(kind: Kind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"vaebench.{kind}")}


@cache
def _builtin(kind: Kind) -> dict[str, Path]:
    found = (Path(__file__).parent.parent / FOLDERS[kind]).glob("[!_]*.py")
    return {file.stem.replace("_", "-"): file for file in found}


def names(kind: Kind) -> list[str]:
    """Every plug-in of `kind`, sorted; a file's name is its own with dashes. Built-in names cannot be taken."""
    return sorted({*_builtin(kind), *_entry_points(kind)})


def shipped(kind: Kind) -> list[str]:
    """The plug-ins of `kind` that are vaebench's own, sorted."""
    return sorted(_builtin(kind))


def _find(kind: Kind, name: str) -> Path | EntryPoint:
    if name in _builtin(kind):
        return _builtin(kind)[name]
    if name in _entry_points(kind):
        return _entry_points(kind)[name]
    raise unknown(kind.removesuffix("s"), name, names(kind))


def load(kind: Kind, name: str) -> object:
    """The object `plugin` of the file, or what the entry point names. UserError, with the nearest name, if absent."""
    found = _find(kind, name)
    if not isinstance(found, Path):  # nor need it be this class: importlib_metadata, once imported, gives its own
        try:
            with contained():
                return found.load()
        except Exception as error:  # whatever a stranger's module does
            cause = f"{type(error).__name__}: {error}"
            raise UserError(
                f"plug-in {name!r} ({found.value}) cannot be imported: {cause}; mend or uninstall it"
            ) from error
    return importlib.import_module(f"vaebench.{FOLDERS[kind].replace('/', '.')}.{found.stem}").plugin


def summary(kind: Kind, name: str) -> str:
    """The first line of the plug-in module's docstring, read without importing it."""
    found = _file(kind, name)
    if isinstance(found, str):
        return f"(from {found}, which cannot be found)"
    return (ast.get_docstring(ast.parse(found.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def documentation(kind: Kind, name: str) -> str:
    """The docstrings of the plug-in's module and of its classes, read without importing it; "" where it has no file."""
    found = _file(kind, name)
    if isinstance(found, str):
        return ""
    tree = ast.parse(found.read_text(encoding="utf-8"))
    classes = [ast.get_docstring(each) or "" for each in tree.body if isinstance(each, ast.ClassDef)]
    return "\n".join([ast.get_docstring(tree) or "", *classes])


def _file(kind: Kind, name: str) -> Path | str:
    """The file of a plug-in, found without importing it; the entry point's value where there is none."""
    found = _find(kind, name)
    if isinstance(found, Path):
        return found
    spec, path = None, None
    parts = found.module.split(".")
    for depth in range(len(parts)):  # `importlib.util.find_spec` would import the packages
        spec = PathFinder.find_spec(".".join(parts[: depth + 1]), path)
        path = None if spec is None else spec.submodule_search_locations
        if spec is None:
            break
    return found.value if spec is None or spec.origin is None else Path(spec.origin)


def load_dataset(name: str, root: Path | None, download: bool = True) -> "Dataset":
    """The dataset `name` below `root`. Raises DataError if its files cannot be had or read."""
    return _readable(name, lambda source: source.load(root or files.default_data(), download))


def space_of(name: str, root: Path | None = None) -> "Space":
    """The space of the dataset `name`. Raises DataError if only its files can say, and they are not below `root`."""
    return _readable(name, lambda source: source.space_of(root or files.default_data()))


def _readable(name: str, ask: "Callable[[Source], Answer]") -> "Answer":
    """What `ask` makes of the dataset plug-in `name`, whose errors become DataErrors."""
    from vaebench.core.data import Source

    source = load("datasets", name)
    assert isinstance(source, Source)
    try:
        with contained():
            return ask(source)
    except (OSError, ValueError) as error:
        raise DataError(str(error)) from error
    except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError) as error:  # of a reader
        raise DataError(f"dataset {name!r} cannot be read: {reason(error)}") from error
