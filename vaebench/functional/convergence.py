"""Whether an importance-weighted bound has converged. No torch."""

LEAST_DRAWS = 10.0


def bound_loose(nll: float, nll_tenth: float, ess: float, samples: int) -> bool:
    """Whether the bound -L_K (`nll`, nats) of K = `samples` draws would still fall with K, whatever the images.

    ESS < max(10, K / 100), or -L_(K/10) + L_K > max(0.1 nat, 0.1% of the NLL): `nll_tenth` is the bound of a tenth of
    the draws and `ess` their effective number, both means over images.
    """
    return ess < max(LEAST_DRAWS, samples / 100) or nll_tenth - nll > max(0.1, 0.001 * abs(nll))
