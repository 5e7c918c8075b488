"""Splits of datasets that are rendered from factors."""

from collections.abc import Mapping

import torch

from vaebench.core.data import Binarised, GroundTruth, Split
from vaebench.functional import random

SIZES = {"train": 20_000, "test": 500}


def rendered(name: str, truth: GroundTruth) -> Mapping[str, Split]:
    """The splits "train" (20,000) and "test" (500) of dataset `name`, binarised when read.

    Factors are drawn uniformly, always the same.
    """
    splits, sizes = {}, torch.tensor(truth.sizes)
    for seed, (split, size) in enumerate(SIZES.items()):
        uniform = random.uniform(random.keys(random.derive(name, seed), torch.arange(size)), (len(sizes),))
        splits[split] = Split(split, truth.render((uniform * sizes).long()), reading=Binarised())
    return splits
