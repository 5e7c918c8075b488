"""The images of a model that `fid`, `fd-domain` and `gallery` look at, and their Frechet distance from the data's."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vaebench.core import files
from vaebench.core.data import Batch, Dataset, Space, Split, eight_bit
from vaebench.core.metric import BLOCK, Given, Measurement, Metric, Run, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.core.names import FEW_IMAGES, SHARED_IMAGES
from vaebench.distributions.noise import keyed
from vaebench.functional import random
from vaebench.functional.aggregate import lowest, mixture
from vaebench.functional.frechet import Moments, frechet_distance, merge, moments
from vaebench.metrics.shared.passes import (
    Decode,
    Posterior,
    PriorLatents,
    PriorSample,
    candidates,
    displayed,
    log_aggregate,
    varied,
)

_MIXTURE = "discretised-logistic-mixture"
SAMPLED = ("categorical", "discretised-logistic", _MIXTURE, f"{_MIXTURE}-nvae", "point-mixture")
"""Likelihoods of which a sample is shown where `decode` is "auto"; of the others, the mean."""
PIECE = 5000  # images whose features are held at once
Extract = Callable[[Tensor], Tensor]
"""What `Run.map` can tell by content: a module, or a method of one."""


@dataclass(frozen=True)
class SampleQuality(Metric, ABC):
    """Frechet distances between features of images of the split `reference` and of the model's images, all 8-bit.

    Random: `samples` draws of the prior, decoded. Low-posterior, FID(LP): the `samples` of `candidates` draws whose
    aggregate posterior density, over `reference`, is lowest. Reconstructions: as many images of `split`, each decoded
    from a draw of q(z|x). Every column is the mean of `repeats` sets, whose spread is its standard error: each has
    other draws and, where `split` holds so many, other images (elsewhere the row is marked). The distance of equal laws
    is above 0, and falls with `samples`: compare rows of equal parameters only. The gap is low-posterior less random;
    the nearer to 0 the better, on either side, so that it has no rank.

    `decode` "auto" shows samples of likelihoods that are discrete logistics or categorical, and means of the others.
    The reference is the whole split, its stored levels where it is binarised or dequantised; `limit` takes as many of
    its images, chosen once for all, and `flipped` mirrors half of them: NVAE's own evaluation is decode mean,
    temperature 1, flipped, limit and samples 50,000. Batch norm uses its running statistics. The low-posterior columns
    (of several latent groups, ranked by the first) exist where q(z|x) is a diagonal Gaussian, and are left out
    elsewhere: q(z) has no density at hand there. A sample that is NaN or out of range, or a set of equal samples, fails
    the metric.
    Source: Heusel et al. 2017; Bhalodia et al. 2020 (dpVAE), section 4.2.
    """

    reference: str = "train"
    samples: int = 5000
    candidates: int = 50_000
    repeats: int = 3
    decode: Literal["auto", "mean", "sample"] = "auto"
    temperature: float = 1.0
    flipped: bool = False
    limit: int | None = None

    given = ("binarisation",)  # the likelihood only by how an image is shown
    splits = ("split", "reference")
    counts = MappingProxyType({"samples": 2, "candidates": 3})
    dear = MappingProxyType({"samples": 50, "candidates": 200})
    batch: ClassVar[int] = BLOCK
    """How many images pass the network of features at once."""

    def __post_init__(self) -> None:
        if not 2 <= self.samples < self.candidates:
            raise ValueError(f"samples = {self.samples} should be at least 2 and below candidates = {self.candidates}")
        if self.repeats < 1 or not 0 < self.temperature < float("inf"):
            raise ValueError(f"repeats = {self.repeats} and temperature = {self.temperature} should be positive")
        if self.limit is not None and self.limit < 2:
            raise ValueError(f"limit = {self.limit} should be at least 2")

    def depends(self, given: Given) -> Mapping[str, Any]:
        return {**super().depends(given), "decode": resolved(self.decode, given.likelihood)}

    @abstractmethod
    def extractor(self, run: Run) -> tuple[str, Extract]:
        """The network's sha256, and its map of 8-bit images (B, C, H, W) to features (B, F).

        Raises UnavailableError if it is not at hand.
        """

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.split, self.reference)

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        return super().unsupported(model, dataset) or no_images(dataset)

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        at_random, low, gap, reconstruction = (column.name for column in self.columns)
        digest, extract = self.extractor(run)
        take = partial(self._moments, extract=extract, run=run)
        decode, indices = shown_as(self.decode, model), self._indices()
        sets = {at_random: [take(self._sampled(index[: self.samples], decode, run)) for index in indices]}
        sets[reconstruction] = [take(x) for x in self._reconstructed(model, dataset, decode, run)]
        if (chosen := self._low(indices, dataset.split(self.reference), run)) is not None:
            sets[low] = [take(self._sampled(index, decode, run)) for index in chosen]
        # last: a pass that the cache makes needless then moves no other's noise
        reference = self._reference(dataset, digest, take)
        distances = {
            name: torch.tensor([frechet_distance(reference, found) for found in each], dtype=torch.float64)
            for name, each in sets.items()
        }
        if low in distances:
            distances[gap] = distances[low] - distances[at_random]
        for name, values in distances.items():
            moments = sets.get(name, sets[at_random])[0]
            few = moments.size < len(moments.mean)
            shared = name == reconstruction and self.repeats * moments.size > len(dataset.split(self.split))
            told = (*([FEW_IMAGES] if few else ()), *([SHARED_IMAGES] if shared else ()))
            yield Measurement.mean(name, values, moments.size)._replace(marks=told)

    def _indices(self) -> list[Tensor]:
        """The candidates of each repeat."""
        return list(torch.arange(self.repeats * self.candidates).split(self.candidates))

    def _sampled(self, index: Tensor, decode: Decode, run: Run) -> Tensor:
        """The images of the decoded candidates `index`."""
        return varied(run.shared(PriorSample(decode, self.temperature), candidates(index))["x"], "samples of the prior")

    def _low(self, indices: list[Tensor], reference: Split, run: Run) -> list[Tensor] | None:
        """The low-posterior candidates of each repeat; None where q(z|x) is not a diagonal Gaussian."""
        low = partial(low_posterior, count=self.samples, reference=reference, temperature=self.temperature, run=run)
        try:
            return [low(index).sort().values for index in indices]
        except UnavailableError:
            return None

    def _reconstructed(
        self, model: LatentVariableModel, dataset: Dataset, decode: Decode, run: Run
    ) -> Iterator[Tensor]:
        split = dataset.split(self.split)
        order, count = shuffled("reconstructions", len(split)), min(self.samples, len(split))
        for repeat in range(self.repeats):
            index = order[(torch.arange(count) + repeat * count) % len(split)]
            name = f"reconstructions {repeat} of {split.name}"
            function = partial(_reconstruct, model=model, decode=decode)
            x = run.map(function, split.part(index, name), batch=BLOCK)["x"]
            yield varied(x, "reconstructions")

    def _moments(self, x: Tensor, *, extract: Extract, run: Run) -> Moments:
        """The moments of the features of `x` (N, C, H, W)."""
        function = partial(_features, extract=extract)
        parts = (Split("images", part) for part in x.split(PIECE))
        return reduce(merge, (moments(run.map(function, part, batch=self.batch)["features"]) for part in parts))

    def _reference(self, dataset: Dataset, digest: str, take: Callable[[Tensor], Moments]) -> Moments:
        """The moments of the reference, from the cache where it holds them: found by content alone."""
        split = dataset.split(self.reference)
        levels = split.stored_levels or dataset.space.levels
        what = [1, dataset.fingerprint, self.reference, levels, self.flipped, self.limit, digest]
        if (known := _cached(what)) is not None:
            return known
        x = stored(split, dataset)
        if self.limit is not None:
            x = x[shuffled("reference", len(x))[: self.limit]]
        if self.flipped:
            mirrored = shuffled("flipped", len(x))[: len(x) // 2]
            x = x.index_copy(0, mirrored, x[mirrored].flip(3))
        made = take(x)
        _cache(what, made)
        return made


def no_images(dataset: Dataset) -> str | None:
    """Why examples of `dataset` cannot be seen as 8-bit images, or None."""
    seen = dataset.space.is_picture and dataset.space.shape[0] in (1, 3)
    return None if seen else f"{dataset.name} does not hold images of 1 or 3 channels of integers"


def resolved(decode: Literal["auto", "mean", "sample"], family: str) -> Decode:
    """`decode`, or for "auto" what suits a likelihood: see `SAMPLED`."""
    if decode != "auto":
        return decode
    return "sample" if family in SAMPLED else "mean"


def shown_as(decode: Literal["auto", "mean", "sample"], model: LatentVariableModel) -> Decode:
    """`resolved` by the model's likelihood."""
    with torch.no_grad(), keyed(0, torch.arange(1)):
        return resolved(decode, model.likelihood(model.prior(1).rsample(1)).family)


def low_posterior(index: Tensor, count: int, reference: Split, temperature: float, run: Run) -> Tensor:
    """The `count` of the candidates `index` (M,) where q(z), over all of `reference`, is lowest: lowest first.

    The first of several latent groups decides. Raises UnavailableError if q(z|x) is not a diagonal Gaussian.
    """
    posterior = run.shared(Posterior(), reference)
    z = run.shared(PriorLatents(temperature), candidates(index))["z"]
    q = mixture(posterior["mean"], posterior["log_variance"])
    return index[lowest(log_aggregate(z, q, run), count)]


def stored(split: Split, dataset: Dataset) -> Tensor:
    """The images of `split` (N, C, H, W) as 8-bit: its stored levels, where it is read as something else."""
    if split.reading is None:
        return eight_bit(split.x, dataset.space)
    return eight_bit(split.x, Space(dataset.space.shape, split.stored_levels, "pmf"))


def shuffled(purpose: str, size: int) -> Tensor:
    """A permutation (size,) int64, always the same for a purpose and size."""
    return random.keys(random.derive(purpose), torch.arange(size)).argsort(stable=True)


def _features(batch: Batch, seed: int, *, extract: Extract) -> Mapping[str, Tensor]:
    return {"features": extract(batch.x)}


def _reconstruct(batch: Batch, seed: int, *, model: LatentVariableModel, decode: Decode) -> Mapping[str, Tensor]:
    with keyed(seed, batch.example):
        likelihood = model.likelihood(model.posterior(batch.x).rsample(1))
        return {"x": displayed(likelihood, decode, model.space)[0]}


def _address(what: list[object]) -> Path:
    name = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    return files.cache() / "moments" / f"{name}.moments"


def _cache(what: list[object], found: Moments) -> None:
    """Keep `found` under `what` it is of: a line with the checksum of both, then safetensors."""
    payload = save({"size": torch.tensor(found.size), "mean": found.mean, "scatter": found.scatter})
    path = _address(what)
    files.write_atomic(path, hashlib.sha256(path.name.encode() + payload).hexdigest().encode() + b"\n" + payload)


def _cached(what: list[object]) -> Moments | None:
    """What `_cache` kept; None where it is absent, damaged or was moved."""
    path = _address(what)
    try:
        head, _, payload = path.read_bytes().partition(b"\n")
        if head != hashlib.sha256(path.name.encode() + payload).hexdigest().encode():
            return None
        found = load(payload)
        return Moments(int(found["size"]), found["mean"], found["scatter"])
    except (OSError, SafetensorError):
        return None
