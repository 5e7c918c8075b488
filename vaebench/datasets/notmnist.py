"""notMNIST, the letters A-J in many typefaces, 10,000 to test (28x28, 256 levels)."""

from collections.abc import Mapping
from pathlib import Path

from vaebench.core.data import Source, Space, Split
from vaebench.datasets._files import nearly
from vaebench.datasets._idx import read_split

ORIGIN = "https://github.com/davidflanagan/notMNIST-to-MNIST"
IMAGES, LABELS = (f"notMNIST/raw/t10k-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The split "test" (10,000) of `<root>/notMNIST/raw`, labels 0 (A) to 9 (J); no downloader is maintained."""
    for file in (IMAGES, LABELS):
        if not (root / file).is_file() and not (root / f"{file}.gz").is_file():
            near = nearly(root, file)
            remedy = f"take {Path(file).name}.gz from {ORIGIN} and put it there" if near is None else near
            raise FileNotFoundError(f"notmnist needs {root / file} and has no download; {remedy}")
    return {"test": read_split("notmnist", root, "test", IMAGES, LABELS)}


plugin = Source(
    name="notmnist",
    space=Space((1, 28, 28), 256, "pmf"),
    read=read,
    origin=ORIGIN,
    licence="none stated by its author; the copy is under MIT",
    fingerprint="54244360bd7222b461d16d0f6ca7da920c12782a56db0732caece9e52b63d4a6",
)
