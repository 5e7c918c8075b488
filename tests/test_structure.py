"""The shape of the package: its rooms, what stays free of torch, and habits that can be parsed.

Which way imports point is import-linter's contract, in pyproject.toml.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vaebench
from vaebench.core.registry import FOLDERS

PACKAGE = Path(vaebench.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
TREES.pop("__main__.py")  # nothing but a call of `cli.main`

ROOMS = {
    "core", "functional", "distributions", "models", "datasets", "metrics", "training", "evaluation", "boards",
    "submission", "cli",
}  # fmt: skip
NO_TORCH = [
    "boards", *(f"boards.{name}" for name in ("export", "paired", "per_example", "published", "ranking", "rows", "site",
                                              "store", "text", "verification")),
    "cli.main", "cli.bar", "cli.tables", "core.errors", "core.files", "core.names", "core.registry", "core.remote",
    "core.tables", "evaluation.journal", "models.card", "models.safetensors_header", "submission.folder",
    "submission.rows",
]  # fmt: skip


def imports(file: str) -> Iterator[tuple[str, ...]]:
    """The modules of ours that `file` imports, anywhere in it: ("data",), ("metrics", "likelihood"), ..."""
    package = (*Path(file).parent.parts,)
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Import):
            full = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + tuple((node.module or "").split(".") * bool(node.module))
            full = [("vaebench", *base, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            full = [(*(node.module or "").split("."), alias.name) for alias in node.names]
        else:
            continue
        for name in full:
            if name[0] == "vaebench" and len(name) > 1 and not name[1].startswith("__"):
                yield name[1:]


def test_the_rooms_are_those_of_the_plan() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert folders == ROOMS
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_the_parser_sees_imports() -> None:
    assert ("functional", "random", "derive") in set(imports("evaluation/run.py"))
    assert ("core", "data", "Space") in set(imports("models/adapters/flat.py"))


PLUGINS = ("metrics", "models/adapters", "datasets", "models/formats", "training/objectives")


@pytest.mark.parametrize("file", [f for f in TREES if f.startswith(tuple(f"{folder}/" for folder in PLUGINS))])
def test_plugins_do_not_import_one_another(file: str) -> None:
    """Files that begin with an underscore, and the room `shared`, are of no plug-in; nor is a file in them."""
    folder = tuple(next(p for p in PLUGINS if file.startswith(f"{p}/")).split("/"))
    depth = len(folder)
    siblings = {name[depth] for name in imports(file) if name[:depth] == folder and len(name) > depth}
    others = {name for name in siblings if f"{'/'.join(folder)}/{name}.py" in TREES and not name.startswith("_")}
    assert others == set()


def python(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_modules_of_names_and_rows_do_not_load_torch() -> None:
    commands = [f"cli.{Path(file).stem}" for file in TREES if file.startswith("cli/") and "__" not in file]
    code = f"""
import importlib, json, sys
guilty = []
for name in {NO_TORCH + commands}:
    importlib.import_module("vaebench." + name)
    if "torch" in sys.modules:
        guilty.append(name)
        break
print(json.dumps(guilty))
"""
    assert json.loads(python(code)) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        *(["ls", kind] for kind in ("models", *FOLDERS)),
        ["import", "--help"],
    ],
    ids=" ".join,
)
def test_names_are_listed_without_torch(arguments: list[str]) -> None:
    code = f"""
import sys
from vaebench.cli.main import main
try:
    main({arguments})
except SystemExit as exit:
    assert exit.code in (0, None), exit.code
heavy = {{"torch", "torchvision", "sklearn", "scipy"}} & set(sys.modules)
assert not heavy, heavy
"""
    assert python(code).strip()


@pytest.mark.parametrize("file", TREES)
def test_files_are_short(file: str) -> None:
    lines = len((PACKAGE / file).read_text(encoding="utf-8").splitlines())
    assert lines <= 350


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


@pytest.mark.parametrize("file", TREES)
def test_habits(file: str) -> None:
    faults = []
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Call):
            function = called(node)
            if function in ("hasattr", "print", "eval", "exec", "pickle.load", "pickle.loads"):
                faults.append(f"{node.lineno}: {function}")
            if function == "torch.load" and not any(
                k.arg == "weights_only" and isinstance(k.value, ast.Constant) and k.value.value is True
                for k in node.keywords
            ):
                faults.append(f"{node.lineno}: torch.load without weights_only=True")
            if function.endswith("load_state_dict") and any(
                k.arg == "strict" and not (isinstance(k.value, ast.Constant) and k.value.value is True)
                for k in node.keywords
            ):
                faults.append(f"{node.lineno}: load_state_dict that is not strict")
        names = {a.name for a in node.names} if isinstance(node, ast.Import) else set()
        names |= {node.module or ""} if isinstance(node, ast.ImportFrom) and not node.level else set()
        if unsafe := {n.partition(".")[0] for n in names} & {"pickle", "cPickle", "dill", "cloudpickle", "joblib"}:
            faults.append(f"{node.lineno}: imports {unsafe}")
    assert faults == []


@pytest.mark.parametrize("file", TREES)
def test_every_module_says_what_it_is(file: str) -> None:
    docstring = ast.get_docstring(TREES[file])
    assert docstring
    assert docstring.partition("\n")[0].endswith((".", ":", "?")), docstring.partition("\n")[0]
