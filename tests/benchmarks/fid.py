"""Images per second of Inception's features for FID, beside torch-fidelity's own loop, and what bfloat16 changes.

    python tests/benchmarks/fid.py [--images 128] [--channels 3] [--threads 1] [--rounds 3] [--weights FILE]

Without `--weights` (the released file), a seeded random network in its format: speed is the same, distances are not
FID. Seconds are those of the CPU, on one thread unless told otherwise, so that a busy machine changes little. Images
are smooth, random, 32x32; the distance is between two sets of them. torch-fidelity sees its default batch of 64.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.utils import get_featuresdict_from_dataset

from vaebench.core import files
from vaebench.functional.frechet import frechet_distance, moments
from vaebench.metrics.fid import Fid
from vaebench.metrics.shared import inception


class Blank(FeatureExtractorInceptionV3):
    """The network as it is built, whatever the file of weights holds."""

    def load_state_dict(self, *_: object) -> None: ...


def random_network(path: Path) -> Path:
    """Seeded random weights in the released format, scaled so that no layer's output dies out."""
    torch.save({}, path)
    network = Blank("random", ["2048"], feature_extractor_weights_path=str(path))
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.normal_(0, math.sqrt(2 / math.prod(module.weight.shape[1:])))
        elif isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    torch.save(network.state_dict(), path)
    return path


def images(seed: int, count: int, channels: int) -> Tensor:
    coarse = torch.rand(count, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    smooth = nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")
    return (255 * smooth ** (1 + 0.2 * seed)).to(torch.uint8)


class Images(Dataset[Tensor]):
    """8-bit images (N, 1 or 3, H, W), with three channels."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:
        return self.x[index].expand(3, -1, -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 128), ("channels", 3), ("threads", 1), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--weights", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    a, b = (images(seed, chosen.images, chosen.channels) for seed in (0, 1))
    with tempfile.TemporaryDirectory() as folder:
        path = chosen.weights or random_network(Path(folder) / "random.pth")
        peer = FeatureExtractorInceptionV3("peer", ["2048"], feature_extractor_weights_path=str(path))
        release = files.sha256(path)
        ours = {
            name: inception.load(path, release, torch.device("cpu"), arithmetic=name)[1]
            for name in ("float32", "bfloat16")
        }

    def theirs(x: Tensor) -> Tensor:
        found = get_featuresdict_from_dataset(Images(x), peer, 64, cuda=False, save_cpu_ram=True, verbose=False)
        features: Tensor = found["2048"]
        return features

    def in_batches(extract: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda x: torch.cat([extract(part) for part in x.split(Fid.batch)])

    functions = {"torch-fidelity": theirs, **{f"vaebench, {name}": in_batches(f) for name, f in ours.items()}}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    features: dict[str, Tensor] = {}
    for _ in range(chosen.rounds):
        for name, function in functions.items():
            start = time.process_time()
            features[name] = function(a)
            seconds[name].append(time.process_time() - start)
    distance = {name: frechet_distance(moments(features[name]), moments(f(b))) for name, f in functions.items()}
    side = torch.randn(2048, 2048)
    start = time.process_time()
    for _ in range(8):
        side @ side
    peak = 8 * 2 * 2048**3 / (time.process_time() - start)
    sizes = f"{chosen.images} images of {chosen.channels} channels"
    print(f"{sizes}, {chosen.threads} threads, torch {torch.__version__}, product {peak / 1e9:.0f} GFLOP/s in float32")
    reference = features["torch-fidelity"]
    for name, each in seconds.items():
        rate = chosen.images / statistics.median(each)
        ratio = statistics.median(seconds["torch-fidelity"]) / statistics.median(each)
        error = float((features[name] - reference).norm() / reference.norm())
        moved = distance[name] / distance["torch-fidelity"] - 1
        print(
            f"{name:20s} {rate:6.2f} images/s of CPU time, {ratio:4.2f} x; features differ by "
            f"{error:.1e}, distance {distance[name]:.6g} by {moved:+.1e}"
        )


if __name__ == "__main__":
    main()
