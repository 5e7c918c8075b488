"""NVAE's release: the checkpoint.pt of a training run, with its state dict, arguments and optimiser.

Source: Vahdat & Kautz 2020 (arXiv 2007.03898), whose release wrote them.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from vaebench import __version__
from vaebench.core.data import Space
from vaebench.core.errors import DataError
from vaebench.core.model import channels
from vaebench.distributions.likelihoods import LIKELIHOODS
from vaebench.models.formats import Imported, Importer, StateDict, check, read_file, tensors
from vaebench.models.networks.nvae import Architecture, Network
from vaebench.models.networks.nvae_cells import ARCHS, PLACES, Arch
from vaebench.models.prefixes import unwrapped

FAMILY = "nvae"
ALIAS = ".weight_normalized"
BINARY = ("mnist", "omniglot")
DATASETS = {"mnist": "mnist", "omniglot": "omniglot", "cifar10": "cifar10", "celeba_64": "celeba64"}
"""Ours by the release's name; those of a Gaussian decoder are their twins in [-1, 1]."""
SIDES = {"mnist": 28, "omniglot": 28, "cifar10": 32, "celeba_64": 64, "celeba_256": 256, "ffhq": 256, "imagenet_32": 32}
PADDING = 2  # of 28x28 images
DEFAULTS = {"ada_groups": False, "min_groups_per_scale": 1, "num_mixture_dec": 10, "num_nf": 0, "num_x_bits": 8}
"""What files that lack an argument were made with."""
ARGUMENTS = {
    "channels": "num_channels_enc",
    "decoder_channels": "num_channels_dec",
    "scales": "num_latent_scales",
    "groups": "num_groups_per_scale",
    "adaptive": "ada_groups",
    "min_groups": "min_groups_per_scale",
    "latent": "num_latent_per_group",
    "blocks": "num_preprocess_blocks",
    "pre_cells": "num_preprocess_cells",
    "post_cells": "num_postprocess_cells",
    "encoder_cells": "num_cell_per_cond_enc",
    "decoder_cells": "num_cell_per_cond_dec",
    "flows": "num_nf",
    "squeeze_excitation": "use_se",
    "residual": "res_dist",
}
"""The release's names of our options."""
_SCALAR = np.float64(0).__reduce__()[0]
ALLOWED = (
    argparse.Namespace,
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")),
)
"""A namespace of arguments, and numpy's numbers: none of them runs what a file says."""


@dataclass(frozen=True)
class Options:
    """`tail` is that of the logistic mixture, and without meaning for other likelihoods."""

    tail: Literal["strict", "nvae"] = field(
        default="strict",
        metadata={"help": "The logistic mixture's upper tail: proper, or as released, where 254 and 255 overlap."},
    )


@dataclass(frozen=True)
class _Arguments:
    path: Path
    values: Mapping[str, Any]

    def get(self, name: str, *kinds: type) -> Any:
        """The argument `name`, of one of these types.

        Raises DataError if it is absent and has no default, or differs.
        """
        if name not in self.values and name not in DEFAULTS:
            raise DataError(f"{self.path}: args lacks {name}, which every official checkpoint has")
        value = self.values.get(name, DEFAULTS.get(name))
        value = value.item() if isinstance(value, np.generic) else value
        if type(value) not in kinds:
            raise DataError(f"{self.path}: args.{name} = {value!r} should be {kinds[0].__name__}")
        return value


def _architecture(given: _Arguments, cells: Any) -> dict[str, Any]:
    """The file's arguments as options of the network."""
    kinds = {each.name: bool if each.type is bool else int for each in fields(Architecture)}
    table = {ours: given.get(theirs, kinds[ours]) for ours, theirs in ARGUMENTS.items()}
    if (post := given.get("num_postprocess_blocks", int)) != table["blocks"]:
        raise DataError(f"{given.path}: num_postprocess_blocks = {post} should equal num_preprocess_blocks")
    arch: Arch = given.get("arch_instance", str)
    if arch not in get_args(Arch):
        raise DataError(f"{given.path}: args.arch_instance = {arch!r} should be one of {', '.join(get_args(Arch))}")
    ops = {} if not isinstance(cells, Mapping) else {place: _ops(given.path, cells, place) for place in PLACES}
    changed = {place: list(found) for place, found in ops.items() if found and found != ARCHS[arch][place]}
    return {**table, "arch": arch, **({"ops": changed} if changed else {})}


def _ops(path: Path, cells: Mapping[str, Any], place: str) -> tuple[str, ...]:
    """The operations that a file lists for the cells at `place`, the same for all kinds of cells there."""
    found = {tuple(cells[f"{kind}_{place}"]) for kind in ("normal", "up", "down") if f"{kind}_{place}" in cells}
    if len(found) > 1:
        raise DataError(f"{path}: arch_instance has {len(found)} kinds of cells at {place!r}, where one is known")
    return found.pop() if found else ()


def _likelihood(given: _Arguments, name: str) -> Literal["bernoulli", "discretised-logistic-mixture", "gaussian"]:
    if name in BINARY:
        return "bernoulli"
    if (mixture := given.get("num_mixture_dec", int)) not in (1, 10):
        raise DataError(f"{given.path}: num_mixture_dec = {mixture} should be 10 (logistics) or 1 (a Gaussian)")
    return "gaussian" if mixture == 1 else "discretised-logistic-mixture"


def read(path: Path, options: Options) -> Imported:
    """The model in the file, every name and shape checked. DataError names each fault; nothing in the file is run.

    Names get `network.` before them, and the aliases `.weight_normalized` are dropped; nothing else changes.
    """
    content, digest = read_file(path, ALLOWED)
    if not isinstance(content, dict) or not {"state_dict", "args"} <= content.keys():
        raise DataError(f"{path} is not a checkpoint of NVAE: it lacks 'state_dict' or 'args'")
    args = content["args"]
    given = _Arguments(path, vars(args) if isinstance(args, argparse.Namespace) else {})
    name = given.get("dataset", str)
    table = _architecture(given, content.get("arch_instance"))
    likelihood = _likelihood(given, name)
    if (side := SIDES.get(name)) is None:
        raise DataError(f"{path}: args.dataset = {name!r} should be one of {', '.join(SIDES)}")
    colours, bits = (1, 1) if name in BINARY else (3, given.get("num_x_bits", int))
    if not 1 <= bits <= 8:
        raise DataError(f"{path}: args.num_x_bits = {bits} should be from 1 to 8")
    levels = 2**bits
    space = Space((colours, side, side), levels, "pmf")
    dataset = DATASETS.get(name)
    if likelihood == "gaussian":
        space = Space(space.shape, None, "density", (-1.0, 1.0))
        dataset = dataset and f"{dataset}-centred"
    padding = PADDING if name in BINARY else 0
    try:
        with torch.device("meta"):
            outputs = channels(LIKELIHOODS[likelihood], space)
            shapes = Network(Architecture(**table), colours, side + 2 * padding, outputs).state_dict()
    except (ValueError, RuntimeError) as error:
        raise DataError(f"{path}: args do not make a network: {error}") from error
    found = unwrapped(path, tensors(path, content["state_dict"]))
    state = {key: value for key, value in found.items() if not key.endswith(ALIAS)}
    check(StateDict(path, digest, state), shapes)
    model = {**table, "likelihood": likelihood, "padding": padding}
    if likelihood == "discretised-logistic-mixture":
        model["tail"] = options.tail
    if likelihood == "gaussian" and bits != 8:
        model["bits"] = bits
    notes = (
        f"Imported by vaebench {__version__} from {path.name} (sha256 {digest}), in the format of NVAE's release: "
        f"args.dataset = {name}, epoch {content.get('epoch')}."
    )
    renamed = {f"network.{key}": state[key].to(like.dtype) for key, like in shapes.items()}
    summary = "NVAE, imported from a checkpoint of its release's format."
    return Imported(FAMILY, model, renamed, space, summary, notes, dataset)


plugin = Importer(("checkpoint.pt",), read, Options)
