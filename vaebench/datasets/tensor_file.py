"""Images of your own as arrays, in .npy or .safetensors files (integers, or real numbers as a density)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from vaebench.core import npy
from vaebench.core.data import Found, Source, Space, Split
from vaebench.core.errors import foreign
from vaebench.core.tables import within
from vaebench.datasets import _own

NAME = "tensor-file"
TABLE = "tensors.toml"
KINDS = (".npy", ".safetensors")
MOST = 2**36
"""Bytes of a file."""
ALL = "images"


@dataclass(frozen=True)
class Options:
    """`levels` of integers, 0 to levels - 1; `measure` "density" takes real numbers. `layout` says where channels are.

    With "auto" they are where a dimension is 1 or 3, and images (N, H, W) have one.
    """

    levels: int = 256
    measure: Literal["pmf", "density"] = "pmf"
    layout: Literal["auto", "NCHW", "NHWC"] = "auto"

    def __post_init__(self) -> None:
        within(self, levels=(2, 256))


def read(root: Path, download: bool) -> Found:
    """The splits of the arrays in `<root>/tensor-file`, a folder, or in the file or folder that `root` is itself.

    Files .npy, and tensors in a .safetensors, are called `train`, `test` and, if there is one, `valid`, their labels
    `train-labels`, …; or `images` and `labels`, of which a fifth is to test, by a hash of its place. One array of
    any name is `images`. What they hold is as `tensors.toml` of that folder says: see `Options`.
    """
    where, paths = _paths(root)
    folder = where if where.is_dir() else where.parent
    options = _own.options(Options, _own.text(folder / TABLE), folder / TABLE)
    arrays = dict[str, Tensor]()
    for path in paths:
        for name, tensor in _arrays(path).items():
            if arrays.setdefault(name.replace("_", "-"), tensor) is not tensor:
                raise ValueError(f"{where}: two arrays are called {name}; rename one")
    if len(arrays) == 1 and "train" not in arrays:
        arrays = {ALL: next(iter(arrays.values()))}
    known = {*_own.SPLITS, ALL}
    if strange := sorted(arrays.keys() - known - {"labels"} - {f"{split}-labels" for split in _own.SPLITS}):
        told = "train, test, valid, train-labels, …, or images and labels"
        raise ValueError(f"{where}: an array is called {strange[0]!r}, not one of {told}; rename it")
    labels = {"images": "labels"} | {split: f"{split}-labels" for split in _own.SPLITS}
    parts = {
        name: (_images(x, f"{where}: {name}", options), _labels(arrays.get(labels[name]), len(x), f"{where}: {name}"))
        for name, x in arrays.items()
        if name in known
    }
    splits = _splits(where, parts)
    shapes = {tuple(split.x.shape[1:]) for split in splits.values()}
    if len(shapes) > 1:
        raise ValueError(f"{where}: splits hold images of several shapes, {' and '.join(map(str, sorted(shapes)))}")
    levels = options.levels if options.measure == "pmf" else None
    return Found(splits, Space(shapes.pop(), levels, options.measure))


def _paths(root: Path) -> tuple[Path, list[Path]]:
    """Where the files are that `root` names, and which. FileNotFoundError says what was looked for."""
    if root.is_file():
        if root.suffix not in KINDS:
            raise ValueError(f"{root} does not end in {' or '.join(KINDS)}")
        return root, [root]
    for folder in (root / NAME, root):
        if folder.is_dir():
            found = sorted(path for path in folder.iterdir() if path.suffix in KINDS and path.is_file())
            if found:
                return folder, found
            if folder != root:
                raise ValueError(f"{folder} holds no file that ends in {' or '.join(KINDS)}")
    raise FileNotFoundError(
        f"{NAME} is not under {root}: name your own .npy or .safetensors file, or a folder of them, by --data, or put "
        f"the folder there as {NAME}"
    )


def _arrays(path: Path) -> dict[str, Tensor]:
    if (size := path.stat().st_size) > MOST:
        raise ValueError(f"{path} has {size} bytes, more than {MOST}")
    with foreign(lambda reason: ValueError(f"{path} is not a whole {path.suffix} file of numbers ({reason})")):
        if path.suffix == ".npy":
            array = npy.read(path, mapped=True)
            return {path.stem: torch.from_numpy(np.asarray(array, array.dtype.newbyteorder("=")))}
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is not a dict


def _images(x: Tensor, where: str, options: Options) -> Tensor:
    """Images (N, C, H, W) of an array, in the type of its measure. ValueError says what is wrong with it."""
    shape = tuple(x.shape)
    if x.is_complex():
        raise ValueError(f"{where} holds complex numbers; save its pixels as uint8")
    if x.ndim not in (3, 4) or 0 in shape:
        raise ValueError(f"{where} is of shape {shape}, not (N, H, W), (N, C, H, W) or (N, H, W, C); reshape it")
    if x.ndim == 3:
        x = x.unsqueeze(1)
    else:
        first, last = (x.shape[d] in (1, 3) for d in (1, 3))
        if options.layout == "auto" and first == last:
            raise ValueError(f'{where} is of shape {shape}: say layout = "NCHW" or "NHWC" in {TABLE}')
        if options.layout == "NHWC" or (options.layout == "auto" and last):
            x = x.permute(0, 3, 1, 2)
    if options.measure == "density":
        return x.float().contiguous()
    if x.is_floating_point():
        low, high = float(x.min()), float(x.max())
        raise ValueError(
            f"{where} holds real numbers, between {low:.4g} and {high:.4g}, not integers 0..{options.levels - 1}: save "
            f'its pixels as uint8, or say measure = "density" in {TABLE}'
        )
    x = x if x.dtype == torch.uint8 else x.long()
    least, most = int(x.min()), int(x.max())
    if least < 0 or most >= options.levels:
        raise ValueError(f"{where} lies in [{least}, {most}], outside 0..{options.levels - 1}; say levels in {TABLE}")
    return x.to(torch.uint8).contiguous()


def _labels(y: Tensor | None, count: int, where: str) -> Tensor | None:
    if y is None:
        return None
    if y.ndim != 1 or len(y) != count or y.is_floating_point():
        raise ValueError(f"{where}: labels are {y.dtype} of shape {tuple(y.shape)}, not integers of shape ({count},)")
    return y.long()


def _splits(where: Path, parts: dict[str, tuple[Tensor, Tensor | None]]) -> dict[str, Split]:
    if ALL not in parts:
        if missing := [split for split in ("train", "test") if split not in parts]:
            raise ValueError(f"{where} holds no array {missing[0]!r}; add it, or call the only one 'images'")
        return {name: Split(name, x, y) for name, (x, y) in parts.items()}
    if len(parts) > 1:
        raise ValueError(f"{where} holds 'images' and splits beside them; leave out one of the two")
    x, y = parts[ALL]
    found = _own.split_of(NAME, [str(i) for i in range(len(x))], {}, where)
    return {
        split: Split(split, x[index], None if y is None else y[index])
        for split, index in _own.indices(found, where, "images").items()
    }


plugin = Source(
    name=NAME,
    space=None,
    read=read,
    origin="your own files",
    licence="that of the files",
)
