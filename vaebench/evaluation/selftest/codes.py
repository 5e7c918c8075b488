"""Known answers about embeddings: what a probe reads off them, what a transform moves, poles of disentanglement."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from scipy import stats
from torch import Tensor

from vaebench.core.augmentation import transformed, transforms
from vaebench.core.data import Batch, GroundTruth, Space, Split
from vaebench.distributions.noise import keyed
from vaebench.evaluation.selftest.answer import Answer, column, dataset, equal, measured, worst
from vaebench.functional.disentanglement import (
    entropies,
    histogram_bins,
    information_gap,
    modularity,
    mutual_information,
)
from vaebench.functional.factor_prediction import concentration, sap
from vaebench.functional.probe import LinearProbe, logistic_probe, nearest_neighbours, stratified
from vaebench.metrics.consistency import SETS, compare
from vaebench.metrics.disentanglement import Disentanglement
from vaebench.metrics.probe import Probe, accuracy
from vaebench.models.adapters.flat import Flat, Options
from vaebench.models.oracles import LinearGaussian


def probe(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Two classes d apart are told apart Phi(d / 2) of the time; a fitted weight; votes of neighbours by hand."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(4000) % 2
    x = torch.randn(4000, 2, generator=generator) + torch.outer(y - 0.5, torch.tensor([1.2, 1.6]))  # d = 2
    model = LinearGaussian(torch.tensor([[0.6], [0.8]]), torch.zeros(2), 0.0)
    splits = {"train": Split("train", x[:1500], y[:1500]), "test": Split("test", x[1500:], y[1500:])}
    found = measured(Probe(), model, dataset("classes", model, **splits), device, dtype)
    yield column("probe, two classes of Gaussians", float(stats.norm.cdf(1)), found["probe_all"], 0.005)
    fitted = logistic_probe(torch.tensor([[2.0], [8.0]] * 5), torch.tensor([0, 1] * 5), 0.3)
    low, high = 0.0, 10.0
    for _ in range(60):  # w = C N / (1 + e^w): where the slope of the penalised loss is 0
        middle = (low + high) / 2
        low, high = (middle, high) if middle < 3 / (1 + math.exp(middle)) else (low, middle)
    yield Answer("probe, weight at C = 0.3", low, float(fitted.weight[1] - fitted.weight[0]), 0.0, 1e-3)
    yield equal("probe, the middle of what it was fitted on", 5.0, fitted.centre[0])
    line, label = torch.arange(5.0)[:, None], torch.tensor([0, 1, 0, 1, 1])
    votes = nearest_neighbours(line, label, torch.tensor([[0.9], [2.1], [3.4]]), 3)
    yield worst("knn, votes of three", torch.tensor([0, 1, 1]), votes)
    share = label.repeat_interleave(20)[stratified(label.repeat_interleave(20), 50, 0)]
    yield equal("probe, second class in a stratified half", 30, share.sum())
    read = accuracy("probe", torch.tensor([[True] * 10, [True] * 5 + [False] * 5]))
    yield equal("probe, accuracy of two trainings", 0.75, read.value)
    z = 1.96
    half = (0.75 * 0.25 / 10 + z**2 / 400) ** 0.5 / (1 + z**2 / 10)
    yield equal("probe, its standard error", (half**2 + 0.125 / 2) ** 0.5, read.stderr or 0.0)


@torch.no_grad()
def consistency(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """KL(q(z|t(x)) || q(z|x)) term by term where q's variance depends on x; labels that a threshold keeps."""
    space = Space((1, 8, 8), 17, "pmf")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = Flat(space, Options(3, (16,), "categorical")).to(device=device, dtype=dtype).eval()
    for layer in model.encoder.parameters():
        layer.mul_(3)
    x = torch.randint(0, 17, (20, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8).to(device)
    batch = Batch(x, None, torch.arange(20, device=device))
    still = model.posterior(x)
    middle = still.mean.double().median(0).values
    flat = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    judge = LinearProbe(middle.cpu(), torch.ones(3), flat, torch.zeros(2), torch.tensor([0, 1]))
    found = compare(batch, 5, model=model, probes=(judge,))
    with keyed(5, batch.example):
        stored, kinds = Split("all", x), transforms(space)
        others = {name: transformed(stored, space, kind) for name, kind in zip(SETS, kinds, strict=True)}
    for name, other in others.items():
        moved = model.posterior(other)
        (m, v), (n, w) = ((q.mean.double(), q.log_variance.double().exp()) for q in (moved, still))
        exact = 0.5 * ((w / v).log() + (v + (m - n).square()) / w - 1).sum(1)
        yield worst(f"consistency_{name}, unequal variances", exact, found[f"consistency_{name}"], torch.float32)
        same = ((m > middle) == (n > middle))[:, 0]
        yield worst(f"agreement_{name}", same, found[f"agreement_{name}"][:, 0])


SIZES = (4, 3, 10)


def _render(factors: Tensor) -> Tensor:
    return 4.0 * (factors - (torch.tensor(SIZES) - 1) / 2)


def _cast(factors: Tensor, *, render: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Tensor:
    return render(factors).to(dtype)


def _nothing(factors: Tensor) -> Tensor:
    return torch.zeros(len(factors), len(SIZES))


def disentanglement(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Every factor is a code: 1. No code knows a factor: 0, or chance. Between them, tables by hand.

    About a centre only the factor of ten values varies, so that two codes of three know nothing: modularity 1/3.
    """
    metric = Disentanglement(
        points=2000, test_points=300, mixture=600, draws=600, dci_points=200, dci_repeats=2, trees=5, votes=100,
        test_votes=60, vote_size=16, centres=3, local_points=200,
    )  # fmt: skip
    model = LinearGaussian(torch.eye(3), torch.zeros(3), 0.0)
    for name, render in (("perfect", _render), ("dead", _nothing)):
        split = Split("test", render(torch.zeros(2, 3)).to(dtype))
        truth = GroundTruth(("a", "b", "c"), SIZES, partial(_cast, render=render, dtype=dtype))
        data = replace(dataset(name, model, test=split), ground_truth=truth)
        found = measured(metric, model, data, device, dtype)
        one = 1.0 if name == "perfect" else 0.0
        for key in (
            "mig_dlib",
            "modularity",
            "factor_vae_score",
            "dci_disentanglement",
            "dci_completeness",
            "local_mig",
        ):
            yield column(f"disentanglement {key}, {name} codes", one, found[key], 0.03)
        yield column(f"disentanglement explicitness, {name} codes", (1 + one) / 2, found["explicitness"], 0.01)
        yield column(f"disentanglement local_modularity, {name} codes", one / 3, found["local_modularity"], 0.001)
        if one:
            yield column("disentanglement mig_chen, perfect codes", 1.0, found["mig_chen"], 0.03)
            yield column("disentanglement beta_vae_score, perfect codes", 1.0, found["beta_vae_score"], 0.03)
        else:
            yield column("disentanglement sap, dead codes", 0.0, found["sap"], 0.0)
    grid = torch.cartesian_prod(*(torch.arange(size) for size in SIZES))
    codes = torch.stack([grid[:, 0], grid[:, 0] * 3 + grid[:, 1], grid[:, 2]], 1)  # the second knows two factors
    told = mutual_information(histogram_bins(codes.double(), 20), grid)
    logs = [math.log(size) for size in SIZES]
    exact = torch.tensor([[logs[0], 0, 0], [logs[0], logs[1], 0], [0, 0, logs[2]]])
    yield worst("disentanglement, information of codes", exact, told, torch.float32)
    yield worst("disentanglement, entropies of factors", torch.tensor(logs), entropies(grid), torch.float32)
    yield equal("disentanglement mig_dlib, a factor in two codes", 2 / 3, information_gap(told, entropies(grid)))
    second = 1 - (logs[1] / logs[0]) ** 2 / 2
    yield equal("disentanglement modularity, two factors in a code", (2 + second) / 3, modularity(told), torch.float32)
    table = torch.tensor([[0.5, 0.5], [0.0, 1.0]], dtype=torch.float64)
    yield equal("disentanglement dci, a code of two factors", 0.5, concentration(table))
    both = 0.25 + 0.75 * (1 + (math.log(1 / 3) / 3 + 2 * math.log(2 / 3) / 3) / math.log(2))
    yield equal("disentanglement dci, a factor in two codes", both, concentration(table.T))
    yield equal(
        "disentanglement sap, by hand", (0.5 + 0.25) / 2, sap(torch.tensor([[0.9, 0.2], [0.4, 0.7], [0.1, 0.45]]))
    )
