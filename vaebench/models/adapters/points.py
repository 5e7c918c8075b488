"""One Gaussian latent vector of a point cloud: a PointNet encoder, and points independent given z."""

from dataclasses import dataclass
from typing import final

from vaebench.core.arithmetic import through
from vaebench.core.data import Space
from vaebench.core.model import Latents
from vaebench.core.tables import COUNT, LATENT, within
from vaebench.distributions.likelihoods import Likelihood
from vaebench.distributions.points import PointMixture
from vaebench.models.adapters._vector import Prior, VectorModel
from vaebench.models.networks import points
from vaebench.models.networks.flat import Activation
from vaebench.models.networks.points import PointNet

MOST_COMPONENTS = 4096


@dataclass(frozen=True)
class Options:
    """`point` lists the widths of the network of each point, `hidden` those of the cloud's, from the data inwards.

    The decoder has the widths of `hidden` backwards, and gives `components` Gaussians of scale at least `floor`.
    """

    latent: int
    point: tuple[int, ...] = (64, 128, 256)
    hidden: tuple[int, ...] = (256,)
    components: int = 64
    floor: float = 0.01
    prior: Prior = "normal"
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        if self.latent < 1 or not self.point or min((*self.point, *self.hidden)) < 1:
            raise ValueError(f"latent = {self.latent}, point = {list(self.point)} and hidden = {list(self.hidden)} "
                             "should be positive widths")  # fmt: skip
        within(self, latent=(1, LATENT), point=(1, COUNT), hidden=(1, COUNT))
        if not 1 <= self.components <= MOST_COMPONENTS:
            raise ValueError(f"components = {self.components} should lie in 1..{MOST_COMPONENTS}")
        if not 0 < self.floor < 1:
            raise ValueError(f"floor = {self.floor} should lie in (0, 1): the data lie in the unit ball")


@final
class Points(VectorModel):
    """p(x|z) = prod_i p(x_i|z), a `PointMixture`: no order of the points changes q(z|x) or a likelihood."""

    def __init__(self, space: Space, options: Options) -> None:
        if not space.is_cloud:
            raise ValueError(f"the family 'points' is for clouds (N, 3) of real points, not for {space.shape}; "
                             "use family = 'flat'")  # fmt: skip
        encoder = PointNet(options.point, options.hidden, 2 * options.latent, options.activation)
        decoder = points.decoder(options.latent, options.hidden, 7 * options.components, options.activation)
        super().__init__(space, encoder, decoder, options.latent, options.prior)
        self.options = options

    def likelihood(self, latents: Latents) -> Likelihood:
        (z,) = latents
        return PointMixture(through(self.decoder, z), self.space.shape, self.space.levels, self.options.floor)


plugin = (Points, Options)
