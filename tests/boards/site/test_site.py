"""The pages: whole, escaped, with no way to the network, the same again, and careful with the folder they are in."""

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Any

import pytest
from click.testing import Result

from vaebench.boards import site
from vaebench.boards import store as board
from vaebench.boards.text import number
from vaebench.core import files

Invoke = Callable[..., Result]
Refused = Callable[..., str]


class Page(HTMLParser):
    """The elements of a page with their attributes, its cells by row, and its text."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.inside = False
        self.feed(content.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.inside:
            self.rows[-1][-1] += data

    def lines(self, heading: str) -> dict[str, list[str]]:
        """The first cell of each line to all of them, over the tables that have a column so called; blanks made one."""
        found: dict[str, list[str]] = {}
        inside = False
        for row in ([" ".join(cell.split()) for cell in row] for row in self.rows):
            if row[0] in ("model", "column", "dataset"):
                inside = any(cell.startswith(heading) for cell in row)
            elif inside:
                found.setdefault(row[0], row)
        return found

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attributes in self.elements for key, value in attributes.items() if key == name]


@pytest.fixture
def html(pages: dict[str, bytes]) -> dict[str, Page]:
    return {name: Page(content) for name, content in pages.items() if name.endswith(".html")}


def test_a_page_for_every_dataset_and_model(html: dict[str, Page]) -> None:
    models = {name for name in html if name.startswith("models/")}
    assert models == {f"models/mnist/{model}.html" for model in ("alpha", "beta", "gamma", "delta")}
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
    tags |= {"option", "output", "svg", "line", "circle"}
    for name, page in html.items():
        assert {tag for tag, _ in page.elements} <= tags, name
        assert not [key for _, found in page.elements for key in found if key.startswith("on") or key == "style"], name
        assert [found for tag, found in page.elements if tag == "script"] == [
            {"src": "../" * name.count("/") + "board.js", "defer": None}
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
    shown = {alt for alt in alpha.attributes("alt") if alt.startswith("gallery/")}
    assert shown == {"gallery/samples.png", "gallery/<b>bold.png", "gallery/drawing.svg"}
    assert sum(name.endswith(".png") for name in pages) == 2
    (drawing,) = (src for src in alpha.attributes("src") if src.startswith("data:"))
    assert drawing.startswith("data:image/svg+xml;base64,")  # as a picture it runs nothing; as a file it could
    assert all(b"<script" not in content for name, content in pages.items() if name.endswith(".svg"))


def test_a_board_holds_every_value_its_rank_and_its_ties(html: dict[str, Page], leaderboards: Path) -> None:
    page = html["datasets/mnist.html"]
    likelihood = page.lines("nll")
    for row in board.read(leaderboards, "mnist"):
        if row.value is not None:
            assert any(number(row.value, row.stderr) in cell for line in page.rows for cell in line)
    assert likelihood["alpha"][2:] == [
        "1-2 -80.00 ± 0.10 95% interval -80.196 to -79.804",
        "1-2 80.00 ± 0.10 95% interval 79.804 to 80.196",
    ]
    assert likelihood["beta"][3].startswith("1-2 80.10 ± 0.10")
    assert likelihood["gamma"][3].startswith("90.00 ± 0.10 refuted")
    assert likelihood["delta"][3] == "failed"
    assert "NaN <script>document.title = 'hacked'</script>" in page.attributes("title")


def test_published_numbers_stand_apart_with_source_and_reason(html: dict[str, Page]) -> None:
    page = html["datasets/mnist.html"]
    line = page.lines("source")["info-dpvae"]
    assert line[1:4] == ["frechet", "fid ↓", "110.1"]
    assert "Bhalodia" in line[4]
    assert line[5] == "not stated split"
    assert line[6].startswith("not comparable: ")
    assert not any(name in page.lines(column) for name in ("info-dpvae", "nvae") for column in ("nll", "leaked"))


def test_a_model_has_its_card_provenance_curves_and_regret(html: dict[str, Page]) -> None:
    page = html["models/mnist/alpha.html"]
    for text in ("model.latent", "weights sha256", "ab" * 32, "0" * 40, "peak memory", "parameters"):
        assert text in page.text
    assert page.lines("bound")["nll ↓"][3] == "1-2 of 2"  # gamma is refuted, delta failed
    assert sum(alt.startswith(("regret, by set", "over tau")) for alt in page.attributes("alt")) == 2
    assert "No card of this model" in html["models/mnist/beta.html"].text


def test_the_index_names_the_best(html: dict[str, Page]) -> None:
    assert html["index.html"].lines("published")["mnist"][:3] == ["mnist", "4", "11"]
    lines = [[" ".join(cell.split()) for cell in row][1:6] for row in html["index.html"].rows]
    assert ["likelihood", "nll ↓", "alpha, beta", "80.00 ± 0.10 nats", "2"] in lines


def test_rows_of_other_weights_than_the_cards_are_marked(
    leaderboards: Path, write_card: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sha, stale in (("ab" * 32, False), ("ef" * 32, True)):
        weights = {"weights.file": "'alpha.safetensors'", "weights.sha256": f"'{sha}'", "dataset": None}
        write_card("alpha", weights, tmp_path / "zoo" / "mnist")
        monkeypatch.setattr(files, "zoo", lambda: tmp_path / "zoo")
        content = dict(site.pages(leaderboards, lambda *_: None))["models/mnist/alpha.html"]
        assert (b"of other weights" in content) == stale


def stamps(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_the_same_again_changes_nothing(pages: dict[str, bytes], folder: Path, leaderboards: Path) -> None:
    before = stamps(folder)
    assert {path.relative_to(folder).as_posix() for path in before} == {*pages, site.MARK}
    assert all((folder / name).read_bytes() == content for name, content in pages.items())
    told: list[Any] = []
    site.write(leaderboards, folder, lambda *state: told.append(state))
    assert stamps(folder) == before
    assert [done for done, _, _ in told] == [0, 1, 2, 3, 4]
    assert {total for _, total, _ in told} == {4}


def test_what_is_out_of_date_goes_and_nothing_else(
    vaebench: Invoke, leaderboards: Path, folder: Path, tmp_path: Path
) -> None:
    boards, out = tmp_path / "boards", tmp_path / "out"
    shutil.copytree(leaderboards, boards, symlinks=True)
    shutil.copytree(folder, out)
    (out / "CNAME").write_text("example.com")
    (boards / "mnist" / "alpha.parquet").unlink()
    result = vaebench("board", "html", "--out", out, "--leaderboards", boards, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "index": str(out / "index.html"),
        "pages": sum(path.suffix == ".html" for path in out.rglob("*.html")),
    }
    assert not (out / "models" / "mnist" / "alpha.html").exists()
    assert not list(out.glob("pictures/*.png"))
    assert (out / "models" / "mnist" / "beta.html").exists()
    assert (out / "CNAME").exists()


def test_a_folder_of_something_else_is_refused(refused: Refused, leaderboards: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    refused(2, ("board", "html", "--out", tmp_path, "--leaderboards", leaderboards), tmp_path, "choose a new")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    refused(2, ("board", "html", "--out", tmp_path / "thesis.tex"), "is not a folder")


def test_a_fresh_checkout_is_empty_enough(leaderboards: Path, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    site.write(leaderboards, tmp_path, lambda *_: None)
    assert (tmp_path / "index.html").exists()


def test_shipped_boards_where_there_are_none_of_ones_own(
    vaebench: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tmp_path / "shipped"
    shutil.copytree(
        files.shipped_boards() / "digits", few / "digits", ignore=lambda _, names: [n for n in names if n[0] != "h"]
    )
    monkeypatch.setattr(files, "shipped_boards", lambda: few)
    monkeypatch.chdir(tmp_path)
    result = vaebench("board", "html", "--out", "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("out/index.html (")
    assert [path.stem for path in (tmp_path / "out" / "models" / "digits").iterdir()] == ["hvae"]
