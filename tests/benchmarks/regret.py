"""Images per second of Likelihood Regret, beside the published procedure done plainly, one image at a time.

    python tests/benchmarks/regret.py --data DIR [--images 16] [--threads 2] [--rounds 3]

The same net, the zoo's fashion-mnist-32/likelihood-regret-vae, and the first Fashion-MNIST test images, alternating in
one run; medians over the rounds. The plain procedure is that of Xiao et al. 2020: 5 x 200 draws of q(z|x) decoded at
once, a deep copy of the encoder, 100 steps of Adam on it for this image alone (gradients of the decoder are computed
too, and not used), and 5 x 200 draws again. Where other work shares the machine, processor time is the fairer.
"""

import argparse
import copy
import math
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vaebench.core import registry as plugins
from vaebench.core.data import Dataset
from vaebench.evaluation import run as metric_run
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.progress import Silent
from vaebench.functional.statistics import mean_stderr
from vaebench.metrics.regret import Regret, regrets
from vaebench.models import card as cards
from vaebench.models.adapters.likelihood_regret import LikelihoodRegret
from vaebench.models.loading import build_model, load_weights


def cross_entropy(decoder: torch.nn.Module, z: Tensor, x: Tensor) -> Tensor:
    """-log p(x|z) for one image x (1, 1, 32, 32) and z (S, L): (S,) nats."""
    logits = decoder(z[:, :, None, None]).permute(0, 2, 3, 1).reshape(-1, 256)
    target = x.long().expand(len(z), -1, -1, -1).reshape(-1)
    return F.cross_entropy(logits, target, reduction="none").view(len(z), -1).sum(1)


def plain_nll(encoder: torch.nn.Module, decoder: torch.nn.Module, x: Tensor) -> float:
    """-log (1/1000) sum_k w_k over 5 x 200 draws."""
    weights = []
    with torch.no_grad():
        for _ in range(5):
            mean, log_variance = encoder(x).chunk(2, dim=1)
            eps = torch.randn(200, mean.shape[1])
            z = mean + (0.5 * log_variance).exp() * eps
            log_prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
            log_posterior = -0.5 * (eps.square() + math.log(2 * math.pi) + log_variance).sum(1)
            weights.append(log_prior - log_posterior - cross_entropy(decoder, z, x))
    return math.log(1000) - float(torch.logsumexp(torch.cat(weights), 0))


def plain_regret(model: LikelihoodRegret, x: Tensor) -> tuple[float, float]:
    """-log p(x) before and after."""
    encoder, decoder = copy.deepcopy(model.encoder), model.decoder.main
    before = plain_nll(encoder, decoder, x)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=2e-4, betas=(0.9, 0.999), weight_decay=5e-5)
    for _ in range(100):
        mean, log_variance = encoder(x).chunk(2, dim=1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        rate = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum()
        loss = cross_entropy(decoder, z, x).sum() + rate
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return before, plain_nll(encoder, decoder, x)


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """Of the wall, of the processor."""
    start = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, required=True, help="a torchvision root that has FashionMNIST")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    dataset = plugins.load("datasets", "fashion-mnist-32").load(chosen.data)
    card = cards.find("likelihood-regret-vae", "fashion-mnist-32")
    model = build_model(card, dataset.space).eval()
    load_weights(model, card.weights_path())
    part = dataset.split("test").part(torch.arange(chosen.images), f"first {chosen.images}")
    one = Dataset(dataset.name, dataset.space, {"test": part}, dataset.fingerprint)
    metric, results = Regret(images=chosen.images), dict[str, dict[str, Tensor]]()
    entry = of_model(model, one, card.name)
    metric_run.BLOCK = math.ceil(
        chosen.images / chosen.threads
    )  # a block for each thread, as in a run over many images

    def ours() -> None:
        run = metric_run.MetricRun(entry, "regret", metric, metric_run.Settings(), Silent())
        rows = run.rows(model)
        function = partial(regrets, model=model, own=0, metric=metric, rows=rows)
        results["vaebench"] = run.map(function, part, batch=rows)

    def theirs() -> None:
        pairs = torch.tensor([plain_regret(model, part.x[i : i + 1]) for i in range(len(part))], dtype=torch.float64)
        results["plain"] = {"before": pairs[:, 0], "after": pairs[:, 1]}

    functions = {"vaebench": ours, "plain": theirs}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(chosen.rounds):
        for name, function in functions.items():
            times[name].append(seconds(function))
    print(f"{chosen.images} images, {chosen.threads} threads, torch {torch.__version__}, medians of {chosen.rounds}")
    wall, processor = ({n: statistics.median(t[i] for t in times[n]) for n in functions} for i in (0, 1))
    for name in functions:
        print(
            f"{name:10s} {chosen.images / wall[name]:7.3f} images/s ({wall['plain'] / wall[name]:.1f}x), "
            f"{processor[name] / chosen.images:6.2f} processor s an image ({processor['plain'] / processor[name]:.1f}x)"
        )
    for name in ("before", "after"):
        difference, stderr = mean_stderr(results["vaebench"][name] - results["plain"][name])
        print(f"NLL {name}: {results['vaebench'][name].mean():.1f}, difference {difference:.2f} +- {stderr:.2f} nats")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB (both, with torch itself)")


if __name__ == "__main__":
    main()
