"""The shape of the package: which way imports point, what stays free of torch, and habits that can be parsed."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vaebench

PACKAGE = Path(vaebench.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
TREES.pop("__main__.py")  # nothing but a call of `cli`

LOW = {"functional", "distributions", "errors"}
MAY = {  # the first part of a module's name: what of ours it may import
    "functional": {"functional"},
    "distributions": {"functional", "distributions"},
    "data": LOW,
    "model": {*LOW, "data"},
    "objective": {*LOW, "data", "model"},
    "metric": {*LOW, "data", "model"},
    "augmentation": {*LOW, "data"},
    "networks": {*LOW, "data", "model", "networks"},
    "adapters": {*LOW, "data", "model", "networks"},
    "execution": {*LOW, "data", "memory", "networks"},
    "cluster": {"content", "data", "errors", "execution", "provenance"},
    "content": set(),
    "errors": set(),
    "files": {"errors"},
    "remote": {"files", "errors"},
    "card": {"files", "errors", "rows", "remote"},
    "rows": {"errors"},
    "plugins": {"errors"},
}
SEEN = {"cli", "commands", "terminal", "progress"}
UP = {*SEEN, "runner", "training", "checks", "selftest", "board", "card", "rows", "ranking"}
MAY_NOT = {
    "objectives": {*UP, "metrics", "adapters", "datasets"},
    "datasets": {*UP, "metrics", "adapters", "objectives", "networks", "model", "metric"},
    "formats": {*UP, "metrics", "adapters", "datasets", "objectives"} - {"card", "rows"},
    "metrics": {*UP, "adapters", "datasets", "resources", "metric_run"},
    "stages": {*UP, "adapters", "datasets", "metrics", "objectives", "networks", "resources", "metric_run"},
    "sample_quality": {*UP, "adapters", "datasets", "metrics", "objectives", "networks", "resources", "metric_run"},
    "features": {*UP, "adapters", "datasets", "metrics", "objectives", "resources", "metric_run"}
    - {"card", "training"},
    "inception": {*UP, "adapters", "datasets", "metrics", "objectives", "networks", "resources", "metric_run"},
    "metric_run": {*UP, "resources", "metrics", "adapters", "datasets"},
    "board": {"cli", "commands", "runner", "training", "checks", "metrics", "adapters", "datasets", "model", "data"},
    "evaluation": {"cli", "commands", "training", "checks", "metrics", "adapters", "datasets"},
    "sweep": {"cli", "commands", "training", "checks", "board", "metrics", "adapters", "datasets"},
    "site": {"cli", "commands", "runner", "training", "checks", "metrics", "adapters", "datasets", "model", "data"},
    "runner": {"cli", "commands", "training", "checks", "board", "card", "metrics", "adapters", "datasets"},
    "training": {"cli", "commands", "runner", "checks", "board", "metrics", "adapters", "datasets"},
}
NO_TORCH = [
    "card", "plugins", "board", "rows", "ranking", "published", "values", "comparison", "verification", "export",
    "journal", "files", "remote", "errors", "terminal", "progress", "site", "cli", "safetensors_header", "submission",
    "submission_rows",
]  # fmt: skip


def name_of(file: str) -> tuple[str, ...]:
    parts = Path(file).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


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


def test_the_parser_sees_imports() -> None:
    assert ("functional", "random", "derive") in set(imports("metric_run.py"))
    assert ("functional", "random") in set(imports("distributions/noise.py"))
    assert ("data", "Space") in set(imports("adapters/flat.py"))
    assert all(name in {f.partition("/")[0].removesuffix(".py") for f in TREES} for name in {*MAY, *MAY_NOT, *NO_TORCH})


@pytest.mark.parametrize("file", TREES)
def test_imports_point_one_way(file: str) -> None:
    own = (*name_of(file), "")[0]
    found = {name[0] for name in imports(file)} - {own}
    assert found <= MAY.get(own, found), f"{own} may not import {sorted(found - MAY.get(own, found))}"
    assert not found & MAY_NOT.get(own, set()), f"{own} may not import {sorted(found & MAY_NOT[own])}"
    if own != "cli":
        assert "cli" not in found
    if own not in ("cli", "commands"):
        assert "commands" not in found


@pytest.mark.parametrize("file", [f for f in TREES if f.startswith(("metrics/", "adapters/", "datasets/"))])
def test_plugins_do_not_import_one_another(file: str) -> None:
    kind = file.partition("/")[0]
    siblings = {name[1] for name in imports(file) if name[0] == kind}
    assert {name for name in siblings if not name.startswith("_")} == set()


def test_functional_imports_nothing_of_ours_at_all() -> None:
    for file in TREES:
        if file.startswith("functional/"):
            assert {name[0] for name in imports(file)} <= {"functional"}


def python(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_modules_of_names_and_rows_do_not_load_torch() -> None:
    commands = [f"commands.{Path(file).stem}" for file in TREES if file.startswith("commands/") and "__" not in file]
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
        *(["ls", kind] for kind in ("models", "datasets", "metrics", "adapters", "objectives")),
    ],
    ids=" ".join,
)
def test_names_are_listed_without_torch(arguments: list[str]) -> None:
    code = f"""
import sys
from vaebench.cli import main
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
