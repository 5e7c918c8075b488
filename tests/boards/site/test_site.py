"""The pages: whole, escaped, with no way to the network, the same again, and careful with the folder they are in."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from posixpath import dirname, join, normpath

import hostile
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from parsed import Page

from vaebench.boards import overlay, published, site, tasks
from vaebench.boards import store as board
from vaebench.boards.site import artefacts
from vaebench.boards.text import number
from vaebench.core import files

Invoke = Callable[..., Result]
Refused = Callable[..., str]


@pytest.fixture
def html(pages: dict[str, bytes]) -> dict[str, Page]:
    return {name: Page(content) for name, content in pages.items() if name.endswith(".html")}


def test_a_page_for_every_dataset_and_model(html: dict[str, Page]) -> None:
    models = {name for name in html if name.startswith("models/")}
    names = ("alpha", "beta", "gamma", "delta")
    assert models == {f"models/{folder}{model}.html" for model in names for folder in ("", "mnist/")}
    assert {"index.html", "datasets/mnist.html", "datasets/cifar10.html"} < set(html)  # cifar10 has published rows only


def test_every_link_leads_to_a_file_of_the_site(pages: dict[str, bytes], html: dict[str, Page]) -> None:
    for name, page in html.items():
        for address in page.attributes("href") + page.attributes("src"):
            if not address.startswith(("#", "data:")):
                assert normpath(join(dirname(name), address)) in pages, (name, address)
    used = {normpath(join(dirname(name), src)) for name, page in html.items() for src in page.attributes("src")}
    assert {name for name in pages if name.startswith("pictures/")} <= used


def test_nothing_of_a_stranger_is_markup(html: dict[str, Page]) -> None:
    tags = {"html", "head", "meta", "title", "link", "script", "body", "header", "nav", "main", "footer", "section"}
    tags |= {"h1", "h2", "p", "a", "abbr", "span", "div", "details", "summary", "dl", "dt", "dd", "figure", "img"}
    tags |= {"figcaption", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "form", "label", "input", "select"}
    tags |= {"option", "output", "svg", "line", "circle", "path", "text", "g", "strong", "article", "h3"}
    tags |= {"caption", "wbr", "code"}
    for name, page in html.items():
        assert {tag for tag, _ in page.elements} <= tags, name
        assert not [key for _, found in page.elements for key in found if key.startswith("on") or key == "style"], name
        ours = ["board.js", "scatter.js"] if name.startswith("datasets/") else ["board.js"]
        assert [found for tag, found in page.elements if tag == "script"] == [
            {"src": "../" * name.count("/") + script, "defer": None} for script in ours
        ]
    alpha = html["models/mnist/alpha.html"]
    assert alpha.text.count("<script>document.title = 'hacked'</script>") >= 3  # summary, likelihood, a set's name
    assert "onerror=alert(1)" in alpha.text
    assert "<script>document.title" in html["models/mnist/delta.html"].lines("column")["nll ↓"][4]


def test_a_policy_forbids_what_escaping_might_miss(html: dict[str, Page]) -> None:
    for page in html.values():
        (policy,) = (found["content"] for _, found in page.elements if found.get("http-equiv"))
        assert policy is not None
        words = dict(part.strip().split(" ", 1) for part in policy.split(";"))
        assert words["default-src"] == "'none'"
        assert {*words["script-src"].split(), *words["style-src"].split()} == {"'self'", "file:"}
        assert "http" not in policy
        assert "unsafe" not in policy


def test_pictures_are_shown_and_what_only_looks_like_one_is_not(pages: dict[str, bytes], html: dict[str, Page]) -> None:
    alpha = html["models/mnist/alpha.html"]
    shown = {alt for alt in alpha.attributes("alt") if "gallery/" in alt or alt.startswith("Draws")}
    assert shown == {artefacts.CAPTIONS["samples"], "The picture gallery/<b>bold.png that was kept.",
                     "The picture gallery/drawing.svg that was kept."}  # fmt: skip
    assert sum(name.endswith(".png") for name in pages) == 3  # one of them is a strip
    assert "gallery/page.png is damaged and not shown: it is not a PNG." in alpha.text
    assert "gallery/reconstructions.png is damaged and not shown: image file is truncated" in alpha.text
    (drawing,) = (src for src in alpha.attributes("src") if src.startswith("data:"))
    assert drawing.startswith("data:image/svg+xml;base64,")  # as a picture it runs nothing; as a file it could
    assert all(b"<script" not in content for name, content in pages.items() if name.endswith(".svg"))


def test_a_board_holds_every_value_its_rank_and_its_ties(html: dict[str, Page], leaderboards: Path) -> None:
    page = html["datasets/mnist.html"]
    likelihood = page.lines("nll")
    for row in board.read(leaderboards, "mnist"):
        if row.value is not None:
            assert any(number(row.value, row.stderr) in cell for line in page.rows for cell in line)
    assert likelihood["alpha"][1:] == [
        "1-2 -80.00 ± 0.10 95% interval -80.196 to -79.804",
        "1-2 80.00 ± 0.10 95% interval 79.804 to 80.196",
        "",
    ]
    assert likelihood["beta"][2].startswith("1-2 80.10 ± 0.10")
    assert likelihood["gamma"][2].startswith("90.00 ± 0.10 95% interval")
    assert likelihood["gamma"][3] == "refuted: nll"
    assert likelihood["delta"][2] == "failed"
    assert [name for name in likelihood if name in ("alpha", "beta", "gamma", "delta")] == [
        "alpha", "beta", "gamma", "delta",
    ]  # fmt: skip
    assert "NaN <script>document.title = 'hacked'</script>" in page.attributes("title")


def test_a_mark_stands_beside_its_value_wherever_that_is_shown(tmp_path: Path) -> None:
    values = {"alpha": 80.0, "b": 90.0}
    told = [hostile.row(model=model, value=value, marks=("bound loose",)) for model, value in values.items()]
    board.write(tmp_path / "boards", told)
    for name, content in site.pages(overlay.Boards(tmp_path / "boards"), lambda *_: None):
        if name in ("index.html", "datasets/mnist.html", "models/alpha.html", "models/mnist/alpha.html"):
            assert re.search(r"80\.00 ± 0\.10[^±]*? bound loose", " ".join(Page(content).text.split())), name
        if name == "datasets/mnist.html":
            (headline,) = (row for row in Page(content).rows if row[0] == "1")
            assert [cell.split()[-2:] for cell in headline if "80.00" in cell] == [["bound", "loose"]]


def test_what_was_skipped_is_one_line_of_a_models_page(tmp_path: Path) -> None:
    gone = hostile.FAILED | {"status": "skipped", "column": "", "unit": "", "reason": "Too big."}
    told = [hostile.row(model="alpha", metric="code-length", **gone)]
    told += [hostile.row(model="b", metric="code-length", column=column) for column in ("code_length", "initial_bits")]
    board.write(tmp_path / "boards", told)
    found = dict(site.pages(overlay.Boards(tmp_path / "boards"), lambda *_: None))
    assert Page(found["models/mnist/alpha.html"]).text.count("Too big.") == 1


def test_a_models_page_says_how_to_repeat_each_run(html: dict[str, Page]) -> None:
    found = set(html["models/mnist/alpha.html"].insides("code"))
    metrics = ("likelihood", "latent-gap", "regret")
    assert found == {f"vaebench reproduce alpha mnist --metric {metric} --seed 0" for metric in metrics}
    for name in ("beta", "delta"):  # which have no card
        assert html[f"models/mnist/{name}.html"].insides("code") == []


def test_with_documentation_every_page_leads_to_it(leaderboards: Path) -> None:
    for name, content in site.pages(overlay.opened(leaderboards), lambda *_: None, docs=True):
        if name.endswith(".html"):
            links = {normpath(join(dirname(name), link)) for link in Page(content).attributes("href")}
            assert {"docs/index.html", "docs/reading.html"} <= links, name


def test_captions_are_sentences(html: dict[str, Page]) -> None:
    for name, page in html.items():
        for caption in page.insides("figcaption") + page.insides("caption"):
            if caption:  # of the scatter, which the script writes
                assert caption[0].isupper(), (name, caption)
                assert caption.split("\n")[0].rstrip().endswith("."), (name, caption)


def test_a_dataset_s_page_opens_with_its_headline_and_goes_by_task(html: dict[str, Page]) -> None:
    page = html["datasets/mnist.html"]
    assert page.insides("h2") == ["At a glance", "Density estimation", "Image generation", "Representation learning",
                                  "OOD detection", "Interpretability", "Other measures"]  # fmt: skip
    contents = [href for href in page.attributes("href") if href.startswith("#")]
    assert contents[1:] == ["#headline", *(f"#{name.lower().replace(' ', '-')}" for name in page.insides("h2")[1:])]
    assert {href.removeprefix("#") for href in contents} <= set(page.attributes("id"))
    folded = [found for tag, found in page.elements if tag == "details"]
    assert len(folded) >= 5
    assert not any("open" in found for found in folded)
    text = page.text
    assert text.index("At a glance") < text.index("Best on mnist by") < text.rindex("Density estimation\n")


def test_published_numbers_stand_in_the_table_apart_with_source_and_reason(html: dict[str, Page]) -> None:
    page = html["datasets/mnist.html"]
    rows = [[" ".join(cell.split()) for cell in row] for row in page.rows]
    reasons = [row[0] for row in rows if row[0].startswith("Published elsewhere, set apart: ")]
    assert any("Bhalodia" in reason and "MNIST is grey there" in reason for reason in reasons)
    assert tasks.APART in [row[0] for row in rows]
    heads = [row[0] for row in rows]
    measured, told = heads.index("alpha", heads.index("model", 1)), heads.index(tasks.APART)
    assert measured < told < heads.index("info-dpvae", told)
    assert next(row for row in rows if row[0] == "info-dpvae" and "1 110.1" in row)


def test_a_board_of_published_numbers_alone_says_so(html: dict[str, Page]) -> None:
    page = html["datasets/svhn.html"]
    assert "No model has been measured on svhn yet: what follows is what others report." in page.text
    assert "At a glance" not in page.text
    assert all("open" in found for tag, found in page.elements if tag == "details")
    assert page.lines("fid")["dpvae"][1:] == ["2 50.8", ""] or page.lines("fid")["dpvae"]


def test_regret_is_a_matrix(html: dict[str, Page]) -> None:
    rows = [[" ".join(cell.split()) for cell in row] for row in html["datasets/mnist.html"].rows]
    first = rows.index(["set", "regret", "likelihood"])
    assert [row[0] for row in rows[first + 1 : first + 3]] == ["noise", "rotated"]
    assert rows[first + 1][1].startswith("0.9200 ± 0.0010 gamma")
    own = [[" ".join(cell.split()) for cell in row] for row in html["models/mnist/alpha.html"].rows]
    assert own[own.index(["set", "regret", "likelihood"]) + 1][1] == "0.9000 ± 0.0010 3 of 3"


def test_a_model_has_its_card_provenance_curves_and_regret(html: dict[str, Page]) -> None:
    page = html["models/mnist/alpha.html"]
    for text in ("model.latent", "weights sha256", "ab" * 32, "0" * 40, "peak memory", "parameters"):
        assert text in page.text
    assert page.lines("bound")["nll ↓"][3] == "1-2 of 2"  # gamma is refuted, delta failed
    assert sum(alt.startswith(("The score 'regret'", "The leaked of alpha")) for alt in page.attributes("alt")) == 2
    assert "No card of this model" in html["models/mnist/beta.html"].text


def test_a_model_s_page_goes_over_datasets(html: dict[str, Page]) -> None:
    page = html["models/alpha.html"]
    rows = [[" ".join(cell.split()) for cell in row] for row in page.rows]
    assert rows[0] == ["task", "dataset", "metric", "result", "unit", "rank", "marks"]
    assert ["Density estimation", "mnist", "nll ↓ likelihood", "80.00 ± 0.10", "nats", "1-2 of 2", ""] in rows
    assert ["OOD detection", "mnist", "noise ↑ regret, score regret", "0.9000 ± 0.0010", "", "3 of 3", ""] in rows
    found = [row[0] for row in rows[1:]]
    assert found == sorted(found, key=[task.name for task in tasks.tasks()].index)


def test_the_index_has_a_card_for_each_dataset_with_models_and_then_the_others(html: dict[str, Page]) -> None:
    page = html["index.html"]
    assert page.insides("h3") == ["mnist"]
    (card,) = (" ".join(text.split()) for text in page.insides("article"))
    assert card.startswith("mnist 4 models Best by bits/dim") or "4 models" in card
    without = page.text[page.text.index("Datasets without a model yet") :]
    assert "cifar10" in without
    assert "mnist-static" in without
    assert [alt for alt in page.attributes("alt") if alt == "Samples of alpha on mnist."]


def test_boards_can_be_taken_away(pages: dict[str, bytes], html: dict[str, Page], leaderboards: Path) -> None:
    assert {"../data/mnist.csv", "../data/mnist.parquet", "../data/mnist/density-estimation.csv"} <= set(
        html["datasets/mnist.html"].attributes("href")
    )
    assert pages["data/mnist.csv"] == (leaderboards / "mnist.csv").read_bytes()
    assert pages["data/mnist/ood-detection.csv"].startswith(b"rank,rank_to,model,metric,value")
    table = pq.read_table(io.BytesIO(pages["data/mnist.parquet"]))
    assert table.num_rows == len(board.read(leaderboards, "mnist")) + len(published.rows("mnist"))
    assert "data/svhn.csv" not in pages
    assert pq.read_table(io.BytesIO(pages["data/svhn.parquet"])).num_rows == len(published.rows("svhn"))


def test_own_rows_are_marked_yours(leaderboards: Path, tmp_path: Path) -> None:
    board.write(
        tmp_path / "results", [hostile.row(model="mine", value=70.0), hostile.row(model="alpha", value=79.0, seed=0)]
    )
    both = dict(site.pages(overlay.Boards(leaderboards, tmp_path / "results"), lambda *_: None))
    page = Page(both["datasets/mnist.html"])
    lines = [tuple(" ".join(cell.split()) for cell in cells) for cells in page.rows]
    assert any(cells[0] == "mine yours" for cells in lines)
    assert any("mine yours" in cells[1] for cells in lines if len(cells) > 1)
    assert not any(cells[0] == "beta yours" for cells in lines)
    assert "yours" in Page(both["models/mnist/mine.html"]).text
    assert b"yours" not in both["data/mnist.parquet"]


def test_an_empty_board_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "boards").mkdir()
    found = dict(site.pages(overlay.Boards(tmp_path / "boards"), lambda *_: None))
    assert "No model has been measured here yet" in Page(found["index.html"]).text
    assert not any(name.startswith("models/") for name in found)


def test_rows_of_other_weights_than_the_cards_are_marked(
    leaderboards: Path, write_card: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sha, stale in (("ab" * 32, False), ("ef" * 32, True)):
        weights = {"weights.file": "'alpha.safetensors'", "weights.sha256": f"'{sha}'", "dataset": None}
        write_card("alpha", weights, tmp_path / "zoo" / "mnist")
        monkeypatch.setattr(files, "zoo", lambda: tmp_path / "zoo")
        content = dict(site.pages(overlay.opened(leaderboards), lambda *_: None))["models/mnist/alpha.html"]
        assert (b"of other weights" in content) == stale
