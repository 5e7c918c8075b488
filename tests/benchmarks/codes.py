"""Images a second into a file by bits back and out of it again, and bits per dimension, on one thread.

pip install 'vaebench[codes]'
python tests/benchmarks/codes.py [--model vae] [--dataset digits] [--data DIR] [--images 300] [--bins 12]
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from vaebench.core import registry as plugins
from vaebench.distributions.noise import keyed
from vaebench.functional import codes
from vaebench.functional.codes import Stack
from vaebench.metrics.shared.bits_back import BitsBack
from vaebench.models import card as cards
from vaebench.models.loading import build_model, load_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vae")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--bins", type=int, default=12)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    source = plugins.load("datasets", chosen.dataset)
    card = cards.find(chosen.model, chosen.dataset)
    model = build_model(card, source.space)
    load_weights(model, card.weights_path())
    model.eval()
    index = torch.arange(chosen.images)
    with keyed(0, index):
        x: Tensor = source.load(chosen.data).split("test").take(index).x
    code = BitsBack(model, chosen.bins)
    stack = Stack(codes.start(0, code.enough()))
    marks = [(time.perf_counter(), time.process_time())]
    bits = sum(code.push(x, stack))
    marks.append((time.perf_counter(), time.process_time()))
    same = torch.equal(code.pop(len(x), stack), x.to(torch.uint8))
    marks.append((time.perf_counter(), time.process_time()))
    print(f"{chosen.dataset}/{chosen.model}, {len(x)} images, 2**{chosen.bins} bins: {bits / x.numel():.4f} bits/dim")
    for name, before, after in zip(("written", "read"), marks, marks[1:], strict=False):
        clock, cpu = (len(x) / (b - a) for a, b in zip(before, after, strict=True))
        print(f"{name:8s} {clock:8.1f} images/s by the clock, {cpu:8.1f} by CPU time")
    print("came back bit for bit" if same else "CAME BACK OTHERWISE")


if __name__ == "__main__":
    main()
