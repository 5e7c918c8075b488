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

    The prior is N(0, I). The network's `encode` should return (mean, log-variance), a torch Normal, or an object with
    `latent_dist`; its `decode` a tensor, or an object with `sample`.

    Args:
        network: it is used as it is, in evaluation mode where a metric measures it.
        likelihood: p(x|z) of what the decoder gives: "bernoulli", "continuous-bernoulli", "categorical",
            "discretised-logistic", "discretised-logistic-mixture", "gaussian", "fixed-gaussian", or "none" for a
            decoder that was trained to look right: what needs p(x|z) is then not measured.
        encode: the name of the method or part that encodes.
        decode: the name of the method or part that decodes.
        input: what the network reads of data that have levels, or lie in an interval: x in [0, 1] ("unit"), in [-1, 1]
            ("centred"), or the numbers 0..levels-1 ("levels"). Other data are given as they are.
        output: what the decoder gives: "logits", means in [0, 1] ("unit") or [-1, 1] ("centred"), or all that the
            likelihood reads ("raw").
        latent: the shape of one example's latents, or their number; by default it is found.
        scale: of a decoder that gives means alone: the standard deviation (gaussian) or scale (discretised-logistic),
            in their units; "fit" finds it on the training split.

    Returns:
        What `evaluate` and `check` take in the place of a model.

    Raises:
        UserError: the arguments do not go together.
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
