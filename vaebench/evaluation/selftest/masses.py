"""Known answers of the likelihoods: every mass of few levels by differences of a sigmoid, their sums, and samples."""

import dataclasses
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from vaebench.core.data import Batch, Space, Split
from vaebench.core.readings import Dequantised
from vaebench.distributions.likelihoods import LIKELIHOODS, DiscretisedLogisticMixture, Likelihood
from vaebench.distributions.noise import keyed
from vaebench.distributions.points import PointMixture
from vaebench.evaluation.selftest.answer import Answer, average, dataset, equal, measured, rounding, worst
from vaebench.metrics.likelihood import Likelihood as LikelihoodMetric
from vaebench.metrics.shared.bounds import score
from vaebench.models.adapters.flat import Flat, Options

FLOOR = -7.0  # the least log-scale of a logistic and of a Gaussian


def _sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a)) if a >= 0 else math.exp(a) / (1 + math.exp(a))


def _bin(x: float, mean: float, log_scale: float, levels: int, upper: float = 0.999) -> float:
    """The mass of the bin about x in [-1, 1]: the lowest has the lower tail, each above `upper` the upper one."""
    half, scale = 1 / (levels - 1), math.exp(max(log_scale, FLOOR))
    high = 1.0 if x > upper else _sigmoid((x + half - mean) / scale)
    return high - (0.0 if x < -0.999 else _sigmoid((x - half - mean) / scale))


def _mixture(x: tuple[float, ...], raw: list[float], levels: int, upper: float) -> float:
    """The mass of one pixel under ten components, `raw` as `DiscretisedLogisticMixture` has it."""
    top, total, colours = max(raw[:10]), 0.0, len(x)
    each = [math.exp(logit - top) for logit in raw[:10]]
    per = 30 if colours == 3 else 20
    for k, weight in enumerate(each):
        mean, log_scale = ([raw[10 + per * c + 10 * part + k] for c in range(colours)] for part in (0, 1))
        if colours == 3:
            first, second, third = (math.tanh(raw[10 + per * c + 20 + k]) for c in range(3))
            mean = [mean[0], mean[1] + first * x[0], mean[2] + second * x[0] + third * x[1]]
        parts = zip(x, mean, log_scale, strict=True)
        total += weight / sum(each) * math.prod(_bin(at, m, s, levels, upper) for at, m, s in parts)
    return total


def _cases() -> Iterator[tuple[str, str, int, int, list[float], float]]:
    """A label, a family, the levels, the colours, its raw numbers for one pixel, and where the upper tail begins."""
    normal = torch.randn(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    yield "bernoulli", "bernoulli", 2, 1, [0.7], 0.999
    yield "categorical, 17 levels", "categorical", 17, 1, normal[:17].tolist(), 0.999
    for levels in (2, 32, 256):
        yield f"discretised-logistic, {levels} levels", "discretised-logistic", levels, 1, [0.3, -1.5], 0.999
        yield f"discretised-logistic, {levels} levels, wide", "discretised-logistic", levels, 1, [-0.9, 0.5], 0.999
    yield "discretised-logistic, narrowest", "discretised-logistic", 256, 1, [0.0005, -9.0], 0.999
    mixed = (normal - 1).tolist()
    narrow = [*mixed[:20], *[-9.0] * 10]
    family = "discretised-logistic-mixture"
    yield "mixture, 256 levels", family, 256, 1, mixed[:30], 0.999
    yield "mixture, narrowest", family, 256, 1, narrow, 0.999
    yield "mixture, release's tail", family, 256, 1, [0.5 + a for a in mixed[:30]], 0.99
    yield "mixture, 5 levels of 3 colours", family, 5, 3, mixed, 0.999


def _made(family: str, raw: Tensor, shape: tuple[int, ...], levels: int, upper: float) -> Likelihood:
    if upper == 0.99:
        return DiscretisedLogisticMixture(raw, shape, levels, "nvae")
    return LIKELIHOODS[family](raw, shape, levels)


def _exact(family: str, x: tuple[int, ...], raw: list[float], levels: int, upper: float) -> float:
    centred = tuple(2 * level / (levels - 1) - 1 for level in x)
    if family == "bernoulli":
        return _sigmoid(raw[0] if x[0] else -raw[0])
    if family == "categorical":
        return math.exp(raw[x[0]]) / math.fsum(map(math.exp, raw))
    if family == "discretised-logistic":
        return _bin(centred[0], raw[0], raw[1], levels)
    return _mixture(centred, raw, levels, upper)


@torch.no_grad()
def masses(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """The masses of one pixel: each, their sum, and the mean level of 20,000 samples."""
    for label, family, levels, colours, raw, upper in _cases():
        every = list(itertools.product(range(levels), repeat=colours))
        exact = torch.tensor([_exact(family, x, raw, levels, upper) for x in every], dtype=torch.float64)
        x = torch.tensor(every, device=device).to(torch.uint8)[:, :, None, None]
        parameters = torch.tensor(raw, device=device, dtype=dtype)[None, None, :, None, None]
        shape = (colours, 1, 1)
        found = _made(family, parameters.expand(1, len(x), -1, 1, 1), shape, levels, upper).log_prob(x)[0]
        seen = exact > 1e-5  # below, the sigmoids' difference cancels
        yield worst(f"log masses, {label}", exact[seen].log(), found[seen.to(device)], torch.float32, 20)
        top = float(exact[-1]) if upper == 0.99 else 0.0  # which the release counts twice
        yield equal(f"sum of masses, {label}", 1.0 + top, found.double().exp().sum(), torch.float32)
        if upper == 0.999:
            with keyed(0, torch.arange(1, device=device)):
                drawn = _made(family, parameters.expand(20_000, -1, -1, -1, -1), shape, levels, upper).sample()
            for c in range(colours):
                mean = float((exact * torch.tensor(every, dtype=torch.float64)[:, c]).sum())
                yield average(f"samples, {label}, colour {c}", mean, drawn[:, 0, c, 0, 0], rounding(dtype, mean))


def _cut_exponential(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """The continuous Bernoulli: log densities by its normaliser in the paper's form, and the mean of 20,000 samples."""
    for chance in (0.01, 0.45, 0.6, 0.9):
        odds = 1 - 2 * chance
        log_c = math.log(2 * math.atanh(odds) / odds)
        logit = torch.tensor([[[math.log(chance / (1 - chance))]]], dtype=torch.float64)
        for x in (0.0, 0.3, 1.0):
            exact = x * math.log(chance) + (1 - x) * math.log(1 - chance) + log_c
            found = LIKELIHOODS["continuous-bernoulli"](logit, (1,), None).log_prob(torch.tensor([[x]]).double())
            yield equal(f"log density, continuous Bernoulli {chance} at {x}", exact, found, torch.float32)
        with keyed(0, torch.arange(1, device=device)):
            many = logit.to(device=device, dtype=dtype).expand(20_000, -1, -1)
            drawn = LIKELIHOODS["continuous-bernoulli"](many, (1,), None).sample()
        mean = -chance / odds + 1 / (2 * math.atanh(odds))
        yield average(f"samples, continuous Bernoulli {chance}", mean, drawn[:, 0, 0], rounding(dtype, mean))


def densities(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Log densities: Gaussian of a given scale, of one below the least, of the fixed one; on [0, 1]; of a cloud."""
    yield from _cut_exponential(device, dtype)
    for family, raw, scale in (
        ("gaussian", [0.5, -1.0], math.exp(-1.0)),
        ("gaussian", [0.5, -9.0], math.exp(FLOOR)),
        ("fixed-gaussian", [0.5], 0.1),
    ):
        x = 0.5 + 1.5 * scale
        made = LIKELIHOODS[family](torch.tensor(raw, dtype=torch.float64)[None, None], (1,), None)
        exact = -0.5 * 1.5**2 - math.log(scale) - 0.5 * math.log(2 * math.pi)
        found = made.log_prob(torch.tensor([[x]], dtype=torch.float64))
        yield equal(f"log density, {family}, scale {scale:.3g}", exact, found, torch.float32)
    flat = torch.zeros(1, 1, 14, dtype=torch.float64)  # two equal components, whose log scale lies midway
    flat[..., 8:] = 1.0
    points = torch.tensor([[[0.1, 0.0, 0.2], [0.0, -0.3, 0.0]]], dtype=torch.float64)
    square = 0.01 * 2.0
    exact = -0.5 * (0.01 + 0.04 + 0.09) / square - 3 * math.log(2 * math.pi * square)
    yield equal(
        "log density, point mixture of equal components", exact, PointMixture(flat, (2, 3), None).log_prob(points)
    )


@torch.no_grad()
def bits(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """A model that ignores z: NLL and bits/dim are its likelihood's alone, and the rate is 0."""
    space, raw = Space((2, 1, 3), 2, "pmf"), torch.tensor([-1.5, -0.5, 0.0, 0.5, 1.0, 2.0])
    with torch.random.fork_rng(devices=[]):
        model = Flat(space, Options(2, (4,), "bernoulli"))
    for parameter in model.parameters():
        parameter.zero_()
    list(model.decoder.parameters())[-1].copy_(raw)  # the bias of its output
    x = (torch.arange(64)[:, None] >> torch.arange(6)) & 1  # every image
    nll = [
        -sum(math.log(_sigmoid(a if b else -a)) for a, b in zip(raw.tolist(), one, strict=True)) for one in x.tolist()
    ]
    exact = math.fsum(nll) / 64
    split = Split("test", x.to(torch.uint8).reshape(-1, *space.shape))
    found = measured(LikelihoodMetric(samples=3), model, dataset("coins", model, test=split), device, dtype)
    for name, value in {
        "nll": exact,
        "bpd": exact / (6 * math.log(2)),
        "elbo": -exact,
        "rate": 0.0,
        "ess": 3.0,
    }.items():
        yield equal(f"likelihood {name}, every image of six coins", value, found[name].value, torch.float32)
    batch = Batch(split.x.to(device), None, torch.arange(64, device=device))
    each = score(batch, 0, model=model.to(device=device, dtype=dtype), samples=20, rows=640)
    yield worst("likelihood nll_tenth, each image of six coins", torch.tensor(nll), each["nll_tenth"], torch.float32)
    real = Flat(Space((2, 1, 3), None, "density", (0.0, 1.0)), Options(2, (4,), "continuous-bernoulli"))
    for parameter in real.parameters():
        parameter.zero_()  # the uniform density on [0, 1], of which a level's bits are those of guessing
    noisy = dataclasses.replace(split, reading=Dequantised(2))
    found = measured(LikelihoodMetric(samples=3), real, dataset("coins", real, test=noisy), device, dtype)
    yield equal("bits/dim of the uniform density, two levels dequantised", 1.0, found["bpd"].value, torch.float32)
