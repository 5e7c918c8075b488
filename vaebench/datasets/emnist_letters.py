"""EMNIST letters, handwritten a-z, its test split alone, turned upright (28x28, 256 levels)."""

from collections.abc import Mapping
from pathlib import Path

from torchvision.datasets import EMNIST
from torchvision.datasets.utils import check_integrity

from ..data import Source, Space, Split
from ._files import require
from ._idx import read_split

IMAGES, LABELS = (f"EMNIST/raw/emnist-letters-test-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
UPRIGHT_MD5 = "178f2ab62e11ed75594f3041a9b72002"


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The split "test" (20,800) of `<root>/EMNIST/raw`, labels 1 (a) to 26 (z).

    The official files hold each image with rows and columns exchanged; here they are exchanged back, so that letters
    look like letters. A copy in circulation holds the same images already upright: it is known by its MD5, and read
    as it is. The training split is never read, hence the content is the same wherever it is absent.
    """
    require(
        "emnist-letters", root, [IMAGES, LABELS], download, lambda: EMNIST(root, "letters", train=False, download=True)
    )
    found = read_split("emnist-letters", root, "test", IMAGES, LABELS)
    if check_integrity(root / IMAGES, UPRIGHT_MD5):
        return {"test": found}
    return {"test": Split("test", found.x.transpose(-1, -2).contiguous(), found.y)}


plugin = Source(
    name="emnist-letters",
    space=Space((1, 28, 28), 256, "pmf"),
    read=read,
    origin="https://www.nist.gov/itl/products-and-services/emnist-dataset",
    licence="none stated; derived from NIST Special Database 19",
    fingerprint="265dd0613f1a8aa86a1d24c762d921af6dfaf9974e62a492c76909c836acc7b3",
)
