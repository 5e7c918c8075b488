"""Every test has a cache and a board of its own, and one thread; helpers that call the command line in this process."""

import textwrap
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from vaebench.cli.main import main
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.models import card as cards

try:  # autograd counts the devices once, at a process's first backward pass
    from second_device import SECOND
except ImportError:
    SECOND = None

Invoke = Callable[..., Result]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("VAEBENCH_CACHE", str(cache))
    monkeypatch.setenv("VAEBENCH_RESULTS", str(cache / "results"))  # which no test finds
    for name in ("VAEBENCH_DATA", "VAEBENCH_ZOO"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def second() -> torch.device:
    """A device that is not the CPU: see `second_device`."""
    if SECOND is None:
        pytest.skip("this torch has no hooks for back ends in Python")
    return SECOND


@pytest.fixture
def vaebench() -> Invoke:
    """Calls `vaebench *args`; no exception may get past the command line."""

    def invoke(*args: object) -> Result:
        result = CliRunner().invoke(main, [str(arg) for arg in args], prog_name="vaebench")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


@pytest.fixture
def refused(vaebench: Invoke) -> Callable[..., str]:
    """`refused(code, args, *says)`: `vaebench *args` ends with `code`, nothing on stdout, and one line that `says`."""

    def check(code: int, args: tuple[object, ...], *says: object) -> str:
        result = vaebench(*args)
        line = result.stderr
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        assert line.startswith("vaebench: ")
        assert line.count("\n") == 1
        assert line.endswith("\n")
        assert "Traceback" not in line
        for text in says:
            assert str(text) in line, line
        return line

    return check


@pytest.fixture
def boards(tmp_path: Path) -> Path:
    """A folder of leaderboards that does not exist yet."""
    return tmp_path / "boards"


@pytest.fixture
def quick(boards: Path) -> tuple[object, ...]:
    """The arguments of a run that takes a moment."""
    run = ("run", "--model", "vae", "--dataset", "digits", "--metric", "likelihood")
    return (*run, "--set", "likelihood.samples=10", "--leaderboards", boards)


CARD = {
    "dataset": "'digits'",
    "summary": "'A small model.'",
    "family": "'flat'",
    "model.latent": "2",
    "model.hidden": "[8]",
    "model.likelihood": "'categorical'",
    "training.epochs": "2",
    "training.batch_size": "64",
    "training.validation": "100",
}


@pytest.fixture
def write_card(tmp_path: Path) -> Callable[..., Path]:
    """`write_card(name, {"key": "TOML value", ...})`: a small card with some keys changed, or removed where None."""

    def write(name: str = "mine", changes: dict[str, str | None] | None = None, folder: Path = tmp_path) -> Path:
        lines = [f"{key} = {value}" for key, value in {**CARD, **(changes or {})}.items() if value is not None]
        path = folder / f"{name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def zoo_card(tmp_path: Path) -> Path:
    """A copy of the zoo's vae on digits, with its weights beside it, that a test may spoil."""
    source = cards.find("vae", "digits")
    assert source.path is not None
    folder = tmp_path / "zoo" / "digits"
    folder.mkdir(parents=True)
    for file in (source.path, source.weights_path()):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder / "vae.toml"


@pytest.fixture
def cut_short(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object], int, bool], None]:
    """`cut_short(action, last, after)`: `action()` is interrupted at its file write number `last`, done or not."""

    def interrupt(action: Callable[[], object], last: int, after: bool) -> None:
        real, count = files.write_atomic, 0

        def write(path: Path, content: bytes) -> None:
            nonlocal count
            count += 1
            if count < last or after:
                real(path, content)
            if count == last:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(files, "write_atomic", write)
            with pytest.raises(KeyboardInterrupt):
                action()

    return interrupt


METRICS = '''
    """A metric that a test has planted."""

    from dataclasses import dataclass
    from typing import ClassVar

    from vaebench.core.metric import Column, Curve, Measurement, Metric


    @dataclass(frozen=True)
    class Planted(Metric):
        version: ClassVar[int] = 1
        columns: ClassVar[tuple[Column, ...]] = (
            Column("one", "", "lower", "exact"),
            Column("two", "", "none", "exact"),
        )

        def unsupported(self, model, dataset):
            {unsupported}

        def measure(self, model, dataset, run):
            yield Measurement("one", 1.0, 0.1, 360)
            {measure}


    plugin = dict.fromkeys(("quick", "standard", "paper"), Planted())
'''


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`plant(name, measure, unsupported)`: a metric from outside by entry point, with these lines in its methods."""
    points: dict[str, EntryPoint] = {}

    def add(name: str, measure: str = "return", unsupported: str = "return None") -> None:
        module = f"planted_{tmp_path.name}_{name}".replace("-", "_").replace("[", "_").replace("]", "_")
        text = textwrap.dedent(METRICS).format(measure=measure, unsupported=unsupported)
        (tmp_path / f"{module}.py").write_text(text, encoding="utf-8")
        points[name] = EntryPoint(name, f"{module}:plugin", "vaebench.metrics")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_entry_points", lambda kind: points if kind == "metrics" else {})
    return add
