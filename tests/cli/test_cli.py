"""Every verb does what its help says: data on stdout, talk on stderr, files that agree, exit codes."""

import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from vaebench.boards import store as board
from vaebench.boards.rows import KINDS, Row
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.metric import Curve
from vaebench.evaluation import selftest
from vaebench.evaluation.selftest import latents
from vaebench.models import card as cards

Invoke = Callable[..., Result]
WriteCard = Callable[..., Path]
Args = tuple[object, ...]
VERBS: list[tuple[str, ...]] = [
    (), ("run",), ("train",), ("ls",), ("board",), ("board", "show"), ("board", "csv"), ("board", "diff"),
    ("board", "html"), ("verify",), ("reproduce",), ("export",), ("data",), ("data", "ls"), ("data", "get"),
    ("cache",), ("cache", "ls"), ("cache", "clear"), ("selftest",), ("check",),
]  # fmt: skip


def _json(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def _process(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from vaebench.cli.main import main; main(prog_name='vaebench')", *args]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False
    )


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_verb_has_help(verb: tuple[str, ...], option: str, vaebench: Invoke) -> None:
    result = vaebench(*verb, option)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.startswith(f"Usage: {' '.join(('vaebench', *verb))} ")
    assert len(result.stdout.splitlines()) > 3


@pytest.mark.parametrize("verb", [(), ("board",), ("data",), ("cache",)], ids=" ".join)
def test_a_group_alone_shows_its_help(verb: tuple[str, ...], vaebench: Invoke) -> None:
    assert "Commands:" in vaebench(*verb).output


def test_version_is_told(vaebench: Invoke) -> None:
    assert re.fullmatch(r"vaebench, version \d+\.\d+\S*\n", vaebench("--version").stdout)


QUICK_VERBS = [("--help",), ("run", "--help"), *(("ls", kind) for kind in ("models", "datasets", "metrics"))]


@pytest.mark.parametrize("args", QUICK_VERBS, ids=" ".join)
def test_help_and_ls_import_no_torch_and_are_quick(args: tuple[str, ...]) -> None:
    script = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in ('torch', 'torchvision', 'sklearn', 'scipy', 'pandas'):\n"
        "            raise AssertionError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from vaebench.cli.main import main; main()\n"
    )
    seconds = []
    for _ in range(3):
        start = os.times()
        done = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, timeout=60, check=False)
        end = os.times()
        seconds.append(end.children_user + end.children_system - start.children_user - start.children_system)
        assert (done.returncode, done.stderr) == (0, b"")
        if seconds[-1] < 0.5:
            return
    assert min(seconds) < 1.5, seconds  # of the processor: 0.4 on a machine that does nothing else


@pytest.mark.processes
@pytest.mark.parametrize(
    "args",
    [
        ("ls", "datasets"),
        ("ls", "datasets", "--json"),
        ("--help",),
        ("board", "csv", "two-moons"),
        ("export", "vae", "two-moons"),
        ("export", "vae", "two-moons", "--format", "jsonl"),
    ],
    ids=" ".join,
)
def test_a_closed_stdout_is_no_error(args: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    script = "from vaebench.cli.main import main; main()"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", script, *args], stdout=write, stderr=subprocess.PIPE, env=buffered, timeout=60,
        check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("kind", ["models", "datasets", "metrics", "adapters", "objectives"])
def test_ls_json_lists_what_ls_shows(kind: str, vaebench: Invoke) -> None:
    listed = _json(vaebench("ls", kind, "--json"))
    shown = vaebench("ls", kind).stdout
    if kind == "models":
        assert [(line["dataset"], line["model"]) for line in listed] == cards.ids()
        assert {line["weights"] for line in listed} <= {"here", "none"}
    else:
        assert [line["name"] for line in listed] == plugins.names(kind)  # type: ignore[arg-type]
    for line in listed:
        assert line["summary"]
        assert line.get("name", line.get("model")) in shown


def test_run_json_has_every_field_of_every_row(quick: Args, vaebench: Invoke, boards: Path) -> None:
    rows = _json(vaebench(*quick, "--json"))
    assert [row["column"] for row in rows] == ["nll", "bpd", "elbo", "nll_tenth", "rate", "distortion", "ess"]
    for row in rows:
        assert row.keys() == KINDS.keys()
        assert row["parameters"] == {"repeats": 3, "samples": 10, "split": "test"}
        assert row["comparability"]["mass"] == "proper"
        assert row["low"] < row["value"] < row["high"]
        assert (row["status"], row["n"], row["seed"]) == ("ok", 360, 0)
    assert {row["weights_sha256"] for row in rows} == {files.sha256(cards.find("vae", "digits").weights_path())}
    shown = _json(vaebench("board", "show", "digits", "--json", "--leaderboards", boards))
    assert sorted(shown, key=str) == sorted(rows, key=str)


def test_run_prints_a_table_and_says_where_the_rows_are(quick: Args, vaebench: Invoke, boards: Path) -> None:
    result = vaebench(*quick)
    assert result.exit_code == 0
    work, written = result.stderr.splitlines()
    assert re.fullmatch(r"likelihood: 360 images . 10 draws, about .+ on this machine \(.+ measured\)", work)
    assert written == f"written to {boards / 'digits' / 'vae'}.parquet"
    assert result.stdout.startswith("vae on digits, seed 0")
    assert re.search(r"│ nll +│ +\d+\.\d+ ± \d+\.\d+ \(bound loose\) │ nats +│ lower +│ 360 │", result.stdout)
    assert "\x1b" not in result.stdout


def test_parquet_and_csv_agree(quick: Args, vaebench: Invoke, boards: Path) -> None:
    assert vaebench(*quick).exit_code == 0
    text = vaebench("board", "csv", "digits", "--leaderboards", boards).stdout
    (line,) = csv.DictReader(io.StringIO(text))
    rows = board.read(boards, "digits")
    assert len(rows) == 7
    for row in rows:
        assert float(line[row.column]) == row.value
        assert float(line[f"{row.column}_stderr"]) == row.stderr
        assert (line["model"], line["n"], line["status"]) == (row.model, str(row.n), row.status)
    (line,) = csv.DictReader(io.StringIO((boards / "digits.csv").read_text()))
    (nll,) = (row for row in rows if row.column == "nll")
    (bpd,) = (row for row in rows if row.column == "bpd")
    assert (line["rank"], line["model"], line["marks"]) == ("\u2013", "vae", "bound loose: bpd")
    assert float(line["bpd (bits/dim, lower is better)"]) == pytest.approx(bpd.value, abs=bpd.stderr)
    assert nll.marks == bpd.marks


def _hashes(root: Path) -> dict[str, tuple[str, int]]:
    found = [path for path in root.rglob("*") if path.is_file()]
    return {str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in found}


@pytest.mark.parametrize("more", [(), ("--fresh",), ("--in-flight", 3)], ids=str)
def test_a_second_run_leaves_every_byte(more: Args, quick: Args, vaebench: Invoke, boards: Path) -> None:
    assert vaebench(*quick).exit_code == 0
    before = _hashes(boards)
    assert vaebench(*quick, *more).exit_code == 0
    assert _hashes(boards) == before
    assert len(before) == 3  # Parquet, CSV, and the values of each image


def test_presets_differ_in_samples_alone() -> None:
    presets: Any = plugins.load("metrics", "likelihood")
    assert {name: metric.samples for name, metric in presets.items()} == {"quick": 100, "standard": 1000, "paper": 5000}


def test_set_changes_parameters_and_the_class(quick: Args, vaebench: Invoke, boards: Path) -> None:
    first = _json(vaebench(*quick, "--json"))[0]
    second = _json(vaebench(*quick, "--set", "likelihood.samples=20", "--json"))[0]
    assert second["parameters"] == {**first["parameters"], "samples": 20}
    assert second["comparability"] == {**first["comparability"], "samples": 20}
    assert second["value"] < first["value"]  # the bound is tighter
    assert len(board.read(boards, "digits")) == 14
    shown = vaebench("board", "show", "digits", "--all", "--leaderboards", boards).stdout
    assert (shown.count("samples 10,"), shown.count("samples 20,")) == (1, 1)
    assert not re.search(r"\d\. ", shown)  # a class of one model has no rank


def test_board_show_ranks_within_a_class_and_orders_by_a_column(quick: Args, vaebench: Invoke, boards: Path) -> None:
    assert vaebench(*quick).exit_code == 0
    assert vaebench(*quick, "--model", "dpvae").exit_code == 0
    show = ("board", "show", "digits", "--leaderboards", boards)
    rows = {row.model: row for row in board.read(boards, "digits") if row.column == "nll"}
    best = min(rows, key=lambda model: rows[model].value or 0.0)
    lines = [line for line in vaebench(*show, "--by", "nll").stdout.splitlines() if line.startswith("│")]
    order = [line.split()[1] for line in lines]  # of each of the tables side by side
    assert order == [best, *sorted(rows.keys() - {best})] * (len(order) // 2)
    assert vaebench(*show, "--metric", "likelihood").stdout == vaebench(*show, "--all").stdout


@pytest.mark.parametrize(
    ("more", "says"),
    [(("--by", "nl"), ["unknown column 'nl'", "'nll'?"]), (("--metric", "likelyhood"), ["did you mean 'likelihood'?"])],
)
def test_board_show_suggests_the_nearest(
    more: Args, says: list[str], quick: Args, vaebench: Invoke, refused: Callable[..., str], boards: Path
) -> None:
    assert vaebench(*quick).exit_code == 0
    refused(2, ("board", "show", "digits", "--leaderboards", boards, *more), "the board of 'digits'", *says)


def test_another_seed_is_a_row_of_its_own_within_the_errors(quick: Args, vaebench: Invoke, boards: Path) -> None:
    first, second = (_json(vaebench(*quick, "--json", "--seed", seed)) for seed in (0, 1))
    assert len(board.read(boards, "digits")) == 14
    for one, other in zip(first, second, strict=True):
        assert one["column"] == other["column"]
        assert one["value"] != other["value"]
        assert abs(one["value"] - other["value"]) < 4 * (one["stderr"] ** 2 + other["stderr"] ** 2) ** 0.5


def test_a_user_s_own_model_is_trained_and_evaluated_from_any_folder(
    write_card: WriteCard, vaebench: Invoke, tmp_path: Path, boards: Path
) -> None:
    out = tmp_path / "out"
    trained = _json(vaebench("train", "--card", write_card(), "--out", out, "--json"))
    assert trained["card"] == str(out / "mine.toml")
    assert {path.name for path in out.iterdir()} == {"mine.toml", "mine.safetensors", "mine.log.jsonl"}
    more = ("--metric", "likelihood", "--set", "likelihood.samples=10", "--leaderboards", boards, "--json")
    by_card = _json(vaebench("run", "--card", out / "mine.toml", *more))
    assert {(row["model"], row["dataset"]) for row in by_card} == {("mine", "digits")}
    recipe = write_card(folder=tmp_path / "elsewhere")  # says nothing of weights
    by_checkpoint = _json(vaebench("run", "--card", recipe, "--checkpoint", out / "mine.safetensors", *more, "--fresh"))
    assert [row["value"] for row in by_checkpoint] == [row["value"] for row in by_card]
    assert {row["weights_sha256"] for row in by_checkpoint} == {files.sha256(out / "mine.safetensors")}


def test_a_card_without_dataset_takes_the_option(write_card: WriteCard, vaebench: Invoke, tmp_path: Path) -> None:
    card = write_card(changes={"dataset": None})
    out = tmp_path / "out"
    assert vaebench("train", "--card", card, "--dataset", "digits", "--out", out).exit_code == 0
    assert cards.read(out / "mine.toml").dataset == "digits"


def test_a_checkpoint_takes_the_place_of_the_zoo_s_weights(
    quick: Args, zoo_card: Path, vaebench: Invoke, boards: Path
) -> None:
    first = _json(vaebench(*quick, "--json"))
    again = _json(vaebench(*quick, "--checkpoint", zoo_card.with_suffix(".safetensors"), "--fresh", "--json"))
    assert [row["value"] for row in again] == [row["value"] for row in first]


def test_train_options_take_the_place_of_the_card_s(write_card: WriteCard, vaebench: Invoke, tmp_path: Path) -> None:
    card = write_card()
    for folder, options in (("a", ()), ("b", ("--seed", 5)), ("c", ("--epochs", 3)), ("d", ())):
        assert vaebench("train", "--card", card, "--out", tmp_path / folder, *options).exit_code == 0
    found = {folder: cards.read(tmp_path / folder / "mine.toml") for folder in "abcd"}
    recipes = {folder: card.training for folder, card in found.items()}
    assert {folder: (r.seed, r.epochs) for folder, r in recipes.items() if r} == {
        "a": (0, 2), "b": (5, 2), "c": (0, 3), "d": (0, 2)
    }  # fmt: skip
    weights = {folder: card.weights.sha256 for folder, card in found.items() if card.weights}
    assert weights["a"] == weights["d"]
    assert len(set(weights.values())) == 3
    assert len((tmp_path / "c" / "mine.log.jsonl").read_text().splitlines()) == 3


def test_the_same_training_again_changes_nothing(write_card: WriteCard, vaebench: Invoke, tmp_path: Path) -> None:
    train = ("train", "--card", write_card(), "--out", tmp_path / "out")
    assert vaebench(*train).exit_code == 0
    before = _hashes(tmp_path / "out")
    assert vaebench(*train).exit_code == 0
    assert _hashes(tmp_path / "out") == before


def test_boards_that_are_shipped_are_shown_where_there_is_no_folder(
    quick: Args, vaebench: Invoke, boards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vaebench(*quick).exit_code == 0
    monkeypatch.setattr(files, "shipped_boards", lambda: boards)
    elsewhere = ("--leaderboards", tmp_path / "none")
    result = vaebench("board", "csv", "digits", *elsewhere)
    assert result.stdout.startswith("model,metric,facet,")
    assert result.stderr == f"there is no folder {tmp_path / 'none'}: this is the board that vaebench ships\n"
    assert "this is the board that vaebench ships" in vaebench("board", "show", "digits", *elsewhere).stderr
    assert vaebench("board", "csv", "digits", "--leaderboards", boards).stderr == ""


def test_data_ls_tells_here_absent_and_damaged_apart(
    vaebench: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(b"<html>")
    listed = {line["name"]: line for line in _json(vaebench("data", "ls", "--json", "--data", tmp_path))}
    assert list(listed) == plugins.names("datasets")
    assert {listed[name]["state"] for name in ("digits", "shapes", "sprites", "two-moons")} == {"bundled"}
    assert re.fullmatch("[0-9a-f]{12}", listed["digits"]["fingerprint"])
    assert listed["cifar10"] == {"name": "cifar10", "state": "absent", "splits": "", "fingerprint": ""}
    assert listed["mnist"]["state"] == "damaged"
    assert "is not an IDX file" in listed["mnist"]["splits"]
    monkeypatch.setattr(plugins, "names", lambda kind: ["digits", "mnist"])
    shown = vaebench("data", "ls", "--data", tmp_path)
    assert shown.exit_code == 0
    assert "damaged" in shown.stdout


@pytest.mark.parametrize("name", ["digits", "two-moons"])
def test_data_get_of_a_bundled_set_says_what_it_holds(name: str, vaebench: Invoke) -> None:
    result = vaebench("data", "get", name)
    assert (result.exit_code, result.stdout) == (0, "")
    assert re.fullmatch(rf"{name}: train \d+, test \d+, [0-9a-f]{{64}}\n", result.stderr)


@pytest.mark.slow  # `.ci/run` runs it
def test_selftest_passes(vaebench: Invoke) -> None:
    told = _json(vaebench("selftest", "--json"))
    assert len(told) > 150
    assert all(answer["passed"] for answer in told)


def test_selftest_tells_each_answer(vaebench: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = ("neighbours", "frechet")
    monkeypatch.setattr(selftest, "ANSWERS", {name: selftest.ANSWERS[name] for name in chosen})
    told = _json(vaebench("selftest", "--json"))
    assert len({answer["estimator"] for answer in told}) == len(told)
    assert {"estimator", "exact", "estimate", "stderr", "error", "passed"} <= told[0].keys()
    assert all(answer["passed"] for answer in told)


def test_selftest_fails_where_an_estimator_is_broken(vaebench: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    real = latents.knn_kl
    monkeypatch.setattr(latents, "knn_kl", lambda x, y: real(x, y) + 0.1)
    monkeypatch.setattr(selftest, "ANSWERS", {name: selftest.ANSWERS[name] for name in ("neighbours", "frechet")})
    result = vaebench("selftest", "--dtype", "float64")
    assert result.exit_code == 1
    verdicts = [line for line in result.stdout.splitlines() if line.startswith("│")]
    assert len(verdicts) == 14
    assert all(("FAILED" in line) == ("skl_knn" in line) for line in verdicts)


def test_check_passes_on_the_zoo_and_on_a_card_without_weights(write_card: WriteCard, vaebench: Invoke) -> None:
    results = _json(vaebench("check", "--model", "vae", "--dataset", "digits", "--metric", "likelihood", "--json"))
    assert results
    assert all(result["passed"] for result in results)
    assert vaebench("check", "--card", write_card()).exit_code == 0


def test_check_fails_where_a_promise_is_broken(
    write_card: WriteCard, vaebench: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaebench.models.adapters.flat import Flat

    real = Flat.draw
    monkeypatch.setattr(
        Flat, "draw", lambda self, x, samples: (d := real(self, x, samples))._replace(log_prior=d.log_prior + 1)
    )
    result = vaebench("check", "--card", write_card())
    assert result.exit_code == 1
    assert "FAILED" in result.stdout


COMPLETIONS = {
    ("vaebench run --model d", 3): {"dpvae"},
    ("vaebench run --model ", 3): {"dpvae", "vae"},
    ("vaebench run --dataset dig", 3): {"digits"},
    ("vaebench run --metric lik", 3): {"likelihood"},
    ("vaebench board show dig", 3): {"digits"},
    ("vaebench data get two", 3): {"two-moons"},
    ("vaebench se", 1): {"selftest"},
}


@pytest.mark.parametrize(("words", "position"), COMPLETIONS, ids=str)
def test_the_shell_completes_names(words: str, position: int) -> None:
    done = _process(_VAEBENCH_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(position))
    found = {line.partition(",")[2] for line in done.stdout.splitlines()}
    assert COMPLETIONS[words, position] <= found
    assert done.stderr == ""
    if position == 3 and not words.endswith(" "):
        assert all(name.startswith(words.split()[-1]) for name in found)


def test_a_curve_is_written_and_read_back(
    quick: Args, plant: Callable[..., None], vaebench: Invoke, boards: Path
) -> None:
    curve = Curve((1.0, 2.0), (0.5, 0.25), "bits", "error")
    plant(
        "curved",
        "yield Measurement('two', 2.0, None, 360, Curve((1.0, 2.0), (0.5, 0.25), 'bits', 'error'))",
    )
    (row,) = (row for row in _json(vaebench(*quick, "--metric", "curved", "--json")) if row["column"] == "two")
    assert row["curve"] == {"x": [1.0, 2.0], "y": [0.5, 0.25], "x_name": "bits", "y_name": "error"}
    assert row["stderr"] is None
    kept: list[Row] = [row for row in board.read(boards, "digits") if row.column == "two"]
    assert kept[0].curve == tuple(curve)
