"""How close reconstructions come to the data: mean squared error; of images also PSNR and SSIM."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor

from vaebench.core.data import Batch, Dataset, eight_bit
from vaebench.core.metric import BLOCK, Column, Measurement, Metric, Run
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.functional.image_quality import SMALLEST, psnr, ssim
from vaebench.metrics.shared.passes import displayed, varied


def reconstruct(batch: Batch, seed: int, *, model: LatentVariableModel) -> dict[str, Tensor]:
    """Per-example `mse`, `psnr` and `ssim`, each (B,) float64 where it exists, and the reconstruction's `checksum`."""
    space = model.space
    with keyed(seed, batch.example):
        found = displayed(model.likelihood(model.posterior(batch.x).rsample(1)), "mean", space)[0]
    picture = space.levels is not None or space.interval is not None
    target, unit = (eight_bit(batch.x, space), 255) if picture else (batch.x, 1)
    mse = ((found.double() - target.double()) / unit).square().flatten(1).mean(1)
    checksums = [zlib.crc32(example.numpy()) for example in found.cpu().contiguous()]
    values = {"mse": mse, "checksum": torch.tensor(checksums)}
    if space.is_picture:
        values["psnr"] = psnr(mse)
        if min(space.shape[1:]) >= SMALLEST:
            values["ssim"] = ssim(found, target)
    return values


@final
@dataclass(frozen=True)
class Reconstruction(Metric):
    """MSE, PSNR and SSIM between x and E[x|z], z a draw of q(z|x): of `draws` draws for each example, the mean.

    Data with levels, or in an interval, are compared as 8 bits, on the scale where they span [0, 1]; MSE is the mean
    over dimensions, and of other real numbers in their own units. PSNR and SSIM are of images only
    (`functional.image_quality`: PSNR is at most 58.9 dB), and SSIM of those of at least 7 x 7. Of several latent
    groups, all are drawn. A split that is read with noise is read afresh for each draw, and x is what the model saw.
    Standard errors are over examples, whose values are kept beside the rows. A reconstruction that is NaN or out of
    range, or equal ones of all examples, fail the metric: a decoder's mean that z does not change is no reconstruction.
    """

    draws: int = 3

    version: ClassVar[int] = 1
    given = ("binarisation",)  # every family by its mean
    columns: ClassVar[tuple[Column, ...]] = (
        Column("mse", "squared units", "lower", "estimate"),
        Column("psnr", "dB", "higher", "estimate"),
        Column("ssim", "similarity", "higher", "estimate"),
    )

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"draws = {self.draws} should be at least 1")

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        if dataset.space.is_cloud:
            return "points of a cloud have no order to be compared in; see cloud-reconstruction"
        return super().unsupported(model, dataset)

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        split = dataset.split(self.split)
        found = run.map(partial(reconstruct, model=model), split, repeats=self.draws, batch=BLOCK)
        varied(found.pop("checksum"), "reconstructions")
        values = {name: value.reshape(self.draws, len(split)).mean(0) for name, value in found.items()}
        for name, value in values.items():
            yield Measurement.mean(name, value)
        run.keep_values(values)


plugin = {"quick": Reconstruction(draws=1), "standard": Reconstruction(), "paper": Reconstruction(draws=10)}
