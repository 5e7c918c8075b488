"""Rows in other formats: what is written is read back, by a strict reader of the YAML written and by plain tools."""

import importlib
import importlib.util
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from board_rows import FAILED, PUBLISHED, row
from click.testing import Result
from hypothesis import example, given
from hypothesis import strategies as st

from vaebench.boards import export
from vaebench.boards import store as board

Invoke = Callable[..., Result]
ROOT = Path(__file__).parents[2]
README = (ROOT / "leaderboards" / "README.md").read_text(encoding="utf-8")


def parsed(text: str) -> Any:
    """Block YAML of mappings, lists of mappings and JSON scalars; anything else is an error."""
    lines = [(len(line) - len(line.lstrip(" ")), line.lstrip(" ")) for line in text.splitlines()]

    def block(at: int, indent: int) -> tuple[Any, int]:
        if lines[at][1].startswith("- "):
            items = []
            while at < len(lines) and lines[at][0] == indent and lines[at][1].startswith("- "):
                lines[at] = (indent + 2, lines[at][1][2:])
                item, at = block(at, indent + 2)
                items.append(item)
            return items, at
        found: dict[str, Any] = {}
        while at < len(lines) and lines[at][0] == indent and not lines[at][1].startswith("- "):
            matched = re.fullmatch(r"(\"?[\w-]+\"?):(?: (.+))?", lines[at][1])
            assert matched, lines[at]
            key, scalar = matched[1].strip('"'), matched[2]
            assert (key in export.RESERVED) == (key != matched[1])
            assert key not in found
            at += 1
            if scalar is None:
                found[key], at = block(at, lines[at][0])
            else:
                found[key] = json.loads(scalar)
        return found, at

    value, end = block(0, 0)
    assert end == len(lines)
    return value


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(entry) for key, entry in value.items() if entry is not None}
    return [without_nulls(entry) for entry in value] if isinstance(value, list) else value


scalars = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])),
    st.none(),
)
keys = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
maps = st.recursive(
    st.dictionaries(keys, scalars, min_size=1).map(lambda d: {**d, "k": 1}),
    lambda inner: st.dictionaries(keys, scalars | inner | st.lists(inner, min_size=1, max_size=3), max_size=3).map(
        lambda d: {**d, "k": 1}
    ),
    max_leaves=12,
)


@given(maps)
@example({"on": False, "k": {"null": 1, "n": 2}})
def test_yaml_holds_what_it_was_given(value: dict[str, Any]) -> None:
    text = export.to_yaml(value)
    assert parsed(text) == without_nulls(value)
    if importlib.util.find_spec("yaml") is not None:
        assert importlib.import_module("yaml").safe_load(text) == without_nulls(value)


@pytest.mark.parametrize(
    ("value", "text"), [(1e-05, "1.0e-05"), (1e22, "1.0e+22"), (1.5e-7, "1.5e-07"), (-2.0, "-2.0")]
)
def test_a_number_has_a_point_where_yaml_needs_one(value: float, text: str) -> None:
    assert export.to_yaml({"a": value, "b": {}, "c": {"d": None}, "e": []}) == f"a: {text}\nb: {{}}\nc: {{}}\ne: []\n"
    assert json.loads(text) == value


ROWS = [
    row(),
    row(column="elbo", value=-90.0, better="higher", bound="lower"),
    row(column="rate", value=1e-5, better="none", split="train"),
    row(metric="fid", column="fid", unit="", **FAILED),
    row(seed=1, verified="verified"),
]


def test_model_index_states_results_by_dataset_and_split() -> None:
    (model,) = export.model_index([*ROWS, row(**PUBLISHED)])["model-index"]
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
            export.model_index(rows)


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
    told = parsed(result.stdout)
    assert told == without_nulls(json.loads(vaebench("export", "vae", "digits", "--json", *where).stdout))
    types = [m["type"] for r in told["model-index"][0]["results"] for m in r["metrics"]]
    assert sorted(types) == ["elbo", "nll", "rate"]
    lines = vaebench("export", "vae", "digits", "--format", "jsonl", *where).stdout.splitlines()
    assert len(lines) == 6
    as_json = json.loads(vaebench("export", "vae", "digits", "--format", "jsonl", "--json", *where).stdout)
    assert as_json == [json.loads(line) for line in lines]
    only = vaebench("export", "vae", "digits", "--format", "jsonl", "--metric", "fid", *where).stdout
    assert json.loads(only)["status"] == "failed"
    refused(2, ("export", "vea", "digits", *where), "unknown model 'vea'", "'vae'")
    refused(2, ("export", "vae", "mnist", *where), "no leaderboard of 'mnist'")
    refused(2, ("export", "vae", "digits", "--metric", "fod", *where), "unknown metric 'fod'")
    refused(2, ("export", "vae", "digits", "--class", "k=1", *where), "no k=1; there are: 100")
    refused(2, ("export", "b", "digits", *where), "b on digits has no value to export")
    refused(2, ("export", "vae", "digits", "--format", "xml", *where), "'xml'")


# --- documented one-liners ----------------------------------------------------------------------------------------


def snippet(tool: str) -> str:
    block = re.search(rf"^{tool}:\n\n```python\n(.*?)```", README, re.S | re.M)
    assert block is not None
    return block[1]


@pytest.mark.parametrize("tool", ["pandas", "pyarrow"])
def test_the_documented_lines_read_the_boards(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    scope: dict[str, Any] = {"Path": Path}
    exec(compile(snippet(tool), tool, "exec"), scope)
    found = scope["nll"] if tool == "pandas" else scope["nll"].to_pandas()
    root = ROOT / "leaderboards"
    rows = [r for d in board.datasets(root) for r in board.read(root, d) if r.column == "nll" and r.status == "ok"]
    expected = sorted((r.dataset, r.model, r.value) for r in rows)
    assert len(expected) > 2
    assert sorted(found[["dataset", "model", "value"]].itertuples(index=False, name=None)) == expected


def test_every_shipped_csv_opens_in_pandas() -> None:
    root = ROOT / "leaderboards"
    for dataset in board.datasets(root):
        frame = pd.read_csv(root / f"{dataset}.csv")
        rows = board.read(root, dataset)
        for name in {r.column for r in rows if r.value is not None}:
            assert frame[name].notna().sum() == sum(r.column == name and r.value is not None for r in rows)
            assert str(frame[name].dtype) == str(frame[f"{name}_stderr"].dtype) == "float64"


def test_every_line_of_the_readme_names_verbs_and_options_that_exist(vaebench: Invoke) -> None:
    commands = re.findall(r"^    vaebench (.*?)(?:  +#.*)?$", README, re.M)
    assert len(commands) > 4
    for line in commands:
        words = line.split()
        verb = words[:2] if words[0] == "board" else words[:1]
        told = vaebench(*verb, "--help").stdout
        assert all(option in told for option in re.findall(r"--[a-z-]+", line)), line
