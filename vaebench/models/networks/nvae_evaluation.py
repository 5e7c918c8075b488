"""What evaluating NVAE prepares once: the folded network, and the features of the images that are being drawn for."""

import copy
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from vaebench.distributions import noise
from vaebench.functional.random import derive
from vaebench.functional.transforms import transformed
from vaebench.models.networks.nvae import INFERENCE, Network, soft_normal
from vaebench.models.networks.nvae_folding import folded

THREADS = 64
"""Whose features are held at most."""


class Readjust(NamedTuple):
    """Passes in training mode, each over `batch` draws of the prior at `temperature`, that batch norm follows."""

    passes: int
    batch: int
    temperature: float


class _Prepared(NamedTuple):
    key: tuple[Any, ...]
    tensors: list[Tensor]  # held, so that no address or id of the key can be another tensor's
    network: Network


class _Seen(NamedTuple):
    network: Network
    x: Tensor
    version: int
    features: tuple[Tensor, ...]


@final
class Evaluation:
    """A cache beside a network, of what depends on its weights and on the latest images of each thread alone.

    A copy of a model begins with an empty one. Inside `torch.func` nothing is prepared.
    """

    def __init__(self, readjust: Readjust) -> None:
        self.readjust = readjust
        self._lock = threading.Lock()
        self._prepared: dict[str, _Prepared] = {}
        self._seen: dict[int, _Seen] = {}

    def __reduce__(self) -> tuple[type["Evaluation"], tuple[Readjust]]:
        return Evaluation, (self.readjust,)

    def network(self, live: Network, half: bool) -> Network:
        """`live` as it is used in evaluation: with batch norm readjusted, and folded, in bfloat16 where `half`.

        Where gradients are on it is not folded, in single precision, and its parameters are those of `live`.
        """
        tensors = [*live.parameters(), *live.buffers()]
        if any(transformed(tensor) for tensor in tensors):
            return live
        inference = {id(p) for part in INFERENCE for p in live.get_submodule(part).parameters()}

        def kept(name: str, ignored: set[int], make: Callable[[], Network]) -> Network:
            key = tuple((id(t), t.data_ptr(), -1 if id(t) in ignored else t._version) for t in tensors)
            if name not in self._prepared or self._prepared[name].key != key:
                self._prepared[name] = _Prepared(key, tensors, make())
            return self._prepared[name].network

        with self._lock:
            base = live
            if self.readjust.passes:  # the prior's samples depend on no inference parameter, and the copy shares them
                base = kept("readjusted", inference, lambda: readjusted(live, self.readjust))
            if torch.is_grad_enabled():
                return base
            return kept("folded in bfloat16" if half else "folded", set(), lambda: fold(base, half))

    def features(self, network: Network, x: Tensor, make: Callable[[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """`make(x)`, once for calls in a row of one thread with the same `x` and `network`."""
        if torch.is_grad_enabled() or network.training or transformed(x):
            return make(x)
        mine = threading.get_ident()
        seen = self._seen.get(mine)
        if seen is None or seen.network is not network or seen.x is not x or seen.version != x._version:
            if len(self._seen) >= THREADS:
                self._seen.clear()
            seen = self._seen[mine] = _Seen(network, x, x._version, make(x))
        return seen.features


@torch.no_grad()
def fold(network: Network, half: bool) -> Network:
    """`network` folded, with convolutions in bfloat16 where `half`."""
    made = folded(network)
    return copy.deepcopy(made).to(torch.bfloat16) if half else made


def _own_statistics(module: nn.Module) -> nn.Module:
    """A copy of `module` with the same parameters, and buffers of its own."""
    clone = copy.copy(module)
    clone._buffers = {name: None if b is None else b.clone() for name, b in module._buffers.items()}
    clone._modules = {name: None if m is None else _own_statistics(m) for name, m in module._modules.items()}
    return clone


@torch.no_grad()
def readjusted(network: Network, how: Readjust) -> Network:
    """A copy of `network`, in evaluation mode, with the same parameters, whose batch norm follows the prior's samples.

    Running statistics go on from those of `network` through `how.passes` passes in training mode: draws of the prior
    from a fixed seed, decoded. `network` stays as it was.
    Source: Vahdat & Kautz 2020 (arXiv 2007.03898).
    """
    clone = _own_statistics(network)
    assert isinstance(clone, Network)
    clone.train()
    for i in range(how.passes):
        with noise.keyed(derive("readjust", i), torch.arange(how.batch, device=network.prior_ftr0.device)):
            state = clone.start(how.batch)
            for g in range(len(network.sizes)):
                mean, log_variance = soft_normal(clone.prior(g, state), how.temperature)
                z = mean + (0.5 * log_variance).exp() * noise.standard_normal(tuple(mean.shape), mean)
                state = clone.absorb(g, state, z)
            clone.decode(state)
    return clone.eval()
