"""Laws of kept per-example values: bytes, staleness, and what two models' values say of each other."""

import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from board_rows import BASE, FAILED, PUBLISHED, row
from click.testing import Result

from vaebench.boards import per_example as values
from vaebench.boards import store as board
from vaebench.boards.paired import paired, pairs
from vaebench.boards.rows import Row
from vaebench.core.errors import DataError, UserError

NOISE = np.random.default_rng(0)
NLL = NOISE.normal(84.5, 5, 360)
Refused = Callable[..., str]


def about(of: Row) -> dict[str, Any]:
    return {field: getattr(of, field) for field in values.ABOUT}


def kept(root: Path, of: Row, nll: Any = NLL, **other: Any) -> Row:
    """`of` with the mean of `nll` as its value, written beside its values."""
    nll = np.asarray(nll, dtype=np.float64)
    of = dataclasses.replace(of, value=float(nll.mean()), n=len(nll), stderr=float(nll.std() / len(nll) ** 0.5))
    file = values.path(root, of)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(values.encode({"nll": nll, "elbo": -nll - 2}, about(of) | other))
    board.write(root, [of])
    return of


# --- files --------------------------------------------------------------------------------------------------------


def test_columns_of_few_values_take_a_fraction_and_all_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Right or wrong, 10,000 times, fills a tenth of its float32 or less; a value for each example all of it."""
    rows = [row(metric="probe", column=name, value=0.0) for name in ("probe_all", "nll")]
    found = {"probe_all": (NOISE.random(10_000) < 0.9).astype(np.float32), "nll": NOISE.normal(0, 1, 10_000)}
    sizes = {name: len(values.encode({name: each}, about(rows[0]))) for name, each in found.items()}
    assert sizes["probe_all"] < 10_000 * 4 / 10 < 10_000 * 4 < sizes["nll"]
    for of in rows:
        each = found[of.column].astype(np.float32)
        mean = float(each.astype(np.float64).mean())
        of = dataclasses.replace(of, value=mean, n=10_000, stderr=None, df=None, low=None, high=None)
        (path := values.path(tmp_path, of)).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(values.encode({of.column: each}, about(of)))
        assert np.array_equal(values.read(tmp_path, of), each)


def test_values_are_read_back_and_bytes_do_not_depend_on_order(tmp_path: Path) -> None:
    of = kept(tmp_path, row())
    assert values.read(tmp_path, of) == pytest.approx(NLL, rel=1e-7)
    elbo = row(column="elbo", value=float((-NLL - 2).mean()), better="higher")
    assert values.read(tmp_path, elbo) == pytest.approx(-NLL - 2, rel=1e-7)
    one = values.encode({"nll": NLL, "elbo": -NLL - 2}, about(of))
    assert one == values.encode({"elbo": -NLL - 2, "nll": NLL}, dict(reversed(about(of).items())))
    assert values.path(tmp_path, of).read_bytes() == one
    assert len(values.encode({"nll": np.arange(1e4), "elbo": np.arange(1e4)}, about(of))) < 82_000
    frame = pd.read_parquet(values.path(tmp_path, of))
    assert list(frame.columns) == ["elbo", "nll"]
    assert {str(kind) for kind in frame.dtypes} == {"float32"}


@pytest.mark.parametrize("column", values.UNITS_OF)
def test_values_in_another_unit_are_those_of_the_first(tmp_path: Path, column: str) -> None:
    """But for a mean so near to 0 that float32 has lost how many of the one unit are one of the other."""

    def point(of: Row) -> Row:
        value = (of.value or 0.0) / 512
        return dataclasses.replace(of, column=column, value=value, stderr=None, low=None, high=None)

    assert values.read(tmp_path, point(kept(tmp_path, row()))) == pytest.approx(NLL / 512, rel=1e-6)
    zero = kept(tmp_path, row(value=0.0), NLL - NLL.mean() + 1e-4)
    with pytest.raises(DataError, match="holds nll, whose mean is too near 0"):
        values.read(tmp_path, point(zero))


def test_protocols_seeds_and_weights_have_files_of_their_own(tmp_path: Path) -> None:
    several = [row(), row(seed=1), row(parameters='{"samples": 1000}'), row(model="b"), row(metric="other")]
    several.append(row(weights_sha256="bb"))
    assert len({values.path(tmp_path, each) for each in several}) == len(several)
    assert values.path(tmp_path, row()) == values.path(tmp_path, row(value=1.0))


STALE = {
    "weights_sha256": "bb",
    "data_fingerprint": "ee",
    "model": "other",
    "dataset": "mnist",
    "split": "train",
    "metric_version": 2,
    "seed": 1,
    "dtype": "float64",
    "parameters": "{}",
}


@pytest.mark.parametrize("field", STALE)
def test_stale_values_are_refused(tmp_path: Path, field: str) -> None:
    of = kept(tmp_path, row(), **{field: STALE[field]})
    with pytest.raises(DataError, match=f"is stale: its {field} is") as caught:
        values.read(tmp_path, of)
    assert "\n" not in str(caught.value)


def test_values_that_are_not_behind_the_row_are_refused(tmp_path: Path) -> None:
    of = kept(tmp_path, row())
    with pytest.raises(DataError, match="stale: its mean is"):
        values.read(tmp_path, dataclasses.replace(of, value=(of.value or 0.0) + 0.001))
    with pytest.raises(DataError, match=r"stale: its mean is .* over 360, .* over 359"):
        values.read(tmp_path, dataclasses.replace(of, n=359))
    with pytest.raises(DataError, match="holds no rate: per-example values are kept of elbo, nll"):
        values.read(tmp_path, dataclasses.replace(of, column="rate"))
    with pytest.raises(DataError, match="no per-example values are kept of b on digits"):
        values.read(tmp_path, dataclasses.replace(of, model="b"))


@pytest.mark.parametrize("bad", [b"", b"PAR1", b"<html>" * 99, "half", "flip"])
def test_damaged_values_are_one_error(tmp_path: Path, bad: bytes | str) -> None:
    of = kept(tmp_path, row())
    file = values.path(tmp_path, of)
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[700] ^= 4  # in the middle of a page
    file.write_bytes({"half": whole[: len(whole) // 2], "flip": bytes(flipped)}.get(bad, bad))  # type: ignore[call-overload]
    with pytest.raises(DataError, match=r"cannot read .*values-") as caught:
        values.read(tmp_path, of)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [[1.0, math.nan], [1.0, math.inf], [[1.0]]])
def test_only_finite_values_are_kept(wrong: Any) -> None:
    with pytest.raises(ValueError, match="not one finite number for each example"):
        values.encode({"nll": np.array(wrong)}, about(row()))
    with pytest.raises(ValueError, match="should say"):
        values.encode({"nll": NLL}, {"model": "vae"})


# --- the paired comparison ----------------------------------------------------------------------------------------


def test_paired_interval_covers_the_truth_and_only_pairing_cancels_the_examples() -> None:
    noise = np.random.default_rng(1)
    covered, verdicts = 0, []
    for _ in range(2000):
        shared = noise.normal(90, 30, 100)  # some images are hard for every model
        a, b = (shared + noise.normal(mean, 1, 100) for mean in (0.3, 0.0))
        found = paired(a, b)
        covered += found.low <= 0.3 <= found.high
        verdicts.append(found.comparison("lower"))
        assert found.stderr < 0.3
    assert abs(covered / 2000 - 0.95) < 4 * (0.95 * 0.05 / 2000) ** 0.5
    assert verdicts.count("better") < 5
    power = verdicts.count("worse") / 2000
    assert 0.45 < power < 0.68  # 0.3 / sqrt(2 / 100) = 2.1 standard errors


def test_paired_laws() -> None:
    b = NLL + NOISE.normal(0.5, 1, 360)
    one, other = paired(NLL, b), paired(b, NLL)
    assert one.difference == pytest.approx(-other.difference)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert (one.comparison("lower"), other.comparison("lower")) == ("better", "worse")
    assert (one.comparison("higher"), other.comparison("higher")) == ("worse", "better")
    assert paired(NLL, NLL).comparison("lower") == "not separable"
    assert paired(NLL, NLL + 1).comparison("lower") == "better"  # no noise at all
    for wrong in (NLL[:1], NLL[:2]):
        with pytest.raises(ValueError, match="not two of each example"):
            paired(wrong, NLL[:1])


def other(**changes: Any) -> Row:
    return row(model="dpvae", weights_sha256="bb", **changes)


DYNAMIC = json.dumps({"binarisation": "dynamic", "samples": 100}, sort_keys=True)


def test_pairs_are_of_one_class_data_and_seed_of_data_noise() -> None:
    same = [(row(), other()), (row(seed=1), other(seed=1))]
    assert pairs([a for a, _ in same], [b for _, b in same]) == same
    assert pairs([row(), row(seed=2)], [other(seed=2)]) == [(row(seed=2), other(seed=2))]
    assert pairs([row(seed=5), row(seed=3)], [other(seed=4)]) == [(row(seed=3), other(seed=4))]  # the data is fixed
    two = [row(), row(comparability='{"k": 5}', parameters="{}")]
    assert len(pairs(two, [other(), other(comparability='{"k": 5}', parameters="{}")])) == 2
    dynamic = [each(comparability=DYNAMIC, seed=seed) for each, seed in ((row, 0), (other, 1))]
    with pytest.raises(UserError, match="other data noise: seeds 0 against 1; run one with the other's"):
        pairs(dynamic[:1], dynamic[1:])
    assert pairs(dynamic[:1], [dynamic[1], other(comparability=DYNAMIC)])[0][1].seed == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"comparability": '{"k": 1000}'}, "not of one class: k 100 against 1000"),
        ({"comparability": '{"k": 100, "levels": 2}'}, "not of one class: levels None against 2"),
        ({"data_fingerprint": "f" * 64}, f"data fingerprint dd against {'f' * 12}$"),
        ({"metric_version": 2}, "metric version 1 against 2"),
        ({"split": "train"}, "split test against train"),
        (FAILED, "no measured value"),
        (PUBLISHED, "no measured value"),
    ],
    ids=str,
)
def test_rows_of_two_classes_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        pairs([row()], [row(**({"model": "dpvae"} | changes))])
    assert "\n" not in str(caught.value)


# --- the verb -----------------------------------------------------------------------------------------------------


def diff(*more: object) -> tuple[object, ...]:
    return ("board", "diff", "vae", "dpvae", "--dataset", "digits", *more)


def test_diff_separates_what_intervals_do_not(tmp_path: Path, vaebench: Callable[..., Result]) -> None:
    kept(tmp_path, row())
    kept(tmp_path, other(), NLL + 0.2 + NOISE.normal(0, 0.5, 360))
    where = ("--leaderboards", tmp_path)
    shown = vaebench("board", "show", "digits", "--all", *where).stdout
    assert re.search("dpvae .* 2[.] .*vae .* 1[.] ", shown, re.DOTALL)  # though the two intervals overlap
    values.path(tmp_path, other()).rename(tmp_path / "aside")
    shown = vaebench("board", "show", "digits", "--all", *where).stdout
    assert shown.count("1-2. ") == 2
    (tmp_path / "aside").rename(values.path(tmp_path, other()))
    result = vaebench(*diff(*where))
    assert result.exit_code == 0
    assert "vae is better" in result.stdout
    assert "vae minus dpvae on digits, nll: lower is better" in result.stdout
    (found,) = json.loads(vaebench(*diff("--json", *where)).stdout)
    assert (found["comparison"], found["n"], found["seeds"]) == ("better", 360, [0, 0])
    assert found["low"] < found["difference"] < found["high"] < 0
    (back,) = json.loads(vaebench("board", "diff", "dpvae", "vae", "--dataset", "digits", "--json", *where).stdout)
    assert (back["comparison"], back["difference"]) == ("worse", -found["difference"])


def test_diff_tells_a_line_for_each_class_and_what_is_left_out(tmp_path: Path, vaebench: Callable[..., Result]) -> None:
    for each in (row, other):
        kept(tmp_path, each())
        kept(tmp_path, each(comparability='{"k": 5}', parameters='{"samples": 5}'))
    where = ("--leaderboards", tmp_path, "--json")
    assert len(json.loads(vaebench(*diff(*where)).stdout)) == 2
    (found,) = json.loads(vaebench(*diff("--class", "k=5", *where)).stdout)
    assert (found["comparability"], found["comparison"]) == ({"k": 5}, "not separable")
    values.path(tmp_path, other()).unlink()
    result = vaebench(*diff(*where))
    assert len(json.loads(result.stdout)) == 1
    assert result.stderr.startswith("left out: no per-example values are kept of dpvae")


def test_diff_refuses_in_one_line(tmp_path: Path, refused: Refused) -> None:
    kept(tmp_path, row())
    kept(tmp_path, other(comparability='{"k": 5}'))
    board.write(tmp_path, [row(column="rate", better="none")])
    where = ("--leaderboards", tmp_path)
    refused(2, diff(*where), "vae and dpvae are not of one class: k 100 against 5")
    refused(2, diff("--column", "nl", *where), "unknown column 'nl'", "'nll'")
    refused(2, diff("--column", "rate", *where), "neither more nor less of rate is better")
    refused(2, diff("--class", "k=6", *where), "no k=6; there are: 100, 5")
    refused(2, diff("--class", "k", *where), "should be FIELD=VALUE")
    refused(2, ("board", "diff", "vae", "dpva", "--dataset", "digits", *where), "unknown model 'dpva'", "'dpvae'")
    refused(2, ("board", "diff", "vae", "vae", "--dataset", "digits", *where), "one model; name two")
    values.path(tmp_path, kept(tmp_path, other())).unlink()
    refused(3, diff(*where), "no per-example values are kept of dpvae", "vaebench run")


def test_a_run_keeps_values_that_are_behind_its_rows(
    quick: tuple[object, ...], vaebench: Callable[..., Result], boards: Path
) -> None:
    """Two models and a seed, by the real metric: every kept file is behind its rows, and diff reads them."""
    for more in ((), ("--model", "dpvae"), ("--seed", 1)):
        assert vaebench(*quick, *more).exit_code == 0
    for of in board.read(boards, "digits"):
        if of.column in ("nll", "elbo"):
            assert len(values.read(boards, of)) == 360
    assert len(list((boards / "digits" / "vae" / "likelihood").iterdir())) == 2
    (found,) = json.loads(vaebench(*diff("--leaderboards", boards, "--json")).stdout)
    rows = {of.model: of.value or 0.0 for of in board.read(boards, "digits") if of.column == "nll" and of.seed == 0}
    assert found["difference"] == pytest.approx(rows["vae"] - rows["dpvae"], abs=1e-5)
    assert found["stderr"] < 0.3  # of either mean it is 0.6


def test_show_and_csv_filter(tmp_path: Path, vaebench: Callable[..., Result], refused: Refused) -> None:
    board.write(
        tmp_path,
        [
            row(verified="verified"),
            other(verified="refuted", value=1.0),
            row(model="c", comparability='{"k": 5, "likelihood": "categorical"}'),
            row(model="d", **PUBLISHED),
            row(model="e", metric="fid", column="fid"),
        ],
    )
    where = ("--leaderboards", tmp_path)
    cases: dict[tuple[str, ...], set[str]] = {
        (): {"vae", "dpvae", "c", "d", "e"},
        ("--metric", "likelihood"): {"vae", "dpvae", "c", "d"},
        ("--class", "k=5"): {"c"},
        ("--class", "likelihood=categorical"): {"c"},
        ("--class", "k=100", "--metric", "fid"): {"e"},
        ("--origin", "published"): {"d"},
        ("--origin", "measured", "--verified", "unverified"): {"c", "e"},
        ("--verified", "verified"): {"vae"},
        ("--verified", "refuted"): {"dpvae"},
    }
    for options, models in cases.items():
        shown = json.loads(vaebench("board", "show", "digits", *options, "--json", *where).stdout)
        assert {each["model"] for each in shown} == models
        lines = vaebench("board", "csv", "digits", *options, *where).stdout.splitlines()
        assert {line.partition(",")[0] for line in lines[1:]} == models
    assert "1.00 ± 0.25 (refuted)" in vaebench("board", "show", "digits", "--all", *where).stdout
    show = ("board", "show", "digits", *where)
    refused(2, (*show, "--class", "j=5"), "unknown class field 'j'")
    refused(2, (*show, "--class", "k=5", "--verified", "verified"), "no such rows that are verified")
    assert BASE["model"] == "vae"
