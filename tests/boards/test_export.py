"""Rows in other formats: what is written is read back, by the hub's reader and by plain tools."""

import io
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import polars
import pytest
import yaml
from board_rows import FAILED, PUBLISHED, row
from click.testing import Result
from huggingface_hub import ModelCard

from vaebench.boards import export, headline, text
from vaebench.boards import store as board

Invoke = Callable[..., Result]
ROOT = Path(__file__).parents[2]
README = (ROOT / "leaderboards" / "README.md").read_text(encoding="utf-8")


ROWS = [
    row(),
    row(column="elbo", value=-90.0, better="higher", bound="lower"),
    row(column="rate", value=1e-5, better="none", split="train"),
    row(metric="fid", column="fid", unit="", **FAILED),
    row(seed=1, verified="verified"),
]


def test_model_index_states_results_by_dataset_and_split() -> None:
    (model,) = export.card_data([*ROWS, row(**PUBLISHED)]).to_dict()["model-index"]
    assert model["name"] == "vae"
    assert [(r["dataset"]["type"], r["dataset"]["split"], len(r["metrics"])) for r in model["results"]] == [
        ("digits", "test", 2),
        ("digits", "train", 1),
    ]
    metric = next(each for each in model["results"][0]["metrics"] if each["type"] == "nll")
    assert metric["args"]["seed"] == 0  # the lowest
    assert metric.keys() == {"type", "name", "value", "args"}  # `verified` is not ours to claim
    assert (metric["type"], metric["name"], metric["value"]) == ("nll", "nll, nats, lower is better", 84.5)
    assert (metric["args"]["samples"], metric["args"]["stderr"], metric["args"]["verdict"]) == (100, 0.25, "unverified")
    for rows in ([], [row(**FAILED)], [row(), row(model="b")]):
        with pytest.raises(ValueError, match="one model's measured values"):
            export.card_data(rows)


def test_the_card_is_read_back_by_the_hubs_own_reader() -> None:
    text = f"---\n{export.card_data(ROWS).to_yaml()}\n---\n"
    found = ModelCard(text).data
    assert found.model_name == "vae"
    values = {each.metric_type: each.metric_value for each in found.eval_results or ()}
    assert values == {"nll": 84.5, "elbo": -90.0, "rate": 1e-5}


def test_without_the_extra_it_is_one_line(
    tmp_path: Path, vaebench: Invoke, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    board.write(tmp_path, ROWS)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    where = ("vae", "digits", "--leaderboards", tmp_path)
    refused(2, ("export", *where), "a model-index needs huggingface_hub, which is absent: pip install 'vaebench[hf]'")
    assert vaebench("export", *where, "--format", "jsonl").exit_code == 0


def test_json_lines_are_the_rows() -> None:
    lines = export.json_lines(ROWS).splitlines()
    assert [json.loads(line) for line in lines] == export.to_json(ROWS)
    frame = pd.read_json(io.StringIO("\n".join(lines)), lines=True)
    assert list(frame["column"]) == [each.column for each in ROWS]


def test_the_verb_prints_both_formats(tmp_path: Path, vaebench: Invoke, refused: Callable[..., str]) -> None:
    board.write(tmp_path, [*ROWS, row(column="bpd", verified="refuted"), row(model="b", **FAILED)])
    where = ("--leaderboards", tmp_path)
    result = vaebench("export", "vae", "digits", *where)
    assert (result.exit_code, result.stderr) == (0, "")
    told = yaml.safe_load(result.stdout)
    assert told == json.loads(vaebench("export", "vae", "digits", "--json", *where).stdout)
    types = [m["type"] for r in told["model-index"][0]["results"] for m in r["metrics"]]
    assert sorted(types) == ["elbo", "nll", "rate"]
    lines = vaebench("export", "vae", "digits", "--format", "jsonl", *where).stdout.splitlines()
    assert len(lines) == 6
    as_json = json.loads(vaebench("export", "vae", "digits", "--format", "jsonl", "--json", *where).stdout)
    assert as_json == [json.loads(line) for line in lines]
    only = vaebench("export", "vae", "digits", "--format", "jsonl", "--metric", "fid", *where).stdout
    assert json.loads(only)["status"] == "failed"
    refused(2, ("export", "vea", "digits", *where), "unknown model 'vea'", "'vae'")
    refused(
        2,
        ("export", "vae", "mnist", *where),
        "the board of 'mnist' in",
        "is others' results alone; there are boards of: digits",
    )
    refused(2, ("export", "vae", "digits", "--metric", "fod", *where), "unknown metric 'fod'")
    refused(2, ("export", "vae", "digits", "--class", "k=1", *where), "no k=1; there are: 100")
    refused(2, ("export", "b", "digits", *where), "b on digits has no value to export")
    refused(2, ("export", "vae", "digits", "--format", "xml", *where), "'xml'")


# --- documented one-liners ----------------------------------------------------------------------------------------


TOOLS: dict[str, Callable[[str], pd.DataFrame]] = {
    "pandas": lambda line: eval(line, {"pd": pd, "Path": Path}),
    "DuckDB": lambda line: duckdb.sql(line).df(),
    "Polars": lambda line: eval(line, {"pl": polars}).to_pandas(),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_documented_lines_read_the_boards(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    ((parquet, table),) = re.findall(rf"^\| {tool} \| `(.*?)` \| `(.*?)` \|$", README, re.M)
    frame, csv_ = TOOLS[tool](parquet), TOOLS[tool](table)
    if tool == "pandas":  # whose line has all rows
        frame = frame[(frame["column"] == "nll") & (frame["status"] == "ok")]
        csv_ = csv_.assign(value=csv_["nll"], stderr=csv_["nll_se"])
    root = ROOT / "leaderboards"
    rows = [r for d in board.datasets(root) for r in board.read(root, d) if r.column == "nll" and r.status == "ok"]
    expected = sorted((r.dataset, r.model, r.value) for r in rows)
    assert len(expected) > 2
    assert sorted(frame[["dataset", "model", "value"]].itertuples(index=False, name=None)) == expected
    best = headline.of_rows("mnist", board.read(root, "mnist")).lines[0]
    assert best.cells[0] is not None
    assert csv_["model"][0] == best.model
    assert (csv_["value"][0], csv_["stderr"][0]) == text.rounded(best.cells[0].row)
    assert csv_["rank"][0] == 1


def test_every_shipped_csv_opens_in_pandas() -> None:
    root = ROOT / "leaderboards"
    for dataset in board.datasets(root):
        frame = pd.read_csv(root / f"{dataset}.csv", na_values="\u2013").rename(
            columns=lambda name: name.split(" (")[0]
        )
        rows = [row for row in board.read(root, dataset) if row.status == "ok"]
        assert set(frame["model"]) == {row.model for row in rows}
        for name in (name.removesuffix("_se") for name in frame if name.endswith("_se") and frame[name].notna().any()):
            assert str(frame[name].dtype) == "float64"
            known = [(row.model, row.value) for row in rows if row.column in (name, name.split("_")[0] + "_1000")]
            for model, value in frame[["model", name]].dropna().itertuples(index=False):
                assert (
                    name == "ood_auroc"
                    or name == "mig"
                    or any(
                        model == other and math.isclose(value, exact or 0, rel_tol=0.05, abs_tol=0.05)
                        for other, exact in known
                    )
                )


def test_every_line_of_the_readme_names_verbs_and_options_that_exist(vaebench: Invoke) -> None:
    commands = re.findall(r"^    vaebench (.*?)(?:  +#.*)?$", README, re.M)
    assert len(commands) > 4
    for line in commands:
        words = line.split()
        verb = words[:2] if words[0] == "board" else words[:1]
        told = vaebench(*verb, "--help").stdout
        assert all(option in told for option in re.findall(r"--[a-z-]+", line)), line
