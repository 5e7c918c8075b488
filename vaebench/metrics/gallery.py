"""Pictures: samples, low-posterior samples, reconstructions, interpolations, traversals of the latent dimensions."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from vaebench.core.data import Batch, Dataset, Split, eight_bit
from vaebench.core.metric import BLOCK, Column, Given, Measurement, Metric, Run, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.metrics.shared.cloud_picture import views
from vaebench.metrics.shared.image_grid import Row, png
from vaebench.metrics.shared.passes import Decode, PriorSample, candidates, displayed, varied
from vaebench.metrics.shared.prior import generation, representation
from vaebench.metrics.shared.sample_quality import low_posterior, no_images, resolved, shown_as, shuffled

ACROSS = 8  # images in a row
LINES = 8  # interpolations
STEPS = 9  # of an interpolation or a traversal
REACH = 2.5  # of a traversal, either way, in standard deviations of the prior


@final
@dataclass(frozen=True)
class Gallery(Metric):
    """`pictures`, the number of PNG grids kept beside the rows: 8-bit images, of the same examples for every model.

    * samples.png: `samples` draws of the prior, decoded.
    * low-posterior.png: the `samples` of `candidates` draws whose aggregate posterior density, over `reference`, is
      lowest, lowest first: ranked as for FID(LP). None where q(z|x) is not a diagonal Gaussian.
    * reconstructions.png: `images` of `split` as the model reads them, above a decoded draw z of q(z|x) each.
    * interpolations.png: straight lines between the z of pairs of these images, in generation space u = g(z): through
      the flow of a decoupled prior, in z itself for a normal one.
    * traversals.png: one coordinate of u at a time from -2.5 to 2.5, the others those of the first image; of the
      `dimensions` whose images change most, most first.

    Clouds of points are seen from two sides each, and are always samples: a mean is one point. The last two are left
    out where latents are not one vector, and show decoder means; `decode` is of the others, and
    "auto" is fid's. A sample that is NaN or out of range, or a set of equal samples or reconstructions, fails the
    metric. Source: Bhalodia et al. 2020 (dpVAE), section 4.
    """

    reference: str = "train"
    samples: int = 64
    candidates: int = 5000
    images: int = 24
    dimensions: int = 10
    decode: Literal["auto", "mean", "sample"] = "auto"
    temperature: float = 1.0

    version: ClassVar[int] = 1
    given = ("binarisation",)
    splits = ("split", "reference")
    counts = MappingProxyType({"samples": 2, "candidates": 2})
    dear = MappingProxyType({"candidates": 100})
    columns: ClassVar[tuple[Column, ...]] = (
        Column("pictures", "", "none", "exact", equation="the number of pictures kept"),
    )

    def __post_init__(self) -> None:
        for name, least in (("samples", 2), ("candidates", self.samples), ("images", 2), ("dimensions", 1)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name} = {value} should be at least {least}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature = {self.temperature} should be positive")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.split, self.reference)

    def depends(self, given: Given) -> Mapping[str, Any]:
        return {**super().depends(given), "decode": resolved(self.decode, given.likelihood)}

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        shown = None if dataset.space.is_cloud else no_images(dataset)
        return super().unsupported(model, dataset) or shown

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        split, decode = dataset.split(self.split), shown_as(self.decode, model)
        chosen = split.part(shuffled("reconstructions", len(split))[: self.images], f"{split.name} shown")
        seen = run.map(partial(_encoded, model=model, decode=decode), chosen, batch=BLOCK)
        name = f"{run.model_name} on {dataset.name}"
        pictures: dict[str, Callable[[], bytes]] = {
            "samples": partial(self._samples, name, decode, run),
            "low-posterior": partial(self._low, name, decode, dataset.split(self.reference), run),
            "reconstructions": partial(_reconstructions, f"{name}: {split.name} images", decode, seen),
            "interpolations": partial(_interpolations, f"{name}: between {split.name} images", model, seen, run),
            "traversals": partial(self._traversals, name, model, seen["z"][:1], run),
        }
        kept = 0
        for picture, draw in pictures.items():
            try:
                run.keep(f"{picture}.png", draw())
                kept += 1
            except UnavailableError as error:
                run.warn(f"gallery: no {picture}: {error}")
        yield Measurement("pictures", kept, None, len(chosen))

    def _samples(self, name: str, decode: Decode, run: Run) -> bytes:
        shown = self._drawn(torch.arange(self.samples), decode, run)
        return png(f"{name}: prior samples (decoder {decode}s)", [_rows(shown)])

    def _low(self, name: str, decode: Decode, reference: Split, run: Run) -> bytes:
        index = torch.arange(self.candidates)
        shown = self._drawn(low_posterior(index, self.samples, reference, self.temperature, run), decode, run)
        title = f"{name}: of {self.candidates:,} prior samples, those of lowest q(z) (decoder {decode}s)"
        return png(title, [_rows(shown)])

    def _drawn(self, index: Tensor, decode: Decode, run: Run) -> Tensor:
        x = run.shared(PriorSample(decode, self.temperature), candidates(index))["x"]
        return _picture(varied(x, "samples of the prior"))

    def _traversals(self, name: str, model: LatentVariableModel, z: Tensor, run: Run) -> bytes:
        start, symbol = _generation(model, z)
        width, values = start.shape[1], torch.linspace(-REACH, REACH, STEPS).to(start)
        u = start.expand(width, STEPS, width).clone()
        u.diagonal(dim1=0, dim2=2).copy_(values[:, None].expand(STEPS, width))
        x = _path(model, u, "traversals", run)  # (L, STEPS, *shape)
        change = x.double().var(1).flatten(1).sum(1)
        most = change.argsort(descending=True, stable=True)[: self.dimensions]
        rows = [Row(f"{symbol}[{i}]", (x[i],)) for i in most.tolist()]
        title = f"{name}: one coordinate of {symbol} at a time, largest change first"
        return png(title, [rows], [f"{value:.3g}" for value in values.tolist()])


def _encoded(batch: Batch, seed: int, *, model: LatentVariableModel, decode: Decode) -> Mapping[str, Tensor]:
    """Images as the model reads them, one draw z of the first group, and the decoded draw."""
    with keyed(seed, batch.example):
        latents = model.posterior(batch.x).rsample(1)
        x = displayed(model.likelihood(latents), decode, model.space)[0]
    image = batch.x if model.space.is_cloud else eight_bit(batch.x, model.space)
    return {"image": image, "reconstruction": x, "z": latents[0][0].flatten(1)}


def _decoded(batch: Batch, seed: int, *, model: LatentVariableModel) -> Mapping[str, Tensor]:
    """Decoder means, of clouds samples, at points of generation space."""
    decode: Decode = "sample" if model.space.is_cloud else "mean"
    with keyed(seed, batch.example):
        return {"x": displayed(model.likelihood(representation(model, batch.x)), decode, model.space)[0]}


def _path(model: LatentVariableModel, u: Tensor, name: str, run: Run) -> Tensor:
    """Images of what is decoded at points `u` (M, N, L) of generation space, (M, N, C, H, W)."""
    points = Split(name, u.flatten(0, 1))
    x = _picture(run.map(partial(_decoded, model=model), points, batch=BLOCK)["x"])
    paths: Tensor = x.unflatten(0, u.shape[:2])
    return paths


def _picture(x: Tensor) -> Tensor:
    """Images (N, C, H, W) as they are; clouds (N, P, 3) as two views."""
    return views(x) if x.ndim == 3 else x


@torch.no_grad()
def _generation(model: LatentVariableModel, z: Tensor) -> tuple[Tensor, str]:
    """u = g(z) and what to call it."""
    return generation(model, z), "u" if model.prior(1).first().decoupled else "z"


def _rows(x: Tensor, label: str = "") -> list[Row]:
    return [Row(label, (part,)) for part in x.split(ACROSS)]


def _reconstructions(title: str, decode: Decode, seen: Mapping[str, Tensor]) -> bytes:
    images = _rows(_picture(seen["image"]), "image")
    made = _rows(_picture(varied(seen["reconstruction"], "reconstructions")), "model")
    return png(f"{title} and reconstructions (decoder {decode}s)", list(zip(images, made, strict=True)))


def _interpolations(title: str, model: LatentVariableModel, seen: Mapping[str, Tensor], run: Run) -> bytes:
    if len(seen["z"]) < 2:
        raise UnavailableError("they lie between two images, and the split has one")
    u, symbol = _generation(model, seen["z"])
    pairs, times = torch.arange(len(u) // 2 * 2).view(-1, 2)[:LINES], torch.linspace(0, 1, STEPS).tolist()
    first, last = u[pairs].unbind(1)
    x = _path(model, torch.stack([first.lerp(last, t) for t in times], 1), "interpolations", run)
    rows = [Row("", (ends[:1], line, ends[1:])) for ends, line in zip(_picture(seen["image"])[pairs], x, strict=True)]
    columns = ["image", *(f"{t:.3g}" for t in times), "image"]
    return png(f"{title}, straight in {symbol}", [rows], columns)


plugin = {"quick": Gallery(candidates=1000), "standard": Gallery(), "paper": Gallery(candidates=50_000)}
