"""Images per second of NVAE's importance-weighted NLL, beside re-running the whole model for each draw.

    python tests/benchmarks/nvae.py [--images 8] [--samples 100] [--threads 1] [--rounds 3] [--half]

Seconds are those of the CPU, on one thread unless told otherwise, so that a busy machine changes little.

An untrained model of the architecture of the golden CIFAR-10 checkpoint with 64 channels and 12 groups, whose weights
and statistics are moved off their initial values; random 8-bit images. "Re-run" is what the official evaluation does:
for each draw a forward pass of encoder and decoder over the batch, weight normalisation and batch norm included.
`--half` also measures convolutions in bfloat16, and what they change in bits/dim.
"""

import argparse
import math
import resource
import statistics
import time

import torch
from torch import Tensor, nn

from vaebench.core.arithmetic import arithmetic
from vaebench.core.data import Batch, Space
from vaebench.distributions.gaussian import walk
from vaebench.distributions.noise import keyed, standard_normal
from vaebench.evaluation.run import DECODED_FLOATS
from vaebench.functional.importance import ImportanceWeights
from vaebench.metrics.shared.bounds import score
from vaebench.models.adapters.nvae import NVAE, Options

SPACE = Space((3, 32, 32), 256, "pmf")


def model(options: Options) -> NVAE:
    torch.manual_seed(0)
    made = NVAE(SPACE, options)
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
    return made.eval()


@torch.no_grad()
def rerun(m: NVAE, x: Tensor, samples: int) -> Tensor:
    """-L_K of each image, one full pass of all images for each draw, on the noise that `score` has."""
    weights, network = ImportanceWeights(samples), m.network
    for k in range(samples):
        with keyed(0, torch.arange(len(x)), k):
            q, p = m._posterior(network, m._features(network, x)), m._prior(network, len(x))
            eps = [standard_normal((1, len(x), m.options.latent, s, s), x.float()) for s in network.sizes]
        walked = walk(q, p, eps)
        log_likelihood = m._decoded(network.decode(walked.state)).log_prob(x)
        weights.add(log_likelihood + torch.stack(walked.log_p).sum(0) - torch.stack(walked.log_q).sum(0))
    return -weights.result().log_marginal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 8), ("samples", 100), ("threads", 1), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("channels", 64), ("groups", 6)):  # for each of two scales
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--half", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    options = Options(
        channels=chosen.channels, scales=2, groups=chosen.groups, latent=4, blocks=2, encoder_cells=1, decoder_cells=1,
        flows=1, likelihood="discretised-logistic-mixture",
    )  # fmt: skip
    m = model(options)
    dtypes = {"vaebench": torch.float32}
    if chosen.half:
        dtypes["vaebench, bfloat16"] = torch.bfloat16
    x = torch.randint(0, 256, (chosen.images, *SPACE.shape)).to(torch.uint8)
    rows = max(1, DECODED_FLOATS // (100 * 32 * 32))
    results: dict[str, Tensor] = {}
    times: dict[str, list[float]] = {name: [] for name in (*dtypes, "re-run")}
    for _ in range(chosen.rounds):
        for name, dtype in dtypes.items():
            start, found = time.process_time(), []
            with torch.no_grad(), arithmetic(dtype):
                for i in range(0, chosen.images, max(1, rows // chosen.samples)):  # as metrics/likelihood.py cuts
                    batch = Batch(x[i : i + max(1, rows // chosen.samples)], None, torch.arange(i, i + 1))
                    found.append(score(batch, 0, model=m, samples=chosen.samples, rows=rows)["nll"])
            times[name].append(time.process_time() - start)
            results[name] = torch.cat(found)
        start = time.process_time()
        results["re-run"] = rerun(m, x, chosen.samples)
        times["re-run"].append(time.process_time() - start)
    unit = SPACE.dims * math.log(2)
    parameters = sum(p.numel() for p in m.parameters()) / 1e6
    print(f"{chosen.images} images, K = {chosen.samples}, {chosen.threads} threads, {parameters:.1f} M parameters")
    for name, each in times.items():
        rate, ratio = (
            chosen.images / statistics.median(each),
            statistics.median(times["re-run"]) / statistics.median(each),
        )
        gap = float((results[name] - results["re-run"]).abs().max()) / unit
        print(f"{name:20s} {rate:8.3f} images/s of CPU time, {ratio:5.2f} x, largest difference {gap:.1e} bits/dim")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB (all together)")


if __name__ == "__main__":
    main()
