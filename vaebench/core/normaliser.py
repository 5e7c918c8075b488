"""Is p(x|z) what it says: a mass that sums to 1 over the levels, or a density that integrates to 1?

Where x falls into places that are independent given z, each is looked at alone; its numbers, such as its colours, are
enumerated where they are independent too. What cannot be enumerated is held against a reference whose sum is known, by
samples of both. Nothing here assumes that log p is right, or that it is of this package.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal, NamedTuple, Protocol, final

import torch
from torch import Tensor

from vaebench.core.data import Space
from vaebench.core.errors import reason
from vaebench.core.model import Latents, LatentVariableModel
from vaebench.distributions.likelihoods import Likelihood
from vaebench.distributions.noise import keyed, uniform
from vaebench.functional.gaussian import log_density

MOST = 1e-6  # nats a dimension, that a mass may be above 1
OFF = 2e-3  # that an estimated sum, or the logarithm of one, may be off
ROUNDING = 1e-4  # that the logarithm of an enumerated sum may be off, for each number: 3e-6 were seen in float32
LIMIT, UNSURE = 5.0, 0.1  # standard errors; an error of log Z that decides nothing
SAMPLES = 2000  # of which half make the reference, and half are held against it
PLACES, FEW = 24, 4  # looked at of an image; held against a reference
CELLS = 2**22  # numbers scored at once
ENUMERATED = 20_000  # vectors, at most, that one x is varied into
GRID = {1: 4001, 2: 401}  # midpoints in each dimension of an integral
REACH = 12.0  # standard deviations of samples that an integral goes out


class Finding(NamedTuple):
    """What was found: "failed" or "undecided" with what was seen, or "ok", and why nothing was asked."""

    outcome: Literal["ok", "failed", "undecided"]
    detail: str = ""


OK = Finding("ok")


def mass_fault(log_likelihood: Tensor, space: Space) -> str:
    """What is wrong with masses log p(x|z) of any shape, nats: one is above 1. Empty where none is."""
    if space.measure != "pmf" or not log_likelihood.numel():
        return ""
    most = float(log_likelihood.max())
    if not most > MOST * space.dims:
        return ""
    return f"log p(x|z) is {most:.4g} in a draw, but no mass is above 1: it is a density, or does not sum to 1"


@torch.no_grad()
def normalised(model: LatentVariableModel) -> Finding:
    """Whether p(x|z) is proper at draws of the prior, and of the posterior at dark, bright and random x.

    Of such x, which are far from any that an encoder was trained on, draws may be infinite: 0 takes their place.
    A likelihood that says itself that it is not `proper`, or that there is none, is not asked to be.
    """
    undecided = OK
    for latents, x in _latents(model):
        likelihood = model.likelihood(latents)
        if likelihood.unscored:
            return Finding("ok", f"not asked: {likelihood.unscored}")
        if not likelihood.proper:
            return OK
        if not bool(torch.isfinite(likelihood.raw).all()):
            return Finding("failed", "the decoder gives a number that is not finite")
        for score in (likelihood.log_prob(likelihood.sample()), *(() if x is None else (likelihood.log_prob(x),))):
            if fault := mass_fault(score, model.space):
                return Finding("failed", fault)
        found = _likelihood(model, latents, likelihood)
        if found.outcome == "failed":
            return found
        undecided = found if found.outcome == "undecided" else undecided
    return undecided


def _latents(model: LatentVariableModel) -> Iterator[tuple[Latents, Tensor | None]]:
    with keyed(5, torch.arange(2)):
        yield model.prior(2).rsample(1), None
    space = model.space
    device = next(iter(model.parameters()), torch.empty(0)).device
    with keyed(6, torch.arange(3)):
        u = uniform((1, 3, *space.shape), torch.empty(()))[0]
        if space.levels is None:
            low, high = space.interval or (-2, 2)
            x = low + (high - low) * u
        else:
            u[0], u[1] = 0.0, 1.0
            x = (u * space.levels).long().clamp_(max=space.levels - 1).to(torch.uint8)
        x = x.to(device)
        latents = model.posterior(x).rsample(1)
        finite = torch.stack([z.isfinite().flatten(2).all(-1) for z in latents]).all(0)  # (1, B)
        yield tuple(torch.where(finite.view(*finite.shape, *[1] * (z.ndim - 2)), z, 0.0) for z in latents), x


def _likelihood(model: LatentVariableModel, latents: Latents, likelihood: Likelihood) -> Finding:
    """`likelihood` of S = 1 draw: place by place where its places are independent, else as a whole."""
    with keyed(7, torch.arange(likelihood.batch_shape[1])):
        x = likelihood.sample()
        other = likelihood.sample()
    found = Finding("undecided")
    with suppress(Exception):  # what one from outside raises that cannot be taken apart is not a closed list
        alone, each = likelihood.alone(x)
        total = alone.log_prob(each).unflatten(1, (x.shape[1], -1)).sum(-1)
        if torch.allclose(total.double(), likelihood.log_prob(x).double(), rtol=1e-4, atol=1e-3):
            _, second = likelihood.alone(other)
            chosen = _chosen(each)
            found = _vectors(alone.some(chosen), each[:, chosen], second[:, chosen], model.space)
    for whole in (likelihood, _Whole(model, latents)):
        if found.outcome == "undecided":
            try:
                found = _vectors(whole, x, other, model.space)
            except Exception as error:
                found = Finding("undecided", f"whether p(x|z) is proper: {reason(error)}")
    return found


class _Vectors(Protocol):
    """The likelihood of M vectors at S = 1: what of a `Likelihood` is used here."""

    raw: Tensor

    @property
    def interval(self) -> tuple[float, float] | None: ...
    @property
    def batch_shape(self) -> torch.Size: ...
    @property
    def event_shape(self) -> torch.Size: ...
    def log_prob(self, x: Tensor) -> Tensor: ...
    def repeated(self, samples: int) -> Likelihood: ...
    def some(self, index: Tensor) -> "_Vectors": ...


@final
class _Whole:
    """That of latents, decoded anew each time: nothing is assumed of what the likelihood holds."""

    def __init__(self, model: LatentVariableModel, latents: Latents) -> None:
        self.model, self.latents = model, latents
        likelihood = model.likelihood(latents)
        self.raw, self.log_prob = likelihood.raw, likelihood.log_prob
        self.batch_shape, self.event_shape = likelihood.batch_shape, likelihood.event_shape
        self.interval = likelihood.interval

    def repeated(self, samples: int) -> Likelihood:
        return self.model.likelihood(tuple(group.expand(samples, *group.shape[1:]) for group in self.latents))

    def some(self, index: Tensor) -> "_Whole":
        return _Whole(self.model, tuple(group[:, index] for group in self.latents))


def _chosen(each: Tensor) -> Tensor:
    """Some of the places (1, M, ...): the darkest, the brightest, and others evenly between them."""
    order: Tensor = each.double().flatten(2).mean((0, 2)).argsort(stable=True)
    chosen: Tensor = order[torch.linspace(0, len(order) - 1, min(PLACES, len(order))).round().long()].unique()
    return chosen


def _vectors(likelihood: _Vectors, x: Tensor, other: Tensor, space: Space) -> Finding:
    """Compares M vectors of d numbers, event (d, 1, ...) or any; x and `other` (1, M, *event) are two samples."""
    dims = likelihood.event_shape.numel()
    if space.levels is None:
        return _integral(likelihood, dims) if dims in GRID else _reference(likelihood, space)
    if dims * space.levels <= ENUMERATED:
        conditional = [_conditional(likelihood, each, space.levels) for each in (x, other)]  # (M, d, K)
        at = x[0].flatten(1).long()[..., None]
        if torch.allclose(conditional[0], conditional[1], rtol=0, atol=OFF):  # independent numbers
            log_sum = likelihood.log_prob(x)[0].double() - conditional[0].gather(2, at).sum((1, 2))
            worst = int(log_sum.abs().argmax())
            if not float(log_sum[worst].abs()) <= ROUNDING * dims:
                told = "masses" if dims == 1 else f"masses of {dims} numbers"
                return Finding("failed", f"the {told} sum to {_power(float(log_sum[worst]))} instead of 1")
            return OK
    return _reference(likelihood, space)


def _power(log: float) -> str:
    """exp(log) as people read it, however large or small it is."""
    return f"{math.exp(log):.4g}" if abs(log) < 100 else f"1e{log / math.log(10):+.0f}"


def _conditional(likelihood: _Vectors, x: Tensor, levels: int) -> Tensor:
    """log p(x_j = k | all other numbers of x) by the values of log p alone, (M, d, K) float64, for x (1, M, *event)."""
    flat, found = x[0].flatten(1), []
    step = max(1, CELLS // max(1, likelihood.raw.numel()))
    for j in range(flat.shape[1]):
        scores = []
        for part in torch.arange(levels, dtype=flat.dtype, device=flat.device).split(step):
            varied = flat.expand(len(part), *flat.shape).clone()
            varied[:, :, j] = part[:, None]
            scores.append(likelihood.repeated(len(part)).log_prob(varied.view(len(part), *x.shape[1:])))
        found.append(torch.cat(scores).double().log_softmax(0).T)
    return torch.stack(found, 1)


def _samples(likelihood: _Vectors) -> Tensor:
    """`SAMPLES` samples of each vector, (SAMPLES, M, d) float64."""
    step, parts = max(1, CELLS // max(1, likelihood.raw.numel())), []
    for first in range(0, SAMPLES, step):
        with keyed(8, torch.arange(likelihood.batch_shape[1]), first):
            parts.append(likelihood.repeated(min(step, SAMPLES - first)).sample())
    return torch.cat(parts)


def _log_prob(likelihood: _Vectors, x: Tensor) -> Tensor:
    """log p of x (S, M, *event), (S, M) float64, some at a time."""
    step = max(1, CELLS // max(1, likelihood.raw.numel()))
    return torch.cat([likelihood.repeated(len(part)).log_prob(part).double() for part in x.split(step)])


def _integral(likelihood: _Vectors, dims: int) -> Finding:
    """By the midpoint rule around each vector's samples, in one dimension or two; within the density's interval."""
    flat = _samples(likelihood).double().flatten(2)
    centre, width = flat.mean(0), flat.std(0).clamp(min=1e-6)  # (M, d)
    low, high = likelihood.interval or (-math.inf, math.inf)
    start, end = (centre - REACH * width).clamp(min=low), (centre + REACH * width).clamp(max=high)
    step = (end - start) / GRID[dims]
    line = torch.arange(GRID[dims], dtype=torch.float64, device=flat.device) + 0.5
    grid = torch.cartesian_prod(*[line] * dims).reshape(-1, 1, dims)
    for m in range(flat.shape[1]):
        points = start[m] + step[m] * grid  # (G, 1, d)
        one = likelihood.some(torch.tensor([m]))
        score = _log_prob(one, points.to(likelihood.raw.dtype).view(-1, 1, *likelihood.event_shape))
        total = float(score.exp().sum() * step[m].prod())
        if not abs(total - 1) <= 10 * OFF:
            return Finding("failed", f"the density integrates to {total:.4g} instead of 1")
    return OK


def _reference(likelihood: _Vectors, space: Space) -> Finding:
    """Against a reference r made of half of p's samples: Z = E_r[p / (p + r)] / E_p[r / (p + r)], of a few vectors.

    Both are of numbers in [0, 1], so that no rare sample decides, and where p and r do not meet their errors say so.
    Source: Meng & Wong 1996, bridge sampling.
    """
    few = torch.linspace(0, likelihood.batch_shape[1] - 1, min(FEW, likelihood.batch_shape[1])).round().long().unique()
    likelihood = likelihood.some(few)
    x = _samples(likelihood)
    shape, half = x.shape[1:], len(x) // 2
    with keyed(9, torch.arange(len(few))):
        u = uniform((half, *shape), torch.empty((), dtype=torch.float64, device=x.device)).flatten(2)
    # of several levels the last number is enumerated, so that r is of those before it
    last = None if space.levels is None or shape.numel() == shape[0] else space.levels
    kept = slice(None if last is None else -1)
    made = x[:half].double().flatten(2)
    reference = _Kernels(made[..., kept], space.levels)
    drawn = made.clone()
    drawn[..., kept] = reference.draw(u[..., kept])
    points = (x[half:], drawn.to(x.dtype).view(half, *shape))
    logits = [_marginal(likelihood, each, last) - reference(each.double().flatten(2)[..., kept]) for each in points]
    ours, theirs = torch.sigmoid(-logits[0]), torch.sigmoid(logits[1])  # (S, M)
    parts = [(each.mean(0), each.var(0) / len(each)) for each in (ours, theirs)]
    log_z = parts[1][0].log() - parts[0][0].log()
    error = sum((variance / mean.square() for mean, variance in parts), torch.zeros(())).sqrt()
    mean, spread = float(log_z.mean()), float(error.square().sum().sqrt()) / len(error)
    if not spread <= UNSURE or not math.isfinite(mean):
        return Finding("undecided", f"whether p(x|z) is proper: log of its sum is {mean:.3g} +- {spread:.2g}")
    worst = int((log_z.abs() / error).argmax())
    for value, unsure, limit in ((mean, spread, LIMIT), (float(log_z[worst]), float(error[worst]), 2 * LIMIT)):
        if abs(value) > limit * unsure + OFF:
            return Finding("failed", f"p(x|z) sums to {math.exp(value):.4g} instead of 1 (+- {100 * unsure:.2g}%)")
    return OK


def _marginal(likelihood: _Vectors, x: Tensor, last: int | None) -> Tensor:
    """log p of x (S, M, *event), (S, M) float64; with `last` levels, summed over those of the last number."""
    if last is None:
        return _log_prob(likelihood, x)
    varied, scores = x.flatten(2).clone(), []
    for k in range(last):
        varied[..., -1] = k
        scores.append(_log_prob(likelihood, varied.view(x.shape)))
    return torch.stack(scores).logsumexp(0)


@final
class _Kernels:
    """r: a normal about each of the samples `made` (S, M, d), as wide as its 10th neighbour is far; on any levels."""

    def __init__(self, made: Tensor, levels: int | None) -> None:
        self.made, self.levels = made, levels
        distance = torch.stack([torch.cdist(one, one).kthvalue(11, dim=1).values for one in made.unbind(1)], 1)
        self.width = distance.clamp(min=1e-9 if levels is None else 0.5)[..., None] / made.shape[2] ** 0.5  # (S, M, 1)

    def _masses(self, made: Tensor, width: Tensor) -> Tensor:
        """log masses of all levels about each of `made` (..., d), width (..., 1): (..., d, K)."""
        assert self.levels is not None
        level = torch.arange(self.levels, dtype=made.dtype, device=made.device)
        masses: Tensor = (-0.5 * ((level - made[..., None]) / width[..., None]).square()).log_softmax(-1)
        return masses

    def draw(self, u: Tensor) -> Tensor:
        """A draw about each sample from uniform u (S, M, d)."""
        if self.levels is None:
            moved: Tensor = self.made + self.width * torch.special.ndtri(u)
            return moved
        below = self._masses(self.made, self.width).exp().cumsum(-1)[..., :-1] < u[..., None]
        drawn: Tensor = below.sum(-1).to(u.dtype)
        return drawn

    def __call__(self, x: Tensor) -> Tensor:
        """log r of x (S', M, d), (S', M)."""
        found = []
        for m, (ours, width) in enumerate(zip(self.made.unbind(1), self.width.unbind(1), strict=True)):
            if self.levels is None:
                spread = 2 * width.log().expand_as(ours)
                parts = [log_density(part[:, None], ours, spread).logsumexp(1) for part in x[:, m].split(100)]
            else:
                masses = self._masses(ours, width)
                scores = [masses[:, j, x[:, m, j].long()] for j in range(x.shape[2])]
                parts = [torch.stack(scores).sum(0).logsumexp(0)]
            found.append(torch.cat(parts) - math.log(len(ours)))
        return torch.stack(found, 1)
