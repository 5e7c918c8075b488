"""What an importance-weighted NLL costs on paper: operations and bytes of NVAE's own code, counted without running it.

    python tests/benchmarks/cost.py [--images 50000] [--samples 1000] [--side 256] [--dtype bfloat16]
        [--peak 989] [--bandwidth 3.35] [--fraction 0.4]

Counted on torch's meta device from `draw` with 1 and 2 draws: 2 operations for each multiplication of a product or
convolution, and all that operations read and write in turn, with nothing fused. `--peak` (1e12 operations a second)
and `--bandwidth` (1e12 bytes a second) are a GPU's data sheet, here an H100's with dense bfloat16; `--fraction` of each
is assumed to be reached. The time is the longer of both, divided among GPUs that share nothing but the images.
"""

import argparse
import math
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from vaebench.core.arithmetic import arithmetic
from vaebench.core.data import Space
from vaebench.models.adapters.nvae import NVAE, Options

GPUS = (1, 8, 64)


class Valueless(Space):
    """Whose data are on the meta device, where there are no values to check."""

    def check(self, x: torch.Tensor) -> None: ...


class Traffic(TorchDispatchMode):
    """Adds up the bytes of every tensor that an operation reads or writes; views are free."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            every = tree_leaves((args, kwargs, out))
            self.bytes += sum(t.numel() * t.element_size() for t in every if isinstance(t, torch.Tensor))
        return out


def counted(model: NVAE, x: torch.Tensor, samples: int) -> tuple[int, int]:
    """Operations and bytes of `samples` draws of q(z|x), scored."""
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        model.draw(x.clone(), samples)
    return flops.get_total_flops(), traffic.bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 50_000), ("samples", 1000), ("side", 256), ("channels", 16), ("scales", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("peak", 989.0), ("bandwidth", 3.35), ("fraction", 0.4)):
        parser.add_argument(f"--{name}", type=float, default=default)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    chosen = parser.parse_args()
    options = Options(
        channels=chosen.channels, scales=chosen.scales, groups=8, min_groups=4, adaptive=True, latent=20, blocks=2,
        encoder_cells=2, decoder_cells=2, likelihood="discretised-logistic-mixture",
    )  # fmt: skip
    space = Valueless((3, chosen.side, chosen.side), 256, "pmf")
    with torch.device("meta"), torch.no_grad(), arithmetic(getattr(torch, chosen.dtype)):
        model = NVAE(space, options).eval()
        x = torch.zeros(1, *space.shape, dtype=torch.uint8)
        model.draw(x, 1)  # folds the network
        one, two = counted(model, x, 1), counted(model, x, 2)
    each = [b - a for a, b in zip(one, two, strict=True)]
    image = [a - b for a, b in zip(one, each, strict=True)]
    total = [chosen.images * (i + chosen.samples * e) for i, e in zip(image, each, strict=True)]
    rates = [1e12 * rate * chosen.fraction for rate in (chosen.peak, chosen.bandwidth)]
    seconds = [t / rate for t, rate in zip(total, rates, strict=True)]
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    print(
        f"NVAE of {parameters:.0f} M parameters, {chosen.side}x{chosen.side}, {chosen.dtype}, torch {torch.__version__}"
    )
    print(f"an image: {image[0] / 1e9:.1f} GFLOP, {image[1] / 1e9:.2f} GB; a draw: {each[0] / 1e9:.1f} GFLOP, "
          f"{each[1] / 1e9:.2f} GB")  # fmt: skip
    print(f"{chosen.images} images, K = {chosen.samples}: {total[0]:.2e} operations, {total[1]:.2e} bytes")
    print(f"one GPU: {seconds[0] / 3600:.1f} h of products, {seconds[1] / 3600:.1f} h of memory traffic")
    for gpus in GPUS:
        share = math.ceil(chosen.images / 100 / gpus) / (chosen.images / 100)  # blocks of 100 are not divided
        print(f"{gpus:3d} GPUs: {max(seconds) * share / 3600:.2f} h")


if __name__ == "__main__":
    main()
