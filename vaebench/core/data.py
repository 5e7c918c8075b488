"""What is evaluated on: the space that x lives in, batches, splits, datasets, and where a dataset comes from."""

import dataclasses
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from vaebench.core.content import identity
from vaebench.core.law import Law
from vaebench.core.space import Space as Space
from vaebench.distributions import noise


class Batch(NamedTuple):
    """B examples: `x` (B, *shape), `y` (B,) int64 labels or None.

    `example` (B,) int64 tells readings apart and keys their noise: `Split.number` of them.
    """

    x: Tensor
    y: Tensor | None
    example: Tensor


class Reading(ABC):
    """How the stored examples of a split are read: afresh each time, from noise that is keyed inside a run.

    A final subclass is a frozen dataclass; its fields are part of what a likelihood of the data is. Where levels are
    stored, `stored_levels` says how many; `noisy` is whether two readings of an example differ.
    """

    noisy: ClassVar[bool] = True

    @property
    def stored_levels(self) -> int | None:
        """How many levels the stored examples have, or None where they are not images of levels."""
        return None

    @property
    def cell(self) -> float | None:
        """The log volume, nats a dimension, by which -log p(x) and that of the levels differ; None where it has none.

        bits/dim of a density are (-log p(x) / D - `cell`) / ln 2.
        """
        return None

    @abstractmethod
    def check(self, stored: Tensor, space: Space) -> None:
        """Raise ValueError unless examples of `space` can be read from every one of `stored` (N, ...)."""

    @abstractmethod
    def __call__(self, stored: Tensor) -> Tensor:
        """One reading x (B, *shape) of the stored examples (B, ...)."""


@final
@dataclass(frozen=True)
class Binarised(Reading):
    """Grey levels 0..255 as pixels x ~ Bernoulli(grey / 255).

    Source: Salakhutdinov & Murray 2008 (dynamic binarisation).
    """

    @property
    def stored_levels(self) -> int:
        return 256

    def check(self, stored: Tensor, space: Space) -> None:
        Space(space.shape, 256, "pmf").check(stored)

    def __call__(self, stored: Tensor) -> Tensor:
        uniform = noise.uniform((1, *stored.shape), torch.empty((), device=stored.device))
        return (uniform.squeeze(0) < stored / 255).to(torch.uint8)


@final
@dataclass(frozen=True)
class Subsampled(Reading):
    """Clouds of at least `points` points as `points` of them, none twice, each moved by N(0, `noise`^2 I).

    Points lie on surfaces, where a density has no bound: the noise gives it one.
    """

    points: int
    noise: float = 0.01

    def check(self, stored: Tensor, space: Space) -> None:
        if stored.ndim != 3 or stored.shape[1] < self.points or space.shape != (self.points, 3):
            raise ValueError(f"{self.points} points cannot be drawn from clouds of shape {tuple(stored.shape[1:])}")
        Space(tuple(stored.shape[1:]), None, "density").check(stored)

    def __call__(self, stored: Tensor) -> Tensor:
        order = noise.uniform((1, *stored.shape[:2]), stored).squeeze(0).argsort(1)[:, : self.points]
        chosen = stored.gather(1, order.unsqueeze(-1).expand(-1, -1, 3))
        return chosen + self.noise * noise.standard_normal((1, *chosen.shape), stored).squeeze(0)


class Place(NamedTuple):
    """Where the examples of a thinned split lie: at `positions` (N,) of the `size` examples of the split `whole`."""

    whole: str
    size: int
    positions: Tensor


@dataclass(frozen=True)
class Split:
    """A named part of a dataset: `x` (N, ...) as stored, `y` (N,) labels or None.

    With a `reading`, `take` makes each example afresh from what is stored; without, x is (N, *shape) itself. With a
    `place`, its examples are read, and their noise is keyed, as those of a whole split: `thinned` gives such a one.
    """

    name: str
    x: Tensor
    y: Tensor | None = None
    reading: Reading | None = None
    place: Place | None = None

    def __post_init__(self) -> None:
        if len(self.x) == 0 or (self.y is not None and len(self.y) != len(self.x)):
            labels = "no labels" if self.y is None else f"{len(self.y)} labels"
            raise ValueError(f"split {self.name!r} has {len(self.x)} examples and {labels}")

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def identity(self) -> str:
        """What tells the examples, in their order, from all others, whatever the split is called: 64 hex digits."""
        where = () if self.place is None else (self.place.size, self.place.positions)
        return identity((self.x, self.y, self.reading, *where))

    @property
    def stream(self) -> str:
        """What the noise of its examples is derived from: the name of the whole split."""
        return self.name if self.place is None else self.place.whole

    def number(self, position: Tensor) -> Tensor:
        """What tells readings apart: of `position` (B,) that of the example, and N more for each repeat.

        In a thinned split it is that of the whole one, so that an example has the same noise in both.
        """
        if self.place is None:
            return position
        return position // len(self) * self.place.size + self.place.positions[position % len(self)]

    @property
    def binarised(self) -> bool:
        """Whether what is stored is grey levels 0..255 that are binarised when read."""
        return isinstance(self.reading, Binarised)

    @property
    def noisy(self) -> bool:
        """Whether two readings of an example differ."""
        return self.reading is not None and self.reading.noisy

    @property
    def stored_levels(self) -> int | None:
        """How many levels the stored images have, where they are read as something else; None elsewhere."""
        return None if self.reading is None else self.reading.stored_levels

    def take(self, index: Tensor) -> Batch:
        """The examples at `index` (B,), as they are read."""
        return Batch(self.read(self.x[index]), None if self.y is None else self.y[index], index)

    def read(self, stored: Tensor) -> Tensor:
        """One reading x (B, *shape) of examples as they are stored, (B, ...)."""
        return stored if self.reading is None else self.reading(stored)

    def part(self, index: Tensor, name: str) -> "Split":
        """The sub-split `name` of the examples at `index`, numbered from 0."""
        return Split(name, self.x[index], None if self.y is None else self.y[index], self.reading)

    def thinned(self, index: Tensor, name: str) -> "Split":
        """`part`, whose examples keep the numbers that they have in the whole split."""
        size = len(self) if self.place is None else self.place.size
        place = Place(self.stream, size, self.number(index))
        return dataclasses.replace(self.part(index, name), place=place)


@dataclass(frozen=True)
class GroundTruth:
    """The factors that every example of a rendered dataset is made from, each independent and uniform.

    `render` takes values (B, F) int64, value f in 0..sizes[f]-1, and gives x (B, *shape) as the splits store it.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    render: Callable[[Tensor], Tensor]


_THINNED = re.compile(r"(.+)\[::([1-9][0-9]{0,8})\]")


def thinner(name: str, size: int, most: int) -> str:
    """The name of the split `name`, of `size` examples, thinned to at most `most`: "test[::20]"; itself if it is not.

    A thinned one is thinned further.
    """
    step = -(-size // most)
    thinned = _THINNED.fullmatch(name)
    whole, before = (thinned[1], int(thinned[2])) if thinned else (name, 1)
    return name if step == 1 else f"{whole}[::{before * step}]"


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory. `fingerprint` names its content (see `fingerprint`), whatever the order.

    `ground_truth` is None unless the dataset is rendered from factors, `law` unless it was drawn by a known one.
    `prepared` says how files of a user's own became examples: it is in the class of every row.
    """

    name: str
    space: Space
    splits: Mapping[str, Split]
    fingerprint: str
    ground_truth: GroundTruth | None = None
    prepared: str = ""
    law: Law | None = None

    def check(self) -> None:
        """Raise ValueError, with the split and the example, unless every example lies in the space."""
        for name, split in self.splits.items():
            try:
                if split.reading is None:
                    self.space.check(split.x)
                else:
                    split.reading.check(split.x, self.space)
            except ValueError as error:
                raise ValueError(f"dataset {self.name!r}, split {name!r}: {error}") from error

    def has(self, name: str) -> bool:
        """Whether `split(name)` exists."""
        thinned = _THINNED.fullmatch(name)
        return (thinned[1] if thinned else name) in self.splits

    def split(self, name: str) -> Split:
        """The split `name`, or for "name[::n]" every n-th example of split `name`; KeyError names those that exist.

        Not the first few: some splits are in an order (the first half of MNIST's test images is the easier one). What
        is measured of an example is what it is in the whole split.
        """
        if not self.has(name):
            raise KeyError(f"dataset {self.name!r} has no split {name!r}; it has {', '.join(sorted(self.splits))}")
        if (thinned := _THINNED.fullmatch(name)) is None:
            return self.splits[name]
        whole = self.splits[thinned[1]]
        return whole.thinned(torch.arange(0, len(whole), int(thinned[2]), device=whole.x.device), name)


class Found(NamedTuple):
    """What the files of a user's own hold: the splits, their space, and how examples were made of files."""

    splits: Mapping[str, Split]
    space: Space
    prepared: str = ""


@dataclass(frozen=True)
class Source:
    """A dataset plug-in: where the data comes from and how it is read.

    `read(root, download)` returns the splits found under `root`, downloading absent files first where `download`
    is true (a bundled dataset ignores both). `space` is None where only the files can say, as a user's own; `read` then
    returns a `Found`. `fingerprint` is the content it must have; None where the project has never held the data, and
    then the content found is recorded but not judged. `twin_of` names another whose files, splits and content these
    are, read in another way.
    """

    name: str
    space: Space | None
    read: Callable[[Path, bool], Mapping[str, Split] | Found]
    origin: str
    licence: str
    fingerprint: str | None = None
    bundled: bool = False
    ground_truth: GroundTruth | None = None
    twin_of: str | None = None
    law: Law | None = None

    def load(self, root: Path, download: bool = False) -> Dataset:
        """The dataset, checked: every example lies in the space and the content is the pinned one (ValueError)."""
        splits, space, prepared = self.found(root, download)
        Dataset(self.name, space, splits, "").check()
        found = fingerprint(splits)
        if self.fingerprint not in (None, found):
            remedy = (
                "report it" if self.bundled else f"remove them and run: vaebench data get {self.name} --data {root}"
            )
            raise ValueError(
                f"dataset {self.name!r} has content {found[:12]}, not {str(self.fingerprint)[:12]}: "
                f"its files are truncated, altered or another dataset's; {remedy}"
            )
        return Dataset(self.name, space, splits, found, self.ground_truth, prepared, self.law)

    def found(self, root: Path, download: bool = False) -> Found:
        """What `read` gives, with the space; nothing is checked."""
        read = self.read(root, download)
        if isinstance(read, Found):
            return read
        assert self.space is not None
        return Found(read, self.space)

    def space_of(self, root: Path) -> Space:
        """The space: where only the files can say, that of those under `root`. Errors as `load`."""
        return self.load(root).space if self.space is None else self.space


def fingerprint(splits: Mapping[str, Split]) -> str:
    """64 hex digits that name the content of `splits`, whatever the order of examples within each.

    Per split, the sum modulo 2**256 of each example's SHA-256 (pixels and label): the same multiset of examples
    gives the same sum. The digest is over the splits' names, sizes, shapes and sums.
    """
    digest = hashlib.sha256()
    for name in sorted(splits):
        split, total = splits[name], 0
        rows = np.ascontiguousarray(split.x.numpy()).reshape(len(split), -1)
        labels = np.full(len(split), -1) if split.y is None else split.y.numpy()
        for row, label in zip(rows, labels.tolist(), strict=True):
            total += int.from_bytes(hashlib.sha256(row.tobytes() + str(label).encode()).digest(), "big")
        digest.update(f"{name} {tuple(split.x.shape)} {total % (1 << 256):064x};".encode())
    return digest.hexdigest()


def eight_bit(x: Tensor, space: Space) -> Tensor:
    """Values 0..levels-1, or in the interval, of `space` as uint8 0..255, rounded to the nearest."""
    low, high = (0, (space.levels or 1) - 1) if space.interval is None else space.interval
    return ((x.float() - low) * (255 / (high - low))).round().clamp(0, 255).to(torch.uint8)
