"""What papers claim: judged by intervals, over trainings where there are several, and told as the papers' tables."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from board_rows import row
from click.testing import Result
from scipy import stats

from vaebench.boards import claims, claims_text, headline, per_example, published
from vaebench.boards import store as board
from vaebench.boards.claims import Claim, Claims
from vaebench.boards.overlay import Boards
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import DataError, UserError
from vaebench.models import card as cards

CLAIM = Claim("a-paper", "NLL is lower", "A paper", "likelihood", "nll", "lower", ("digits",), "twins")
SAID = '{"levels": 2, "mass": "proper", "samples": 1000}'


def nll(model: str, value: float, **more: object):  # type: ignore[no-untyped-def]
    return row(**{"model": model, "value": value, "weights_sha256": model, "comparability": SAID, **more})


def judged(tmp_path: Path, rows: list[board.Row], claim: Claim = CLAIM, **pairs: str) -> list[claims.Finding]:
    board.write(tmp_path, rows)
    return list(claims.judge(Claims((claim,), {"twins": pairs or {"a": "b"}}, (), {"a-paper": 400}), Boards(tmp_path)))


def test_a_claim_is_judged_by_its_interval() -> None:
    higher, loose = dataclasses.replace(CLAIM, better="higher"), dataclasses.replace(CLAIM, loose=True)
    told = {
        (-2.0, -1.0): "borne out",
        (-1.0, 1.0): "not separable",
        (0.0, 1.0): "not separable",
        (1.0, 2.0): "not borne out",
    }
    assert {ends: claims.verdict(CLAIM, *ends) for ends in told} == told
    assert claims.verdict(higher, 1.0, 2.0) == "borne out"
    assert claims.verdict(higher, -2.0, -1.0) == "not borne out"
    assert claims.verdict(loose, -1.0, 1.0) == "borne out: not separable"
    assert claims.verdict(loose, 1.0, 2.0) == "not borne out"
    assert claims.verdict(CLAIM, -2.0, -1.0, other=0.9) == claims.verdict(CLAIM, -2.0, -1.0, 9.0) == "borne out"
    assert claims.verdict(CLAIM, 1.0, 2.0, 0.9) == claims.verdict(CLAIM, 1.0, 2.0, other=9.0) == "not borne out"
    for each in (CLAIM, higher, loose):
        assert claims.verdict(each, -2.0, -1.0, other=1.1) == "not separable: bounds loose"
        assert claims.verdict(each, 1.0, 2.0, 1.1) == "not separable: bounds loose"


def test_a_difference_is_not_clear_where_bounds_may_be_as_loose(tmp_path: Path) -> None:
    """By 2 (nll_tenth - nll) of the model that seems worse, or by its certified k_bias."""
    mark = ("bound loose",)
    rows = [nll("a", 80.0, stderr=0.1), nll("b", 81.0, stderr=0.1, marks=mark)]
    tight, far = (nll("b", tenth, column="nll_tenth") for tenth in (81.2, 81.6))
    for name, tenth, said in (("tight", tight, "borne out"), ("far", far, "not separable: bounds loose")):
        (found,) = judged(tmp_path / name, [*rows, tenth])
        assert (found.verdict, found.how) == (said, "apart")
        assert found.second.slack == pytest.approx(2 * (tenth.value - 81.0))
        assert claims_text.record(found)["second"]["slack"] == found.second.slack
    sure = nll("b", 0.1, metric="certified", column="k_bias", stderr=0.05)
    (found,) = judged(tmp_path / "sure", [*rows, far, sure])
    assert (found.verdict, found.second.slack) == ("borne out", pytest.approx(0.2))
    again = [nll(f"{each.model}-seed-1", each.value, column=each.column, stderr=0.1, marks=each.marks)
             for each in (*rows, far)]  # fmt: skip
    *_, over = judged(tmp_path / "over", [*rows, far, *again])
    assert (over.how, over.verdict) == ("trainings", "not separable: bounds loose")


def test_without_values_of_each_example_both_errors_count(tmp_path: Path) -> None:
    (found,) = judged(tmp_path, [nll("a", 80.0, stderr=0.3), nll("b", 81.0, stderr=0.4)])
    assert (found.how, found.difference) == ("apart", pytest.approx(-1.0))
    assert found.high - found.difference == pytest.approx(stats.norm.ppf(0.975) * 0.5)
    assert found.verdict == "borne out"


def test_with_values_of_each_example_the_pair_decides(tmp_path: Path) -> None:
    values = {"a": np.linspace(70, 90, 360, dtype=np.float32)}
    values["b"] = values["a"] + np.float32(0.25)
    rows = [nll(model, float(each.astype(float).mean()), stderr=0.5) for model, each in values.items()]
    for each in rows:
        about = {field: getattr(each, field) for field in per_example.ABOUT}
        path = per_example.path(tmp_path, each)
        path.parent.mkdir(parents=True)
        path.write_bytes(per_example.encode({"nll": values[each.model]}, about))
    (found,) = judged(tmp_path, rows)
    assert (found.how, found.verdict) == ("paired", "borne out")
    assert found.high - found.low < 0.01


def test_another_seed_of_one_training_is_not_another_training(tmp_path: Path) -> None:
    rows = [nll(model, value, seed=seed) for model, value in (("a", 80.0), ("b", 85.0)) for seed in (0, 1000)]
    (found,) = judged(tmp_path, rows)
    assert (found.first.name, found.first.rows[0].seed, found.how) == ("a", 0, "apart")
    facets = {"auc": '{"score": "auc"}', "loss": '{"score": "loss"}'}
    rows = [
        nll("a", value, seed=seed, facet=facets[name])
        for name, value in (("auc", 1.0), ("loss", 2.0))
        for seed in (0, 7)
    ]
    claim = dataclasses.replace(CLAIM, facet={"score": "auc"}, against={"facet": {"score": "loss"}})
    assert [each.how for each in judged(tmp_path / "facets", rows, claim, a="a")] == ["apart"]


def test_over_several_trainings_student_s_interval_decides(tmp_path: Path) -> None:
    first, second = [80.0, 81.0, 83.0], [82.0, 82.5, 85.0]
    names = ("", "-seed-1", "-seed-2")
    rows = [nll(f"{model}{end}", value, stderr=0.01) for model, values in (("a", first), ("b", second))
            for end, value in zip(names, values, strict=True)]  # fmt: skip
    found = judged(tmp_path, [*rows, nll("c", 1.0), nll("d", 2.0), nll("a-seed-7", 0.0)], a="b", c="d")
    assert [each.first.name for each in found] == ["a", "a-seed-1", "a-seed-2", "a, 3 trainings", "c"]
    assert [each.verdict for each in found[:4]] == ["borne out"] * 3 + ["not separable"]
    exact = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    assert (found[3].low, found[3].high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert [each.first.name for each in claims.decisive(found)] == ["a, 3 trainings", "c"]


def test_of_absolute_values_and_of_facets_against_one_another(tmp_path: Path) -> None:
    gap = dataclasses.replace(CLAIM, absolute=True)
    (found,) = judged(tmp_path / "gap", [nll("a", -1.0), nll("b", -3.0)], gap)
    assert (found.difference, found.verdict) == (pytest.approx(-2.0), "borne out")

    def auroc(score: str, where: str, value: float) -> board.Row:
        facet = json.dumps({"score": score, "set": where})
        return nll("a", value, metric="regret", column="auroc", facet=facet, better="higher", stderr=0.01)

    against = dataclasses.replace(
        CLAIM, metric="regret", column="auroc", better="higher", facet={"score": "x"}, against={"facet": {"score": "y"}}
    )
    rows = [auroc("x", "noise", 0.9), auroc("y", "noise", 0.8), auroc("x", "flat", 0.5), auroc("y", "flat", 0.7)]
    found_ = judged(tmp_path / "against", [*rows, auroc("x", "alone", 0.5)], against, a="a")
    assert [(each.first.name, each.second.name, each.verdict) for each in found_] == [
        ("auroc (score x, set flat)", "auroc (score y, set flat)", "not borne out"),
        ("auroc (score x, set noise)", "auroc (score y, set noise)", "borne out"),
    ]


def test_epochs_are_those_of_the_zoo_s_weights_as_a_part_of_the_paper_s(tmp_path: Path) -> None:
    zoo = {name: cards.find(name, "digits") for name in ("vae", "iwae")}
    mean = sum(card.training.epochs for card in zoo.values()) / 2  # type: ignore[union-attr]
    shas = {name: card.weights.sha256 for name, card in zoo.items()}  # type: ignore[union-attr]
    rows = [nll(name, 80.0, weights_sha256=sha) for name, sha in shas.items()]
    (own,) = judged(tmp_path, rows, iwae="vae")
    assert own.trained == mean / 400
    (other,) = judged(tmp_path / "other", [rows[0], nll("iwae", 80.0)], iwae="vae")
    assert other.trained is None
    assert [claims_text.trained(each) for each in (own, other)] == [f"{mean / 4:.2g}%", "-"]


def test_a_pair_that_cannot_be_compared_is_left_out(tmp_path: Path) -> None:
    assert (
        judged(tmp_path, [nll("a", 80.0), nll("b", 81.0, comparability='{"samples": 5}'), nll("c", 1.0)], a="b", c="e")
        == []
    )


def test_every_claim_and_table_is_of_columns_and_measures_that_there_are() -> None:
    found = claims.read()
    for claim in found.claims:
        columns = {each.name for each in plugins.load("metrics", claim.metric)["standard"].columns}  # type: ignore[index]
        assert {claim.column, claim.against.get("column", claim.column)} <= columns
        assert set(claim.datasets) <= {*plugins.names("datasets")}
    for table in found.tables:
        assert {key for keys in table.columns.values() for key in keys} <= set(headline.shipped()[1])
        assert table.published is None or any(each.source == table.published for each in published.read())


def test_a_paper_s_table_has_its_rows_and_columns_and_means_over_trainings(tmp_path: Path) -> None:
    (table,) = claims.of_paper(claims.read(), "dpvae").tables
    assert list(table.columns) == ["FID", "FID(LP)", "sKL", "NLL"]
    board.write(tmp_path, [
        *(nll(f"vae{end}", value, dataset="mnist", marks=("bound loose",))
          for end, value in (("", 100.0), ("-seed-1", 102.0))),
        nll("dpvae", 95.0, dataset="mnist"),
        nll("dpvae", 200.0, dataset="mnist", metric="fd-domain", column="fd_domain", comparability='{"samples": 5000}'),
    ])  # fmt: skip
    first, *others = claims_text.filled(table, Boards(tmp_path))
    assert first.headings == ("FID: FD-domain", "FID(LP)", "sKL", "NLL")
    assert first.lines == (
        ("vae", "", "", "", "101.0 ± 1.0 (2 trainings, bound loose)"),
        ("dpvae", "200.00 ± 0.25", "", "", "95.00 ± 0.25"),
    )
    assert first.reported[0] == ("vae", "137.4", "165", "1.26", "3.56")
    assert len(first.reported) == 12
    assert [(each.dataset, each.lines) for each in others] == [("svhn", ()), ("celeba64", ())]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[epochs]\n[pairs]\n[[claim]]\npaper = 'x'\n[[table]]",
        "claim = []\ntable = []\nother = 1\n[epochs]\n[pairs]",
        "table = []\n[epochs]\n[pairs]\n[[claim]]\npaper = 'x'\ntext = ''\nsource = ''\nmetric = 'fid'\n"
        "column = 'fid'\n"
        "better = 'lower'\ndatasets = []\npairs = 'none'",
        "table = []\n[epochs]\n[pairs.x]\n[[claim]]\npaper = 'x'\ntext = ''\nsource = ''\nmetric = 'fid'\n"
        "column = 'fid'\n"
        "better = 'lower'\ndatasets = []\npairs = 'x'\nagainst = { colum = 'y' }",
    ],
)
def test_a_file_of_claims_that_is_wrong_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises((DataError, UserError)) as error:
        claims.read(path)
    assert "\n" not in str(error.value)


def test_the_verb_counts_shows_and_writes(
    vaebench: Callable[..., Result], refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.write(tmp_path, [nll("iwae", 80.0), nll("vae", 85.0)])
    where = ("board", "claims", "--leaderboards", tmp_path)
    assert "│ iwae              │ IWAE's NLL is not above the VAE's" in vaebench(*where).stdout
    shown = vaebench(*where, "--paper", "iwae").stdout
    assert "80.00 ± 0.25 │ vae     │ 85.00 ± 0.25 │ -5.00 [-5.69, -4.31] │      - │ borne out" in shown
    record = json.loads(vaebench(*where, "--paper", "iwae", "--json").stdout)
    assert [(each["verdict"], each["how"], each["first"]["n"]) for each in record["claims"]] == [
        ("borne out", "apart", 360)
    ]
    assert "no board has rows that can be compared" in vaebench(*where, "--paper", "hvae").stdout
    page = tmp_path / "CLAIMS.md"
    assert vaebench(*where, "--out", page).stderr == f"written to {page}\n"
    assert (
        "| digits | 360 | iwae | 80.00 ± 0.25 | vae | 85.00 ± 0.25 | -5.00 [-5.69, -4.31] | - | borne out |"
        in page.read_text()
    )
    monkeypatch.setattr(files, "shipped_boards", lambda: tmp_path)
    board.write(files.own_boards(), [nll("iwae", 70.0)])
    assert vaebench("board", "claims", "--out", tmp_path / "shipped.md").exit_code == 0
    assert (tmp_path / "shipped.md").read_bytes() == page.read_bytes()
    assert "70.00 ± 0.25 (yours)" in vaebench("board", "claims", "--paper", "iwae").stdout
    refused(2, (*where, "--paper", "dpave"), "unknown paper 'dpave'; did you mean 'dpvae'?")
    refused(2, (*where, "--out", tmp_path), f"cannot write {tmp_path}")
