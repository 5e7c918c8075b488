"""The aggregate posterior's density as matrix products, beside the broadcast form, in one run.

    python tests/benchmarks/aggregate.py [--posteriors 60000] [--points 5000] [--latent 64] [--rounds 3]

The broadcast form is timed on as many points as fit in 1.5 GB at once, and scaled to all of them.
"""

import argparse
import math
import resource
import statistics
import time

import torch
from torch import Tensor

from vaebench.functional.aggregate import log_mixture_density


def broadcast(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The form that comes to mind: a tensor of (points, posteriors, latent)."""
    square = (z[:, None] - mean) ** 2 / log_variance.exp()
    exponent = -0.5 * (square + log_variance + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(exponent, 1) - math.log(len(mean))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("posteriors", 60_000), ("points", 5_000), ("latent", 64), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    shape = (chosen.posteriors, chosen.latent)
    mean, log_variance = (torch.randn(shape, generator=generator) for _ in range(2))
    log_variance = log_variance - 3
    z = mean[: chosen.points] + torch.randn(chosen.points, chosen.latent, generator=generator)
    few = max(1, 1_500_000_000 // (3 * 4 * chosen.posteriors * chosen.latent))
    seconds: dict[str, list[float]] = {"product": [], "broadcast": []}
    product, theirs, peak = torch.zeros(0), torch.zeros(0), math.nan
    for _ in range(chosen.rounds):
        start = time.perf_counter()
        product = log_mixture_density(z, mean, log_variance)
        seconds["product"].append(time.perf_counter() - start)
        if math.isnan(peak):  # before the broadcast form raises it
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        start = time.perf_counter()
        theirs = broadcast(z[:few], mean, log_variance)
        seconds["broadcast"].append((time.perf_counter() - start) * chosen.points / few)
    ours, other = (statistics.median(seconds[name]) for name in ("product", "broadcast"))
    rate = 2 * chosen.points * chosen.posteriors * (2 * chosen.latent + 1) / ours / 1e9
    sizes = f"{chosen.points} points, {chosen.posteriors} posteriors, L = {chosen.latent}"
    gap = float((product[:few] - theirs).abs().max())
    print(f"threads {torch.get_num_threads()}, {sizes}")
    print(f"product    {ours:8.2f} s  {rate:.0f} GFLOP/s in double precision, peak memory {peak:.2f} GiB")
    print(f"broadcast  {other:8.2f} s  ratio {other / ours:.1f}, largest difference {gap:.1e} nats")


if __name__ == "__main__":
    main()
