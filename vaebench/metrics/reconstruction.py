"""How close reconstructions come to the data: mean squared error; of images PSNR and SSIM, of colour ones LPIPS."""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor

from vaebench.core.data import Batch, Dataset, Split, eight_bit
from vaebench.core.metric import BLOCK, Column, Measurement, Metric, Run, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.functional.image_quality import SMALLEST, psnr, ssim
from vaebench.functional.perceptual import colour_shift
from vaebench.metrics.shared.passes import displayed, varied
from vaebench.metrics.shared.perception import BACKBONES, RANGE, Backbone, Lpips, load, size_of

CHANNELS = ("red", "green", "blue")
IMAGES, PERCEIVED = 1000, 20
"""How many images LPIPS looks at, at most, and at once."""


def reconstruct(batch: Batch, seed: int, *, model: LatentVariableModel) -> dict[str, Tensor]:
    """Per-example `mse`, `psnr` and `ssim`, each (B,) float64 where it exists, and the reconstruction's `checksum`.

    Colour images also have `shift`, (B, 3) float64.
    """
    space, found = model.space, _mean(batch, seed, model)
    picture = space.levels is not None or space.interval is not None
    target, unit = (eight_bit(batch.x, space), 255) if picture else (batch.x, 1)
    mse = ((found.double() - target.double()) / unit).square().flatten(1).mean(1)
    checksums = [zlib.crc32(example.numpy()) for example in found.cpu().contiguous()]
    values = {"mse": mse, "checksum": torch.tensor(checksums)}
    if space.is_picture:
        values["psnr"] = psnr(mse)
        if min(space.shape[1:]) >= SMALLEST:
            values["ssim"] = ssim(found, target)
        if space.shape[0] == len(CHANNELS):
            values["shift"] = colour_shift(found, target)
    return values


def perceive(
    batch: Batch, seed: int, *, model: LatentVariableModel, networks: Mapping[Backbone, Lpips]
) -> dict[str, Tensor]:
    """The LPIPS of each example by each network, (B,) float64."""
    found, target = _mean(batch, seed, model), eight_bit(batch.x, model.space)
    return {name: network(found, target) for name, network in networks.items()}


def _mean(batch: Batch, seed: int, model: LatentVariableModel) -> Tensor:
    """E[x|z] at a draw z of q(z|x), as `displayed`."""
    with keyed(seed, batch.example):
        return displayed(model.likelihood(model.posterior(batch.x).rsample(1)), "mean", model.space)[0]


@final
@dataclass(frozen=True)
class Reconstruction(Metric):
    """MSE, PSNR and SSIM between x and E[x|z], z a draw of q(z|x): of `draws` draws for each example, the mean.

    Data with levels, or in an interval, are compared as 8 bits, on the scale where they span [0, 1]; MSE is the mean
    over dimensions, and of other real numbers in their own units. PSNR and SSIM are of images only
    (`functional.image_quality`: PSNR is at most 58.9 dB), and SSIM of those of at least 7 x 7. Several latent
    groups: all are drawn. A split that is read with noise is read afresh for each draw, and x is what the model saw.
    Standard errors are over examples, whose values are kept beside the rows. A reconstruction that is NaN or out of
    range, or equal ones of all examples, fail the metric: a decoder's mean that z does not change is not a
    reconstruction.

    For colour images also the colour shift, how much brighter each channel of a reconstruction is than the image's, in
    levels of 255 (the nearer to 0 the better); and LPIPS 0.1 (`functional.perceptual`) by AlexNet and VGG16, of one
    draw for each of at most 1,000 images, evenly spaced. The facet says by which backbone, on which range, and at which
    size: images with a side below 64 are enlarged. It is left out where the weights are not at hand
    (`metrics.shared.perception.load`), and said.
    Source: Wang et al. 2004 (SSIM); Zhang et al. 2018 (LPIPS).
    """

    draws: int = 3

    version: ClassVar[int] = 1
    given = ("binarisation",)  # every family by its mean
    columns: ClassVar[tuple[Column, ...]] = (
        Column("mse", "squared units", "lower", "estimate", equation="|x - E[x|z]|^2 / D, z ~ q(z|x)"),
        Column("psnr", "dB", "higher", "estimate", equation="-10 log10 mse"),
        Column("ssim", "similarity", "higher", "estimate",
               equation="mean over windows: (2 m_x m_y + c) (2 s_xy + d) / ((m_x^2 + m_y^2 + c) (s_x^2 + s_y^2 + d))"),
        Column("colour_shift", "levels of 255", "none", "estimate", ("channel",),
               equation="255 mean(E[x|z] - x), of one channel"),
        Column("lpips", "distance", "lower", "estimate", ("backbone", "range", "size"),
               equation="sum over layers, mean over places: |w (f(x) - f(E[x|z]))|^2, f the backbone's unit features"),
    )  # fmt: skip

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
        values = {
            name: value.reshape(self.draws, len(split), *value.shape[1:]).mean(0) for name, value in found.items()
        }
        for channel, shift in zip(CHANNELS, values.pop("shift", torch.empty(0, 0)).unbind(1), strict=False):
            yield Measurement.mean("colour_shift", shift)._replace(facet={"channel": channel})
        for name, value in values.items():
            yield Measurement.mean(name, value)
        run.keep_values(values)
        if model.space.is_picture and model.space.shape[0] == len(CHANNELS):
            yield from self._perceived(model, split, run)

    def _perceived(self, model: LatentVariableModel, split: Split, run: Run) -> Iterator[Measurement]:
        networks, reasons = dict[Backbone, Lpips](), list[str]()
        for backbone in BACKBONES:
            try:
                networks[backbone] = load(backbone).to(run.device)
            except UnavailableError as error:
                reasons.append(str(error))
        if reasons:
            run.warn(f"LPIPS is left out: {reasons[0]}")
        if not networks:
            return
        few = split.part(torch.arange(0, len(split), -(-len(split) // IMAGES)), f"{split.name}, spaced")
        found = run.map(partial(perceive, model=model, networks=networks), few, batch=PERCEIVED)
        height, width = size_of(*model.space.shape[1:])
        for name, values in found.items():
            facet = {"backbone": name, "range": RANGE, "size": f"{width}x{height}"}
            yield Measurement.mean("lpips", values)._replace(facet=facet)


plugin = {"quick": Reconstruction(draws=1), "standard": Reconstruction(), "paper": Reconstruction(draws=10)}
