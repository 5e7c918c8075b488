"""How time and memory grow with examples, draws and latent size, and the fraction reached of the matrix-product rate.

    python tests/benchmarks/growth.py [--threads 1] [--rounds 3] [--only likelihood]

Each line is measured in a fork of its own, at 1, 4 and 16 times one size: seconds of the CPU (medians over rounds, so
that a busy machine changes little), the resident memory that the work adds at its peak, and the operations that its
products would take, dense, beside the rate of a product of 1024 x 1024 matrices in the same number type and with as
many threads. An untrained MLP L-512-784 with a Bernoulli likelihood, random images. Linux only.
"""

import argparse
import math
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from vaebench.core.data import Dataset, Space, Split
from vaebench.core.metric import Metric
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.functional.aggregate import log_mixture_density
from vaebench.metrics.latent_gap import LatentGap
from vaebench.metrics.likelihood import Likelihood
from vaebench.models.adapters.flat import Flat, Options

HIDDEN, PIXELS = 512, 784


class Work(NamedTuple):
    """What is timed, the operations of its products, and their number type."""

    call: Callable[[], object]
    operations: float
    dtype: torch.dtype


class Size(NamedTuple):
    """Examples, draws and latent dimensions."""

    examples: int
    draws: int
    latent: int

    def times(self, field: str, factor: int) -> "Size":
        return self._replace(**{field: factor * getattr(self, field)})


def measured(metric: Metric, size: Size) -> Callable[[], object]:
    """The whole of `metric` on `size.examples` random images."""
    torch.manual_seed(0)
    space = Space((1, 28, 28), 2, "pmf")
    model = Flat(space, Options(size.latent, (HIDDEN,), "bernoulli")).eval()
    x = (torch.rand(size.examples, *space.shape) < 0.3).to(torch.uint8)
    dataset = Dataset("random", space, {name: Split(name, x) for name in ("train", "test")}, "random")
    entry = of_model(model, dataset, "mlp")
    return lambda: list(metric.measure(model, dataset, MetricRun(entry, "any", metric, Settings(), Silent())))


def likelihood(size: Size) -> Work:
    decoder = HIDDEN * (size.latent + PIXELS)
    call = measured(Likelihood(samples=size.draws), size)
    return Work(call, 2 * size.examples * size.draws * decoder, torch.float32)


def latent_gap(size: Size) -> Work:
    densities = 2 * size.draws * size.examples * (2 * size.latent + 1)
    return Work(measured(LatentGap(draws=size.draws), size), 2 * densities, torch.float64)


def aggregate(size: Size) -> Work:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = (torch.randn(size.examples, size.latent, generator=generator) for _ in range(2))
    z = torch.randn(size.draws, size.latent, generator=generator)
    call = partial(log_mixture_density, z, mean, log_variance)
    return Work(call, 2 * size.draws * size.examples * (2 * size.latent + 1), torch.float64)


SIZES = {
    "likelihood": (likelihood, Size(40, 256, 16)),
    "latent-gap": (latent_gap, Size(2000, 500, 8)),
    "aggregate density": (aggregate, Size(4000, 1000, 8)),
}


def memory(what: str) -> float:
    """MiB of the process: VmRSS, or VmHWM, its peak."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) / 1024


def product_rate(dtype: torch.dtype) -> float:
    """Operations a second of the CPU."""
    side = torch.randn(1024, 1024, dtype=dtype)
    side @ side
    seconds = []
    for _ in range(5):
        start = time.process_time()
        side @ side
        seconds.append(time.process_time() - start)
    return 2 * 1024**3 / statistics.median(seconds)


def point(name: str, size: Size, threads: int, rounds: int) -> tuple[float, float, float]:
    """Median seconds, MiB added at the peak, and the fraction of the matrix-product rate."""
    torch.set_num_threads(threads)
    work = SIZES[name][0](size)
    SIZES[name][0](Size(8, 64, 4)).call()  # what the first call alone costs
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins here
    before, seconds = memory("VmRSS"), []
    for _ in range(rounds):
        start = time.process_time()
        work.call()
        seconds.append(time.process_time() - start)
    added, median = memory("VmHWM") - before, statistics.median(seconds)
    return median, added, work.operations / median / product_rate(work.dtype)


def points(only: str | None) -> Iterator[tuple[str, str, int, Size]]:
    for name, (_, base) in SIZES.items():
        if only in (None, name):
            for field in Size._fields:
                yield from ((name, field, factor, base.times(field, factor)) for factor in (1, 4, 16))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=list(SIZES))
    chosen = parser.parse_args()
    print(f"{chosen.threads} threads, torch {torch.__version__}")
    print(
        f"{'':18s} {'grows':9s} {'N':>6s} {'K':>6s} {'L':>4s} {'seconds':>8s} {'ratio':>6s} {'MiB':>6s} {'product':>8s}"
    )
    first = math.nan
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        for name, field, factor, size in points(chosen.only):
            seconds, added, fraction = pool.apply(point, (name, size, chosen.threads, chosen.rounds))
            first = seconds if factor == 1 else first
            print(
                f"{name:18s} {field:9s} {size.examples:6d} {size.draws:6d} {size.latent:4d} {seconds:8.3f} "
                f"{seconds / first:6.1f} {added:6.0f} {fraction:8.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
