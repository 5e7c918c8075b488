"""An autoencoder of diffusers, AutoencoderKL or AutoencoderTiny: spatial latents, and pictures with no likelihood."""

import inspect
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from vaebench.core.data import Space
from vaebench.core.errors import UserError
from vaebench.core.tables import Table
from vaebench.models.adapters._network import Module
from vaebench.models.adapters._wiring import Wiring

Kind = Literal["AutoencoderKL", "AutoencoderTiny"]
WIRING = Wiring(likelihood="none", input="centred", output="centred")

COUNTS = ("layers_per_block", "num_encoder_blocks", "num_decoder_blocks")
BLOCKS = 32
"""Most of each; the library's own models have 1 to 3."""


@dataclass(frozen=True)
class Options:
    """`kind` is the library's class, and `config` its arguments, whose counts of blocks are at most `BLOCKS`."""

    kind: Kind
    config: Table = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in COUNTS:
            given = self.config.get(name, 1)
            for count in given if isinstance(given, list | tuple) else (given,):
                if type(count) is not int or not 0 <= count <= BLOCKS:
                    raise ValueError(f"config: {name} = {given!r} should be integers from 0 to {BLOCKS}")


def _made(options: Options) -> nn.Module:
    """The library's network, with fresh weights. Raises UserError if the library is absent, or has no such argument."""
    try:
        import diffusers
    except ImportError as error:
        raise UserError("a model of diffusers needs it: pip install 'vaebench[diffusers]'") from error
    kinds: dict[Kind, Any] = {
        "AutoencoderKL": diffusers.AutoencoderKL,
        "AutoencoderTiny": diffusers.AutoencoderTiny,
    }
    kind = kinds[options.kind]
    known = inspect.signature(kind.__init__).parameters
    if unknown := sorted(set(options.config) - set(known)):
        raise UserError(f"config: {options.kind} of diffusers {diffusers.__version__} has no {unknown[0]!r}")
    network: nn.Module = kind(**options.config)
    return network


def _of_card(space: Space, options: Options) -> Module:
    """q(z|x) = N(mean(x), diag variance(x)) on latents of the network's shape, unscaled, or one z; p(z) = N(0, I)."""
    if not space.is_picture:
        raise ValueError(f"a model of diffusers is of images, not of examples of shape {space.shape}")
    colours = options.config.get("in_channels", 3)
    if type(colours) is not int or colours != space.shape[0]:
        raise ValueError(f"in_channels = {colours}, but the images have {space.shape[0]} colours")
    return Module(space, WIRING, _made(options))


plugin = (_of_card, Options)
