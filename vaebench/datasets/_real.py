"""The images of a dataset as real numbers: the same files, splits and fingerprint, read in another way."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from vaebench.core import registry
from vaebench.core.data import Reading, Source, Space, Split
from vaebench.core.readings import Centred, Dequantised


def dequantised(base: str) -> Source:
    """The dataset `base`-dequantised, of (k + u) / levels in [0, 1] for each level k."""
    source, space = _of(base)
    assert space.levels is not None
    return _twin(source, space, "dequantised", Dequantised(space.levels), (0.0, 1.0))


def centred(base: str) -> Source:
    """The dataset `base`-centred, of 2 k / 255 - 1 in [-1, 1] for each of 256 levels k, with no noise."""
    return _twin(*_of(base), "centred", Centred(), (-1.0, 1.0))


def _of(base: str) -> tuple[Source, Space]:
    source = registry.load("datasets", base)
    assert isinstance(source, Source)
    assert source.space is not None
    return source, source.space


def _twin(source: Source, space: Space, suffix: str, reading: Reading, interval: tuple[float, float]) -> Source:
    def read(root: Path, download: bool) -> Mapping[str, Split]:
        splits = source.found(root, download).splits
        return {name: dataclasses.replace(split, reading=reading) for name, split in splits.items()}

    real = Space(space.shape, None, "density", interval)
    return dataclasses.replace(source, name=f"{source.name}-{suffix}", space=real, read=read, twin_of=source.name)
