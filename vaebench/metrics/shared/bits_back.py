"""Images to a stack of bits and back, exactly, by the latents of a model (bits back with asymmetric numeral systems).

Latents lie on bins of equal mass under the prior of their group given the groups above. To push images, every group's
bins are popped by q, top-down; the pixels are pushed by p(x|z), and the bins by the prior, bottom-up. To pop them is
the same in the other order. Networks always see one number of images, so that they compute the same bits both ways.
Source: Townsend, Bird & Barber 2019 (BB-ANS, arXiv 1901.04866); Townsend et al. 2020 (HiLLoC, arXiv 1912.09953).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from vaebench.core.metric import UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.functional import codes
from vaebench.functional.codes import MOST_BINS, Stack

NETWORK = 16  # images that networks see at once


class BinsError(ValueError):
    """A posterior that lies between the bins of its latents."""

    def __init__(self, image: int, bins: int, needed: int | None) -> None:
        remedy = f"set bins to at least {needed}" if needed else f"no number of bins up to 2**{MOST_BINS} is enough"
        super().__init__(f"image {image}: its posterior is too narrow for 2**{bins} bins; {remedy}")


def obstacle(model: LatentVariableModel) -> str | None:
    """Why images of this model cannot be coded, or None."""
    space = model.space
    if space.measure == "density":
        return "a density has no code length: only integers are coded"
    device = next(model.parameters()).device
    x = torch.zeros(1, *space.shape, dtype=torch.uint8, device=device)
    try:
        with torch.no_grad(), keyed(0, torch.arange(1, device=device)):
            model.posterior(x).chain()
            prior = model.prior(1)
            prior.chain()
            model.likelihood(prior.rsample(1)).log_masses()
    except UnavailableError as error:
        return str(error)
    try:
        codes.library()
    except ImportError:
        return "needs the coder of constriction; run: pip install 'vaebench[codes]'"
    return None


@dataclass
class _Group:
    """A latent group of a batch: its bins (B, E), and q of each in units of the prior's bins, (B, E) each."""

    bins: Tensor
    mean: Tensor
    scale: Tensor


@dataclass
class _Walk:
    """How far a batch has come down both chains."""

    q: Any
    p: Any
    latents: list[Tensor] = field(default_factory=list)


@final
class BitsBack:
    """A model as a code, with 2**`bins` bins for each latent dimension."""

    def __init__(self, model: LatentVariableModel, bins: int) -> None:
        if not 1 <= bins <= codes.MOST_BINS:
            raise ValueError(f"bins = {bins} should be from 1 to {codes.MOST_BINS}: it is a power of two")
        self.model, self.bins = model, bins
        self.device = next(model.parameters()).device
        self._centres = codes.centres(bins).to(self.device)

    def enough(self) -> int:
        """Bits that the latents of one batch never take more of."""
        with torch.no_grad(), keyed(0, torch.arange(1, device=self.device)):
            latents = self.model.prior(1).rsample(1)
        return 24 * NETWORK * sum(group.numel() for group in latents)

    @torch.no_grad()
    def push(self, x: Tensor, stack: Stack, numbers: Sequence[int] | None = None) -> list[int]:
        """Push images x (N, *shape), which messages call `numbers`, by default from 0; the bits that each has added.

        Raises BinsError if a posterior lies between the bins.
        """
        added: list[int] = []
        numbers = range(len(x)) if numbers is None else numbers
        for start in range(0, len(x), NETWORK):
            added += self._push(x[start : start + NETWORK], stack, numbers[start : start + NETWORK])
        return added

    @torch.no_grad()
    def pop(self, count: int, stack: Stack) -> Tensor:
        """The `count` images that were pushed last, in the order in which they were pushed: (count, *shape) uint8.

        Raises EOFError if there are fewer on the stack.
        """
        starts = range(0, count, NETWORK)
        parts = [self._pop(min(NETWORK, count - start), stack) for start in reversed(starts)]
        return torch.cat(parts[::-1])

    def _push(self, x: Tensor, stack: Stack, numbers: Sequence[int]) -> list[int]:
        count, before = len(x), 0
        added = [0] * count
        q, p = self._posterior(x), self.model.prior(NETWORK).chain()
        walk, groups = _Walk(q.start, p.start), []
        for g in range(len(p.conditionals)):
            group = self._group(q, p, walk, g)
            for i in range(count):
                self._check(group, i, numbers[i])
                before = stack.bits
                group.bins[i] = stack.pop(codes.normal_masses(group.mean[i], group.scale[i], self.bins))
                added[i] += stack.bits - before
            self._descend(q, p, walk, g, group.bins)
            groups.append(group)
        masses = self._masses(walk)
        for i in range(count):
            before = stack.bits
            stack.push(x[i].flatten(), masses[i])
            added[i] += stack.bits - before
        for group in reversed(groups):
            for i in range(count):
                before = stack.bits
                stack.push_uniform(group.bins[i], 2**self.bins)
                added[i] += stack.bits - before
        return added

    def _pop(self, count: int, stack: Stack) -> Tensor:
        p = self.model.prior(NETWORK).chain()
        walk, popped = _Walk(None, p.start), []
        for g in range(len(p.conditionals)):
            mean, _ = p.conditionals[g](walk.p)
            bins = self._middle(mean)
            for i in reversed(range(count)):
                bins[i] = stack.pop_uniform(bins.shape[1], 2**self.bins)
            self._descend(None, p, walk, g, bins)
            popped.append(bins)
        masses = self._masses(walk)
        pixels = [stack.pop(masses[i]) for i in reversed(range(count))][::-1]
        x = torch.stack(pixels).view(count, *self.model.space.shape).to(torch.uint8)
        q = self._posterior(x.to(self.device))
        again, groups = _Walk(q.start, p.start), []
        for g, bins in enumerate(popped):
            groups.append(self._group(q, p, again, g))
            self._descend(q, p, again, g, bins)
        for group, bins in zip(reversed(groups), reversed(popped), strict=True):
            for i in reversed(range(count)):
                stack.push(bins[i], codes.normal_masses(group.mean[i], group.scale[i], self.bins))
        return x

    def _posterior(self, x: Tensor) -> Any:
        """q's chain for x and as many black images as make it `NETWORK`."""
        padding = x.new_zeros(NETWORK - len(x), *x.shape[1:])
        return self.model.posterior(torch.cat([x, padding])).chain()

    def _middle(self, mean: Tensor) -> Tensor:
        return torch.full((NETWORK, mean[0, 0].numel()), 2 ** (self.bins - 1), dtype=torch.int64)

    def _group(self, q: Any, p: Any, walk: _Walk, g: int) -> _Group:
        (mean, log_variance), (base, spread) = q.conditionals[g](walk.q), p.conditionals[g](walk.p)
        relative = ((mean - base) * (-0.5 * spread).exp()).expand(1, NETWORK, *mean.shape[2:])
        scale = (0.5 * (log_variance - spread)).exp().expand(relative.shape)
        return _Group(self._middle(mean), relative[0].flatten(1).cpu(), scale[0].flatten(1).cpu())

    def _descend(self, q: Any, p: Any, walk: _Walk, g: int, bins: Tensor) -> None:
        """Put the middle of every bin in its place, and go on to the next group."""
        mean, log_variance = p.conditionals[g](walk.p)
        noise = self._centres[bins.to(self.device)].to(mean.dtype).view(1, NETWORK, *mean.shape[2:])
        z = mean + (0.5 * log_variance).exp() * noise
        walk.latents.append(z)
        if g + 1 < len(p.conditionals):
            shared = q is not None and q.absorb == p.absorb and walk.q is walk.p
            walk.p = p.absorb(g, walk.p, z)
            if q is not None:
                walk.q = walk.p if shared else q.absorb(g, walk.q, z)

    def _masses(self, walk: _Walk) -> Tensor:
        """The masses of every pixel's levels, (B, D, levels) on the CPU."""
        return self.model.likelihood(tuple(walk.latents)).log_masses()[0].double().exp().flatten(1, -2).cpu()

    def _check(self, group: _Group, i: int, image: int) -> None:
        mean, scale = group.mean[i], group.scale[i]
        if bool((lost := codes.coarse(mean, scale, self.bins)).any()):
            raise BinsError(image, self.bins, codes.enough(mean[lost], scale[lost]))
