"""The digits bundled with scikit-learn, split as every dataset made of them has them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from vaebench.core.data import Split


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
