"""VAE-TracIn: which training examples influence which, along a training trajectory, and whether OOD ones show."""

import copy
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.func import functional_call

from vaebench.core.data import Batch, Dataset, Split, eight_bit
from vaebench.core.metric import (
    BLOCK,
    Checkpoint,
    Column,
    Curve,
    Measurement,
    Metric,
    Run,
    Trajectory,
    UnavailableError,
)
from vaebench.core.model import LatentVariableModel
from vaebench.core.normaliser import mass_fault
from vaebench.distributions.noise import keyed
from vaebench.functional import intervals
from vaebench.functional.influence import (
    checkpoint_weight,
    detection_area,
    detection_curve,
    gradients,
    sketch,
    squared_correlation,
    top_agreement,
)
from vaebench.functional.random import derive, keys
from vaebench.functional.statistics import mean_stderr
from vaebench.metrics.shared.bounds import unscored
from vaebench.metrics.shared.image_grid import Row, png
from vaebench.metrics.shared.sample_quality import no_images

OOD = -1
"""The label of a training example that does not belong to the dataset."""
PICTURED, ACROSS = 8, 5  # queried images that are shown, and proponents and opponents of each
_FLOATS = 2**24  # of gradients computed at once


@final
class ExampleLoss(nn.Module):
    """-E_q[log p(x|z)] + beta E_q[log q(z|x) - log p(z)] of one example, nats, over `samples` keyed draws."""

    def __init__(self, model: LatentVariableModel, seed: int, samples: int, beta: float) -> None:
        super().__init__()
        self.model, self.seed, self.samples, self.beta = model, seed, samples, beta

    def forward(self, x: Tensor, example: Tensor) -> Tensor:
        with keyed(self.seed, example[None]):
            draws = self.model.draw(x[None], self.samples)
        return (self.beta * (draws.log_posterior - draws.log_prior) - draws.log_likelihood).mean()


def example_gradients(
    model: LatentVariableModel, x: Tensor, example: Tensor, seed: int, samples: int, beta: float
) -> Tensor:
    """The gradient of `ExampleLoss` in every parameter for each of x (B, *shape), (B, P)."""
    model.space.check(x)
    module = ExampleLoss(copy.deepcopy(model), seed, samples, beta)  # a copy: blocks run side by side

    def loss(parameters: dict[str, Tensor], x: Tensor, example: Tensor) -> Tensor:
        value: Tensor = functional_call(module, parameters, (x, example))
        return value

    return gradients(loss, {name: value.detach() for name, value in module.named_parameters()}, x, example)


def bound(batch: Batch, seed: int, *, model: LatentVariableModel, samples: int) -> dict[str, Tensor]:
    """-ELBO of each example, nats. Raises ValueError if a draw gives x a mass above 1."""
    with keyed(seed, batch.example):
        draws = model.draw(batch.x, samples)
    if fault := mass_fault(draws.log_likelihood, model.space):
        raise ValueError(fault)
    return {"loss": -draws.log_weight.double().mean(0)}


def reading(batch: Batch, seed: int) -> dict[str, Tensor]:
    """The examples as they were read, and the seed of their noise."""
    return {"x": batch.x, "seed": torch.full((len(batch.x),), seed)}


def influence(
    batch: Batch, seed: int, *, at: LatentVariableModel, metric: "Tracin", queries: Tensor
) -> dict[str, Tensor]:
    """The squared norm of each example's gradient at the weights `at`, and its products with those of `queries`."""
    gradient = example_gradients(at, batch.x, batch.example, seed, metric.samples, metric.beta)
    norm = torch.linalg.vector_norm(gradient, dim=1, dtype=torch.float64)
    return {"self": norm.square(), "influence": metric.reduced(gradient) @ queries.T}


@final
@dataclass(frozen=True)
class Tracin(Metric):
    """TracIn(x -> z) = sum_c eta_c grad l(x; theta_c) . grad l(z; theta_c) over the checkpoints c of training.

    l is the negative `beta`-ELBO in nats averaged over `samples` posterior draws (set `beta` to the one that the model
    was trained with: a metric does not see the objective); the gradient is in all parameters; eta_c is
    `checkpoint_weight` of the mean rate since the checkpoint before. TracIn's argument is for plain gradient descent;
    under Adam it is a heuristic, as everywhere. Self-influence is TracIn(x -> x), one set of draws on both sides;
    queries have draws of their own. With `projection` = P > 0, influences (not self-influences) are products of
    gradients sketched to P numbers.

    * cleaning_auc: training examples labelled -1 are out-of-distribution (OOD); inspecting by falling self-influence,
      the mean over i of the part of them among the first i; 0.5 for a random order. cleaning_auc_loss: the same by
      falling -ELBO. Absent where there are none.
    * self_retrieval: how often the strongest proponent of one of `queries` training examples is itself.
    * proponent_agreement, opponent_agreement: the part of the `top` strongest proponents (most positive) and opponents
      (most negative) of `queries` examples of `queried` that have their label. Absent without labels.
    * self_influence_r2: R^2 between self-influence and -ELBO, OOD examples left out.

    For images, `influence.png` shows a few of the queried, each with its strongest proponents and opponents.

    Source: Kong & Chaudhuri 2021 (arXiv 2105.14203), sections 3 and 4; Pruthi et al. 2020 for the influence.
    """

    split: str = "train"
    queried: str = "test"
    samples: int = 16
    beta: float = 1.0
    queries: int = 128
    top: int = 10
    projection: int = 0

    version: ClassVar[int] = 1
    given = ("binarisation",)
    splits = ()  # of the whole training
    columns: ClassVar[tuple[Column, ...]] = (
        Column("cleaning_auc", "", "higher", "estimate",
               equation="mean_i (OOD examples among the first i by falling self-influence) / (OOD examples)"),
        Column("cleaning_auc_loss", "", "none", "estimate",
               equation="mean_i (OOD examples among the first i by falling -ELBO) / (OOD examples)"),
        Column("self_retrieval", "", "higher", "estimate", equation="P(argmax_x' TracIn(x' -> x) = x)"),
        Column("proponent_agreement", "", "higher", "estimate",
               equation="the share of the strongest proponents of an example that have its label"),
        Column("opponent_agreement", "", "none", "estimate",
               equation="the share of the strongest opponents of an example that have its label"),
        Column("self_influence_r2", "", "none", "estimate", equation="R^2 of TracIn(x -> x) on -ELBO"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name, low in {"samples": 1, "queries": 2, "top": 1, "projection": 0}.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} = {getattr(self, name)} should be at least {low}")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.split, self.queried)

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        if (reason := super().unsupported(model, dataset) or unscored(model)) is not None:
            return reason
        if (size := len(dataset.split(self.split))) < max(self.top, 4):
            return f"{size} training examples are fewer than top = {self.top}, or than 4"
        return None

    def reduced(self, gradient: Tensor) -> Tensor:
        """The gradients (B, P), sketched where a projection is asked for."""
        return sketch(gradient, self.projection, derive("tracin")) if self.projection else gradient

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        train, queried, trajectory = dataset.split(self.split), dataset.split(self.queried), run.resources.trajectory()
        _check(trajectory, train, dataset)
        own, asked = (_some(split, self.queries) for split in (train, queried))
        parts = [train.part(own, f"{train.name} queries"), queried.part(asked, f"{queried.name} queries")]
        readings = [run.map(reading, part, batch=BLOCK) for part in parts]
        total, influences = torch.zeros(len(train)), torch.zeros(len(train), len(own) + len(asked))
        for checkpoint in trajectory.checkpoints:
            weight = checkpoint_weight(
                checkpoint.learning_rate, checkpoint.steps, trajectory.batch_size, trajectory.examples
            )
            values = self._at(checkpoint, model, train, readings, trajectory, run)
            total = total + weight * values["self"]
            influences += weight * values["influence"]
        loss = run.map(partial(bound, model=model, samples=self.samples), train, batch=BLOCK)["loss"]
        yield from self._cleaning(total, loss, train, run)
        hit = influences[:, : len(own)].argmax(0) == own
        yield Measurement.proportion("self_retrieval", *mean_stderr(hit), len(own))
        if train.y is not None and queried.y is not None:
            for name, sign in (("proponent_agreement", 1), ("opponent_agreement", -1)):
                agreement = top_agreement(sign * influences[:, len(own) :], train.y, queried.y[asked], self.top)
                yield Measurement.proportion(name, *mean_stderr(agreement), len(asked))
        if no_images(dataset) is None:
            shown = readings[1]["x"][:PICTURED]
            title = f"{run.model_name} on {dataset.name}: {queried.name} images, their proponents, opponents"
            run.keep("influence.png", _picture(title, shown, influences[:, len(own) :], train, dataset, run))

    def _at(
        self,
        checkpoint: Checkpoint,
        model: LatentVariableModel,
        train: Split,
        readings: list[dict[str, Tensor]],
        trajectory: Trajectory,
        run: Run,
    ) -> dict[str, Tensor]:
        """`influence` of every training example at one checkpoint."""
        at = copy.deepcopy(model)
        checkpoint.load(at)
        batch = min(BLOCK, max(1, _FLOATS // sum(p.numel() for p in at.parameters())))
        queries = []
        for read in readings:
            for i in torch.arange(len(read["x"])).split(batch):
                x, example = read["x"][i].to(run.device), i.to(run.device)
                gradient = example_gradients(at, x, example, int(read["seed"][0]), self.samples, self.beta)
                queries.append(self.reduced(gradient))
        function = partial(influence, at=at, metric=self, queries=torch.cat(queries))
        stream = f"{train.name}@{trajectory.sha256[:16]}-{checkpoint.step}"
        return run.map(function, train, batch=batch, stream=stream)

    def _cleaning(self, total: Tensor, loss: Tensor, train: Split, run: Run) -> Iterator[Measurement]:
        """What self-influence (N,) says of the training examples, with their -ELBO (N,) beside it."""
        y = torch.zeros(len(train), dtype=torch.int64) if train.y is None else train.y
        table = pa.table({"label": y.numpy(), "self_influence": total.numpy(), "negative_elbo": loss.numpy()})
        pq.write_table(table, buffer := io.BytesIO())
        run.keep("training_examples.parquet", buffer.getvalue())
        ood = y == OOD
        if bool(ood.any()):
            inspected, found = detection_curve(total, ood)
            curve = Curve(tuple(inspected), tuple(found), "part inspected", "part of the OOD found")
            yield detected("cleaning_auc", total, ood)._replace(curve=curve)
            yield detected("cleaning_auc_loss", loss, ood)
        r2, error = squared_correlation(total[~ood], loss[~ood])
        yield Measurement("self_influence_r2", r2, error, int((~ood).sum()))


def _picture(title: str, shown: Tensor, influences: Tensor, train: Split, dataset: Dataset, run: Run) -> bytes:
    """A PNG: each of `shown` (M, *shape) and the training images of most positive and negative influence (N, Q)."""
    order = influences[:, : len(shown)].argsort(dim=0, descending=True, stable=True)
    chosen = torch.cat([order[:ACROSS], order[-ACROSS:].flip(0)]).T  # (M, 2 ACROSS)
    part = train.part(chosen.flatten(), f"{train.name} proponents and opponents")
    near = eight_bit(run.map(reading, part, batch=BLOCK)["x"], dataset.space).unflatten(0, chosen.shape)
    images = eight_bit(shown, dataset.space)
    rows = [Row("", (image[None], *some.split(ACROSS))) for image, some in zip(images, near, strict=True)]
    strongest = [str(i + 1) for i in range(ACROSS)]
    return png(title, [rows], ["image", *(f"+{i}" for i in strongest), *(f"-{i}" for i in strongest)])


def detected(column: str, score: Tensor, ood: Tensor) -> Measurement:
    """`detection_area`, with the interval of the area under the ROC curve that it is a linear function of."""
    area, stderr = detection_area(score, ood)
    low, high = intervals.detection(area, int(ood.sum()), len(score))
    found = Measurement(column, area, stderr, len(score))
    return found if stderr is None else found._replace(low=low, high=high)


def _some(split: Split, count: int) -> Tensor:
    """`count` examples of `split` (all, where it has fewer), always the same: (Q,) int64, rising."""
    chosen = keys(derive("tracin queries"), torch.arange(len(split))).argsort(stable=True)[:count]
    return chosen.sort().values


def _check(trajectory: Trajectory, train: Split, dataset: Dataset) -> None:
    """UnavailableError unless `trajectory` is of a training on all of `train`."""
    if trajectory.data_fingerprint != dataset.fingerprint:
        raise UnavailableError(f"the trajectory is of a training on other data than {dataset.name}")
    if trajectory.examples != len(train):
        raise UnavailableError(
            f"the model was trained on {trajectory.examples} of the {len(train)} examples of {dataset.name}'s split "
            f"{train.name!r}; train with validation = 0"
        )


plugin = {
    "quick": Tracin(samples=4, queries=32, projection=1024),
    "standard": Tracin(projection=4096),
    "paper": Tracin(),
}
