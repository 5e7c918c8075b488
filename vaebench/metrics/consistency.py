"""How much latents change when the image is transformed: KL between the posteriors, and labels that a probe keeps."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor

from vaebench.core.augmentation import kind, transformed, transforms
from vaebench.core.data import Batch, Dataset, Reading, Split
from vaebench.core.metric import BLOCK, Column, Measurement, Metric, Run, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.functional.probe import LinearProbe, logistic_probe
from vaebench.functional.statistics import wilson_stderr
from vaebench.metrics.shared.passes import Embedding, readings

SETS = ("small", "large")


def compare(
    batch: Batch,
    seed: int,
    *,
    model: LatentVariableModel,
    probes: Sequence[LinearProbe],
    reading: Reading | None = None,
) -> dict[str, Tensor]:
    """For one transform of each set: `consistency_*` KL(q(z|t(x)) || q(z|x)), (B,), and `agreement_*` 0 or 1 of each
    of R probes, (B, R), float64.

    The former where q(z|x) is Gaussian, the latter where there are probes; raises UnavailableError if neither is.
    Images are transformed as they are stored: those of `batch` are, and `reading` reads them afterwards.
    """
    stored = Split("stored", batch.x, None, reading)
    with keyed(seed, batch.example):
        x = stored.read(batch.x)
        sets = zip(SETS, transforms(model.space), strict=True)
        others = {name: stored.read(transformed(stored, model.space, transform)) for name, transform in sets}
        found = _divergences(model, x, others)
        found |= _agreements(model, probes, x, others) if probes else {}
    if not found:
        raise UnavailableError(
            f"needs a Gaussian q(z|x), but this model's is a {model.posterior(x).kind}, or labels of images to train on"
        )
    return found


def _divergences(model: LatentVariableModel, x: Tensor, others: dict[str, Tensor]) -> dict[str, Tensor]:
    p = model.posterior(x)
    posteriors = {name: model.posterior(other) for name, other in others.items()}
    try:
        return {f"consistency_{name}": q.kl(p).double() for name, q in posteriors.items()}
    except UnavailableError:
        return {}


def _agreements(
    model: LatentVariableModel, probes: Sequence[LinearProbe], x: Tensor, others: dict[str, Tensor]
) -> dict[str, Tensor]:
    def label(x: Tensor) -> Tensor:
        embedding = model.embed(x)
        if not bool(torch.isfinite(embedding).all()):
            raise ValueError("an embedding is NaN or infinite")
        return torch.stack([probe(embedding) for probe in probes], 1)

    still = label(x)
    return {f"agreement_{name}": (label(other) == still).double() for name, other in others.items()}


@final
@dataclass(frozen=True)
class Consistency(Metric):
    """E_x E_t KL(q(z|t(x)) || q(z|x)) over `split` and `moves` transforms t of each image, and labels that survive.

    t is `augmentation.transformed` by the small and by the large affine set of CR-VAE, without flips or jitter, on
    images as they are stored: dynamic binarisation comes after it, apart for x and t(x). What comes in from
    outside is level 0, which on bright backgrounds is a dark frame. Clouds of points are turned about the
    vertical, scaled and jittered: by up to 15 degrees and 1.1, or by any angle and 1.25. The KL is exact for one
    vector of latents; of several groups it is the sum of theirs, given a draw of q(z|t(x)) that both share; where
    q(z|x) is not Gaussian it is left out. `agreement_*` is how often x and t(x) are given one label, right or
    not, by the classifier of the metric `probe` with all training examples; without labels it is left out. A
    posterior that ignores x has KL 0 and agreement 1: read both beside the mutual information. Standard errors
    are over images, whose values are kept beside the rows; an agreement's is at least the Wilson interval's over
    all transforms, and joins the spread over classifiers of other readings of training images read with noise.
    Source: Sinha & Dieng 2021 (CR-VAE).
    """

    train: str = "train"
    moves: int = 5
    inverse_penalty: float = 1.0

    version: ClassVar[int] = 2
    given = ("binarisation",)
    splits = ("split", "train")
    columns: ClassVar[tuple[Column, ...]] = (
        Column("consistency_small", "nats", "lower", "estimate",
               equation="E_x E_t KL(q(z|t(x)) || q(z|x)), t of the small set of moves"),
        Column("consistency_large", "nats", "lower", "estimate",
               equation="E_x E_t KL(q(z|t(x)) || q(z|x)), t of the large set of moves"),
        Column("agreement_small", "fraction", "higher", "estimate",
               equation="E_x E_t [c(t(x)) = c(x)], c the label that the probe gives, t of the small set of moves"),
        Column("agreement_large", "fraction", "higher", "estimate",
               equation="E_x E_t [c(t(x)) = c(x)], c the label that the probe gives, t of the large set of moves"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.moves < 1 or self.inverse_penalty <= 0:
            raise ValueError(f"moves = {self.moves} and inverse_penalty = {self.inverse_penalty} should be positive")

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        if (reason := super().unsupported(model, dataset)) is not None:
            return reason
        if not transforms(dataset.space):
            return f"only images of integers and clouds are transformed; {dataset.name} holds {kind(dataset.space)}"
        return None

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        split = dataset.split(self.split)
        function = partial(compare, model=model, probes=self._probes(dataset, run), reading=split.reading)
        found = run.map(function, dataclasses.replace(split, reading=None), repeats=self.moves, batch=BLOCK)
        values: dict[str, Tensor] = {}
        for name, value in found.items():
            means = value.reshape(self.moves, len(split), -1).mean(0)  # (N, R), R the classifiers of an agreement
            values[name] = means[:, 0]
            each = Measurement.mean(name, values[name])
            if name.startswith("agreement"):
                least = max(each.stderr or 0.0, wilson_stderr(each.value, self.moves * len(split)))
                spread = float(means.mean(0).std()) if means.shape[1] > 1 else 0.0
                each = Measurement.proportion(name, each.value, math.hypot(least, spread), len(split))
            yield each
        run.keep_values(values)

    def _probes(self, dataset: Dataset, run: Run) -> list[LinearProbe]:
        """Of each reading the classifier of embeddings; none without training labels of two classes."""
        y = dataset.split(self.train).y if dataset.has(self.train) else None
        if y is None or len(y[y >= 0].unique()) < 2:
            return []
        found = readings(Embedding(), "embedding", dataset.split(self.train), run)
        return [logistic_probe(each[y >= 0], y[y >= 0], self.inverse_penalty) for each in found]


plugin = {"quick": Consistency(moves=1), "standard": Consistency(), "paper": Consistency(moves=20)}
