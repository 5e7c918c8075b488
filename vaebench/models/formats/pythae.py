"""A model of pythae: the folder that its `save` writes, of a VAE with the library's own networks.

Source: Chadebec, Vincent & Allassonniere 2022 (arXiv 2206.08309), version 0.1.2 of whose package wrote them.
"""

from pathlib import Path
from typing import Any

import torch

from vaebench import __version__
from vaebench.core.data import Space
from vaebench.core.errors import DataError, shown
from vaebench.core.tables import LATENT
from vaebench.models.formats import Imported, Importer, StateDict, check, read_file, read_json, tensors
from vaebench.models.formats._folding import centred, heads
from vaebench.models.prefixes import unwrapped

WIDTH = 512
"""Units of the one hidden layer of the library's default encoder and decoder."""
KINDS = (
    "VAEConfig", "BetaVAEConfig", "DisentangledBetaVAEConfig", "BetaTCVAEConfig", "FactorVAEConfig",
    "INFOVAE_MMD_Config", "IWAEConfig", "MIWAEConfig", "CIWAEConfig", "PIWAEConfig",
)  # fmt: skip
"""Models whose q(z|x) is a diagonal Gaussian, p(z) standard normal, and p(x|z) that of the reconstruction loss."""
TRAINING = "discriminator."
"""What only training needs."""


def read(folder: Path, *, space: Space) -> Imported:
    """The model in the folder, as one of the flat family on examples of `space`. DataError names each fault.

    Its encoder takes x in [0, 1]: where data have levels, that goes into the first layer. Its two heads become one. The
    loss "bce" is a Bernoulli of two levels, or a continuous Bernoulli on [0, 1]; "mse" a Gaussian of unit variance.
    Networks of one's own are pickles, and are not opened.
    """
    config = read_json(folder / "model_config.json")
    kind, latent, shape = config.get("name"), config.get("latent_dim"), config.get("input_dim")
    if kind not in KINDS:
        raise DataError(f"{folder} holds a {str(kind)[:40]!r}, whose prior, posterior or likelihood is another; known: "
                        f"{', '.join(KINDS)}")  # fmt: skip
    own = [half for half in ("encoder", "decoder") if config.get(f"uses_default_{half}") is not True]
    own += [half for half in ("encoder", "decoder") if (folder / f"{half}.pkl").exists() and half not in own]
    if own:
        raise DataError(f"{folder} has its own {' and '.join(own)}, a pickle that runs code, and is not opened; load "
                        "it yourself, and evaluate it by vaebench.from_module")  # fmt: skip
    sides = shape if isinstance(shape, list) else []
    if type(latent) is not int or not 0 < latent <= LATENT or {type(side) for side in sides} != {int}:
        raise DataError(f"{folder / 'model_config.json'}: latent_dim = {shown(latent)} and input_dim = {shown(shape)} "
                        f"should be a number up to {LATENT} and a list of numbers")  # fmt: skip
    if sides not in (list(space.shape), [space.dims]):
        raise DataError(f"{folder} is for examples of shape {shown(tuple(sides))}, but --dataset has {space.shape}")
    path = folder / "model.pt"
    content, digest = read_file(path)
    content = content.get("model_state_dict") if isinstance(content, dict) else content
    found = unwrapped(path, tensors(path, content))
    found = {name: tensor for name, tensor in found.items() if not name.startswith(TRAINING)}
    check(StateDict(path, digest, found), _shapes(space.dims, latent))
    first = found["encoder.layers.0.0.weight"], found["encoder.layers.0.0.bias"]
    layers = {
        "encoder.2": first if space.levels is None else centred(*first),
        "encoder.4": heads(found, "encoder.embedding", "encoder.log_var"),
        "decoder.0": heads(found, "decoder.layers.0.0"),
        "decoder.2": heads(found, "decoder.layers.1.0"),
    }
    state = {f"{name}.{part}": each for name, pair in layers.items() for part, each in zip(_PARTS, pair, strict=True)}
    model = {"latent": latent, "hidden": [WIDTH], "network": "mlp", "activation": "relu"}
    model |= _likelihood(folder, config.get("reconstruction_loss"), space)
    notes = f"Imported by vaebench {__version__} from {path.name} (sha256 {digest}), a {kind} of pythae."
    return Imported("flat", model, state, space, f"{str(kind).removesuffix('Config').strip('_')} of pythae.", notes)


_PARTS = ("weight", "bias")


def _shapes(dims: int, latent: int) -> dict[str, torch.Tensor]:
    sizes = {
        "encoder.layers.0.0": (WIDTH, dims),
        "encoder.embedding": (latent, WIDTH),
        "encoder.log_var": (latent, WIDTH),
        "decoder.layers.0.0": (WIDTH, latent),
        "decoder.layers.1.0": (dims, WIDTH),
    }
    weights = {f"{name}.weight": torch.empty(size, device="meta") for name, size in sizes.items()}
    return weights | {f"{name}.bias": torch.empty(size[0], device="meta") for name, size in sizes.items()}


def _likelihood(folder: Path, loss: object, space: Space) -> dict[str, Any]:
    """p(x|z) of a reconstruction loss. Raises DataError if it is not a likelihood of examples of `space`."""
    unit = space.interval == (0.0, 1.0)
    if loss == "bce" and (space.levels == 2 or unit):
        return {"likelihood": "bernoulli" if space.levels == 2 else "continuous-bernoulli"}
    if loss == "mse" and unit:
        return {"likelihood": "gaussian", "output": "unit", "scale": 1.0}
    if loss not in ("bce", "mse"):
        raise DataError(f"{folder / 'model_config.json'}: reconstruction_loss = {shown(loss)} should be 'bce' or 'mse'")
    need = "two levels, such as mnist, or " if loss == "bce" else ""
    have = f"{space.levels} levels" if space.levels else "real numbers"
    raise DataError(f"{folder}: its loss {loss!r} is a likelihood of {need}real numbers in [0, 1], and --dataset has "
                    f"{have}; name its twin, <dataset>-dequantised (docs/likelihoods.md)")  # fmt: skip


plugin = Importer(("DIR",), read, of_dataset=True)
