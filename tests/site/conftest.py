"""The site of a board that means no good, as pages and on disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import CARD, keep, rows

from vaebench import board, files, site


@pytest.fixture(scope="session")
def leaderboards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of that board, in a zoo that holds alpha's card."""
    root = tmp_path_factory.mktemp("hostile")
    zoo = root / "zoo"
    (zoo / "mnist").mkdir(parents=True)
    (zoo / "mnist" / "alpha.toml").write_text(CARD)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VAEBENCH_CACHE", str(root / "cache"))
        patched.setattr(files, "zoo", lambda: zoo)
        board.write(root / "boards", rows())
        keep(root / "boards")
        yield root / "boards"


@pytest.fixture(scope="session")
def pages(leaderboards: Path) -> dict[str, bytes]:
    """Every file of its site."""
    return dict(site.pages(leaderboards, lambda done, total, model: None))


@pytest.fixture(scope="session")
def folder(leaderboards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its site on disk."""
    out = tmp_path_factory.mktemp("site")
    site.write(leaderboards, out, lambda done, total, model: None)
    return out
