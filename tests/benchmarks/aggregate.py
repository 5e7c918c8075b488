"""The aggregate posterior's density as matrix products, beside the broadcast form, in one run.

    python tests/benchmarks/aggregate.py [--posteriors 60000] [--points 5000] [--latent 64] [--rounds 3] [--sample 64]

The broadcast form, in single precision, is timed on `--sample` points and scaled to all of them: in chunks of points
that fill 1.5 GB, and one point at a time, which suits a cache best. Values are compared with its own in double
precision. Times are CPU seconds of the process, so that a busy machine counts less.
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
    for name, default in (("posteriors", 60_000), ("points", 5_000), ("latent", 64), ("rounds", 3), ("sample", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    shape = (chosen.posteriors, chosen.latent)
    mean, log_variance = (torch.randn(shape, generator=generator) for _ in range(2))
    log_variance = log_variance - 3
    z = mean[: chosen.points] + torch.randn(chosen.points, chosen.latent, generator=generator)
    some = z[: chosen.sample]
    full = max(1, 1_500_000_000 // (3 * 4 * chosen.posteriors * chosen.latent))
    chunks = {f"broadcast, {chunk} at once": chunk for chunk in (full, 1)}
    seconds: dict[str, list[float]] = {name: [] for name in ("product", *chunks)}
    product, peak = torch.zeros(0), math.nan
    for _ in range(chosen.rounds):
        start = time.process_time()
        product = log_mixture_density(z, mean, log_variance)
        seconds["product"].append(time.process_time() - start)
        if math.isnan(peak):  # before the broadcast form raises it
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        for name, chunk in chunks.items():
            start = time.process_time()
            for part in some.split(chunk):
                broadcast(part, mean, log_variance)
            seconds[name].append((time.process_time() - start) * chosen.points / len(some))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    rate = 2 * chosen.points * chosen.posteriors * (2 * chosen.latent + 1) / median["product"] / 1e9
    exact = torch.cat([broadcast(one, mean.double(), log_variance.double()) for one in some.double().split(1)])
    gap = float((product[: len(some)] - exact).abs().max())
    sizes = f"{chosen.points} points, {chosen.posteriors} posteriors, L = {chosen.latent}"
    print(f"threads {torch.get_num_threads()}, torch {torch.__version__}, {sizes}")
    for name, value in median.items():
        print(f"{name:24s} {value:8.2f} s  {value / median['product']:.1f}")
    print(f"product: {rate:.0f} GFLOP/s in double precision, peak memory {peak:.2f} GiB with torch itself")
    print(f"largest difference from the broadcast form in double precision: {gap:.1e} nats")


if __name__ == "__main__":
    main()
