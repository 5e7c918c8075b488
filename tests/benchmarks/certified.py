"""Seconds an image of annealed importance sampling, beside a plain loop, and the cost of a gradient.

    python tests/benchmarks/certified.py [--model vae] [--dataset digits] [--steps 100] [--chains 16] [--images 20]
    python tests/benchmarks/certified.py --dataset mnist --data DIR --steps 150 --chains 8

What is timed is both directions on images drawn from the model, the pilot included, on one thread. The plain loop
anneals one image after another and asks autograd anew for the slope at each end of a step and for the energy at each
end of a trajectory; schedule, leapfrogs, steps and double precision are the same. CPU seconds stand beside the clock's:
on a busy machine they are the ones to read.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vaebench.core import registry as plugins
from vaebench.core.data import Batch
from vaebench.core.device import keep_freed
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.evaluation.run import DECODED_FLOATS
from vaebench.functional.ais import schedule
from vaebench.functional.statistics import mean_stderr
from vaebench.metrics.certified import PART, TOGETHER, Certified, simulated, with_gradient
from vaebench.metrics.certified import Path as Annealing
from vaebench.models import card as cards
from vaebench.models.loading import build_model, load_weights


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of the CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - clock, time.process_time() - cpu


def plain(model: LatentVariableModel, x: Tensor, z: Tensor, steps: Tensor, metric: Certified) -> float:
    """The gap of one image x (1, *shape), drawn with z (1, L), as one writes it at first."""
    q = model.posterior(x)
    start = torch.distributions.Normal(q.mean, (0.5 * q.log_variance).exp())  # type: ignore[attr-defined]
    normal = torch.distributions.Normal(torch.zeros_like(z), torch.ones_like(z))
    betas = schedule(metric.steps)

    def scores(z: Tensor) -> tuple[Tensor, Tensor]:
        log_q = start.log_prob(z).sum(-1)
        return model.likelihood((z[:, None],)).log_prob(x)[:, 0] + normal.log_prob(z).sum(-1), log_q

    def energy(z: Tensor, beta: float) -> Tensor:
        joint, log_q = scores(z)
        return -(beta * joint + (1 - beta) * log_q)

    def slope(z: Tensor, beta: float) -> Tensor:
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            (found,) = torch.autograd.grad(energy(at, beta).sum(), at)
        return found

    def move(z: Tensor, beta: float, step: Tensor) -> Tensor:
        scale = start.scale
        rho = torch.randn_like(z)
        at, momentum = z, rho
        for _ in range(metric.leapfrogs):
            momentum = momentum - 0.5 * step * scale * slope(at, beta)
            at = at + step * scale * momentum
            momentum = momentum - 0.5 * step * scale * slope(at, beta)
        change = energy(z, beta) - energy(at, beta) + 0.5 * (rho.square() - momentum.square()).sum(-1)
        return torch.where((torch.rand_like(change).log() < change)[:, None], at, z)

    def anneal(z: Tensor, order: list[int]) -> Tensor:
        total, before = torch.zeros(len(z)), order[0]
        for t in order:
            if t != before:
                between = max(t, before)
                z = move(z, betas[between], steps[between - 1])
            joint, log_q = scores(z)
            total, before = total + (betas[t + 1] - betas[t]) * (joint - log_q), t
        return total

    there = anneal(start.sample((metric.chains,))[:, 0], list(range(metric.steps)))
    back = anneal(z.expand(metric.chains, -1), list(reversed(range(metric.steps))))
    return float(-(-back).logsumexp(0) - there.logsumexp(0)) + 2 * float(torch.tensor(metric.chains).log())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vae")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--plain", type=int, default=1, help="images of the plain loop; 0 leaves it out")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed()
    space = plugins.load("datasets", chosen.dataset).space
    card = cards.find(chosen.model, chosen.dataset)
    model = build_model(card, space)
    load_weights(model, card.weights_path())
    model = model.eval().double().requires_grad_(False)
    metric = Certified(images=max(2, chosen.images), steps=chosen.steps, chains=chosen.chains, samples=1)
    with torch.no_grad(), keyed(0, torch.arange(1)):
        width = model.likelihood(model.prior(1).rsample(1)).raw.numel()
    rows = DECODED_FLOATS // width
    together = max(1, min(TOGETHER, rows // (PART * chosen.chains)))
    gaps: list[Tensor] = []

    def ours() -> None:
        for example in torch.arange(chosen.images).split(together):
            batch = Batch(example, None, example)
            gaps.append(simulated(batch, 0, model=model, metric=metric, rows=rows)["bdmc_gap"])

    with torch.no_grad():
        clock, cpu = timed(ours)
        gap, stderr = mean_stderr(torch.cat(gaps))
        print(f"{chosen.dataset}/{chosen.model}, T = {chosen.steps}, {chosen.chains} chains, torch {torch.__version__}")
        print(f"vaebench    {clock / chosen.images:7.3f} s an image, {cpu / chosen.images:.3f} of the CPU; "
              f"gap {gap:.3f} +- {stderr or 0:.3f} nats")  # fmt: skip
        example = torch.arange(together)
        with keyed(0, example):
            latents = model.prior(together).rsample(1)
            x = model.likelihood(latents).sample()[0]
        joint = model.joint(x)
        beside = 2 * chosen.chains if PART * 2 * chosen.chains * together <= rows else chosen.chains
        noise = torch.randn(beside, together, joint.size, dtype=torch.float64)

        def bare() -> None:
            with torch.enable_grad():
                at = joint.q.made(noise.requires_grad_())[0]  # type: ignore[attr-defined]
                torch.autograd.grad(model.likelihood(at).raw.sum(), noise)

        def gradient() -> None:
            with_gradient(joint.log_weight, noise)

        costs = {}
        for name, function in (("gradient", gradient), ("forward and backward", bare)):
            function()
            costs[name] = timed(lambda function=function: [function() for _ in range(50)])[1] / 50  # type: ignore[misc]
        ratio = costs["gradient"] / costs["forward and backward"]
        print(f"a gradient of {beside} x {together} rows costs {costs['gradient'] * 1e3:.2f} ms, "
              f"{ratio:.2f} of the decoder alone, forward and backward")  # fmt: skip
        if chosen.plain and len(latents) == 1:
            steps = Annealing.of(joint, metric, 0, example).steps
            each = [partial(plain, model, x[i : i + 1], latents[0][0, i : i + 1], steps[:, i], metric)
                    for i in range(min(chosen.plain, together))]  # fmt: skip
            clock, cpu = timed(lambda: [one() for one in each])
            print(f"plain loop  {clock / len(each):7.3f} s an image, {cpu / len(each):.3f} of the CPU")


if __name__ == "__main__":
    main()
