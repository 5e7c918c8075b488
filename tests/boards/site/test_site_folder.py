"""The site on disk: the same again, careful with the folder that it is in, the shipped boards."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from vaebench.boards import overlay, site
from vaebench.core import files

Invoke = Callable[..., Result]
Refused = Callable[..., str]


def stamps(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_the_same_again_changes_nothing(pages: dict[str, bytes], folder: Path, leaderboards: Path) -> None:
    before = stamps(folder)
    assert {path.relative_to(folder).as_posix() for path in before} == {*pages, site.MARK}
    assert all((folder / name).read_bytes() == content for name, content in pages.items())
    told: list[Any] = []
    site.write(overlay.opened(leaderboards), folder, lambda *state: told.append(state))
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
    before = {path for path in out.rglob("*") if path.is_file()}
    result = vaebench("board", "html", "--out", out, "--leaderboards", boards, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "index": str(out / "index.html"),
        "pages": sum(path.suffix == ".html" for path in out.rglob("*.html")),
        "removed": len(before - set(out.rglob("*"))),
    }
    assert not (out / "models" / "mnist" / "alpha.html").exists()
    assert not (out / "models" / "alpha.html").exists()
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
    site.write(overlay.opened(leaderboards), tmp_path, lambda *_: None)
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
