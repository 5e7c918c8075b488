"""A folder or zip of your own PNG or JPEG images, in sub-folders by class or not (256 levels)."""

import io
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vaebench.core.data import Found, Source, Space, Split
from vaebench.core.errors import foreign
from vaebench.core.tables import within
from vaebench.datasets import _own

NAME = "image-folder"
TABLE = "images.toml"
KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
OTHERS = (".bmp", ".gif", ".heic", ".tif", ".tiff", ".webp", ".avif", ".ppm", ".pgm")
BYTES, PIXELS, COUNT = 2**26, 2**26, 10**6
"""At most: bytes of a file, pixels of an image, files."""
DEEP = ("I", "I;16", "I;16B", "I;16L", "F")
"""Pillow's modes of more than 8 bits."""


@dataclass(frozen=True)
class Options:
    """`size` is the side in pixels of the square images that are made; None leaves images as they are, all of one size.

    An image is first cropped to its largest square in the middle ("centre"; "none" stretches it), then reduced or
    enlarged to `size` by Pillow's filter `resize`. `channels` 1 is grey, 3 is colour.
    """

    size: int | None = None
    crop: Literal["centre", "none"] = "centre"
    resize: Literal["bilinear", "bicubic", "box", "lanczos", "nearest"] = "bilinear"
    channels: Literal[1, 3] = 3

    def __post_init__(self) -> None:
        within(self, size=(1, 4096))

    @property
    def told(self) -> str:
        """How images were made, as it stands in the class of a row."""
        if self.size is None:
            return f"channels {self.channels}"
        return f"size {self.size}, crop {self.crop}, resize {self.resize}, channels {self.channels}"


class Store(NamedTuple):
    """Where images are: `names` of files below `where`, sorted, and how one is opened, or read as a short text."""

    where: Path
    names: list[str]
    open: Callable[[str], IO[bytes]]
    text: Callable[[str], str | None]


def read(root: Path, download: bool) -> Found:
    """The splits of `<root>/image-folder`, of `<root>/image-folder.zip`, or of `root` where it is such itself.

    `root` is such itself where it is a .zip, or a folder with an image or `images.toml` in it; sizes are as that table
    says: see `Options`. Images are turned as their EXIF says, transparency is dropped. Sub-folders are classes, whose
    labels count their sorted names; sub-folders `train` and `test` (and `valid`) are splits, and classes lie below
    them. Else `test.txt` (and `valid.txt`) lists files to test, by their names from the folder, one a line; without
    it a fifth is, by a hash of its name. What is hidden (a dot first, `__MACOSX`) is left out.
    """
    with _store(root) as store:
        return _read(store)


def _read(store: Store) -> Found:
    options = _own.options(Options, store.text(TABLE), store.where / TABLE)
    images = [name for name in store.names if PurePosixPath(name).suffix.lower() in KINDS]
    if not images:
        others = sorted({suffix for name in store.names if (suffix := PurePosixPath(name).suffix.lower()) in OTHERS})
        told = f", but files ending in {', '.join(others)}: convert them" if others else ""
        raise ValueError(f"{store.where} holds no file that ends in {', '.join(KINDS)}{told}")
    splits, inner = _splits(store, images)
    classes = _classes(store.where, images, inner)
    x = torch.from_numpy(_pixels(store, images, options))
    y = None if classes is None else torch.tensor([sorted(set(classes)).index(each) for each in classes])
    found = {
        split: Split(split, x[index], None if y is None else y[index])
        for split, index in _own.indices(splits, store.where, "images").items()
    }
    return Found(found, Space(tuple(x.shape[1:]), 256, "pmf"), options.told)


@contextmanager
def _store(root: Path) -> Iterator[Store]:
    """The images that `root` names. FileNotFoundError says what was looked for."""
    for path in (root / NAME, root / f"{NAME}.zip", root):
        if path.is_dir() and (path != root or _holds_images(root)):
            yield _folder(path)
            return
        if path.is_file():
            if path.suffix.lower() != ".zip":
                raise ValueError(f"{path} is neither a folder of images nor a .zip of them")
            with _archive(path) as archive:
                yield _zipped(path, archive)
            return
    below = sorted({path.parent.name for path in root.glob("*/*") if _shown(path.relative_to(root).parts, KINDS)})
    told = f"; {root} has no images in it" if root.is_dir() else ""
    if below:
        told = f"; {root} has images in {', '.join(below[:3])}: if these are its classes, put a file {TABLE} in {root}"
    raise FileNotFoundError(
        f"{NAME} is not under {root}: name your own folder or .zip of PNG or JPEG by --data, or put it there as "
        f"{NAME} or {NAME}.zip{told}"
    )


def _holds_images(root: Path) -> bool:
    return (root / TABLE).is_file() or any(_shown((path.name,), KINDS) for path in root.iterdir())


def _shown(parts: Sequence[str], kinds: Mapping[str, str] | None = None) -> bool:
    """Whether a file is not hidden, and where `kinds` are given of one of them."""
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return not hidden and (kinds is None or PurePosixPath(parts[-1]).suffix.lower() in kinds)


def _folder(path: Path) -> Store:
    files = (file for file in path.rglob("*") if _shown(file.relative_to(path).parts))
    names = sorted(file.relative_to(path).as_posix() for file in files if not file.is_dir())
    if len(names) > COUNT:
        raise ValueError(f"{path} holds {len(names)} files, more than {COUNT}")

    def opened(name: str) -> IO[bytes]:
        if not (file := path / name).is_file():
            raise ValueError("it is not a regular file")
        if (size := file.stat().st_size) > BYTES:
            raise ValueError(f"it has {size} bytes, more than {BYTES}")
        return file.open("rb")

    return Store(path, names, opened, lambda name: _own.text(path / name))


def _archive(path: Path) -> zipfile.ZipFile:
    with foreign(lambda reason: ValueError(f"{path} is not a whole zip file ({reason})")):
        return zipfile.ZipFile(path)


def _zipped(path: Path, archive: zipfile.ZipFile) -> Store:
    """The members of an archive; nothing is unpacked to disk. One folder around them all is left out."""
    members = [m for m in archive.infolist() if not m.is_dir() and _shown(m.filename.split("/"))]
    if len(members) > COUNT:
        raise ValueError(f"{path} holds {len(members)} files, more than {COUNT}")
    tops = {member.filename.partition("/")[0] for member in members}
    around = f"{tops.pop()}/" if len(tops) == 1 and all("/" in member.filename for member in members) else ""
    found = {member.filename.removeprefix(around): member for member in members}

    def content(name: str, most: int) -> bytes:
        if (size := found[name].file_size) > most:
            raise ValueError(f"it has {size} bytes, more than {most}")
        with archive.open(found[name]) as file:
            return file.read(most + 1)

    def text(name: str) -> str | None:
        if name not in found:
            return None
        with foreign(lambda reason: ValueError(f"{path / name} is not a text: {reason}")):
            return content(name, _own.MOST).decode()

    return Store(path, sorted(found), lambda name: io.BytesIO(content(name, BYTES)), text)


def _splits(store: Store, images: Sequence[str]) -> tuple[list[str], list[str]]:
    """The split of each image, and its name below the folder of the split where splits are folders."""
    tops = {PurePosixPath(name).parts[0] for name in images if "/" in name}
    if {"train", "test"} <= tops <= {*_own.SPLITS} and all("/" in name for name in images):
        parted = [name.partition("/") for name in images]
        return [split for split, _, _ in parted], [inner for _, _, inner in parted]
    lists = {split: store.text(f"{split}.txt") for split in ("valid", "test")}
    return _own.split_of(NAME, images, lists, store.where), list(images)


def _classes(where: Path, images: Sequence[str], inner: Sequence[str]) -> list[str] | None:
    """The class of each image, its first sub-folder; None where there are no sub-folders."""
    classes = [PurePosixPath(name).parts[0] if "/" in name else "" for name in inner]
    if "" in classes and len(set(classes)) > 1:
        raise ValueError(
            f"{where}: {images[classes.index('')]} lies beside sub-folders, which are classes; move it into one"
        )
    return None if "" in classes else classes


def _pixels(store: Store, images: Sequence[str], options: Options) -> NDArray[np.uint8]:
    """The images (N, C, H, W). ValueError names one that cannot be read, and two of different sizes."""
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")  # of odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        first = _image(store, options, images[0])
        x = np.empty((len(images), *first.shape), np.uint8)
        for i, found in enumerate(pool.map(partial(_image, store, options), images)):
            if found.shape != first.shape:
                a, b = (f"{each.shape[2]}x{each.shape[1]}" for each in (first, found))
                raise ValueError(
                    f"{store.where}: {images[0]} is {a} and {images[i]} is {b}; say in {store.where / TABLE} to which "
                    "size they are cropped and resized: size = 64"
                )
            x[i] = found
    return x


def _image(store: Store, options: Options, name: str) -> NDArray[np.uint8]:
    """One image (C, H, W). Its format is named, for Pillow would otherwise choose by content."""
    kind = KINDS[PurePosixPath(name).suffix.lower()]

    def told(reason: str) -> ValueError:
        return ValueError(f"{store.where}: {name} is not a whole {kind} file ({reason}); mend or remove it")

    with foreign(told), store.open(name) as file, Image.open(file, formats=(kind,)) as image:
        width, height = image.size
        if width * height > PIXELS:
            raise ValueError(f"it is {width}x{height}, more than {PIXELS} pixels")
        if image.mode in DEEP:
            raise ValueError("it has more than 8 bits a channel: convert it")
        made = _made(ImageOps.exif_transpose(image), options)
    pixels = np.asarray(made)
    return pixels[None] if options.channels == 1 else pixels.transpose(2, 0, 1)


def _made(image: Image.Image, options: Options) -> Image.Image:
    image = image.convert("L" if options.channels == 1 else "RGB")
    if options.size is None:
        return image
    width, height = image.size
    if options.crop == "centre" and width != height:
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if image.size == (options.size, options.size):
        return image
    return image.resize((options.size, options.size), Image.Resampling[options.resize.upper()])


plugin = Source(
    name=NAME,
    space=None,
    read=read,
    origin="your own files",
    licence="that of the files",
)
