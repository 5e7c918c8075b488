"""A network in memory as a model: `from_module`, whose result is bound to the space of a dataset when that is known."""

from dataclasses import dataclass
from typing import Any, Literal, final

from torch import nn

from vaebench.core.data import Space
from vaebench.core.errors import UserError, foreign
from vaebench.core.tables import build
from vaebench.models.adapters._network import Module
from vaebench.models.adapters._wiring import Wiring


@final
@dataclass(frozen=True, eq=False)
class Unbound:
    """A network and its wiring, before the space of a dataset is known: what `from_module` gives."""

    network: nn.Module
    wiring: Wiring

    def bind(self, space: Space) -> Module:
        """The model of examples of `space`. Raises UserError if the network does not fit them."""
        kind = type(self.network).__name__
        with foreign(lambda reason: UserError(f"{kind} on examples {space.shape}: {reason}")):
            return Module(space, self.wiring, self.network)


def from_module(
    network: nn.Module,
    likelihood: str,
    *,
    encode: str = "encode",
    decode: str = "decode",
    input: str = "unit",
    output: str = "raw",
    latent: int | tuple[int, ...] | None = None,
    scale: float | Literal["fit"] | None = None,
) -> Unbound:
    """The network as a model for `evaluate` and `check`, which bind it to the space of their dataset.

    `encode` should return (mean, log-variance), a torch Normal, or an object with `latent_dist`; `decode` a tensor, or
    an object with `sample`. Arguments as `Wiring` says. The prior is N(0, I).

    Raises UserError if the arguments do not go together.
    """
    given: dict[str, Any] = {
        "likelihood": likelihood,
        "encode": encode,
        "decode": decode,
        "input": input,
        "output": output,
    }
    given |= {key: value for key, value in (("latent", latent), ("scale", scale)) if value is not None}
    return Unbound(network, build(Wiring, given, "from_module"))
