"""`vaebench new`: what it writes passes as it is, in a package of one's own and in a clone, and runs."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import Result

from vaebench.cli.new import KINDS
from vaebench.core.registry import FOLDERS

Invoke = Callable[..., Result]
ROOT = Path(__file__).parents[2]


def python(*arguments: object, path: Path, folder: Path) -> str:
    """What a new interpreter prints in `folder`, with `path` before what is installed."""
    paths = os.pathsep.join([str(path), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def packages(tmp_path: Path, vaebench: Invoke) -> Path:
    """A folder with a package of each kind, named my-<kind>."""
    for kind in KINDS:
        done = vaebench("new", kind, f"my-{kind}", "--out", tmp_path / f"vaebench-my-{kind}")
        assert done.exit_code == 0, done.output
        assert [Path(line).is_file() for line in done.stdout.splitlines()] == [True] * 3
    return tmp_path


@pytest.mark.processes
def test_the_tests_pass_as_they_are_written(packages: Path) -> None:
    shown = python("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", ".", path=packages, folder=packages)
    assert " passed" in shown
    assert "skipped" not in shown


def test_they_are_as_the_project_writes(packages: Path) -> None:
    config = ("--config", ROOT / "pyproject.toml")
    python("-m", "ruff", "format", "--check", *config, ".", path=packages, folder=packages)
    python("-m", "ruff", "check", "--ignore", "I001", *config, ".", path=packages, folder=packages)


def installed(packages: Path) -> Path:
    """A folder that holds what pip would put there: modules, and the entry points of each package."""
    site = packages / "site"
    for kind in KINDS:
        folder = packages / f"vaebench-my-{kind}"
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        info = site / f"vaebench_my_{kind}-{project['version']}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
        lines = [
            f"[{group}]\n{n} = {target}\n" for group, p in project["entry-points"].items() for n, target in p.items()
        ]
        (info / "entry_points.txt").write_text("".join(lines))
        (site / f"vaebench_my_{kind}.py").write_text((folder / f"vaebench_my_{kind}.py").read_text())
    return site


CARD = """
dataset = "my-dataset"
summary = "A linear model of coins."
family = "my-adapter"
model = {latent = 2, likelihood = "bernoulli"}
training = {epochs = 1}
"""


@pytest.mark.processes
def test_an_installed_plug_in_is_listed_and_runs(packages: Path) -> None:
    site = installed(packages)
    (packages / "coin.toml").write_text(CARD)
    for kind, group in KINDS.items():
        listed = json.loads(python("-m", "vaebench", "ls", group, "--json", path=site, folder=packages))
        assert f"my-{kind}" in {line["name"] for line in listed}
    verb = partial(python, "-m", "vaebench", path=site, folder=packages)
    verb("train", "--card", "coin.toml", "--out", "trained")
    rows = json.loads(verb("run", "--card", "trained/coin.toml", "--metric", "my-metric", "--json"))
    assert [(row["metric"], row["column"], row["status"]) for row in rows] == [("my-metric", "my_metric", "ok")]
    torch.save({"0.bias": torch.zeros(16)}, packages / "bad.pth")
    shown = subprocess.run(
        [sys.executable, "-m", "vaebench", "import", "my-importer", "bad.pth", "--out", "out"],
        cwd=packages, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert (shown.returncode, shown.stderr.count("\n")) == (3, 1)
    assert "missing 0.weight" in shown.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_clone_files_lie_beside_the_others(kind: str, tmp_path: Path, vaebench: Invoke) -> None:
    room = FOLDERS[KINDS[kind]]
    for top in ("vaebench", "tests"):
        (tmp_path / top / room).mkdir(parents=True)
    (tmp_path / "vaebench" / "__init__.py").touch()
    assert vaebench("new", kind, "our-own", "--clone", tmp_path).exit_code == 0
    files = [tmp_path / "vaebench" / room / "our_own.py", tmp_path / "tests" / room / "test_our_own.py"]
    assert all(file.is_file() for file in files)
    assert f"from vaebench.{room.replace('/', '.')}.our_own import " in files[1].read_text()
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    ours = ("--config", "lint.isort.known-first-party = ['vaebench']")
    python("-m", "ruff", "check", *ours, ".", path=tmp_path, folder=tmp_path)
    before = files[0].read_text()
    again = vaebench("new", kind, "our-own", "--clone", tmp_path)
    assert (again.exit_code, files[0].read_text()) == (2, before)
    assert "is there already; choose another name or folder" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("metric", "likelihood"), "metric 'likelihood' exists already; choose another name"),
        (("metric", "My_Metric"), "metric 'My_Metric' should be lower-case words with dashes between, as 'my-metric'"),
        (("metric", "../x"), "should be lower-case words"),
        (("adapter", "class"), "adapter 'class' is a word of Python"),
        (("adapter", "a" * 61), "should be lower-case words"),
        (("adapter", "fine", "--out", "a", "--clone", "b"), "give one of --out"),
        (("adapter", "fine", "--clone", "."), "is not a clone of vaebench: it has no vaebench/models/adapters"),
        (("metrics", "fine"), "is not one of 'adapter', 'metric', 'dataset', 'importer'"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    arguments: tuple[str, ...], says: str, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(2, ("new", *arguments), says)
    assert list(tmp_path.iterdir()) == []
