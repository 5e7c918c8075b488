"""Known answers about scores of examples: how well they separate two sets, Likelihood Regret, TracIn, proportions."""

from collections.abc import Iterator
from functools import partial

import torch

from vaebench.core.data import Batch
from vaebench.evaluation.selftest.answer import Answer, average, equal, rounding, worst
from vaebench.functional.influence import checkpoint_weight, detection_area, squared_correlation
from vaebench.functional.intervals import wilson
from vaebench.functional.separation import measures, separation
from vaebench.functional.statistics import mean_stderr, wilson_stderr
from vaebench.metrics.regret import Regret, regrets
from vaebench.metrics.tracin import example_gradients
from vaebench.models.oracles import LinearGaussian, oracles


def detection(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Areas, precision and FPR95 by counting pairs, ties among them; poles of a cleaning curve."""
    inside, ood = torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([2.0, 3.0, 3.0, 4.0])
    tied = separation(inside, ood, 20, 0)
    exact = {"auroc": 13 / 16, "auprc": 1 / 4 + 3 / 4 / 2 + 4 / 7 / 4, "fpr95": 3 / 4}
    for name, value in exact.items():
        yield equal(f"regret {name}, ties", value, getattr(tied, name).value)
    apart = separation(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0, 5.0]), 20, 0)
    for name, value in {"auroc": 1.0, "auprc": 1.0, "fpr95": 0.0}.items():
        yield equal(f"regret {name}, apart", value, getattr(apart, name).value)
    score = torch.cat([torch.zeros(10), torch.full((10,), 1.5), torch.arange(1.0, 21.0)])  # 19 of 20 lie above 1.5
    found = measures(score, torch.arange(40) >= 20, torch.ones(1, 40))
    yield equal("regret fpr95, at a recall of exactly 0.95", 0.0, found[2][0])
    weight = torch.tensor([[2.0, 0.0, 1.0, 1.0]])
    yield equal("regret auroc, weighted", 2 / 3, measures(torch.tensor([1.0, 5.0, 3.0, 2.0]),
                torch.tensor([False, False, False, True]), weight)[0][0])  # fmt: skip
    spread = separation(torch.arange(200.0), torch.arange(200.0) + 50, 400, 0).auroc
    below = ((torch.arange(200.0) + 50)[:, None] > torch.arange(200.0)[None]).double()
    delong = (below.mean(1).var() / 200 + below.mean(0).var() / 200) ** 0.5  # DeLong, but for 150 ties of 40,000
    yield Answer("regret auroc, its standard error", float(delong), spread.stderr, 0.0, 0.15 * float(delong))
    flags = torch.arange(100) < 10
    yield equal("tracin cleaning_auc, best", 1 - 9 / 200, detection_area(-torch.arange(100.0), flags)[0])
    yield equal("tracin cleaning_auc, worst", 11 / 200, detection_area(torch.arange(100.0), flags)[0])
    yield equal("tracin cleaning_auc, all tied", 0.5 + 1 / 200, detection_area(torch.zeros(100), flags)[0])


def proportions(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Wilson intervals as published to four places (Newcombe 1998, table I, method 3); means and their errors."""
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (count, n), ends in published.items():
        for name, exact, found in zip(("low", "high"), ends, wilson(count / n, n), strict=True):
            yield Answer(f"Wilson interval, {count} of {n}, {name}", exact, found, 0.0, 6e-5)
    yield Answer("Wilson standard error, 0 of 20", 0.1611 / 3.92, wilson_stderr(0.0, 20), 0.0, 3e-5)
    mean, stderr = mean_stderr(torch.tensor([1.0, 2.0, 6.0]))
    assert stderr is not None
    yield equal("mean of 1, 2, 6", 3.0, mean)
    yield equal("standard error of the mean of 1, 2, 6", (7 / 3) ** 0.5, stderr)


def regret(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """At one draw an example's NLL is -ELBO on average before tuning, and -log p(x) where q has become exact."""
    oracle = next(o for o in oracles(count=200, slack=0.5) if o.name == "flat")
    model, x = oracle.model.to(device=device, dtype=dtype), oracle.dataset.split("test").x
    batch = Batch(x.to(device=device, dtype=dtype), None, torch.arange(len(x), device=device))
    run = partial(regrets, batch, 0, model=model, own=0, rows=4096)
    with torch.no_grad():
        found = run(metric=Regret(samples=1, steps=600, learning_rate=0.005, weight_decay=0.0))
        still = run(metric=Regret(samples=1, steps=0))
    gap = -oracle.exact["elbo"] - oracle.exact["nll"]
    yield average("regret, NLL before tuning", -oracle.exact["elbo"], found["before"], rounding(dtype, 10))
    yield average("regret, NLL after tuning", oracle.exact["nll"], found["after"], 0.15)
    yield average("regret, before less after", gap, found["before"] - found["after"], 0.15)
    yield worst("regret, nothing tuned, each example", still["before"], still["after"], torch.float32, 10)


def tracin(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Products of two examples' gradients of the flat oracle's negative ELBO, each from draws of its own."""
    model, x = (oracle := oracles()[0]).model, oracle.dataset.split("test").x
    assert isinstance(model, LinearGaussian)
    rows = []
    for one in x.split(1):
        parts = torch.autograd.grad(-model.exact(one)["elbo"].sum(), list(model.parameters()))
        rows.append(torch.cat([part.flatten() for part in parts]).double())
    exact = (torch.stack(rows[::2]) * torch.stack(rows[1::2])).sum(1)
    model = model.to(device=device, dtype=dtype)
    example = torch.arange(len(x), device=device)
    found = example_gradients(model, x.to(device=device, dtype=dtype), example, 0, 256, 1.0).double().cpu()
    products = (found[::2] * found[1::2]).sum(1)
    label = "tracin product of gradients, flat oracle, 256 draws"
    yield average(label, exact, products, rounding(dtype, float(exact.mean())))
    yield equal("tracin weight, 500 steps of 64 of 16,000 at 0.001", 0.002, checkpoint_weight(1e-3, 500, 64, 16_000))
    x, y = torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0, 1.0, 3.0])
    yield equal("tracin self_influence_r2, four points", 0.64, squared_correlation(x, y)[0])
