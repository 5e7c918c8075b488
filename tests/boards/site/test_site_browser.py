"""The site in Chromium, from disk: sorting, filtering, keyboard, phone, dark; no error and nothing from outside."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("there is no chromium on the PATH (Debian's package of that name)", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; it is in vaebench[dev]")

PAGES = ("index.html", "datasets/mnist.html", "datasets/cifar10.html", "models/mnist/alpha.html")
BOARD = "section[data-metric=likelihood] table"
NLL = f"{BOARD} thead th:has-text('nll')"
CONTRAST = """() => {
    const parts = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
        const share = part / 255;
        return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    const light = (colour) => parts(colour).reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
    const page = light(getComputedStyle(document.body).backgroundColor);
    return [...document.querySelectorAll("h1, p, a, th, td, .quiet, .rank")].map((element) => {
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
    page.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every((image) => image.complete)")


def models(page: "sync_api.Page") -> list[str]:
    """The models of the board of likelihood that are shown, from above."""
    return [text.strip() for text in page.locator(f"{BOARD} tbody th:visible").all_inner_texts()]


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
    assert (models(page), order(page)) == (["alpha", "beta", "gamma", "delta"], None)
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
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(f"document.activeElement.matches(`{BOARD} button`)") and page.evaluate(
            "document.activeElement.textContent.includes('nll')"
        ):
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
    total = int(page.inner_text("output").split()[2])
    page.fill("[data-filter]", "GAMMA")
    assert models(page) == ["gamma"]
    assert page.inner_text("output") == f"2 of {total} rows"
    assert page.locator("section:has(#published)").is_hidden()
    page.fill("[data-filter]", "no such model")
    assert page.locator("section:visible").count() == 0
    page.fill("[data-filter]", "")
    assert len(models(page)) == 4


def test_choices_narrow_the_tables(page: "sync_api.Page", folder: Path) -> None:
    go(page, folder)
    page.select_option("[data-choose=metric]", "latent-gap")
    shown = page.locator("section:visible h2").all_inner_texts()
    assert [text.split()[0] for text in shown] == ["latent-gap"]
    page.select_option("[data-choose=class]", index=1)
    assert page.inner_text("output").split()[0] in ("0", "3")
    go(page, folder, "index.html")
    page.select_option("[data-choose=metric]", "likelihood")
    page.select_option("[data-choose=dataset]", "mnist")
    assert page.inner_text("output").split()[0] == "2"


@pytest.mark.parametrize("page", [{"viewport": {"width": 360, "height": 740}, "is_mobile": True}], indirect=True)
def test_a_phone_scrolls_tables_and_not_the_page(page: "sync_api.Page", folder: Path) -> None:
    for name in PAGES:
        go(page, folder, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
    go(page, folder)
    box = page.locator("section[data-metric=likelihood] .scroll")
    assert box.evaluate("(box) => box.scrollWidth > box.clientWidth")
    box.evaluate("(box) => { box.scrollLeft = 150; }")
    left = page.locator(f"{BOARD} tbody th").first.bounding_box()
    assert left is not None
    assert 0 <= left["x"] <= 30  # the model's name stays in view


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
    assert models(page) == ["alpha", "beta", "gamma", "delta"]
    assert page.locator("form.controls").is_hidden()
