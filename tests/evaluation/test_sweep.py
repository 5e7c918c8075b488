"""Several models and datasets in one run: which pairs, in which order, what is missing, and that none stops another."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from board_rows import NO_VALUE
from click.testing import Result
from safetensors import safe_open
from safetensors.torch import save_file

from vaebench.boards import store as board
from vaebench.boards.rows import Row
from vaebench.cli.common import find_cards
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.data import Dataset, Source
from vaebench.core.registry import load_dataset
from vaebench.evaluation import sweep
from vaebench.evaluation.entry import Entry, of_card
from vaebench.evaluation.journal import Journal
from vaebench.evaluation.run import Settings, parameters
from vaebench.metrics.likelihood import Likelihood
from vaebench.models import card as cards

Invoke = Callable[..., Result]
Refused = Callable[..., str]
QUICK = ("--metric", "likelihood", "--set", "likelihood.samples=2")
IDS = cards.ids()


@pytest.mark.parametrize(
    ("models", "datasets", "expected"),
    [
        (["dpvae"], ["digits"], {("digits", "dpvae")}),
        (["dpvae,vae"], ["digits"], {("digits", "dpvae"), ("digits", "vae")}),
        (["dpvae", "vae"], ["digits,mnist"], {(d, m) for d in ("digits", "mnist") for m in ("dpvae", "vae")}),
        (["dpvae", "dp*"], ["two-*"], {("two-moons", "dpvae")}),
        (["nvae"], ["*"], {(d, m) for d, m in IDS if m == "nvae"}),
        (["*-vae-?"], ["digits"], {("digits", "beta-vae-b"), ("digits", "beta-vae-h")}),
        (["*"], ["*"], set(IDS)),
    ],
)
def test_names_commas_and_patterns_choose_the_pairs_that_have_a_card(
    models: list[str], datasets: list[str], expected: set[tuple[str, str]]
) -> None:
    found = find_cards(models, datasets, None)
    assert len(found) == len(expected)
    assert {(card.dataset, card.name) for card in found} == expected


MISTAKES: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "pattern of models": (("--model", "dpvea*", "--dataset", "digits"), ["unknown model 'dpvea*'", "'dpvae'?"]),
    "pattern of datasets": (("--model", "vae", "--dataset", "mnits*"), ["unknown dataset 'mnits*'", "'mnist'?"]),
    "name in a list": (("--model", "dp*,vea", "--dataset", "digits"), ["unknown model 'vea'", "did you mean 'vae'?"]),
    "dataset in a list": (("--model", "vae", "--dataset", "digits,mnits"), ["unknown dataset 'mnits'", "'mnist'?"]),
    "names without a card": (
        ("--model", "vae,nvae", "--dataset", "digits,two-moons"),
        ["model 'nvae' has no card on dataset 'two-moons'"],
    ),
    "pattern without a card": (("--model", "vae,crvae-*", "--dataset", "two-moons"), ["'crvae-*': no card"]),
    "dataset without a card": (("--model", "dp*", "--dataset", "digits,notmnist"), ["'notmnist': no card", "dp*"]),
    "no dataset": (("--model", "vae", "--model", "dpvae"), ["needs --dataset"]),
    "weights of many": (
        ("--model", "dp*,vae", "--dataset", "digits", "--checkpoint", "x.safetensors"),
        ["--weights, --name", "are of one model, and 2 are asked for"],
    ),
    "card for many": (("--card", "x.toml", "--dataset", "digits", "--dataset", "mnist"), ["--card x.toml", "one"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_grid_is_told_before_any_work(name: str, refused: Refused, boards: Path) -> None:
    args, says = MISTAKES[name]
    refused(2, ("run", *args, "--leaderboards", boards), *says)
    assert not boards.exists()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", None)


def _entry(name: str, dataset: Dataset) -> Entry:
    card = cards.find(name, "digits")
    return of_card(card, card.weights_path(), dataset)


def _row(entry: Entry, measured: Likelihood, /, **changes: Any) -> Row:
    known = next(row for row in board.read(files.shipped_boards(), "digits") if row.metric == "likelihood")
    about = {
        "model": entry.name,
        "weights_sha256": entry.weights_sha256,
        "data_fingerprint": entry.dataset.fingerprint,
        "metric": "likelihood",
        "metric_version": measured.version,
        "parameters": parameters(measured),
        "seed": 3,
        "dtype": "float32",
        **NO_VALUE,
        "status": "ok",
        "value": 1.0,
        "n": 1,
        "reason": None,
    }
    return dataclasses.replace(known, **{**about, **changes})


SETTINGS = Settings(seed=3)
OTHERS: list[dict[str, Any]] = [
    {"model": "dpvae"},
    {"weights_sha256": "0" * 64},
    {"data_fingerprint": "0" * 64},
    {"metric": "fid"},
    {"metric_version": 0},
    {"parameters": parameters(Likelihood(samples=3))},
    {"seed": 4},
    {"dtype": "float64"},
    {"status": "failed", **NO_VALUE, "n": None, "reason": "boom"},
    {"status": "skipped", **NO_VALUE, "n": None, "reason": "no"},
]


@pytest.mark.parametrize("changes", OTHERS, ids=str)
def test_a_metric_is_missing_unless_a_row_agrees_in_everything(changes: dict[str, Any], digits: Dataset) -> None:
    entry, metric = _entry("vae", digits), Likelihood(samples=2)
    row, other = _row(entry, metric), _row(entry, metric, **changes)
    chosen = {"likelihood": metric, "more": Likelihood(samples=9)}
    assert sweep.missing(entry, chosen, SETTINGS, [other]) == chosen
    assert sweep.missing(entry, chosen, SETTINGS, [other, row]) == {"more": chosen["more"]}


def test_the_longest_are_first_by_their_rows_or_else_by_weights_and_examples(digits: Dataset) -> None:
    metric = Likelihood(samples=2)
    entries = {name: _entry(name, digits) for name in ("vae", "iwae", "dpvae", "jl1-vae")}
    size = {name: entry.weights.stat().st_size for name, entry in entries.items() if entry.weights is not None}
    assert len({size[name] for name in ("vae", "iwae", "jl1-vae")}) == 1
    jobs: dict[str, sweep.Job] = {name: (entry, {"likelihood": metric}) for name, entry in entries.items()}

    def order(rows: list[Row]) -> list[str]:
        return [entry.name for entry, _ in sweep.longest_first(list(jobs.values()), rows)]

    assert order([])[0] == "dpvae"  # the most weights
    took = {"vae": 2.5, "iwae": 3.5}
    rows = [_row(entries[name], metric, seconds=seconds) for name, seconds in took.items()]
    rows.append(_row(entries["vae"], metric, seconds=0.1))  # from the journal: what it took before counts
    assert size["dpvae"] > 3.5 * size["vae"] / 3
    assert order(rows) == ["dpvae", "iwae", "jl1-vae", "vae"]  # jl1-vae at the mean rate of the others: 3 s
    other = _row(entries["jl1-vae"], Likelihood(samples=99), seconds=1e9)  # another amount of work says nothing
    assert order([*rows, other]) == order(rows)
    jobs["jl1-vae"] = (entries["jl1-vae"], {"likelihood": Likelihood(split="train", samples=2)})
    assert order([])[0] == "jl1-vae"  # four times the examples


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of two small models on digits, one on two-moons, and one whose weights were altered."""
    root = tmp_path / "zoo"
    for name, dataset in (("vae", "digits"), ("dpvae", "digits"), ("vae", "two-moons"), ("iwae", "digits")):
        card = cards.find(name, dataset)
        assert card.path is not None
        (root / dataset).mkdir(parents=True, exist_ok=True)
        for file in (card.path, card.weights_path()):
            (root / dataset / file.name).write_bytes(file.read_bytes())
    (root / "digits" / "iwae.safetensors").write_bytes(b"altered")
    monkeypatch.setattr(files, "zoo", lambda: root)
    return root


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has the name of each dataset that this process reads, each time."""
    names: list[str] = []
    load = Source.load

    def counted(self: Source, root: Path, download: bool = False) -> Dataset:
        names.append(self.name)
        return load(self, root, download)

    monkeypatch.setattr(Source, "load", counted)
    return names


def test_failures_stop_nothing_and_are_told_at_the_end(
    zoo: Path, boards: Path, vaebench: Invoke, loaded: list[str], plant: Callable[..., None]
) -> None:
    plant("picky", "if run.model_name == 'dpvae': raise RuntimeError('boom')")
    args = ("run", "--model", "*", "--dataset", "*", *QUICK, "--metric", "picky", "--leaderboards", boards)
    result = vaebench(*args)
    assert result.exit_code == 1
    rows = [row for dataset in ("digits", "two-moons") for row in board.read(boards, dataset)]
    assert {(row.dataset, row.model, row.metric, row.status) for row in rows} == {
        (dataset, model, metric, "failed" if (model, metric) == ("dpvae", "picky") else "ok")
        for dataset, model in (("digits", "vae"), ("digits", "dpvae"), ("two-moons", "vae"))
        for metric in ("likelihood", "picky")
    }
    assert sorted(loaded) == ["digits", "two-moons"]
    summary, failures = result.stdout.split("why it failed")
    lines = [line.strip("│").replace("│", " ").split() for line in summary.splitlines() if line.startswith("│")]
    assert {tuple(line[:5]) for line in lines} == {
        ("digits", "dpvae", "1", "0", "1"),
        ("digits", "iwae", "0", "0", "0"),
        ("digits", "vae", "2", "0", "0"),
        ("two-moons", "vae", "2", "0", "0"),
    }
    assert "RuntimeError: boom" in failures
    assert "the file or the card was altered" in failures
    assert "iwae on digits: evaluation failed: DataError: weights" in result.stderr
    assert "dpvae on digits: picky failed: RuntimeError: boom" in result.stderr
    assert "(4 of 4)\n" in result.stderr
    assert result.stderr.endswith(f"written to {boards}\n")


def test_json_has_the_rows_of_all_pairs(zoo: Path, boards: Path, vaebench: Invoke) -> None:
    result = vaebench("run", "--model", "vae", "--dataset", "*", *QUICK, "--leaderboards", boards, "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert {(row["dataset"], row["model"]) for row in rows} == {("digits", "vae"), ("two-moons", "vae")}
    stored = [row for dataset in ("digits", "two-moons") for row in board.read(boards, dataset)]
    assert len(rows) == len(stored)


def test_only_missing_measures_nothing_twice(
    zoo: Path, boards: Path, vaebench: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[str] = []
    map_ = Journal.put
    monkeypatch.setattr(Journal, "put", lambda self, key, arrays: (passes.append(key.dataset), map_(self, key, arrays)))
    args = ("run", *QUICK, "--leaderboards", boards, "--only-missing", "--json")
    assert vaebench(*args, "--model", "vae", "--dataset", "digits").exit_code == 0
    before = (boards / "digits" / "vae.parquet").read_bytes()
    passes.clear()
    result = vaebench(*args, "--model", "vae,dpvae", "--dataset", "digits")
    assert {row["model"] for row in json.loads(result.stdout)} == {"dpvae"}
    assert len(passes) == 4
    result = vaebench(*args, "--model", "vae,dpvae", "--dataset", "digits")
    assert (result.exit_code, json.loads(result.stdout), len(passes)) == (0, [], 4)
    assert result.stderr.endswith(f"nothing is missing in {boards}\n")
    alone = vaebench(*args[:-1], "--model", "vae", "--dataset", "digits")
    assert (alone.exit_code, alone.stdout) == (0, "")
    assert alone.stderr == f"nothing is missing in {boards / 'digits' / 'vae'}.parquet\n"
    assert (boards / "digits" / "vae.parquet").read_bytes() == before


def test_every_dataset_with_a_card_is_a_dataset() -> None:
    assert {dataset for dataset, _ in IDS} <= set(plugins.names("datasets"))


def test_other_weights_have_a_name_of_their_own(
    zoo_card: Path, boards: Path, vaebench: Invoke, refused: Refused, tmp_path: Path
) -> None:
    with safe_open(zoo_card.with_suffix(".safetensors"), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    half = tmp_path / "half.safetensors"
    save_file({name: tensor.half() for name, tensor in tensors.items()}, half)
    args = ("run", "--card", zoo_card, *QUICK, "--leaderboards", boards, "--json")
    assert vaebench(*args).exit_code == 0
    named = vaebench(*args, "--weights", half, "--name", "vae-half")
    assert {row["model"] for row in json.loads(named.stdout)} == {"vae-half"}
    assert named.stderr.splitlines()[-1] + "\n" == f"written to {boards / 'digits' / 'vae-half'}.parquet\n"
    assert {row.model for row in board.read(boards, "digits")} == {"vae", "vae-half"}
    again = ("verify", "vae-half", "digits", "--leaderboards", boards, "--json", "--dry-run", "--card", zoo_card)
    told = vaebench(*again, "--weights", half)
    assert told.stdout, told.stderr
    assert {each["verdict"] for each in json.loads(told.stdout)} == {"verified"}
    refused(2, again, "is of vae, not of vae-half")
    for name, says in (("../x", "model name '../x'"), ("dpvae", "'dpvae' is a model of the zoo on digits")):
        refused(2, (*args, "--weights", half, "--name", name), says)
    unnamed = vaebench(*args, "--weights", half)
    assert "has rows of vae with other weights" in unnamed.stderr
    assert "--name tells these from them" in unnamed.stderr
