"""VAE-TracIn's release: a checkpoint of its convolutional beta-VAE on 64x64 images, named by its iteration.

Source: Kong & Chaudhuri 2021 (arXiv 2105.14203), whose release holds such files.
"""

from pathlib import Path

import torch

from vaebench import __version__
from vaebench.core.data import Space
from vaebench.core.errors import DataError
from vaebench.models.formats import Imported, Importer, StateDict, check, read_file, tensors
from vaebench.models.formats._folding import spread, whole
from vaebench.models.prefixes import unwrapped

SIDE, WIDTHS, DENSE = 64, (32, 32, 64, 64), 256
PARTS = ("weight", "bias")
DATASET = "cifar10-64-dequantised"
SCALE = 0.5**0.5
"""The standard deviation at which -log p(x|z) is the squared error that the release sums, but for a constant."""


def read(path: Path) -> Imported:
    """The model in the file, as one of the flat family on real images in [0, 1]. DataError names each fault.

    The number of latents and of colours follows from the shapes. The convolutions from 4x4 to one place, and back, are
    linear layers here; nothing else changes. p(x|z) is N(sigmoid(decoder), 1/2 I), whose -log p(x|z) is the sum of
    squares that it was trained with; the beta of its objective is of no concern to it.
    """
    content, digest = read_file(path)
    try:
        net = content["model_states"]["net"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not a checkpoint of VAE-TracIn: it lacks model_states with net") from error
    found = unwrapped(path, tensors(path, net))
    first, last = found.get("encoder.0.weight"), found.get("decoder.0.weight")
    if first is None or last is None or first.ndim != 4 or last.ndim != 2 or not 0 < last.shape[1] < 2**20:
        raise DataError(f"{path} is not of the convolutional beta-VAE of VAE-TracIn: encoder.0 or decoder.0 is another")
    colours, latent = first.shape[1], last.shape[1]
    check(StateDict(path, digest, found), _shapes(colours, latent))

    def layer(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return found[f"{name}.weight"], found[f"{name}.bias"]

    layers = {f"encoder.{i + 1}": layer(f"encoder.{i}") for i in (0, 2, 4, 6)}
    layers |= {"encoder.10": whole(*layer("encoder.8")), "encoder.12": layer("encoder.11")}
    layers |= {"decoder.0": layer("decoder.0"), "decoder.2": spread(*layer("decoder.3"))}
    layers |= {f"decoder.{i}": layer(f"decoder.{i}") for i in (5, 7, 9, 11)}
    state = {f"{name}.{part}": each for name, pair in layers.items() for part, each in zip(PARTS, pair, strict=True)}
    space = Space((colours, SIDE, SIDE), None, "density", (0.0, 1.0))
    model = {"latent": latent, "hidden": [*WIDTHS, DENSE], "network": "conv", "activation": "relu",
             "likelihood": "gaussian", "output": "unit", "scale": SCALE}  # fmt: skip
    notes = (
        f"Imported by vaebench {__version__} from {path.name} (sha256 {digest}), in the format of VAE-TracIn's "
        f"release: iteration {content.get('iter')}."
    )
    dataset = DATASET if colours == 3 else None
    return Imported("flat", model, state, space, "The beta-VAE of VAE-TracIn, imported.", notes, dataset)


def _shapes(colours: int, latent: int) -> dict[str, torch.Tensor]:
    a, b, c, d = WIDTHS
    sizes = {
        "encoder.0": (a, colours, 4, 4), "encoder.2": (b, a, 4, 4), "encoder.4": (c, b, 4, 4),
        "encoder.6": (d, c, 4, 4), "encoder.8": (DENSE, d, 4, 4), "encoder.11": (2 * latent, DENSE),
        "decoder.0": (DENSE, latent),
        "decoder.3": (DENSE, d, 4, 4), "decoder.5": (d, c, 4, 4), "decoder.7": (c, b, 4, 4), "decoder.9": (b, a, 4, 4),
        "decoder.11": (a, colours, 4, 4),
    }  # fmt: skip
    turned = ("decoder.3", "decoder.5", "decoder.7", "decoder.9", "decoder.11")  # transposed: inputs first
    weights = {f"{name}.weight": torch.empty(size, device="meta") for name, size in sizes.items()}
    biases = {name: torch.empty(size[1 if name in turned else 0], device="meta") for name, size in sizes.items()}
    return weights | {f"{name}.bias": bias for name, bias in biases.items()}


plugin = Importer(("CHECKPOINT",), read)
