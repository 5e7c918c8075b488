"""Images per second of the importance-weighted NLL, beside pythae's `VAE.get_nll`, and the matrix-product limit.

    pip install pythae==0.1.2
    python tests/benchmarks/nll.py --data DIR [--images 200] [--samples 1000] [--threads 2]

The same weights (an MLP 784-512-16 with a Bernoulli likelihood, trained first) and MNIST test images, alternating in
one run; medians over the rounds. pythae gives the mean of log p where NLL is asked for; its sign is turned here.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from pythae.models import VAE, VAEConfig
from pythae.models.nn.default_architectures import Decoder_AE_MLP, Encoder_VAE_MLP

from vaebench.core import registry as plugins
from vaebench.core.data import Dataset, Split
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.evaluation import run as metric_run
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.progress import Silent
from vaebench.functional.statistics import mean_stderr
from vaebench.metrics.likelihood import Likelihood
from vaebench.metrics.shared.bounds import score
from vaebench.models.card import Card, Recipe
from vaebench.models.loading import build_model, load_weights
from vaebench.training.loop import train

HIDDEN, LATENT = 512, 16


def trained(dataset: Dataset, epochs: int) -> LatentVariableModel:
    """The MLP after so many epochs of Adam at 1e-3."""
    table = {"latent": LATENT, "hidden": [HIDDEN], "likelihood": "bernoulli"}
    card = Card("mlp", dataset.name, "benchmark", "flat", table, training=Recipe(epochs=epochs))
    with tempfile.TemporaryDirectory() as folder:
        done = train(card, dataset, Path(folder), device=torch.device("cpu"), report=lambda *_: None)
        model = build_model(done, dataset.space)
        load_weights(model, done.weights_path())
    return model.eval()


def twin(model: LatentVariableModel) -> VAE:
    """pythae's VAE with the weights of `model`; ours reads pixels as 2x - 1, pythae's as x."""
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    peer = VAE(config, Encoder_VAE_MLP(config), Decoder_AE_MLP(config)).eval()
    ours, theirs = dict(model.named_parameters()), dict(peer.named_parameters())
    copies = {
        "encoder.layers.0.0.weight": 2 * ours["encoder.2.weight"],
        "encoder.layers.0.0.bias": ours["encoder.2.bias"] - ours["encoder.2.weight"].sum(1),
        "encoder.embedding.weight": ours["encoder.4.weight"][:LATENT],
        "encoder.embedding.bias": ours["encoder.4.bias"][:LATENT],
        "encoder.log_var.weight": ours["encoder.4.weight"][LATENT:],
        "encoder.log_var.bias": ours["encoder.4.bias"][LATENT:],
        "decoder.layers.0.0.weight": ours["decoder.0.weight"],
        "decoder.layers.0.0.bias": ours["decoder.0.bias"],
        "decoder.layers.1.0.weight": ours["decoder.2.weight"],
        "decoder.layers.1.0.bias": ours["decoder.2.bias"],
    }
    assert copies.keys() == theirs.keys()
    with torch.no_grad():
        for name, value in copies.items():
            theirs[name].copy_(value)
    return peer


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, required=True, help="a torchvision root that has MNIST")
    parser.add_argument("--epochs", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    dataset = plugins.load("datasets", "mnist").load(chosen.data)
    model = trained(dataset, chosen.epochs)
    peer = twin(model)
    with keyed(0, torch.arange(chosen.images)):
        x = dataset.split("test").take(torch.arange(chosen.images) * (10_000 // chosen.images)).x
    results: dict[str, torch.Tensor] = {}

    def ours() -> None:
        run = metric_run.MetricRun(entry, "likelihood", metric, metric_run.Settings(), Silent())
        function = partial(score, model=model, samples=chosen.samples, rows=run.rows(model))
        split, batch = part.split("test"), max(1, run.rows(model) // chosen.samples)
        results["vaebench"] = run.map(function, split, batch=batch)["nll"]

    def theirs() -> None:
        each = [-peer.get_nll(x[i : i + 1].float(), chosen.samples, 100) for i in range(len(x))]
        results["pythae"] = torch.tensor(each)

    hidden, weight, out = torch.randn(2000, HIDDEN), torch.randn(HIDDEN, 784), torch.empty(2000, 784)

    def product() -> None:
        for _ in range(chosen.images * chosen.samples // 2000):
            torch.mm(hidden, weight, out=out)

    metric = Likelihood(samples=chosen.samples, repeats=1)
    part = Dataset("mnist", dataset.space, {"test": Split("test", x)}, dataset.fingerprint)
    entry = of_model(model, part, "mlp")
    quiet = torch.no_grad()
    functions = {"vaebench": ours, "pythae": theirs, "pythae, no_grad": quiet(theirs), "product": quiet(product)}
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(chosen.rounds):
        for name, function in functions.items():
            times[name].append(seconds(function))
    median = {name: statistics.median(values) for name, values in times.items()}
    difference, stderr = mean_stderr(results["vaebench"] - results["pythae"])
    decoder = 2 * chosen.images * chosen.samples * HIDDEN * (784 + LATENT)
    limit = 2 * HIDDEN * 784 * 2000 * (chosen.images * chosen.samples // 2000) / median["product"]
    print(f"{chosen.images} images, K = {chosen.samples}, {chosen.threads} threads, torch {torch.__version__}")
    for name in ("vaebench", "pythae", "pythae, no_grad"):
        ratio = median[name] / median["vaebench"]
        print(f"{name:16s} {chosen.images / median[name]:8.2f} images/s, 1/{ratio:.2f}")
    print(f"NLL {results['vaebench'].mean():.3f}, paired difference from pythae {difference:.4f} +- {stderr:.4f} nats")
    print(f"decoder at {decoder / median['vaebench'] / limit:.0%} of the matrix product's {limit / 1e9:.0f} GFLOP/s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB (both, with torch itself)")


if __name__ == "__main__":
    main()
