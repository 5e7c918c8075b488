"""Three black discs on white, each anywhere: six factors of 64 values (64x64, binarised when read)."""

from collections.abc import Mapping
from pathlib import Path

from vaebench.core.data import Source, Space, Split
from vaebench.datasets._discs import Discs
from vaebench.datasets._rendered import rendered

DISCS = Discs(side=64, count=3, positions=64, step=256)


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (20,000) and "test" (500)."""
    return rendered("three-dots", DISCS.truth)


plugin = Source(
    name="three-dots",
    space=Space((1, 64, 64), 2, "pmf"),
    read=read,
    origin="rendered; the design is of Rhodes & Lee 2021 (JL1-VAE)",
    licence="none needed: rendered, not collected",
    fingerprint="e5c8a7b42b7a4b18b09a98828d2caf7d490ba5c2a4f443e5f59b0354361e2b1d",
    bundled=True,
    ground_truth=DISCS.truth,
)
