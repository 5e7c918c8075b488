"""UCI handwritten digits as bundled with scikit-learn (8x8, 17 levels); 1437 to train, 360 to test."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from ..data import Source, Space, Split


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (1437) and "test" (360), in the order of the file.

    There is no official split. This one: shuffle with `RandomState(0)` (whose stream numpy never changes), sort by
    label (stable), take every fifth for the test. So each class is split 4:1, to within one example.
    """
    bundle = load_digits()
    x = torch.from_numpy(bundle.images.astype(np.uint8)).unsqueeze(1)  # (1797, 1, 8, 8)
    y = torch.from_numpy(bundle.target.astype(np.int64))
    shuffled = np.random.RandomState(0).permutation(len(y))
    by_class = shuffled[np.argsort(bundle.target[shuffled], kind="stable")]
    test = np.zeros(len(y), dtype=bool)
    test[by_class[::5]] = True
    parts = {"train": torch.from_numpy(~test), "test": torch.from_numpy(test)}
    return {name: Split(name, x[part], y[part]) for name, part in parts.items()}


plugin = Source(
    name="digits",
    space=Space((1, 8, 8), 17, "pmf"),
    read=read,
    origin="https://archive.ics.uci.edu/dataset/80 (its test set, bundled with scikit-learn)",
    licence="CC BY 4.0",
    fingerprint="fa3b39c81ba19e0cad90e34e404b5ffa70961fde3cd301d2f1d6d5e26bfa1563",
    bundled=True,
)
