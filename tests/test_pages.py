"""The pages of the documentation: what they tell a reader to type works, and says what they print.

A fenced block of `sh` or `python` is run, in the order of its page and in one folder of that page; one with a title is
a file of that name. `*Needs …*` on the line before it says what is not there to run it; `*Takes …*` leaves it to the
slow tests. A block of `text` after one that was run holds lines of what it printed.
"""

import contextlib
import importlib.util
import io
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner

from vaebench.cli.main import main
from vaebench.core import registry as plugins
from vaebench.models import card

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(
    r'(?:^\*(?P<mark>Needs|Takes) [^\n]*\.\*\n\n)?^```(?P<kind>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    mark: str | None
    kind: str
    title: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    found = [Block(*match.group("mark", "kind", "title", "text")) for match in BLOCK.finditer(page.read_text("utf-8"))]
    assert page.read_text(encoding="utf-8").count("\n```") == 2 * len(found)
    return found


def run_block(block: Block) -> str:
    """What a block prints; files are written into the folder that this is run in."""
    if block.title is not None:
        Path(block.title).write_text(block.text, encoding="utf-8")
        return ""
    if block.kind == "python":
        return printed("block.py", block.text)
    assert block.kind == "sh"
    return "".join(typed(shlex.split(line, comments=True)) for line in block.text.splitlines())


def typed(words: list[str]) -> str:
    """What one command prints: of vaebench, or of Python on a file or a text."""
    match words:
        case ["vaebench", *arguments]:
            result = CliRunner().invoke(main, arguments, prog_name="vaebench")
            assert result.exit_code == 0, f"{shlex.join(words)}: {result.output}"
            return result.output
        case ["python", "-c", code]:
            return printed("command.py", code)
        case ["python", file]:
            return printed(file, Path(file).read_text(encoding="utf-8"))
    raise AssertionError(f"{shlex.join(words)} cannot be run here: say what it needs")


def printed(name: str, code: str) -> str:
    Path(name).write_text(code, encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()) as told:
        runpy.run_path(name, run_name="__main__")
    return told.getvalue()


def words(text: str) -> str:
    """A line of output without the lines of its table."""
    return " ".join(re.sub(r"[│┃]", " ", text).split())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, as a reader would: rows go to `results`, and modules are found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAEBENCH_RESULTS")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def follow(page: Path, marks: tuple[str | None, ...]) -> None:
    shown: list[str] | None = None
    for block in blocks(page):
        if block.kind != "text":
            runs = block.kind in ("sh", "python", "toml") and (block.mark in marks or block.title is not None)
            shown = [words(line) for line in run_block(block).splitlines()] if runs else None
        elif shown is not None:
            for line in block.text.splitlines():
                assert any(words(line) in each for each in shown), f"{line!r} is not in {shown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_tells_to_type_works(page: Path, folder: Path) -> None:
    follow(page, (None,))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if "*Takes " in page.read_text("utf-8")], ids=lambda p: p.stem)
def test_what_takes_longer_works_too(page: Path, folder: Path) -> None:
    follow(page, (None, "Takes"))


def commands() -> list[tuple[str, list[str]]]:
    """Every command of vaebench that a page names, in a block or in a line; not those that stand for others."""
    found = set()
    for page in [*PAGES, ROOT / "README.md"]:
        text = page.read_text(encoding="utf-8")
        lines = [line for block in BLOCK.finditer(text) if block["kind"] == "sh" for line in block["text"].splitlines()]
        lines += re.findall(r"`(vaebench [^`|]+)`", BLOCK.sub("", text))
        found |= {(page.stem, line) for line in lines if line.startswith("vaebench ") and "…" not in line}
    return [(page, shlex.split(line, comments=True)[1:]) for page, line in sorted(found)]


@pytest.mark.parametrize(("page", "arguments"), commands(), ids=lambda value: value if isinstance(value, str) else None)
def test_every_command_that_a_page_names_is_one(page: str, arguments: list[str]) -> None:
    given = parsed(arguments)
    models, datasets = (str(given.get(name) or "*").split(",") for name in ("model", "dataset"))
    known = [each for each in card.ids() if any(fnmatchcase(each[0], pattern) for pattern in datasets)]
    patterns = [] if given.get("card") else [each for each in models if not each.isupper()]  # NAME is the reader's own
    assert [each for each in patterns if not any(fnmatchcase(model, each) for _, model in known)] == []
    assert set(given.get("metrics") or ()) <= set(plugins.names("metrics"))


def parsed(arguments: list[str]) -> dict[str, Any]:
    """The parameters that click reads from the arguments of a verb; none where a file of the reader's own is absent."""
    command: click.Command = main
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        found = command.get_command(click.Context(command, **main.context_settings), name)
        assert found is not None, f"{name} is not a verb"
        command = found
    if isinstance(command, click.Group) or not arguments:
        return {}
    try:
        return command.make_context("", list(arguments), **main.context_settings).params
    except click.BadParameter as error:
        if "does not exist" not in str(error):
            raise
        return {}


def written() -> ModuleType:
    """`.ci/documents.py`, which writes pages from the code."""
    spec = importlib.util.spec_from_file_location("documents", ROOT / ".ci" / "documents.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_metrics_has_every_column_with_its_equation_and_every_parameter() -> None:
    page = written().metrics_page()
    for name in plugins.shipped("metrics"):
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        presets = plugins.load("metrics", name)
        assert isinstance(presets, dict)
        for column in presets["standard"].columns:
            assert column.equation, f"{name}: {column.name} has no equation"
            escaped = column.equation.replace("|", "\\|")
            assert re.search(rf"^\| `{column.name}`.*\| `{re.escape(escaped)}` \|$", section, re.MULTILINE)
        for field in vars(presets["standard"]):
            assert re.search(rf"^\| `{field}` \|", section, re.MULTILINE), field


def test_the_page_of_commands_has_every_option() -> None:
    module = written()
    page = module.commands_page()
    found = list(module.verbs(main, ("vaebench",)))
    assert len(found) > len(main.commands)
    for path, command in found:
        section = page.split(f"{'#' * len(path)} {' '.join(path)}\n")[1].split("\n##")[0]
        for param in command.params:
            if isinstance(param, click.Option):
                assert max(param.opts, key=len) in section, f"{path}: {param.opts}"


def test_ones_own_model_takes_twenty_lines() -> None:
    (example,) = [block.text for block in blocks(ROOT / "docs" / "your-model.md") if block.title == "measure.py"]
    assert len(example.splitlines()) <= 20


def test_check_s_promises_are_all_explained() -> None:
    from vaebench.core import checks
    from vaebench.models.oracles import oracles

    page = (ROOT / "docs" / "your-model.md").read_text(encoding="utf-8").replace("\\|", "|")
    promises = [check.name for check in checks.check_model(oracles(count=5)[0].model)]
    assert [name for name in promises if f"| {name}" not in page] == []
    starred = [check.name for check in checks.check_model(oracles(count=5)[0].model, quick=True)][:-1]
    assert [name for name in promises if f"| {name} * |" in page] == starred


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    assert [page.name for page in PAGES if f"- {page.name}\n" not in menu] == []


@pytest.mark.slow
def test_the_documentation_is_built_without_a_warning_and_asks_no_other_host(tmp_path: Path) -> None:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True))
    for file in (tmp_path / "site").rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]*\ssrc="([^"]+)"', text)
        loaded += re.findall(r'<link[^>]*\shref="([^"]+)"', text)
        assert loaded
        assert [each for each in loaded if re.match(r"(https?:)?//", each)] == []


def test_the_extra_of_the_documentation_is_part_of_dev() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert "vaebench[docs]" in extras["dev"]
