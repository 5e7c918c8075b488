"""Laws of the one registry: names from the file system and entry points, loading by name, summaries without import."""

import importlib
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import get_args

import pytest

import vaebench
from vaebench.core import registry as plugins
from vaebench.core.errors import UserError
from vaebench.core.registry import Kind

KINDS: tuple[Kind, ...] = get_args(Kind)
PACKAGE = Path(vaebench.__file__).parent


def forget() -> None:
    plugins._entry_points.cache_clear()
    plugins._builtin.cache_clear()


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of importable modules, and metric entry points: "toy", "likelihood" (taken), "gone" and "lost"."""
    points = [
        EntryPoint("toy", "vaebench_toy:made", "vaebench.metrics"),
        EntryPoint("likelihood", "vaebench_toy:made", "vaebench.metrics"),
        EntryPoint("gone", "vaebench_absent:made", "vaebench.metrics"),
    ]
    (tmp_path / "vaebench_toy.py").write_text('"""A toy.\n\nMore."""\n\nmade = {"standard": 7}\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [p for p in points if p.group == group])
    importlib.invalidate_caches()
    forget()
    yield tmp_path
    forget()
    sys.modules.pop("vaebench_toy", None)


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_a_name_and_every_name_loads(kind: Kind) -> None:
    folder = plugins.FOLDERS[kind]
    files = {p.stem.replace("_", "-") for p in (PACKAGE / folder).glob("*.py") if not p.stem.startswith("_")}
    assert files <= set(plugins.names(kind))
    assert plugins.names(kind) == sorted(plugins.names(kind))
    for name in sorted(files):
        loaded = plugins.load(kind, name)
        module = importlib.import_module(f"vaebench.{folder.replace('/', '.')}.{name.replace('-', '_')}")
        assert loaded is module.plugin
        assert plugins.summary(kind, name) == (module.__doc__ or "").partition("\n")[0] != ""


def test_a_dataset_is_named_as_its_file() -> None:
    for name in plugins.names("datasets"):
        assert plugins.load("datasets", name).name == name  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("metrics", "likelyhood", "unknown metric 'likelyhood'; did you mean 'likelihood'?"),
        ("datasets", "digit", "unknown dataset 'digit'; did you mean 'digits'?"),
        ("adapters", "flatt", "unknown adapter 'flatt'; did you mean 'flat'?"),
        ("objectives", "elb", "unknown objective 'elb'; did you mean 'elbo'?"),
        ("importers", "nvea", "unknown importer 'nvea'; did you mean 'nvae'?"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(kind: Kind, name: str, message: str) -> None:
    for function in (plugins.load, plugins.summary):
        with pytest.raises(UserError) as error:
            function(kind, name)
        assert str(error.value) == message


def test_a_name_near_nothing_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"^unknown dataset 'zzzz'; known: .*digits.*mnist"):
        plugins.load("datasets", "zzzz")


def test_an_entry_point_is_a_plugin(outside: Path) -> None:
    assert {"toy", "gone", "likelihood"} <= set(plugins.names("metrics"))
    assert "toy" not in plugins.names("datasets")
    assert plugins.load("metrics", "toy") == {"standard": 7}


def test_an_entry_point_cannot_take_a_built_in_name(outside: Path) -> None:
    assert plugins.names("metrics").count("likelihood") == 1
    assert plugins.load("metrics", "likelihood") is importlib.import_module("vaebench.metrics.likelihood").plugin
    assert plugins.summary("metrics", "likelihood") != "A toy."


def test_a_summary_imports_nothing(outside: Path) -> None:
    assert plugins.summary("metrics", "toy") == "A toy."
    assert "vaebench_toy" not in sys.modules


def test_a_summary_says_that_a_module_is_absent(outside: Path) -> None:
    assert plugins.summary("metrics", "gone") == "(from vaebench_absent:made, which cannot be found)"


@pytest.mark.parametrize("present", [True, False])
def test_a_summary_of_a_module_in_a_package(outside: Path, present: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if present:
        (outside / "vaebench_pack").mkdir()
        (outside / "vaebench_pack" / "__init__.py").write_text("raise RuntimeError('imported')\n")
        (outside / "vaebench_pack" / "toy.py").write_text('"""A toy in a package."""\n')
        importlib.invalidate_caches()
    point = EntryPoint("packed", "vaebench_pack.toy:made", "vaebench.metrics")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    forget()
    expected = "A toy in a package." if present else "(from vaebench_pack.toy:made, which cannot be found)"
    assert plugins.summary("metrics", "packed") == expected
