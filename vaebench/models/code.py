"""A network whose code is a user's own file: run only where that is allowed, and told by content.

A card of the family `module` names the file. Nothing in it runs unless `--allow-code`, or `allow_code=True`, says so.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaebench.core.errors import DataError, UserError, contained, unknown
from vaebench.core.tables import Table

FAMILY = "module"
"""The one family whose cards name a file of code."""
_allowed: ContextVar[bool] = ContextVar("allowed", default=False)


@dataclass(frozen=True, kw_only=True)
class FromFile:
    """Options of a family whose network is the class (or function) `name` of `file`, called with `arguments`.

    In a card, `file` lies beside the card.
    """

    file: str
    name: str
    arguments: Table = field(default_factory=dict)


@contextmanager
def allowed(yes: bool = True) -> Iterator[None]:
    """Within the block, files that cards name may run as code, or not, as before it where `yes` is False."""
    token = _allowed.set(yes or _allowed.get())
    try:
        yield
    finally:
        _allowed.reset(token)


def check_allowed(file: Path) -> None:
    """UserError unless code may run."""
    if not _allowed.get():
        raise UserError(f"{file} is code, which its card asks to run; read it, and give --allow-code if you trust it")


def digest(file: Path) -> str:
    """The SHA-256, in hex, of the file's bytes. Raises DataError if it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}; put it beside the card") from error


def made(options: FromFile) -> Any:
    """What `name` of `file` gives when it is called with `arguments`.

    Raises UserError if code may not run, if the file raises, or has nothing of that name that can be called so.
    """
    file = Path(options.file)
    check_allowed(file)
    called = f"vaebench_own_{digest(file)[:24]}"  # in the name, so that what is told by a class's name is its code
    try:
        with contained():
            module = sys.modules.get(called) or _run(file, called)
    except Exception as error:  # whatever a user's file does
        alone = isinstance(error, ModuleNotFoundError)
        remedy = "install it, or put its code into this file, which runs alone" if alone else "mend it"
        raise UserError(f"{file} cannot be run: {type(error).__name__}: {error}; {remedy}") from error
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    if options.name not in names:
        raise UserError(f"{file}: {unknown('name', options.name, names)}")
    try:
        with contained():
            return getattr(module, options.name)(**options.arguments)
    except Exception as error:
        given = ", ".join(f"{key}={value!r}" for key, value in options.arguments.items())
        raise UserError(f"{file}: {options.name}({given}) raises {type(error).__name__}: {error}") from error


def _run(file: Path, called: str) -> Any:
    spec = importlib.util.spec_from_file_location(called, file)
    if spec is None or spec.loader is None:
        raise ValueError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[called] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[called]
        raise
    return module
