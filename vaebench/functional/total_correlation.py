"""Log densities of an aggregate posterior and of its marginals, from one minibatch: the pieces of total correlation."""

import math

import torch
from torch import Tensor


def aggregate(z: Tensor, mean: Tensor, log_variance: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """log q(z_i) and log prod_l q(z_il), each (B,) nats, with q the mixture of B Gaussians weighted for each point.

    log q(z_i) = log sum_j w_ij prod_l q(z_il|x_j), log q(z_il) = log sum_j w_ij q(z_il|x_j), where q(.|x_j) =
    N(mean_j, diag exp(log_variance_j)). `z`, `mean`, `log_variance` (B, L); `log_weight` (B, B) or broadcast to it.
    """
    square = ((z[:, None] - mean) * torch.exp(-0.5 * log_variance)).square()
    each = -0.5 * (square + log_variance + math.log(2 * math.pi))  # (B, B, L): of z_il under x_j
    joint = (each.sum(-1) + log_weight).logsumexp(1)
    return joint, (each + log_weight[..., None]).logsumexp(1).sum(-1)


def minibatch_weighted(z: Tensor, mean: Tensor, log_variance: Tensor, dataset_size: int) -> tuple[Tensor, Tensor]:
    """log q(z) and log prod_l q(z_l) by minibatch-weighted sampling, each (B,) nats: every weight is 1 / (N B).

    z_i is drawn from q(.|x_i), so that a small batch of a large dataset is spread around its own points; the weight is
    a bound's, and shifts both by a constant: log q by -log N, the marginals by -L log N. Gradients do not depend on N,
    and with N = 1 both tend to the exact values as B grows. Shapes as in `aggregate`.
    Source: Chen et al. 2018 (beta-TCVAE), appendix C.1.
    """
    return aggregate(z, mean, log_variance, mean.new_tensor(-math.log(dataset_size * len(mean))))


def minibatch_stratified(z: Tensor, mean: Tensor, log_variance: Tensor, dataset_size: int) -> tuple[Tensor, Tensor]:
    """log q(z) and log prod_l q(z_l) by minibatch stratified sampling, each (B,) nats: exp(log q) is unbiased.

    With M = B - 1, z_i's own x_i weighs 1/N, the next one (cyclically) (N - M) / (N M), every other 1 / M. The
    published code puts 1/N into the first column, off the diagonal. Shapes as in `aggregate`. Raises ValueError if N <
    B. Source: Chen et al. 2018 (beta-TCVAE), appendix C.2.
    """
    batch = len(mean)
    if dataset_size < batch:
        raise ValueError(f"a batch of {batch} was not drawn from a dataset of {dataset_size}; prepare the objective")
    others, index = batch - 1, torch.arange(batch, device=mean.device)
    weight = mean.new_ones(batch, batch)
    if others:
        weight /= others
        weight[index, index] = 1 / dataset_size
        weight[index, (index + 1) % batch] = (dataset_size - others) / (dataset_size * others)
    return aggregate(z, mean, log_variance, weight.log())
