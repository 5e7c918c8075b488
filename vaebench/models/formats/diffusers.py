"""An autoencoder of diffusers: the folder, or the hub's name, of an AutoencoderKL or AutoencoderTiny (safetensors).

Source: https://github.com/huggingface/diffusers, whose `save_pretrained` writes such folders.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from vaebench import __version__
from vaebench.core import files, size
from vaebench.core.data import Space
from vaebench.core.errors import DataError, foreign, shown
from vaebench.models.adapters.diffusers import Kind, Options
from vaebench.models.adapters.diffusers import plugin as adapter
from vaebench.models.formats import Imported, Importer, StateDict, check, read_json
from vaebench.models.loading import read_tensors
from vaebench.models.prefixes import unwrapped

CONFIG = "config.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
INNER = "vae"
"""Where a pipeline's folder has its autoencoder."""
NETWORK = "network."
DERIVED = {"AutoencoderTiny": ("block_out_channels",)}
"""What a class writes into its configuration that is not an argument of it."""
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What attention's layers were called in early files."""
_OLD = re.compile(r"(.*\.attentions\.\d+\.)(query|key|value|proj_attn)(\.(?:weight|bias))")


def read(folder: Path, *, space: Space) -> Imported:
    """The model in the folder, on images of `space`. DataError names each fault; nothing in a file is run.

    Names get `network.` before them, half precision becomes single, and early names of attention those of today. Its
    decoder was trained by perception and a discriminator: there is no likelihood.
    """
    folder = _found(folder)
    config = read_json(folder / CONFIG)
    kind = config.get("_class_name")
    if kind != "AutoencoderKL" and kind != "AutoencoderTiny":
        raise DataError(f"{folder / CONFIG} is of {shown(kind)}, not of one of {', '.join(get_args(Kind))}")
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise DataError(f"{folder} has no {WEIGHTS[0]}; write one: model.save_pretrained(DIR), one file, safetensors")
    left = DERIVED.get(kind, ())
    arguments = {k: v for k, v in config.items() if not k.startswith("_") and v is not None and k not in left}
    make, _ = adapter
    tell = f"{folder / CONFIG} makes no network"
    with warnings.catch_warnings(), foreign(lambda reason: DataError(f"{tell}: {reason}")):
        warnings.simplefilter("ignore")  # of sizes that are 0
        with size.bounded(), torch.device("meta"):
            shapes = make(space, Options(kind, arguments)).state_dict()
    found = _today(unwrapped(path, read_tensors(path)))
    state = {NETWORK + name: tensor for name, tensor in found.items()}
    check(StateDict(path, "", state), shapes)
    state = {name: state[name].to(like.dtype) for name, like in shapes.items()}
    source = f"{path.name} (sha256 {files.sha256(path)})"
    notes = f"Imported by vaebench {__version__} from {source}, the weights of an {kind} of diffusers."
    return Imported("diffusers", {"kind": kind, "config": arguments}, state, space, f"{kind} of diffusers.", notes)


def _found(folder: Path) -> Path:
    """Where the autoencoder is: in the folder, in a pipeline's, or fetched from the hub.

    Raises DataError if in none.
    """
    if not folder.is_dir():
        if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", name := folder.as_posix(), re.ASCII):
            raise DataError(f"{folder} is not a folder; name that of a model of diffusers, or OWNER/NAME of the hub")
        folder = _fetched(name)
    inner = folder / INNER
    return inner if not (folder / CONFIG).is_file() and (inner / CONFIG).is_file() else folder


def _fetched(name: str) -> Path:
    remedy = "fetch it where there is a network, and name its folder"
    with foreign(
        lambda reason: DataError(f"{name} is not a folder here, and the hub does not give it ({reason}); {remedy}")
    ):
        from huggingface_hub import snapshot_download

        wanted = [f"{place}{file}" for place in ("", f"{INNER}/") for file in (CONFIG, *WEIGHTS)]
        return Path(snapshot_download(name, allow_patterns=wanted))


def _today(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = {}
    for name, tensor in found.items():
        if (old := _OLD.fullmatch(name)) is not None:
            name = f"{old[1]}{OLD[old[2]]}{old[3]}"
            tensor = tensor.flatten(1) if tensor.ndim == 4 else tensor
        state[name] = tensor
    return state


plugin = Importer(("DIR",), read, of_dataset=True)
