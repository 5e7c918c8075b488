"""The workflow that publishes the site, and what README shows of it."""

import re
from pathlib import Path

from click.testing import CliRunner
from PIL import Image

from vaebench.boards import store
from vaebench.cli.main import main

ROOT = Path(__file__).parents[3]
WORKFLOW = re.sub(r"(^|\s)#.*", "", (ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8"))
BUILD, DEPLOY = WORKFLOW.split("  deploy:\n")


def test_the_site_is_built_of_the_clone_s_boards_and_uploaded() -> None:
    (arguments,) = re.findall(r"- run: vaebench (board html .*)", BUILD)
    *words, flag = arguments.split()
    assert flag == "--docs"  # which is built into its folder below
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert set(options) == {"--leaderboards", "--out"}
    assert store.datasets(ROOT / options["--leaderboards"])
    assert f"path: {options['--out']}\n" in BUILD
    said = CliRunner().invoke(main, ["board", "html", "--help"]).output
    assert all(option in said for option in (*options, flag))
    assert not (ROOT / options["--out"]).exists() or (ROOT / options["--out"] / ".vaebench-site").exists()


def test_the_documentation_is_built_into_its_folder_after_the_boards() -> None:
    boards, documents = BUILD.index("board html"), BUILD.index("mkdocs build --strict --site-dir site/docs\n")
    assert boards < documents < BUILD.index("upload-pages-artifact")
    assert "[docs]" in BUILD
    assert '"docs/**"' in BUILD


def test_it_follows_the_main_branch_alone() -> None:
    assert re.search(r"push:\n\s+branches: \[main\]\n", BUILD)
    assert "pull_request" not in WORKFLOW
    assert '"leaderboards/**"' in BUILD


def test_what_can_publish_runs_nothing_of_the_project() -> None:
    assert re.findall(r"permissions:\n((?: +[a-z-]+: [a-z]+\n)+)", BUILD) == ["  contents: read\n"]
    assert re.findall(r": write", BUILD) == []
    assert "persist-credentials: false" in BUILD
    assert set(re.findall(r"([a-z-]+): write", DEPLOY)) == {"pages", "id-token"}
    assert "run:" not in DEPLOY
    assert re.findall(r"uses: (\S+)@", DEPLOY) == ["actions/deploy-pages"]
    assert "secrets." not in WORKFLOW


def test_readme_links_the_site_and_shows_its_picture() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pictured, link = re.findall(r"\[!\[[^]]+\]\((\.github/site\.png)\)\]\(([^)]+)\)", readme)[0]
    assert link == "../../deployments/github-pages"  # of whichever repository this is
    with Image.open(ROOT / pictured) as picture:
        picture.load()
        assert picture.width >= 1200
    assert (ROOT / pictured).stat().st_size < 200_000
