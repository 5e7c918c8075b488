"""Chamfer distances of every pair of clouds by `functional.clouds`, beside a loop over torch.cdist, in one run.

    python tests/benchmarks/clouds.py [--clouds 500] [--points 512] [--rounds 3] [--sample 8]

The loop, one pair at a time, is timed on `--sample` clouds against all and scaled. Values are compared with its own in
double precision. Times are CPU seconds of the process, on one thread, so that a busy machine counts less.
"""

import argparse
import resource
import statistics
import time

import torch
from torch import Tensor

from vaebench.functional.clouds import chamfer_matrix


def loop(a: Tensor, b: Tensor) -> Tensor:
    """What comes to mind: torch.cdist for each pair."""
    found = torch.empty(len(a), len(b), dtype=torch.float64)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            square = torch.cdist(x, y).square()
            found[i, j] = square.amin(1).mean() + square.amin(0).mean()
    return found


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


if __name__ == "__main__":
    main()
