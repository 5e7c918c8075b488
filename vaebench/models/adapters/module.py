"""A network as it is: any nn.Module that encodes and decodes, in a file of one's own, by its wiring."""

from dataclasses import dataclass

from vaebench.core.data import Space
from vaebench.models.adapters._network import Module
from vaebench.models.adapters._wiring import Wiring
from vaebench.models.code import FromFile, made


@dataclass(frozen=True, kw_only=True)
class Options(Wiring, FromFile):
    """`file` beside the card has the class `name`, which is called with `arguments`: with --allow-code alone."""


def _of_card(space: Space, options: Options) -> Module:
    return Module(space, options, made(options))


plugin = (_of_card, Options)
