"""Files in the layouts of official releases, made anew from the arrays of golden/."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"


def arrays(name: str) -> dict[str, Any]:
    """The arrays of golden/`name`.npz."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: np.array(file[key]) for key in file}


def nvae_checkpoint(path: Path) -> dict[str, Any]:
    """Writes `path` in the layout of NVAE's release; returns the other arrays: input and expected values.

    The weights are floats of 32 bits whose lowest byte is zero: `planes` holds the other three, lowest first.
    """
    expected = arrays("nvae_cifar10_flow")
    head, planes = json.loads(bytes(expected.pop("checkpoint"))), expected.pop("planes")
    flat = torch.from_numpy(np.concatenate([0 * planes[:1], planes]).T.copy().view("<f4").ravel())
    counts = [int(np.prod(shape)) for _, _, shape in head["tensors"]]
    state = {
        name: part.reshape(shape).to(getattr(torch, dtype))
        for (name, dtype, shape), part in zip(head["tensors"], flat.split(counts), strict=True)
    }
    said = {"epoch": head["epoch"], "arch_instance": head["arch_instance"]}
    torch.save({**said, "state_dict": state, "args": argparse.Namespace(**head["args"])}, path)
    return expected


def likelihood_regret_pair(folder: Path) -> tuple[Path, Path]:
    """netE_pixel.pth and netG_pixel.pth, written into `folder`: convolutions are 8-bit integers times a scale."""
    stored = {name: torch.from_numpy(value) for name, value in arrays("likelihood_regret_weights").items()}
    states: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for name, tensor in stored.items():
        if not name.endswith(".scale"):
            part, _, key = name.partition(".")
            scale = stored.get(f"{name}.scale")
            states[part == "decoder"][key] = tensor if scale is None else tensor * scale
    paths = folder / "netE_pixel.pth", folder / "netG_pixel.pth"
    for path, state in zip(paths, states, strict=True):
        torch.save(state, path)
    return paths
