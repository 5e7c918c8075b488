"""Known answers of annealed importance sampling in both directions, and of coding by bits back."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from vaebench.core.data import Space
from vaebench.distributions.noise import keyed
from vaebench.evaluation.selftest.answer import Answer, average, equal
from vaebench.functional import codes
from vaebench.functional.codes import Stack
from vaebench.metrics.certified import Certified, Path
from vaebench.metrics.shared.bits_back import BitsBack, obstacle
from vaebench.models.adapters import flat
from vaebench.models.oracles import oracles

COUNT = 40
ROWS = 2**16  # enough for both directions side by side


@torch.no_grad()
def certified(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """E[w] / p(x) and p(x) E[1 / w] are 1, however few and large the steps: linear-Gaussian oracles, in float64."""
    metric, example = Certified(images=COUNT, steps=4, chains=200, leapfrogs=3), torch.arange(COUNT, device=device)
    for spoilt, exact in list(zip(oracles(count=COUNT), oracles(count=COUNT, slack=0.0), strict=True))[:3]:
        x, nll = spoilt.dataset.split("test").x.to(device).double(), spoilt.exact["nll"].to(device)
        path = Path.of(spoilt.model.to(device).double().joint(x), metric, 0, example)
        path = replace(path, steps=torch.full_like(path.steps, 1.1))  # of whose proposals a good part is rejected
        with keyed(0, example):
            latents = exact.model.to(device).double().posterior(x).rsample(1)  # of p(z|x)
        there, back = (annealed.log_weight for annealed in path.both(latents, ROWS))
        ratios = {"E[w] / p(x)": (there + nll).exp().mean(0), "p(x) E[1 / w]": (-nll - back).exp().mean(0)}
        for name, ratio in ratios.items():
            yield average(f"certified {name}, {spoilt.name} oracle", 1.0, ratio, 1e-9)


@torch.no_grad()
def code_length(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """A decoder of zeros and a q that is the prior: log2 4 = 2 bits for a pixel of 4 levels, and all is given back."""
    model = flat.Flat(Space((1, 4, 4), 4, "pmf"), flat.Options(3, (8,), "categorical")).to(device, dtype).eval()
    for parameter in model.parameters():
        parameter.zero_()
    if obstacle(model) is not None:  # the coder is not installed
        return
    code = BitsBack(model, 12)
    stack = Stack(codes.start(0, code.enough()))
    x = (torch.arange(40 * 16, device=device).square() // 7 % 4).view(40, 1, 4, 4).to(torch.uint8)
    bits = sum(code.push(x, stack)) / x.numel()
    yield Answer("code-length bits/dim, uniform decoder", 2.0, bits, 0.0, 1e-3)
    wrong = float((code.pop(len(x), stack) != x.cpu()).sum())
    yield equal("code-length pixels that come back otherwise", 0.0, wrong)
