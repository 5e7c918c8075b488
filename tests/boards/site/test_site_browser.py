"""The site in Chromium, from disk: sorting, filtering, keyboard, phone, dark; no error and nothing from outside."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vaebench.boards import overlay, site, store
from vaebench.boards.headline import ABSENT
from vaebench.core import files

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("there is no chromium on the PATH (Debian's package of that name)", allow_module_level=True)
pytestmark = pytest.mark.processes
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; it is in vaebench[dev]")

PAGES = ("index.html", "datasets/mnist.html", "datasets/cifar10.html", "models/mnist/alpha.html", "models/alpha.html")
BOARD = "#t1-1-table"
HEADLINE = "#headline-table"
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True}
NLL = f"{BOARD} thead th:has-text('nll')"
CONTRAST = """() => {
    const parts = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
        const share = part / 255;
        return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    const light = (colour) => parts(colour).reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
    const page = light(getComputedStyle(document.body).backgroundColor);
    const shown = [...document.querySelectorAll("h1, p, a, th, td, dt, dd, .quiet, .rank")].filter((element) =>
        element.checkVisibility() && !element.closest("svg"));
    return shown.map((element) => {
        let around = element;
        while (getComputedStyle(around).backgroundColor === "rgba(0, 0, 0, 0)") around = around.parentElement;
        const both = [light(getComputedStyle(element).color), light(getComputedStyle(around).backgroundColor)];
        return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    }).reduce((a, b) => Math.min(a, b));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def errors() -> list[str]:
    return []


@pytest.fixture
def requests() -> list[str]:
    return []


@pytest.fixture
def page(
    browser: "sync_api.Browser", errors: list[str], requests: list[str], request: pytest.FixtureRequest
) -> Iterator["sync_api.Page"]:
    """A page of a window as the test's parameter describes it, which notes what goes wrong and what is asked for."""
    context = browser.new_context(**getattr(request, "param", {}))
    page = context.new_page()
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda failed: errors.append(failed.url))
    page.on("request", lambda asked: requests.append(asked.url))
    page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
    yield page
    context.close()
    assert errors == []


def go(page: "sync_api.Page", folder: Path, name: str = "datasets/mnist.html") -> None:
    page.goto((folder / name).as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    page.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
    page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")


def models(page: "sync_api.Page") -> list[str]:
    """The models of the board of likelihood that are shown, from above."""
    shown = page.locator(f"{BOARD} tbody:not(.published) th:visible").all_inner_texts()
    return [text.strip() for text in shown]


def headline(page: "sync_api.Page") -> list[tuple[str, str]]:
    """The places and models of the headline that are shown, from above."""
    rows = page.locator(f"{HEADLINE} tbody tr:visible")
    return [(row.locator("[data-place]").inner_text(), row.locator("th a").inner_text()) for row in rows.all()]


def order(page: "sync_api.Page") -> str | None:
    return page.locator(NLL).get_attribute("aria-sort")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_whole_asks_for_nothing_outside_and_runs_nothing_of_a_stranger(
    page: "sync_api.Page", folder: Path, requests: list[str], name: str
) -> None:
    go(page, folder, name)
    assert {url.partition(":")[0] for url in requests} <= {"file", "data"}
    assert all(url.startswith((folder.as_uri(), "data:")) for url in requests)
    assert any(url.endswith("board.js") for url in requests)
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    assert page.title().endswith("vaebench")
    assert page.locator("form.controls").count() == page.locator("form.controls:visible").count()


def test_the_policy_stops_a_script_that_got_past_escaping(
    page: "sync_api.Page", folder: Path, tmp_path: Path, errors: list[str]
) -> None:
    shutil.copytree(folder, tmp_path / "site")
    spoilt = tmp_path / "site" / "index.html"
    attack = "<script>document.title = 'hacked'</script><img src='http://127.0.0.1:9/x.png'></main>"
    spoilt.write_text(spoilt.read_text().replace("</main>", attack))
    page.goto(spoilt.as_uri())
    assert page.title() == "vaebench"
    assert sum("Content Security Policy" in error for error in errors) == 2
    errors.clear()


def test_a_click_sorts_and_says_so(page: "sync_api.Page", folder: Path) -> None:
    go(page, folder)
    page.click(f"{BOARD} thead th:has-text('marks') button")
    assert order(page) is None
    page.click(f"{NLL} button")
    assert (models(page), order(page)) == (["alpha", "beta", "gamma", "delta"], "ascending")
    page.click(f"{NLL} button")
    assert (models(page), order(page)) == (
        ["gamma", "beta", "alpha", "delta"],
        "descending",
    )  # what has none stays last
    page.click(f"{BOARD} thead th:has-text('elbo') button")
    assert models(page) == ["alpha", "beta", "gamma", "delta"]
    assert order(page) is None
    assert page.locator(f"{BOARD} [aria-sort]").count() == 1
    page.click(f"{BOARD} thead th:has-text('model') button")
    assert models(page) == ["alpha", "beta", "delta", "gamma"]


def test_tie_groups_are_parted(page: "sync_api.Page", folder: Path) -> None:
    go(page, folder)
    page.click(f"{NLL} button")
    apart = page.locator(f"{BOARD} tbody tr.apart th").all_inner_texts()
    assert [text.strip() for text in apart] == ["gamma"]  # alpha and beta tie; what has no rank is one group


def test_the_keyboard_sorts(page: "sync_api.Page", folder: Path) -> None:
    go(page, folder)
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate(f"document.activeElement.matches(`{BOARD} th[data-key=nll] button`)"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert order(page) == "ascending"
    page.keyboard.press("Space")
    assert order(page) == "descending"


def test_the_skip_link_is_first_and_seen_when_reached(page: "sync_api.Page", folder: Path) -> None:
    go(page, folder)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0


def test_a_filter_hides_rows_and_what_is_left_empty(page: "sync_api.Page", folder: Path) -> None:
    go(page, folder)
    assert page.inner_text("output") == ""
    page.fill("[data-filter]", "GAMMA")
    assert models(page) == ["gamma"]
    shown, of, total, lines = page.inner_text("output").split()
    assert (of, lines) == ("of", "lines")
    assert 0 < int(shown) < int(total)
    assert [name for _, name in headline(page)] == ["gamma"]
    assert page.locator("tbody.published:visible").count() == 0
    page.fill("[data-filter]", "no such model")
    assert page.locator("details:has(table[data-sortable]):visible").count() == 0
    page.fill("[data-filter]", "")
    assert len(models(page)) == 4


def test_choices_narrow_the_table_of_a_model(page: "sync_api.Page", folder: Path) -> None:
    go(page, folder, "models/alpha.html")
    page.select_option("[data-choose=task]", "OOD detection")
    shown = page.locator("#results tbody tr:visible")
    assert {text.split("\t")[0].strip() for text in shown.all_inner_texts()} == {"OOD detection"}
    assert page.inner_text("output").split()[0] == "4"
    assert "task=OOD+detection" in page.url
    page.reload()
    assert page.locator("#results tbody tr:visible").count() == 4


def test_the_headline_s_places_are_those_of_the_column_it_is_in_order_of(page: "sync_api.Page", folder: Path) -> None:
    go(page, folder)
    assert headline(page) == [("1-2", "alpha"), ("1-2", "beta"), (ABSENT, "gamma"), (ABSENT, "delta")]
    page.click(f"{HEADLINE} thead th[data-key=elbo] button")
    assert headline(page)[:3] == [("1-2", "alpha"), ("1-2", "beta"), ("3", "gamma")]
    page.click(f"{HEADLINE} thead th[data-key=elbo] button")
    assert headline(page)[0] == ("3", "gamma")


def test_the_address_keeps_order_filter_and_axes(page: "sync_api.Page", folder: Path) -> None:
    go(page, folder)
    page.click(f"{HEADLINE} thead th[data-key=elbo] button")
    page.click(f"{HEADLINE} thead th[data-key=elbo] button")
    page.click(f"{BOARD} thead th[data-key=model] button")
    page.fill("[data-filter]", "a")
    page.select_option("[data-axis=x]", "ood_auroc")
    address = page.url
    assert "sort=headline-table%3Aelbo%3Aascending%2Ct1-1-table%3Amodel%3Aascending" in address
    assert "filter=a" in address
    assert "x=ood_auroc" in address
    before = headline(page), models(page), page.inner_text("figcaption >> nth=0")
    page.goto("about:blank")
    page.goto(address)
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    assert (headline(page), models(page), page.inner_text("figcaption >> nth=0")) == before
    assert page.input_value("[data-filter]") == "a"
    assert page.input_value("[data-axis=x]") == "ood_auroc"
    page.fill("[data-filter]", "")
    assert "filter" not in page.url


def test_an_address_of_nonsense_is_the_page_as_it_is(page: "sync_api.Page", folder: Path) -> None:
    odd = "?sort=x:y:z,headline-table:none:ascending,headline-table:nll:sideways,,&x=none&y=%3Cb%3E&filter=#nothing"
    page.goto((folder / "datasets" / "mnist.html").as_uri() + odd)
    assert [name for _, name in headline(page)] == ["alpha", "beta", "gamma", "delta"]
    assert page.input_value("[data-axis=x]") == "nll"


def test_the_scatter_names_who_is_beaten_by_none(page: "sync_api.Page", folder: Path) -> None:
    go(page, folder)
    page.select_option("[data-axis=x]", "nll")
    page.select_option("[data-axis=y]", "elbo")
    assert page.inner_text("figcaption >> nth=0") == "Of 3 models, no other is better in both than alpha."
    assert page.locator(".pareto svg a").count() == 3
    assert page.locator(".pareto svg a.best title").text_content() == (
        "alpha: NLL, nats 80.00 ± 0.10, ELBO, nats -80.00 ± 0.10"
    )
    page.select_option("[data-axis=y]", "ood_auroc")  # gamma's is the best, alpha's NLL is
    assert "than alpha, beta and gamma." in page.inner_text("figcaption >> nth=0")
    at = {text.partition(":")[0]: box for text, box in zip(
        page.locator(".pareto svg a title").all_text_contents(),
        [found.bounding_box() for found in page.locator(".pareto svg a circle").all()], strict=True)}  # fmt: skip
    alpha, gamma = at["alpha"], at["gamma"]
    assert alpha is not None
    assert gamma is not None
    assert alpha["x"] < gamma["x"]
    assert alpha["y"] > gamma["y"]
    page.locator(".pareto svg a.best").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/models/mnist/*.html")


def test_an_address_of_a_folded_table_opens_it(page: "sync_api.Page", folder: Path) -> None:
    page.goto((folder / "datasets" / "mnist.html").as_uri() + "#t1-1")
    assert page.locator("#t1-1").get_attribute("open") is not None
    assert page.locator("details[open]").count() == 1


def test_contents_stay_at_the_side(page: "sync_api.Page", folder: Path) -> None:
    page.set_viewport_size({"width": 1440, "height": 500})
    go(page, folder)
    page.click(".contents a:has-text('OOD detection')")
    box, title = page.locator(".contents").bounding_box(), page.locator("#ood-detection").bounding_box()
    assert box is not None
    assert title is not None
    assert box["x"] + box["width"] <= title["x"]
    assert 0 <= box["y"] < 500
    assert 0 <= title["y"] < 500


def test_the_index_is_short_and_datasets_with_models_are_above(page: "sync_api.Page", folder: Path) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    go(page, folder, "index.html")
    assert page.evaluate("document.documentElement.scrollHeight") <= 4000
    card, without = page.locator(".card").last.bounding_box(), page.locator("#without").bounding_box()
    assert card is not None
    assert without is not None
    assert card["y"] + card["height"] <= without["y"]


CUT = """() => [...document.querySelectorAll("td, th, dd, dt, .v, .e, figcaption, .plot text")].filter((element) => {
    if (!element.checkVisibility()) return false;
    const box = element.getBoundingClientRect();
    return box.width > 0 && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map((element) => element.textContent.trim())"""
CUT_OFF = """() => [...document.querySelectorAll(".scroll:has(.headline, .results, .matrix)")]
    .filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.scrollWidth - box.clientWidth)"""
BLANK = """() => [...document.querySelectorAll("tbody tr")].filter((row) => row.checkVisibility())
    .filter((row) => row.getBoundingClientRect().height < 8 || row.innerText.trim() === "")
    .map((row) => row.outerHTML)"""


@pytest.mark.parametrize("page", [PHONE, PHONE | {"color_scheme": "dark"}], indirect=True, ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_phone_shows_every_value_whole_and_no_blank_row(page: "sync_api.Page", folder: Path, name: str) -> None:
    go(page, folder, name)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(CUT) == []
    assert page.evaluate(BLANK) == []
    for value in page.locator("td.absent").all():
        assert value.is_hidden()


@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_a_phone_sorts_by_a_list(page: "sync_api.Page", folder: Path) -> None:
    go(page, folder)
    page.select_option(".sortby select >> nth=0", label="OOD AUROC")
    assert [name for _, name in headline(page)] == ["gamma", "beta", "alpha", "delta"]
    assert "headline-table%3Aood_auroc%3Adescending" in page.url


@pytest.mark.parametrize("page", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True, ids=str)
@pytest.mark.parametrize("name", PAGES)
def test_light_and_dark_can_be_read(page: "sync_api.Page", folder: Path, name: str) -> None:
    go(page, folder, name)
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    red = page.evaluate("Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
    assert (red < 60) == dark
    assert page.evaluate(CONTRAST) >= 4.5


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_a_board_is_whole(page: "sync_api.Page", folder: Path) -> None:
    page.goto((folder / "datasets" / "mnist.html").as_uri())
    assert page.locator(f"{HEADLINE} tbody th a").all_inner_texts() == ["alpha", "beta", "gamma", "delta"]
    assert page.locator("form.controls").is_hidden()
    assert page.locator("[data-pareto]").is_hidden()
    page.click("#t1-1 > summary")
    assert models(page) == ["alpha", "beta", "gamma", "delta"]


@pytest.mark.slow
def test_the_shipped_boards_as_a_site(browser: "sync_api.Browser", tmp_path: Path) -> None:
    """In 15 seconds of processor; every dataset's page whole on a desk and a phone, the index short, nothing amiss."""
    start = time.process_time()
    written = site.write(overlay.opened(files.shipped_boards()), tmp_path, lambda *_: None)
    assert time.process_time() - start < 15
    assert written.pages > 100
    for width in (1440, 390):
        context = browser.new_context(viewport={"width": width, "height": 900}, is_mobile=width < 500)
        page, wrong = context.new_page(), list[str]()
        page.on("console", lambda message, wrong=wrong: wrong.append(message.text))
        page.on("pageerror", lambda error, wrong=wrong: wrong.append(str(error)))
        page.on("requestfailed", lambda failed, wrong=wrong: wrong.append(failed.url))
        for name in ("index.html", *(f"datasets/{path.name}" for path in sorted((tmp_path / "datasets").iterdir()))):
            go(page, tmp_path, name)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            if width < 500:
                assert (page.evaluate(CUT), page.evaluate(BLANK)) == ([], []), name
            else:
                assert page.evaluate(CUT_OFF) == [], name
                if name == "datasets/digits.html":  # few of whose models have the second measure
                    assert 2 * page.locator(".pareto svg a").count() > page.locator(f"{HEADLINE} tbody tr").count()
            if width > 500 and name == "index.html":
                assert page.evaluate("document.documentElement.scrollHeight") <= 4000
                assert page.locator(".card").count() == len(store.datasets(files.shipped_boards()))
        context.close()
        assert wrong == []
