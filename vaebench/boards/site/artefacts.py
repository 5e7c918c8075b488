"""What is kept beside a model's rows, and its card, read as what strangers may have sent. Imports no torch.

No file's name becomes a path of the site: pictures are named by their content. An SVG file can run scripts where it is
opened as a page, so it becomes no file at all: it is written into the page as a `data:` picture, which cannot.
"""

import base64
import dataclasses
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from vaebench.core.errors import DataError, foreign
from vaebench.models.card import Card

PNG = b"\x89PNG\r\n\x1a\n"
SCORES = {
    "regret": "likelihood regret (nats)",
    "likelihood": "-log p(x) (nats)",
    "complexity": "-log2 p(x) - compressed size (bits)",
    "ratio": "likelihood ratio (nats)",
}
"""The scores of `regret/scores.parquet` that are drawn, and their axes."""
CAPTIONS = {
    "samples": "Draws of the prior, decoded.",
    "low-posterior": "The draws of the prior where the aggregate posterior is least dense, decoded: its worst samples.",
    "reconstructions": "Test images, each above what the model makes of a draw of its posterior.",
    "interpolations": "Straight lines in latent space between pairs of test images.",
    "traversals": "One latent dimension at a time from low to high, that which changes the image most first.",
    "jacobian": "What each latent coordinate changes: the decoder's derivative beside the image, the largest first.",
    "influence": "Test images, and the training images that speak most for (+) and most against (-) each.",
    "latents": "Where the posteriors of the data lie in latent space, and which draws of the prior leak.",
}
"""What the pictures of metrics show, by the file's name."""
_log = logging.getLogger("vaebench")
Scores = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""By score and then by set of images."""


@final
@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture of a page: its address from the site's root, a caption, the names of its colours, its content.

    `content` is None where the address holds it all. Where there is a `fault`, the picture is damaged and not shown.
    """

    address: str
    caption: str
    legend: tuple[str, ...] = ()
    content: bytes | None = None
    fault: str = ""

    def files(self) -> Iterator[tuple[str, bytes]]:
        """The file of the site that it needs, if any."""
        if self.content is not None:
            yield self.address, self.content


def figure(content: bytes, suffix: str, caption: str, legend: tuple[str, ...] = ()) -> Figure:
    """A figure in a file named by its content."""
    name = hashlib.sha256(content).hexdigest()[:20]
    return Figure(f"pictures/{name}{suffix}", caption, legend, content)


def pictures(folder: Path) -> dict[str, list[Figure]]:
    """The PNG and SVG files of each subfolder (a metric's), in order of names.

    Links are not followed. What is named as a PNG and is damaged, or is none, becomes a figure with a fault, and a
    warning of one line. Raises DataError if a file cannot be read.
    """
    found: dict[str, list[Figure]] = {}
    for path in sorted(folder.glob("*/*")):
        if path.suffix not in (".png", ".svg") or linked(path):
            continue
        name, content = f"{path.parent.name}/{path.name}", read(path)
        caption = CAPTIONS.get(path.stem, f"The picture {name} that was kept.")
        if path.suffix == ".svg":
            shown = Figure(f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}", caption)
        elif why := damage(content):
            _log.warning("%s is not shown: %s; restore it, or run %s again", path, why, path.parent.name)
            shown = Figure("", caption, fault=f"{name} is damaged and not shown: {why}.")
        else:
            shown = figure(content, ".png", caption)
        found.setdefault(path.parent.name, []).append(shown)
    return found


def read(path: Path) -> bytes:
    """The bytes of a file; raises DataError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; restore or remove it") from error


def damage(content: bytes) -> str:
    """What is wrong with the bytes of a PNG; nothing of a whole one."""
    if not content.startswith(PNG):
        return "it is not a PNG"
    try:
        with foreign(DataError), warnings.catch_warnings():
            warnings.simplefilter("error")  # of one that few bytes make huge
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                image.load()
    except DataError as error:
        return str(error)
    return ""


def scores(folder: Path) -> Scores:
    """The score of every image of every set, as `regret` keeps them; nothing where it keeps none.

    Raises DataError if the file is not such a table.
    """
    path = folder / "regret" / "scores.parquet"
    if not path.is_file() or linked(path):
        return {}
    try:
        columns = pq.read_table(io.BytesIO(path.read_bytes())).to_pydict()
        names = np.asarray(columns["set"], dtype=str)
        values = {score: np.asarray(columns[score], dtype=np.float64) for score in SCORES if score in columns}
        if not len(names) or not all(np.isfinite(each).all() for each in values.values()):
            raise ValueError("it holds no images, or a score that is not a finite number")
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read {path}: {text}; restore it, or run regret again") from error
    return {score: {name: each[names == name] for name in dict.fromkeys(names)} for score, each in values.items()}


def linked(path: Path) -> bool:
    """Whether a file of a metric's folder may stand elsewhere: it, that folder or the model's is a link."""
    return any(part.is_symlink() for part in (path, *path.parents[:2]))


def facts(card: Card) -> list[tuple[str, Any]]:
    """What a card says besides its summary and notes, nested tables as dotted keys."""

    def flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                yield from flat(f"{prefix}.{key}", inner)
        elif value is not None and value != "":
            yield prefix, value

    fields = ("family", "model", "objective", "training", "trained", "weights")
    content = dataclasses.asdict(dataclasses.replace(card, path=None))
    return [fact for name in fields for fact in flat(name, content[name])]
