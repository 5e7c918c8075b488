"""Two black discs on white, each anywhere: four factors of 32 values (32x32, binarised when read)."""

from collections.abc import Mapping
from pathlib import Path

from vaebench.core.data import Source, Space, Split
from vaebench.datasets._discs import Discs
from vaebench.datasets._rendered import rendered

DISCS = Discs(side=32, count=2, positions=32, step=210)


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (20,000) and "test" (500)."""
    return rendered("two-dots", DISCS.truth)


plugin = Source(
    name="two-dots",
    space=Space((1, 32, 32), 2, "pmf"),
    read=read,
    origin="rendered; three-dots made small",
    licence="none needed: rendered, not collected",
    fingerprint="cd87be2077c8072df7f482aa744f4c3b647bab88c294a2a182d66ab43cbb7f2a",
    bundled=True,
    ground_truth=DISCS.truth,
)
