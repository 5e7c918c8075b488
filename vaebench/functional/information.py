"""How much latents know of the data they were inferred from."""

import math

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
