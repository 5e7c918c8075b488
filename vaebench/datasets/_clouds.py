"""What the datasets of point clouds share: how many points a reading has, and clouds of one size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

POINTS = 512
"""Number in a reading: NLLs of clouds of other sizes are of other events, and do not compare."""


def cloud(points: NDArray[np.floating], where: Path | str) -> NDArray[np.float32]:
    """`points` (P, 3), centred on their box and scaled into the unit ball, float32. ValueError names `where`."""
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < POINTS:
        raise ValueError(f"{where} holds points of shape {points.shape}, not (at least {POINTS}, 3)")
    if not np.isfinite(points).all():
        place = int(np.flatnonzero(~np.isfinite(points).all(1))[0])
        raise ValueError(f"{where}: point {place} is NaN or infinite; remove it or the file")
    points = points.astype(np.float64)
    points = points - (points.max(0) + points.min(0)) / 2
    radius = np.sqrt((points**2).sum(1).max())
    if radius == 0:
        raise ValueError(f"{where}: all {len(points)} points are the same")
    scaled: NDArray[np.float32] = (points / radius).astype(np.float32)
    return scaled


def together(clouds: Sequence[NDArray[np.float32]], files: Sequence[Path], count: int | None) -> Tensor:
    """Clouds (N, P, 3) of the first `count` points of each; by default all have one size.

    Raises ValueError if they differ in size and no count is stated, or one has fewer points.
    """
    sizes = [len(each) for each in clouds]
    if count is None and len(set(sizes)) > 1:
        few, many = files[int(np.argmin(sizes))], files[int(np.argmax(sizes))]
        raise ValueError(
            f"{few} has {min(sizes)} points and {many} has {max(sizes)}; "
            f"state how many to keep of each, as count = {min(sizes)} in {few.parent.parent / 'clouds.toml'}"
        )
    kept = sizes[0] if count is None else count
    if min(sizes) < kept:
        short = files[int(np.argmin(sizes))]
        raise ValueError(f"{short} has {min(sizes)} points, fewer than count = {kept}; lower the count")
    return torch.from_numpy(np.stack([each[:kept] for each in clouds]))
