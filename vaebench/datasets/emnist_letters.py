"""EMNIST letters, handwritten a-z, its test split alone, turned upright (28x28, 256 levels)."""

from collections.abc import Mapping
from pathlib import Path

from vaebench.core.data import Source, Space, Split
from vaebench.datasets._idx import LETTER_IMAGES as IMAGES
from vaebench.datasets._idx import LETTER_LABELS as LABELS
from vaebench.datasets._idx import UPRIGHT_MD5, letters

__all__ = ["IMAGES", "LABELS", "plugin"]


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The split "test" (20,800). The training split is never read: the content is the same where that is absent."""
    return {"test": letters("emnist-letters", root, download, UPRIGHT_MD5)}


plugin = Source(
    name="emnist-letters",
    space=Space((1, 28, 28), 256, "pmf"),
    read=read,
    origin="https://www.nist.gov/itl/products-and-services/emnist-dataset",
    licence="none stated; derived from NIST Special Database 19",
    fingerprint="265dd0613f1a8aa86a1d24c762d921af6dfaf9974e62a492c76909c836acc7b3",
)
