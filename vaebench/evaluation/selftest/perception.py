"""Known answers about LPIPS: its formula by hand, its laws, the range it refuses, and the release's own distances."""

from collections.abc import Iterator

import torch
from torch import Tensor

from vaebench.core.metric import UnavailableError
from vaebench.evaluation.selftest.answer import Answer, equal, worst
from vaebench.functional.perceptual import colour_shift, lpips
from vaebench.metrics.shared.perception import BACKBONES, Lpips, load

RELEASED = {"alex": 0.49139853896753466, "vgg16": 0.7913814330467952}
"""The distance of the two patterns below by lpips 0.1.4 in float64, with the weights of torchvision."""


def perception(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """(3, 4) and (4, 3) at a pixel, of unit length: 0.04 apart in each channel; (1, 0) and (0, 1) at one pixel of two.

    With weights 1, 2 and 1, 1: 0.04 + 0.08 + 2 / 2. Any network gives 0 to itself, symmetric, the same of levels as of
    numbers in [-1, 1], and nothing of images in [0, 1]. With the weights at hand: what the release gives.
    """
    one = [torch.tensor([3.0, 4.0], dtype=torch.float64).view(1, 2, 1, 1), torch.eye(2)[None, :, :, None].double()]
    two = [torch.tensor([4.0, 3.0], dtype=torch.float64).view(1, 2, 1, 1), one[1].clone()]
    two[1][:, :, 0] = one[1][:, :, 1]
    heads = [torch.tensor(weights, dtype=torch.float64) for weights in ([1.0, 2.0], [1.0, 1.0])]
    yield Answer("lpips, by hand", 1.12, float(lpips(one, two, heads)), 0.0, 1e-9)
    x, y = (_pattern(*steps).to(device) for steps in ((3, 5, 40), (4, 1, 90)))
    yield worst("colour shift, 20 levels", torch.full((3,), 20.0), colour_shift(x // 2 + 20, x // 2)[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Lpips("alex").requires_grad_(False)
    for head in network.heads:
        head.fill_(1.0)
    network = network.to(device)
    apart = float(network(x, y))
    yield equal("lpips, of an image and itself", 0.0, network(x, x))
    yield Answer("lpips, both ways round", apart, float(network(y, x)), 0.0, 1e-4 * apart)
    yield Answer("lpips, of [-1, 1]", apart, float(network.centred(*_centred(x, y))), 0.0, 1e-4 * apart)
    refused = _refused(network, x / 255, y) + _refused(network, 4 * (x / 255) - 2, y)
    yield equal("lpips, refusals of [0, 1] and [-2, 2]", 2, refused)
    for backbone in BACKBONES:
        try:
            released = load(backbone).to(device)
        except UnavailableError:
            continue
        exact = RELEASED[backbone]
        yield Answer(f"lpips, {backbone} of the release", exact, float(released(x, y)), 0.0, 1e-4 * exact)


def _pattern(down: int, right: int, colour: int) -> Tensor:
    """An 8-bit image (1, 3, 64, 64): down i + right j + colour c, modulo 256."""
    i = torch.arange(64)
    return torch.stack([(down * i[:, None] + right * i + colour * c) % 256 for c in range(3)]).to(torch.uint8)[None]


def _centred(*images: Tensor) -> list[Tensor]:
    return [2 * (image / 255) - 1 for image in images]


def _refused(network: Lpips, x: Tensor, y: Tensor) -> bool:
    """Whether numbers `x` are refused where [-1, 1] is meant, beside the image `y`."""
    try:
        network.centred(x, *_centred(y))
    except ValueError:
        return True
    return False
