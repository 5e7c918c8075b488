"""vaebench new: a plug-in to begin with, and its test, which pass as they are written."""

import keyword
import re
from importlib.resources import files as resources
from pathlib import Path
from string import Template

import click

from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import UserError
from vaebench.core.registry import Kind

KINDS: dict[str, Kind] = {
    "adapter": "adapters",
    "metric": "metrics",
    "dataset": "datasets",
    "importer": "importers",
}
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 60


@click.command("new")
@click.argument("kind", type=click.Choice([*KINDS]))
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Folder of the package.  [default: vaebench-NAME]")  # fmt: skip
@click.option("--clone", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="A clone of vaebench to write into, instead of a package of your own.")  # fmt: skip
def new(kind: str, name: str, out: Path | None, clone: Path | None) -> None:
    """Write the plug-in NAME, which works, and its test, which passes: change them into your own.

    They are a small package, which `pip install -e DIR` makes known to vaebench; in a clone, files beside the others.
    """
    if out is not None and clone is not None:
        raise UserError("give one of --out (a package of your own) and --clone (a clone of vaebench)")
    _check_name(kind, name)
    written = _package(kind, name, out or Path(f"vaebench-{name}")) if clone is None else _into(clone, kind, name)
    for path in written:
        if path.exists() or path.is_symlink():
            raise UserError(f"{path} is there already; choose another name or folder")
        files.check_writable(path.parent)
    for path, content in written.items():
        files.write_atomic(path, content.encode())
        click.echo(path)
    *_, test = written
    install = f"pip install -e {test.parent}, then " if clone is None else ""
    click.echo(f"to try it: pip install pytest, then python -m pytest {test}", err=True)
    click.echo(f"to use it: {install}vaebench ls {KINDS[kind]}", err=True)


def _check_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise UserError(f"{kind} {name[:_LONGEST]!r} should be lower-case words with dashes between, as 'my-{kind}'")
    if keyword.iskeyword(name):
        raise UserError(f"{kind} {name!r} is a word of Python; choose another name")
    if name in plugins.names(KINDS[kind]):
        raise UserError(f"{kind} {name!r} exists already; choose another name")


def _package(kind: str, name: str, folder: Path) -> dict[Path, str]:
    """The files of a package of one plug-in; the test is the last."""
    module = f"vaebench_{name.replace('-', '_')}"
    return {
        folder / "pyproject.toml": _filled("package", kind, name, module),
        folder / f"{module}.py": _filled(kind, kind, name, module),
        folder / f"test_{module}.py": _filled(f"{kind}_test", kind, name, module),
    }


def _into(clone: Path, kind: str, name: str) -> dict[Path, str]:
    """The files of a plug-in in a clone; the test is the last. Raises UserError if it is not one."""
    room, module = plugins.FOLDERS[KINDS[kind]], name.replace("-", "_")
    for folder in (clone / "vaebench" / room, clone / "tests" / room):
        if not folder.is_dir():
            raise UserError(f"{clone} is not a clone of vaebench: it has no {folder.relative_to(clone)}")
    inside = f"vaebench.{room.replace('/', '.')}.{module}"
    return {
        clone / "vaebench" / room / f"{module}.py": _filled(kind, kind, name, inside),
        clone / "tests" / room / f"test_{module}.py": _together(_filled(f"{kind}_test", kind, name, inside)),
    }


def _together(text: str) -> str:
    """`text` with its imports of vaebench as one block, in order: in a clone the plug-in is one of them."""
    lines = text.splitlines(keepends=True)
    ours = [i for i, line in enumerate(lines) if line.startswith(("import vaebench", "from vaebench"))]
    block = sorted((lines[i] for i in ours), key=lambda line: (line.startswith("from"), line))
    before = lines[: ours[0]]
    return "".join([*before, *([] if before[-1] == "\n" else ["\n"]), *block, *lines[ours[-1] + 1 :]])


def _filled(template: str, kind: str, name: str, module: str) -> str:
    text = (resources("vaebench.cli") / "templates" / f"{template}.txt").read_text(encoding="utf-8")
    words = {"Name": name.title().replace("-", ""), "column": name.replace("-", "_"), "group": KINDS[kind]}
    return Template(text).substitute(words, name=name, module=module)
