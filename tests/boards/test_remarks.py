"""What is said below a headline, in a terminal and on the page: leaders, who stands apart, where measures disagree."""

from collections.abc import Callable
from pathlib import Path

from click.testing import Result
from test_disagreement import both, made

from vaebench.boards import headline, overlay, remarks, site, store
from vaebench.boards.rows import Row


def said(rows: list[Row]) -> list[str]:
    return remarks.of_board(headline.of_rows("digits", rows), rows)


def test_who_may_be_best_by_each_other_measure_is_named() -> None:
    rows = [made(model, "likelihood", "bpd", value, 0.001) for model, value in (("a", 1.0), ("b", 2.0), ("c", 3.0))]
    assert said(rows) == []
    for model, value in (("a", -9.0), ("b", -5.0)):
        rows.append(made(model, "likelihood", "elbo", value, 0.1, better="higher"))
    rows += [made(name, "probe", "probe_1000", 0.9, 0.1, better="higher", protocol={}) for name in "abcd"]
    assert said(rows) == ["Best, or not told apart from it, by ELBO b; by probe a, b and 2 more."]


def test_a_measure_that_few_have_says_of_how_many_its_best_is() -> None:
    rows = [made(model, "likelihood", "bpd", 1.0 + i, 0.001) for i, model in enumerate("abcde")]
    rows += [made(model, "certified", "nll_ais", 90.0, 1.0, protocol={}) for model in "de"]
    assert said(rows) == ["Best, or not told apart from it, by NLL by AIS d and e, of the 2 that have it."]
    rows.append(made("c", "certified", "nll_ais", 90.0, 1.0, protocol={}))
    assert said(rows) == ["Best, or not told apart from it, by NLL by AIS c, d and e."]


def test_who_has_the_first_measure_by_another_protocol_is_named() -> None:
    rows = [made(model, "likelihood", "bpd", 2.0, 0.001) for model in ("a", "b")]
    rows.append(made("c", "likelihood", "bpd", 1.0, 0.001, split="test[::10]", protocol={"split": "test[::10]"}))
    assert said(rows) == ["c has bits/dim by another protocol alone (split test[::10]), and no place among these."]


def test_where_nll_and_code_length_disagree_the_board_and_the_page_say_so(
    vaebench: Callable[..., Result], tmp_path: Path
) -> None:
    rows = [*both("vae", 92.0, 2.121), *both("iwae", 90.0, 2.224)]
    for model in ("vae", "iwae"):
        store.write(tmp_path / "boards", [row for row in rows if row.model == model])
    told = "NLL and code length order vae and iwae differently: iwae has the lower NLL"
    shown = vaebench("board", "show", "digits", "--leaderboards", tmp_path / "boards").stdout
    assert shown.index("digits: ") < shown.index(told)
    pages = dict(site.pages(overlay.opened(tmp_path / "boards"), lambda *_: None))
    page = pages["datasets/digits.html"].decode()
    assert page.index('id="headline"') < page.index(told) < page.index("headline-table")


def test_of_many_pairs_the_first_are_told() -> None:
    rows = [row for i in range(4) for row in both(f"m{i}", 100.0 - i, 2.0 + i / 10)]
    found = [each for each in said(rows) if each.startswith(("NLL and code", "They do so"))]
    assert len(found) == 4
    assert found[-1] == "They do so of 3 more pairs."
