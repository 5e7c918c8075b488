"""The Inception network that FID is defined with: where its weights are, read so that no file runs code."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vaebench.core import files, remote
from vaebench.core.errors import DataError
from vaebench.core.remote import Fetching

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Hash of the released weights of 2015-12-05."""
RELEASE = SHA256[:8]
"""How it begins, as their name says."""
DOWNLOAD = "download"
"""In place of a file of weights: fetch the released ones."""
SIDE = 299  # pixels that the network reads
LAST = {"64": "MaxPool_1", "192": "MaxPool_2", "768": "Mixed_6e", "2048": "Mixed_7c"}
"""The module whose output, averaged over pixels, is each of torch-fidelity's layers."""
Arithmetic = Literal["float32", "bfloat16"]


def kept() -> Path:
    """Where torch-fidelity keeps its own download; it need not be there."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(URL).name


def default() -> Path | None:
    """The weights used where none are named: $VAEBENCH_INCEPTION, else those that were downloaded, if they were."""
    if named := os.environ.get("VAEBENCH_INCEPTION"):
        return Path(named)
    return next((path for path in (kept(), remote.kept(SHA256)) if path.is_file()), None)


def fetch(progress: Fetching | None = None) -> Path:
    """The released weights, downloaded where torch-fidelity has not done so. DataError as `remote.obtain`."""
    return kept() if kept().is_file() else remote.obtain(URL, SHA256, progress=progress)


@final
class Inception(nn.Module):
    """8-bit images (B, 1 or 3, H, W) to one layer's features, (B, F) float32, by `trunk` in its weights' type."""

    def __init__(self, trunk: nn.Sequential) -> None:
        super().__init__()
        self.trunk = trunk

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        seen = (resized(x.float()) - 128) / 128
        found: Tensor = self.trunk(seen.to(next(self.parameters()).dtype).expand(-1, 3, -1, -1))
        return found.float().mean((2, 3))


def load(
    path: Path, release: str, device: torch.device, layer: str = "2048", arithmetic: Arithmetic = "float32"
) -> tuple[str, Inception]:
    """The file's sha256, and the map of 8-bit images (B, 1 or 3, H, W) to torch-fidelity's `layer` (B, F).

    Equal to torch-fidelity's within rounding, and faster: see `_trunk`. In bfloat16 the convolutions' inputs, weights
    and outputs are rounded to it, and the sha256 is that of the file and the arithmetic. A single channel is repeated.
    Raises DataError if the file's sha256 does not begin with `release`, or it holds more than tensors, or other tensors
    than Inception's. torch-fidelity would run whatever a pickle says, so it is handed a copy of the tensors alone.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # a second; few runs need it

    digest = files.sha256(path)
    if not digest.startswith(release):
        raise DataError(
            f"{path} is not the Inception network asked for: its sha256 begins with {digest[:8]}, not {release}; "
            f"to measure with it all the same: --set fid.release={digest[:8]}"
        )
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises is not a closed list
        raise DataError(f"{path} is not a file of tensors ({type(error).__name__}); nothing in it was run") from error
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tensors.pth"
        torch.save(tensors, copy)
        try:
            network = FeatureExtractorInceptionV3("inception", [layer], feature_extractor_weights_path=str(copy))
        except (RuntimeError, TypeError, AttributeError) as error:
            raise DataError(f"{path} does not hold Inception's weights: {str(error).partition(chr(10))[0]}") from error
    dtype = torch.float32 if arithmetic == "float32" else torch.bfloat16
    trunk = _trunk(network, layer).to(device, dtype).to(memory_format=torch.channels_last)
    if arithmetic != "float32":
        digest = hashlib.sha256(f"{digest} {arithmetic}".encode()).hexdigest()
    return digest, Inception(trunk)


def _trunk(network: nn.Module, layer: str) -> nn.Sequential:
    """The modules up to `layer`, which torch-fidelity's network runs in turn, with batch norm in the convolutions."""
    for module in network.modules():
        match dict(module.named_children()):
            case {"conv": nn.Conv2d() as conv, "bn": nn.BatchNorm2d() as norm}:
                module.conv, module.bn = fuse_conv_bn_eval(conv, norm), nn.Identity()
    names = [name for name, _ in network.named_children()]
    return nn.Sequential(*(network.get_submodule(name) for name in names[: names.index(LAST[layer]) + 1]))


def resized(x: Tensor) -> Tensor:
    """Images x (B, C, H, W), bilinear, to 299 x 299 as TensorFlow 1 does: output i reads input i H / 299, no offset."""

    def weights(side: int) -> Tensor:
        place = torch.arange(SIDE, device=x.device) * torch.tensor(side / SIDE)
        low = place.long()
        share = (place - low).unsqueeze(1)
        one = torch.eye(side, device=x.device)
        return one[low] * (1 - share) + one[(low + 1).clamp(max=side - 1)] * share

    return weights(x.shape[2]) @ x @ weights(x.shape[3]).T
