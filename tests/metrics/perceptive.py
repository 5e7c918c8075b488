"""Networks of vision with weights that are the same everywhere, in the place of those that must be fetched."""

import math

import torch
from torch import Tensor, nn

from vaebench.functional import random
from vaebench.metrics.shared.imagenet import EfficientNetLite0
from vaebench.metrics.shared.perception import Backbone, Lpips


def _uniform(name: str, shape: torch.Size) -> Tensor:
    """Numbers in [0, 1) that the name and the place alone decide."""
    return random.uniform(random.keys(random.derive(name), torch.arange(math.prod(shape))), ()).reshape(shape).float()


def _filled(network: nn.Module) -> nn.Module:
    """Weights of a scale that keeps that of the data, other parameters in [0, 1), running variances 1."""
    state = network.state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.fill_(1)
        elif tensor.ndim > 1:
            fan = math.prod(tensor.shape[1:])
            tensor.copy_((2 * _uniform(name, tensor.shape) - 1) * math.sqrt(6 / fan))
        elif tensor.is_floating_point():
            tensor.copy_(_uniform(name, tensor.shape))
    return network.eval().requires_grad_(False)


def seeded(backbone: Backbone) -> Lpips:
    """An LPIPS of no meaning."""
    network = _filled(Lpips(backbone))
    assert isinstance(network, Lpips)
    return network


def efficient(side: int = 32) -> EfficientNetLite0:
    """An EfficientNet-Lite0 of no meaning."""
    network = _filled(EfficientNetLite0(side))
    assert isinstance(network, EfficientNetLite0)
    return network
