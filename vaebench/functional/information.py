"""How much latents know of the data they were inferred from."""

import math

import torch
from torch import Tensor


def mutual_information(log_aggregate: Tensor, log_variance: Tensor) -> Tensor:
    """Per-draw terms of I_q(x; z) = E[log q(z|x)] - E[log q(z)], (M,) float64 nats.

    `log_aggregate` (M,) is log q(z) of draws z ~ q(z|x), and `log_variance` (M, L) that of the q(z|x) which each was
    drawn from, whose expected log density is exact: -(1/2) sum_l (1 + log 2 pi + log variance_l). With q(z) over N
    examples the mean is at most about log N. Source: Hoffman & Johnson 2016; He et al. 2019.
    """
    conditional = -0.5 * (1 + math.log(2 * math.pi) + log_variance.double()).sum(1)
    return conditional - log_aggregate


def active_units(mean: Tensor, limit: float = 0.01) -> int:
    """How many dimensions have Var_x(E_q[z_l]) > `limit`, the unbiased variance over mean (N, L).

    Source: Burda et al. 2016, section 5.1; He et al. 2019 take the whole test set.
    """
    return int((mean.double().var(0) > limit).sum())


def active_units_stderr(mean: Tensor, limit: float = 0.01) -> float:
    """The standard error of `active_units` over random examples, of which mean (N, L) are N, at least two.

    Dimension l is active with probability p_l = Phi((v_l - limit) / s_l), v_l its variance and s_l the standard error
    of that, ((m_4 - v_l^2) / N)^(1/2) with m_4 the fourth central moment; the error is (sum_l p_l (1 - p_l))^(1/2).
    """
    centred = (mean.double() - mean.double().mean(0)) ** 2
    variance = centred.mean(0)
    stderr = (((centred**2).mean(0) - variance**2) / len(mean)).clamp_min(0).sqrt()
    p = torch.special.ndtr(torch.nan_to_num((variance - limit) / stderr, nan=0.0))
    return float((p * (1 - p)).sum().sqrt())
