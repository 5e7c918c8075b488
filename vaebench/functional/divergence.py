"""Divergences between two Gaussians with diagonal covariance."""

from torch import Tensor

from vaebench.functional.gaussian import standardised


def kl_gaussian(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor, dims: int = 1
) -> Tensor:
    """KL(N(mean, diag exp(log_variance)) || N(other_mean, diag exp(other_log_variance))) in nats.

    0.5 sum_l [log v'_l - log v_l + (v_l + (m_l - m'_l)^2) / v'_l - 1] over the last `dims` dimensions.
    Shapes broadcast.
    """
    gap = log_variance - other_log_variance
    square = standardised(mean - other_mean, other_log_variance).square()
    return (0.5 * (gap.expm1() - gap + square)).flatten(-dims).sum(-1)
