"""NVAE: a deep hierarchy of latent groups, residual posteriors, depthwise-separable cells; any image likelihood."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaebench.core.arithmetic import reduced, remembered
from vaebench.core.data import Space
from vaebench.core.model import Draws, HierarchicalModel, Latents, channels
from vaebench.core.tables import within
from vaebench.distributions import noise
from vaebench.distributions.coarse import CoarseGaussian, reduced_to
from vaebench.distributions.gaussian import TopDownGaussian, Walk, walk
from vaebench.distributions.joint import TopDownJoint
from vaebench.distributions.likelihoods import LIKELIHOODS, DiscretisedLogisticMixture, Likelihood
from vaebench.models.networks.flat import Centre
from vaebench.models.networks.nvae import INFERENCE, Architecture, Network, soft_normal
from vaebench.models.networks.nvae_evaluation import Evaluation, Readjust

FLOATS = 2**22
"""Numbers in one activation that draws are evaluated in parts of."""
READJUSTED = 10**5
"""Draws of the prior that batch norm's statistics may be those of."""


@dataclass(frozen=True, kw_only=True)
class Options(Architecture):
    """The network's shape, and how it meets data.

    `padding` pixels of the lowest level go around the image, and the decoder's output is cropped (NVAE's MNIST: 2).
    `tail` "nvae" is the release's upper tail of the logistic mixture, whose masses sum to more than 1 at 8 bits.
    `evaluation` "bfloat16" makes it a part of the model that convolutions outside training are in bfloat16, as in any
    run in bfloat16; densities never are. With `readjust`, batch norm's statistics in evaluation are those after as many
    passes in training mode over `readjust_batch` draws of the prior at `readjust_temperature`, from a fixed seed;
    weights and buffers stay as they are. `bits` below 8 are of the likelihood "gaussian" on images of 8 bits in
    [-1, 1]: they are reduced to so many before the model sees or scores them.
    """

    likelihood: Literal["bernoulli", "categorical", "discretised-logistic", "discretised-logistic-mixture", "gaussian"]
    tail: Literal["strict", "nvae"] = "strict"
    padding: int = 0
    bits: int = 8
    evaluation: Literal["float32", "bfloat16"] = "float32"
    readjust: int = 0
    readjust_batch: int = 16
    readjust_temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tail == "nvae" and self.likelihood != "discretised-logistic-mixture":
            raise ValueError("tail = 'nvae' is of the likelihood 'discretised-logistic-mixture' alone")
        if self.bits != 8 and self.likelihood != "gaussian":
            raise ValueError(f"bits = {self.bits} are of the likelihood 'gaussian' alone; levels are the dataset's")
        within(self, padding=(0, 64), readjust=(0, 10_000), readjust_batch=(1, 4096), bits=(1, 8))
        if (draws := self.readjust * self.readjust_batch) > READJUSTED:
            raise ValueError(f"readjust x readjust_batch are {draws:,} draws, which should be at most {READJUSTED:,}")
        if self.readjust_temperature <= 0:
            raise ValueError(f"readjust_temperature = {self.readjust_temperature} should be positive")


@final
class NVAE(HierarchicalModel):
    """p(z) = prod_g p(z_g|z_<g), q(z|x) = prod_g q(z_g|z_<g, x), top-down; p(x|z) as `options.likelihood`.

    Every factor is a soft-clamped normal (p(z_1) has sigma 1.01); q's, with flows, after volume-preserving shifts.
    Latents are (S, B, L, h, w). Batch norm uses the batch in training mode and running statistics in evaluation. The
    state dict is the release's, with `network.` before each name. Outside training and without gradients the network
    runs as `networks.nvae_folding` makes it, anew whenever a weight has changed; `draw` runs the bottom-up tower once
    for a batch of images, however many draws are asked for and in however many calls.

    The gaussian likelihood is the release's: a soft-clamped normal on x in [-1, 1], without dequantisation.
    Source: Vahdat & Kautz 2020 (arXiv 2007.03898).
    """

    def __init__(self, space: Space, options: Options) -> None:
        super().__init__(space)
        self.options = options
        if not space.is_image or space.shape[1] != space.shape[2]:
            raise ValueError(f"NVAE needs square images, not examples of shape {space.shape}")
        if options.bits != 8 and space.interval != (-1.0, 1.0):
            raise ValueError(f"bits = {options.bits} need images in [-1, 1], such as celeba64-centred, not {space}")
        outputs = channels(LIKELIHOODS[options.likelihood], space)
        self.centre = Centre(space.levels)
        self.network = Network(options, space.shape[0], space.shape[1] + 2 * options.padding, outputs)
        self.groups_per_scale = options.groups_per_scale[::-1]
        readjust = Readjust(options.readjust, options.readjust_batch, options.readjust_temperature)
        self._evaluation = Evaluation(readjust)

    def _live(self) -> Network:
        """The network to use now."""
        half = reduced() or self.options.evaluation == "bfloat16"
        return self.network if self.training else self._evaluation.network(self.network, half)

    def _features(self, network: Network, x: Tensor) -> tuple[Tensor, ...]:
        return remembered(network, x, partial(self._encoded, network))

    def _encoded(self, network: Network, x: Tensor) -> tuple[Tensor, ...]:
        self.space.check(x)
        x = reduced_to(x, self.options.bits) if self.options.bits != 8 else x
        padded = F.pad(x, [self.options.padding] * 4) if self.options.padding else x
        return network.features(self.centre(padded))

    def prior(self, batch: int, temperature: float = 1.0) -> TopDownGaussian:
        return self._prior(self._live(), batch, temperature)

    def _prior(self, network: Network, batch: int, temperature: float = 1.0) -> TopDownGaussian:
        start = network.start(batch)

        def conditional(group: int, state: Any) -> tuple[Tensor, Tensor]:
            return soft_normal(network.prior(group, state if group else start), temperature)

        return TopDownGaussian([partial(conditional, g) for g in range(len(network.sizes))], start, network.absorb)

    def posterior(self, x: Tensor) -> TopDownGaussian:
        network = self._live()
        return self._posterior(network, self._features(network, x))

    def _posterior(self, network: Network, features: tuple[Tensor, ...]) -> TopDownGaussian:
        def conditional(group: int, state: Any) -> tuple[Tensor, Tensor]:
            return soft_normal(network.posterior(group, features[group], state))

        parts = [partial(conditional, g) for g in range(len(network.sizes))]
        return TopDownGaussian(parts, network.start(len(features[0])), network.absorb, network.bijections)

    def likelihood(self, latents: Latents) -> Likelihood:
        network, (samples, batch) = self._live(), latents[0].shape[:2]
        raw: list[Tensor] = []
        for part in self._parts(network, samples, batch):
            state = network.start(batch)
            for g, z in enumerate(latents):
                state = network.absorb(g, state, z[part])
            raw.append(network.decode(state))
        return self._decoded(torch.cat(raw))

    def _parts(self, network: Network, samples: int, batch: int) -> list[slice]:
        """The draws to evaluate at once: all where batch norm or gradients must see them together."""
        whole = torch.is_grad_enabled() or self.training
        size = samples if whole else max(1, FLOATS // (network.row * batch))
        return [slice(first, first + size) for first in range(0, samples, size)]

    def _decoded(self, raw: Tensor) -> Likelihood:
        space, o = self.space, self.options
        if o.padding:
            raw = raw[..., o.padding : -o.padding, o.padding : -o.padding]
        if o.likelihood == "discretised-logistic-mixture":
            return DiscretisedLogisticMixture(raw, space.shape, space.levels, o.tail)
        if o.likelihood == "gaussian":
            mean, log_variance = soft_normal(raw)
            raw = torch.cat([mean, 0.5 * log_variance], 2)
            if o.bits != 8:
                return CoarseGaussian(raw, space.shape, space.levels, o.bits)
        return LIKELIHOODS[o.likelihood](raw, space.shape, space.levels)

    def draw(self, x: Tensor, samples: int) -> Draws:
        return self.draw_groups(x, samples)[0]

    def draw_groups(self, x: Tensor, samples: int) -> tuple[Draws, Tensor]:
        network = self._live()
        features = self._evaluation.features(network, x, partial(self._features, network))
        q, p = self._posterior(network, features), self._prior(network, len(x))
        shapes = [(samples, len(x), self.options.latent, size, size) for size in network.sizes]
        eps = [noise.standard_normal(shape, self.network.prior_ftr0) for shape in shapes]
        walks, scores = list[Walk](), list[Tensor]()
        for part in self._parts(network, samples, len(x)):
            walked = walk(q, p, [e[part] for e in eps])
            scores.append(self._decoded(network.decode(walked.state)).log_prob(x))
            walks.append(walked._replace(state=None))
        latents = tuple(torch.cat(group) for group in zip(*(w.latents for w in walks), strict=True))
        log_p = torch.cat([torch.stack(w.log_p).sum(0) for w in walks])
        log_q = torch.cat([torch.stack(w.log_q).sum(0) for w in walks])
        return Draws(latents, torch.cat(scores), log_p, log_q), torch.cat([torch.stack(w.rates) for w in walks], 1)

    def joint(self, x: Tensor, start: Literal["posterior", "prior"] = "posterior") -> TopDownJoint:
        network = self._live()
        prior = self._prior(network, len(x))
        q = self._posterior(network, self._features(network, x)) if start == "posterior" else prior
        return TopDownJoint(q, prior, lambda state: self._decoded(network.decode(state)), x)

    def embed(self, x: Tensor) -> Tensor:
        """The means of all groups, each given the means above it: (B, F)."""
        return torch.cat([group[0].flatten(1) for group in self.posterior(x).means()], 1)

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for part in INFERENCE:
            yield from self.network.get_submodule(part).named_parameters(prefix=f"network.{part}")


plugin = (NVAE, Options)
