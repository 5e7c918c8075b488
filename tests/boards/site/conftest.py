"""The site of a board that means no good, as pages and on disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hostile import CARD, keep, rows

from vaebench.boards import overlay, site
from vaebench.boards import store as board
from vaebench.core import files


@contextmanager
def _its_zoo(root: Path) -> Iterator[None]:
    """Within the block, the zoo holds alpha's card alone, and the cache is a folder of its own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VAEBENCH_CACHE", str(root / "cache"))
        patched.setattr(files, "zoo", lambda: root / "zoo")
        yield


@pytest.fixture(scope="session")
def leaderboards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that board, beside the zoo that holds alpha's card."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "zoo" / "mnist").mkdir(parents=True)
    (root / "zoo" / "mnist" / "alpha.toml").write_text(CARD)
    with _its_zoo(root):
        board.write(root / "boards", rows())
        keep(root / "boards")
    return root / "boards"


@pytest.fixture(scope="session")
def pages(leaderboards: Path) -> dict[str, bytes]:
    """Every file of its site."""
    with _its_zoo(leaderboards.parent):
        return dict(site.pages(overlay.opened(leaderboards), lambda done, total, model: None))


@pytest.fixture(scope="session")
def folder(leaderboards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its site on disk."""
    out = tmp_path_factory.mktemp("site")
    with _its_zoo(leaderboards.parent):
        site.write(overlay.opened(leaderboards), out, lambda done, total, model: None)
    return out


@pytest.fixture(autouse=True)
def its_zoo(leaderboards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "zoo", lambda: leaderboards.parent / "zoo")
