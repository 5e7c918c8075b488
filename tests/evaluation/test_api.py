"""The public face: one call, values by column, tables; errors of the package's own kind, in the verbs' words."""

import dataclasses
import doctest
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

import vaebench
from vaebench.boards import store
from vaebench.core.checks import Check
from vaebench.core.data import Dataset, Space, Split
from vaebench.core.errors import DataError, UserError
from vaebench.evaluation import api
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.results import NoValueError, Results, Value
from vaebench.metrics.likelihood import Likelihood
from vaebench.models.adapters.flat import Flat, Options

Invoke = Callable[..., Result]
QUICK = {"likelihood": Likelihood(samples=2)}


@pytest.fixture(scope="module")
def model() -> Any:
    return vaebench.load_model("vae", "digits")


@pytest.fixture(scope="module")
def results() -> Results:
    return vaebench.evaluate("vae", "digits", QUICK)


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, vaebench; vaebench.__version__; print({'torch', 'pandas', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "set()\n"


def test_the_face_is_what_it_lists() -> None:
    assert all(getattr(vaebench, name) is not None for name in vaebench.__all__)
    assert set(vaebench.__all__) <= set(dir(vaebench))
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        vaebench.evalute  # type: ignore[attr-defined]  # noqa: B018


def test_the_example_is_so() -> None:
    found = doctest.testmod(vaebench)
    assert found.attempted > 3
    assert found.failed == 0


def test_a_name_a_card_and_a_model_have_the_same_values(results: Results, zoo_card: Path, model: Any) -> None:
    wanted = {name: value.value for name, value in results.items()}
    card = vaebench.evaluate(zoo_card, metrics=QUICK)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    own = vaebench.evaluate(model, "digits", QUICK, name="mine", dtype="float32")
    assert model.training  # it is a copy that was evaluated
    model.eval()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())
    for found in (card, own):
        assert {name: value.value for name, value in found.items()} == wanted
    assert {row.model for row in own.rows} == {"mine"}
    assert {row.model for row in vaebench.evaluate(model, "digits", QUICK).rows} == {"own-flat"}


def test_the_verb_and_the_call_are_one(vaebench: Invoke, boards: Path, results: Results, tmp_path: Path) -> None:
    run = ("run", "--model", "vae", "--dataset", "digits", "--metric", "likelihood", "--set", "likelihood.samples=2")
    assert vaebench(*run, "--leaderboards", boards).exit_code == 0
    results.write(tmp_path / "own")
    verb, call = (store.read(folder, "digits") for folder in (boards, tmp_path / "own"))
    assert [(row.identity, row.value, row.stderr, row.n) for row in verb] == [
        (row.identity, row.value, row.stderr, row.n) for row in call
    ]
    files = {path.relative_to(boards).as_posix() for path in boards.rglob("*") if path.is_file()}
    assert any("/likelihood/" in name for name in files)  # per-example values
    assert files == {path.relative_to(tmp_path / "own").as_posix() for path in (tmp_path / "own").rglob("*.*")}


def test_values_print_as_a_board_does() -> None:
    assert str(Value(89.7312, 0.2489, 89.2, 90.2, 10_000, "nats")) == "89.73 ± 0.25"
    assert repr(Value(89.7312, 0.2489, 89.2, 90.2, 10_000, "nats")) == "89.73 ± 0.25 nats"
    marked = Value(89.7312, 0.2489, 89.2, 90.2, 10_000, "nats", ("bound loose", "collapsed"))
    assert str(marked) == "89.73 ± 0.25 (bound loose, collapsed)"
    assert repr(marked) == "89.73 ± 0.25 nats (bound loose, collapsed)"
    assert f"{float(Value(0.5, None, 0.5, 0.5, None, '')):.1f}" == "0.5"


def test_results_are_a_mapping_by_column(results: Results) -> None:
    assert list(results) == [column.name for column in Likelihood.columns if column.name != "nll_point"]
    nll = results["nll"]
    assert nll.stderr is not None
    assert nll.low < nll.value < nll.high
    assert (nll.n, nll.unit) == (360, "nats")
    assert "nlll" not in results
    assert results.get("nlll") is None
    with pytest.raises(NoValueError, match=r"unknown column 'nlll'; did you mean 'nll'\?") as error:
        results["nlll"]
    assert isinstance(error.value, UserError)
    assert isinstance(error.value, KeyError)


def test_columns_of_one_name_are_told_apart_by_their_facets(results: Results) -> None:
    nll = next(row for row in results.rows if row.column == "nll")
    facets = [f'{{"set": "{name}"}}' for name in ("mnist", "notmnist")]
    rows = [dataclasses.replace(nll, column="auroc", facet=facet) for facet in facets]
    found = Results(rows)
    assert list(found) == ["auroc (set mnist)", "auroc (set notmnist)"]
    assert "auroc" not in found
    with pytest.raises(NoValueError, match=r"several of 'auroc'; give one of 'auroc \(set mnist\)', 'auroc"):
        found["auroc"]


def test_what_was_skipped_says_why(plant: Callable[..., None]) -> None:
    plant("picky", unsupported="return 'it is <b>small</b>'")
    found = vaebench.evaluate("vae", "two-moons", ["likelihood", "picky"], "quick")
    assert "one" not in found
    with pytest.raises(NoValueError, match=r"unknown column .one.*; picky: skipped: it is <b>small</b>"):
        found["one"]
    shown = found._repr_html_()
    assert "skipped: it is &lt;b&gt;small&lt;/b&gt;" in shown
    assert shown.count("picky") == 1
    assert "skipped: it is <b>small</b>" in repr(found)
    assert f"{found['nll']}" in shown


def test_a_failure_is_told_and_costs_its_own_rows_only(plant: Callable[..., None]) -> None:
    failures: list[str] = []

    class Heard:
        def begin(self, metric: str, place: int, metrics: int) -> None: ...
        def tell(self, text: str) -> None: ...
        def start(self, metric: str, blocks: int) -> None: ...
        def advance(self, blocks: int) -> None: ...
        def warn(self, text: str) -> None: ...
        def fetch(self, done: int, total: int | None, name: str) -> None: ...
        def failed(self, metric: str, error: Exception) -> None:
            failures.append(f"{metric}: {error}")

    plant("bad", "raise RuntimeError('boom')")
    found = vaebench.evaluate("vae", "two-moons", ["bad", "likelihood"], "quick", progress=Heard())
    assert failures == ["bad: boom"]
    assert {row.status for row in found.rows if row.metric == "bad"} == {"failed"}
    assert "nll" in found


def test_tables_have_the_rows_with_their_types(results: Results, tmp_path: Path) -> None:
    table = results.to_pandas()
    assert table["column"].tolist() == [row.column for row in results.rows]
    assert str(table.dtypes["created"]).startswith("datetime64")
    assert {str(table.dtypes[name]) for name in ("seed", "n", "metric_version")} == {"Int64"}
    results.write(tmp_path)
    board = vaebench.board("digits", tmp_path, table="rows")
    assert board.set_index("column").loc["nll", "value"] == results["nll"].value
    shipped = vaebench.board("digits", table="rows")
    assert {"vae", "dpvae"} <= set(shipped["model"])


def test_weights_in_memory_are_named_by_content(model: Any) -> None:
    digits = vaebench.load_dataset("digits")
    first = of_model(model, digits, "a").weights_sha256
    assert of_model(vaebench.load_model("vae", digits), digits, "b").weights_sha256 == first
    name, tensor = next(iter(model.named_parameters()))
    with torch.no_grad():
        tensor.view(-1)[0] += 1
        changed = of_model(model, digits, "a").weights_sha256
        tensor.view(-1)[0] -= 1
    assert changed != first, name
    assert of_model(model.double(), digits, "a").weights_sha256 != first
    model.float()


def test_the_suite_of_checks_from_python(model: Any) -> None:
    found = vaebench.check(model, "digits", metrics=["likelihood"])
    assert all(check.passed for check in found)
    assert [check.name for check in found] == [
        check.name for check in vaebench.check("vae", "digits", metrics=["likelihood"])
    ]
    lines = str(found).splitlines()
    assert lines == [f"ok        {check.name}" for check in found]
    broken = api.Checks([Check("adds up", False, "3"), Check("is odd", False, "too few", undecided=True)])
    assert str(broken) == "FAILED    adds up: 3\nundecided is odd: too few"


SAME: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "metric": (
        lambda: vaebench.evaluate("vae", "digits", "likelihod"),
        ("run", "--model", "vae", "--dataset", "digits", "--metric", "likelihod"),
    ),
    "column": (
        lambda: vaebench.evaluate("vae", "digits", "nll"),
        ("run", "--model", "vae", "--dataset", "digits", "--metric", "nll"),
    ),
    "model": (lambda: vaebench.evaluate("vea", "digits"), ("run", "--model", "vea", "--dataset", "digits")),
    "dataset": (lambda: vaebench.evaluate("vae", "mnits"), ("run", "--model", "vae", "--dataset", "mnits")),
    "device": (
        lambda: vaebench.evaluate("vae", "digits", device="gpu"),
        ("run", "--model", "vae", "--dataset", "digits", "--device", "gpu"),
    ),
    "card": (lambda: vaebench.evaluate("absent.toml"), ("run", "--card", "absent.toml")),
    "checked metric": (
        lambda: vaebench.check("vae", "digits", metrics=["nll"]),
        ("check", "--model", "vae", "--dataset", "digits", "--metric", "nll"),
    ),
}


@pytest.mark.parametrize("mistake", SAME)
def test_a_mistake_has_the_verbs_words(mistake: str, refused: Callable[..., str], boards: Path) -> None:
    call, verb = SAME[mistake]
    with pytest.raises(UserError) as error:
        call()
    more = ("--leaderboards", boards) if verb[0] == "run" else ()
    refused(3 if isinstance(error.value, DataError) else 2, (*verb, *more), str(error.value))


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "no model": (lambda: vaebench.evaluate(torch.nn.Linear(1, 1), "digits"), "a Linear is a network"),  # type: ignore[arg-type]
    "none": (lambda: vaebench.evaluate(None, "digits"), "a NoneType is not a model"),  # type: ignore[arg-type]
    "no dataset": (lambda: vaebench.evaluate("vae"), "'vae' needs a dataset"),
    "no dataset of a model": (
        lambda: vaebench.evaluate(vaebench.load_model("vae", "digits")),
        "a model in memory needs a dataset",
    ),
    "other data": (
        lambda: vaebench.evaluate(vaebench.load_model("vae", "digits"), "two-moons"),
        "give data that fit",
    ),
    "no metric": (lambda: vaebench.evaluate("vae", "digits", []), "no metric is named"),
    "preset": (lambda: vaebench.evaluate("vae", "digits", preset="fast"), "unknown preset 'fast'"),  # type: ignore[arg-type]
    "seed": (lambda: vaebench.evaluate("vae", "digits", seed=2**63), "should be from 0 to 9223372036854775807"),
    "negative seed": (lambda: vaebench.evaluate("vae", "digits", seed=-1), "seed -1 should be"),
    "dtype": (lambda: vaebench.evaluate("vae", "digits", dtype="float16"), "unknown dtype 'float16'"),
    "name": (lambda: vaebench.evaluate("vae", "digits", QUICK, name="../x"), "model name '../x'"),
    "weights": (lambda: vaebench.evaluate("vae", "digits", QUICK, weights="absent"), "weights absent are absent"),
    "empty board": (lambda: vaebench.board("digits", "absent"), "the board of 'digits' in absent is empty"),
    "board of nothing": (lambda: vaebench.board("digit"), "unknown dataset 'digit'; did you mean 'digits'?"),
    "dataset": (lambda: vaebench.load_dataset("mnits"), "unknown dataset 'mnits'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_of_the_packages_own_kind(mistake: str) -> None:
    call, says = MISTAKES[mistake]
    with pytest.raises(UserError) as error:
        call()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_data_in_memory_that_do_not_fit_their_space_are_named() -> None:
    x = torch.zeros(9, 2)
    x[4, 1] = torch.nan
    dataset = Dataset("mine", Space((2,), None, "density"), {"test": Split("test", x)}, "")
    with pytest.raises(DataError, match=r"dataset 'mine', split 'test': .*; example 4 is not"):
        vaebench.evaluate(Flat(dataset.space, Options(2, (4,), "gaussian")), dataset, "likelihood")
