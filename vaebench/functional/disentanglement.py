"""How much of each factor each code knows: mutual information, its gap (MIG), modularity.

Codes (N, L) are what a model makes of N examples; factors (N, F) int64 are what these were rendered from. Nats.
"""

import numpy as np
import torch
from torch import Tensor

from vaebench.functional.aggregate import MixtureDraws, log_marginal_densities, marginals


def histogram_bins(codes: Tensor, bins: int) -> Tensor:
    """Which of `bins` equal parts of its code's range each value lies in, (N, L) int64, 0..bins-1.

    The highest value belongs to the last part. Source: disentanglement_lib's histogram discretiser.
    """
    found = np.empty(codes.shape, np.int64)
    for i, code in enumerate(codes.double().numpy().T):
        found[:, i] = np.digitize(code, np.histogram_bin_edges(code, bins)[:-1]) - 1
    return torch.from_numpy(found)


def mutual_information(codes: Tensor, factors: Tensor) -> Tensor:
    """I(code; factor) of discrete `codes` (N, L) and `factors` (N, F), both int64 from 0: (L, F) float64 nats, plug-in.

    I = sum_ab p(a, b) log (p(a, b) / (p(a) p(b))), p the frequencies. Biased upwards by about
    (values of the code - 1) (values of the factor - 1) / (2 N).
    """
    count, width = codes.shape
    many, high, wide = factors.shape[1], int(codes.max()) + 1, int(factors.max()) + 1
    table = torch.arange(width * many).reshape(width, many)
    cell = (table * high + codes[:, :, None]) * wide + factors[:, None]
    counts = torch.bincount(cell.flatten(), minlength=width * many * high * wide)
    joint = counts.reshape(width, many, high, wide).double() / count
    product = joint.sum(3, keepdim=True) * joint.sum(2, keepdim=True)
    ratio = torch.where(joint > 0, joint / product, 1.0)  # exactly 1 where either is a constant
    return (joint * ratio.log()).sum((2, 3)).clamp(min=0)


def entropies(factors: Tensor) -> Tensor:
    """H(factor) of `factors` (N, F) int64, (F,) float64 nats, by frequencies: 0 for a constant one."""
    return mutual_information(factors, factors).diagonal()


def information_gap(information: Tensor, scale: Tensor) -> float:
    """The mean over factors of (highest - second highest of `information` (L, F) over codes) / `scale` (F,).

    The mutual information gap, where `scale` is each factor's entropy; factors whose scale is 0 are left out. With one
    code the second is 0. Raises ValueError if no factor varies.
    Source: Chen et al. 2018, equation 6.
    """
    varies = scale > 0
    if not bool(varies.any()):
        raise ValueError("no factor varies: there is no mutual information gap")
    padded = torch.cat([information, torch.zeros_like(information[:1])])
    first, second = padded.topk(2, dim=0).values
    return float(((first - second)[varies] / scale[varies]).mean())


def modularity(information: Tensor) -> float:
    """The mean over codes of 1 - sum_{f != best} I_lf^2 / (I_l,best^2 (F - 1)), of `information` I (L, F).

    1 where every code knows one factor alone; a code that knows nothing counts 0. A factor that does not vary counts in
    F, as in disentanglement_lib and JL1-VAE's code. Source: Ridgeway & Mozer 2018, equation 2.
    """
    square = information.square()
    best = square.amax(1)
    rest = (square.sum(1) - best) / (best * max(square.shape[1] - 1, 1))
    return float(torch.where(best > 0, 1 - rest, 0.0).mean())


def latent_information_terms(draws: MixtureDraws, mean: Tensor, log_variance: Tensor, factors: Tensor) -> Tensor:
    """Per-draw terms log q(z_l | v_f) - log q(z_l), (S, L, F) float64 nats: their mean over draws is I(z_l; v_f).

    z (S, L) are `draws` of N(mean_n, diag exp(log_variance_n)), n being one of N points whose factors are `factors`
    (N, F); q(z_l) is the mixture over all points, q(z_l | v_f) that over the points which share the
    draw's value of factor f. A draw's own component is in both, so that few points of a value, each narrow, seem to
    know more than they do. Source: Chen et al. 2018, section 4.1 and appendix B.
    """
    z, component, rest = draws
    marginal = log_marginal_densities(z, marginals(mean, log_variance), rest)
    terms = torch.empty(*z.shape, factors.shape[1], dtype=torch.float64)
    for f, values in enumerate(factors.T):
        drawn = values[component]
        for value in drawn.unique():
            rows, points = drawn == value, values == value
            given = log_marginal_densities(z[rows], marginals(mean[points], log_variance[points]), rest[rows])
            terms[rows, :, f] = given - marginal[rows]
    return terms


def mig_chen(terms: Tensor, sizes: tuple[int, ...]) -> float:
    """The mutual information gap of `latent_information_terms` (S, L, F), each factor's divided by log(size).

    A negative estimate of an information counts as 0. Source: Chen et al. 2018, equation 6, as their code has it.
    """
    return information_gap(terms.mean(0).clamp(min=0), torch.tensor(sizes, dtype=torch.float64).log())
