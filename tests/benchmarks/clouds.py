"""Chamfer distances by `functional.clouds` beside a loop over torch.cdist, and the likelihood of clouds by
`functional.mixture` beside torch.distributions.MixtureSameFamily, in one run.

    python tests/benchmarks/clouds.py [--clouds 500] [--points 512] [--rounds 3] [--sample 8]

The loop, one pair at a time, is timed on `--sample` clouds against all and scaled. Likelihoods are of 20 clouds and 8
draws under 64 components, and their gradients. Values are compared with the peer's in double precision. Times are CPU
seconds of the process, on one thread, so that a busy machine counts less.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from vaebench.functional import mixture
from vaebench.functional.clouds import chamfer_matrix


def loop(a: Tensor, b: Tensor) -> Tensor:
    """What comes to mind: torch.cdist for each pair."""
    found = torch.empty(len(a), len(b), dtype=torch.float64)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            square = torch.cdist(x, y).square()
            found[i, j] = square.amin(1).mean() + square.amin(0).mean()
    return found


def peer(x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """torch's mixture of independent normals, each point of a cloud one event."""
    parts = Independent(Normal(mean.unsqueeze(-3), log_scale.exp().unsqueeze(-3)), 1)
    total: Tensor = MixtureSameFamily(Categorical(logits=log_weight.unsqueeze(-2)), parts).log_prob(x).sum(-1)
    return total


def likelihoods(points: int, rounds: int) -> None:
    """Prints what a likelihood costs, alone and with its gradient."""
    generator = torch.Generator().manual_seed(1)
    raw, x = torch.randn(8, 20, 64, 7, generator=generator), torch.rand(20, points, 3, generator=generator) - 0.5

    def score(function: Callable[..., Tensor], slope: bool, dtype: torch.dtype) -> Tensor:
        numbers = raw.to(dtype).requires_grad_(slope)
        weight, mean, spread = numbers[..., 0].log_softmax(-1), 0.3 * numbers[..., 1:4], 0.3 * numbers[..., 4:] - 2
        total = function(x.to(dtype), weight, mean, spread)
        return torch.autograd.grad(total.sum(), numbers)[0] if slope else total.detach()

    for slope in (False, True):
        seconds: dict[str, list[float]] = {"mixture": [], "peer": []}
        for _ in range(rounds):
            for name, function in (("mixture", mixture.log_likelihood), ("peer", peer)):
                start = time.process_time()
                score(function, slope, torch.float32)
                seconds[name].append((time.process_time() - start) / 160 * 1e6)
        ours, theirs = (statistics.median(values) for values in seconds.values())
        exact = score(peer, slope, torch.float64)
        gap = float((score(mixture.log_likelihood, slope, torch.float32) - exact).abs().max() / exact.abs().max())
        print(f"{'gradient' if slope else 'likelihood'} of a cloud: {ours:.0f} us, torch's mixture {theirs:.0f} us, "
              f"ratio {theirs / ours:.1f}; largest difference, of the largest value, {gap:.1e}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("clouds", 500), ("points", 512), ("rounds", 3), ("sample", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(chosen.clouds, chosen.points, 3, generator=generator) - 0.5 for _ in range(2))
    seconds: dict[str, list[float]] = {"blocks": [], "loop": []}
    some = a[: chosen.sample]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak, blocks = before, torch.zeros(0)
    for _ in range(chosen.rounds):
        start = time.process_time()
        blocks = chamfer_matrix(some, b)
        seconds["blocks"].append((time.process_time() - start) * chosen.clouds / len(some))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if peak == before else peak
        start = time.process_time()
        loop(some, b)
        seconds["loop"].append((time.process_time() - start) * chosen.clouds / len(some))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    exact = loop(some[:2].double(), b.double())
    gap = float(((blocks[:2] - exact) / exact).abs().max())
    print(f"torch {torch.__version__}, {chosen.clouds} x {chosen.clouds} clouds of {chosen.points} points, one thread")
    for name, values in seconds.items():
        print(f"{name:7} {median[name]:8.1f} s ({min(values):.1f} to {max(values):.1f})")
    print(f"ratio {median['loop'] / median['blocks']:.2f}; {(peak - before) / 2**10:.0f} MiB beside the clouds; "
          f"largest relative difference from the loop in double precision {gap:.1e}")  # fmt: skip
    likelihoods(chosen.points, chosen.rounds)


if __name__ == "__main__":
    main()
