"""Likelihood Regret's release: state dicts netE_pixel.pth (the encoder) and netG_pixel.pth (the decoder).

Source: Xiao, Yan & Amit 2020 (arXiv 2003.02977).
"""

from pathlib import Path

import torch
from torch import Tensor

from vaebench import __version__
from vaebench.core.data import Space
from vaebench.core.errors import DataError
from vaebench.models.formats import Imported, Importer, StateDict, check, read_state_dict
from vaebench.models.networks.dcgan import LEVELS, SIDE, Decoder, Encoder
from vaebench.models.prefixes import unwrapped

FAMILY = "likelihood-regret"


def _four(found: StateDict, name: str) -> tuple[int, int, int, int]:
    """The shape of a convolution's weight. Raises DataError if there is no such tensor."""
    if (tensor := found.tensors.get(name)) is None:
        raise DataError(f"{found.path} lacks {name}; give netE_pixel.pth (the encoder) first, then netG_pixel.pth")
    if tensor.ndim != 4 or 0 in tensor.shape:
        raise DataError(f"{found.path}: {name} is {list(tensor.shape)}, not the weight of a convolution")
    a, b, c, d = tensor.shape
    return a, b, c, d


def _read(path: Path) -> StateDict:
    found = read_state_dict(path)
    return found._replace(tensors=unwrapped(path, found.tensors))


def read(encoder: Path, decoder: Path) -> Imported:
    """The model in the two files, every name and shape checked. DataError names each fault.

    nz, ngf and nc follow from the encoder's shapes, and the decoder must agree: `conv1.weight` is (nz, 4 ngf, 4, 4),
    `main.input-conv.weight` (ngf, nc, 4, 4). Names get `encoder.` or `decoder.` before them; nothing else changes.
    """
    nets = _read(encoder), _read(decoder)
    width, colours, _, _ = _four(nets[0], "main.input-conv.weight")
    latent, _, _, _ = _four(nets[0], "conv1.weight")
    with torch.device("meta"):
        wanted = Encoder(colours, latent, width), Decoder(colours, latent, width)
    state: dict[str, Tensor] = {}
    for prefix, found, net in zip(("encoder", "decoder"), nets, wanted, strict=True):
        shapes = net.state_dict()
        check(found, shapes)
        state |= {f"{prefix}.{name}": found.tensors[name].to(like.dtype) for name, like in shapes.items()}
    files = " and ".join(f"{found.path.name} (sha256 {found.sha256})" for found in nets)
    notes = f"Imported by vaebench {__version__} from {files}, in the format of the Likelihood Regret release."
    summary = "The VAE of Likelihood Regret, imported from files of its release's format."
    space = Space((colours, SIDE, SIDE), LEVELS, "pmf")
    return Imported(FAMILY, {"latent": latent, "width": width}, state, space, summary, notes)


plugin = Importer(("netE_pixel.pth", "netG_pixel.pth"), read)
