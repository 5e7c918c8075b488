"""How well a score tells out-of-distribution (OOD) examples, the positives, from a dataset's; bootstrap errors."""

from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.functional import intervals, random


class Resampled(NamedTuple):
    """A value, its bootstrap standard error, and the ends of its 95% interval."""

    value: float
    stderr: float
    low: float
    high: float


class Separation(NamedTuple):
    """The area under the ROC curve, the average precision, and the false positive rate at a recall of 95%."""

    auroc: Resampled
    auprc: Resampled
    fpr95: Resampled


def measures(score: Tensor, positive: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """AUROC, average precision and FPR at a recall of 0.95, each (R,) float64, for each row of `weight` (R, N).

    Examples are called positive from the highest `score` (N,) down, those that tie together; `positive` (N,) says
    which are, `weight` counts how often each occurs (whole numbers, some of each kind in every row).
    AUROC = P(s+ > s-) + P(s+ = s-) / 2, by the trapezoid rule; average precision = sum_t (R_t - R_{t-1}) P_t over the
    thresholds t, R recall and P precision; FPR at the highest threshold whose recall is at least 0.95.
    Source: Fawcett 2006 (An introduction to ROC analysis); Davis & Goadrich 2006 against interpolating precision.
    """
    order = score.argsort(descending=True)
    ranked, truth, count = score[order], positive[order], weight.double()[:, order]
    last = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool)])  # of those that tie
    true = (count * truth).cumsum(1)[:, last]
    false = (count * ~truth).cumsum(1)[:, last]
    zero = torch.zeros_like(true[:, :1])
    gain, fall = true.diff(dim=1, prepend=zero), false.diff(dim=1, prepend=zero)
    area = (fall * (true - gain / 2)).sum(1) / (true[:, -1] * false[:, -1])  # exact: sums of halves of whole numbers
    precision = (gain * true / (true + false).clamp(min=1)).sum(1) / true[:, -1]
    reached = (20 * true >= 19 * true[:, -1:]).int().argmax(1, keepdim=True)  # the first at 0.95
    return area, precision, false.gather(1, reached)[:, 0] / false[:, -1]


def resamples(size: int, count: int, seed: int) -> Tensor:
    """How often each of `size` examples is in each of `count` samples of `size` with replacement: (count, size)."""
    drawn = (random.uniform(random.keys(seed, torch.arange(count)), (size,)) * size).long()
    return torch.zeros(count, size, dtype=torch.float64).scatter_add_(1, drawn, torch.ones_like(drawn).double())


def separation(inside: Tensor, ood: Tensor, count: int, seed: int) -> Separation:
    """`measures` of the scores of a dataset's examples (N,) and of OOD ones (M,), higher meaning OOD.

    Errors are over `count` bootstrap samples of both sets, each drawn for itself: they say how far other images would
    move a value, not how far other noise would, and are 0 where the sets are perfectly apart. Intervals are never of no
    width: AUROC's is `intervals.newcombe`, the others' `intervals.resampled` over the OOD examples (average
    precision) and over the dataset's (FPR). Raises ValueError for a score that is NaN or infinite.
    Source: Efron & Tibshirani 1993, chapter 6; Boyd, Eng & Page 2013 for counting positives.
    """
    score = torch.cat([inside, ood]).double()
    if sick := int((~torch.isfinite(score)).sum()):
        raise ValueError(f"{sick} of {len(score)} examples have no finite score")
    positive = torch.arange(len(score)) >= len(inside)
    drawn = [resamples(len(part), count, random.derive(seed, i)) for i, part in enumerate((inside, ood))]
    weight = torch.cat([torch.ones(1, len(score), dtype=torch.float64), torch.cat(drawn, 1)])
    area, precision, rate = ((float(each[0]), float(each[1:].std())) for each in measures(score, positive, weight))
    return Separation(
        Resampled(*area, *intervals.newcombe(area[0], len(ood), len(inside))),
        Resampled(*precision, *intervals.resampled(*precision, len(ood))),
        Resampled(*rate, *intervals.resampled(*rate, len(inside))),
    )
