"""UCI handwritten digits as bundled with scikit-learn (8x8, 17 levels); 1437 to train, 360 to test."""

from vaebench.core.data import Source, Space
from vaebench.datasets._digits import read

plugin = Source(
    name="digits",
    space=Space((1, 8, 8), 17, "pmf"),
    read=read,
    origin="https://archive.ics.uci.edu/dataset/80 (its test set, bundled with scikit-learn)",
    licence="CC BY 4.0",
    fingerprint="fa3b39c81ba19e0cad90e34e404b5ffa70961fde3cd301d2f1d6d5e26bfa1563",
    bundled=True,
)
