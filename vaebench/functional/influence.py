"""TracIn: how far a step on one training example lowers the loss of another, from per-example gradients.

Source: Pruthi et al. 2020 (arXiv 2002.08484); Kong & Chaudhuri 2021 (VAE-TracIn, arXiv 2105.14203).
"""

from collections.abc import Callable, Mapping

import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.func import grad, vmap

from vaebench.functional import random

Loss = Callable[..., Tensor]
"""The scalar loss of one example, from the parameters by name and that example's slice of each input."""


def gradients(loss: Loss, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
    """Each example's gradient of `loss` in all `parameters`, (B, P): flattened and joined in their order.

    `inputs` are (B, ...) each. The examples go through one vectorised pass; `loss` sees one of them, without the
    batch axis, and may not depend on the others. Holds about 2 B P numbers beside the activations.
    """
    each = vmap(grad(loss), in_dims=(None, *(0 for _ in inputs)))(dict(parameters), *inputs)
    return torch.cat([each[name].reshape(len(inputs[0]), -1) for name in parameters], dim=1)


def sketch(vectors: Tensor, size: int, seed: int) -> Tensor:
    """A random linear map of `vectors` (B, P) to (B, size) that keeps inner products in expectation.

    y_j = sum of s_i x_i over the i with h(i) = j, signs s_i = +-1 and cells h(i) independent and uniform, from `seed`
    alone. E <Sa, Sb> = <a, b> over seeds, with variance (|a|^2 |b|^2 + <a, b>^2 - 2 sum_i a_i^2 b_i^2) / size.
    Source: Charikar, Chen & Farach-Colton 2002; Weinberger et al. 2009, lemma 2.
    """
    key = random.keys(seed, torch.arange(vectors.shape[1], device=vectors.device))
    sign, cell = (key & 1) * 2 - 1, ((key >> 1) & ((1 << 63) - 1)) % size
    return vectors.new_zeros(len(vectors), size).index_add_(1, cell, vectors * sign.to(vectors.dtype))


def checkpoint_weight(rate: float, steps: int, batch: int, examples: int) -> float:
    """eta_c of the sum over checkpoints: `rate` * `steps` * `batch` / `examples`.

    That is the rate times how often each of the `examples` was seen in the `steps` of `batch` since the checkpoint
    before, as VAE-TracIn's release has it.
    """
    return rate * steps * batch / examples


def detection_area(score: Tensor, ood: Tensor) -> tuple[float, float | None]:
    """The area under the cleaning curve, and its standard error (None where there is one example of a kind).

    Examples are inspected from the highest `score` (N,) down; the curve is the part of the `ood` (N,) bool found among
    the first i; the area is its mean over i = 1..N, ties at their expectation. With F of them at mean rank R it
    is 1 - (R - 1) / N: 1 - (F - 1) / (2 N) at best, 1/2 + 1 / (2 N) on average for a random order.
    As R - 1 = (1 - A) (N - F) + (F - 1) / 2 with A the area under the ROC curve, its error is (N - F) / N times A's.
    Raises ValueError if none or all of the examples are out-of-distribution (OOD).
    Source: Kong & Chaudhuri 2021, section 4.4; DeLong, DeLong & Clarke-Pearson 1988 for the error of A.
    """
    bad, good = score[ood].double(), score[~ood].double()
    if not len(bad) or not len(good):
        raise ValueError(f"{len(bad)} OOD examples among {len(score)}: there is no cleaning curve")
    rank = torch.from_numpy(rankdata(-score.double().numpy()))  # from 1, the highest score; ties at their mean
    total = len(score)
    area = 1 - (float(rank[ood].mean()) - 1) / total
    if len(bad) == 1 or len(good) == 1:
        return area, None
    # the part of the others below each OOD example, and of the OOD ones above each other example
    below = 1 - (rank[ood] - torch.from_numpy(rankdata(-bad.numpy()))) / len(good)
    above = (rank[~ood] - torch.from_numpy(rankdata(-good.numpy()))) / len(bad)
    variance = float(below.var()) / len(bad) + float(above.var()) / len(good)
    return area, len(good) / total * variance**0.5


def detection_curve(score: Tensor, ood: Tensor, points: int = 100) -> tuple[list[float], list[float]]:
    """The part inspected (0, 1/`points`, ..., 1) and the part of `ood` found in it, ties in the order given."""
    found = ood[score.argsort(descending=True, stable=True)].double().cumsum(0) / int(ood.sum())
    inspected = [i / points for i in range(points + 1)]
    counts = [round(x * len(score)) for x in inspected]
    return inspected, [float(found[count - 1]) if count else 0.0 for count in counts]


def top_agreement(influence: Tensor, labels: Tensor, wanted: Tensor, top: int) -> Tensor:
    """The part of the `top` rows of greatest `influence` (N, Q) whose label (N,) is the `wanted` (Q,): (Q,) float64.

    Gives the agreement of proponents; that of opponents with `-influence`.
    """
    best = influence.topk(top, dim=0).indices  # (top, Q)
    return (labels[best] == wanted).double().mean(0)


def squared_correlation(x: Tensor, y: Tensor) -> tuple[float, float]:
    """R^2 of the least-squares line between `x` and `y` (N,), N >= 4, and its jackknife standard error.

    Raises ValueError if either is constant. Source: Efron & Stein 1981 for the jackknife.
    """
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    size = len(x)
    if float(x.abs().max()) == 0 or float(y.abs().max()) == 0:
        raise ValueError("no R^2 with a constant")

    def squared(n: int, a: Tensor, b: Tensor, aa: Tensor, bb: Tensor, ab: Tensor) -> Tensor:
        return (ab - a * b / n).square() / ((aa - a.square() / n) * (bb - b.square() / n))

    sums = [values.sum() for values in (x, y, x * x, y * y, x * y)]
    without = [total - values for total, values in zip(sums, (x, y, x * x, y * y, x * y), strict=True)]
    left_out = squared(size - 1, *without)
    stderr = ((size - 1) * left_out.var(unbiased=False)).sqrt()
    return float(squared(size, *sums)), float(stderr)
