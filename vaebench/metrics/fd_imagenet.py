"""Frechet distance on features of a small ImageNet network: random, low-posterior, reconstructions."""

from dataclasses import dataclass
from typing import ClassVar, final

from vaebench.core.data import Dataset
from vaebench.core.metric import Column, Run
from vaebench.core.tables import within
from vaebench.metrics.shared import imagenet
from vaebench.metrics.shared.sample_quality import Extract, SampleQuality


@final
@dataclass(frozen=True)
class FdImagenet(SampleQuality):
    """`SampleQuality` on the 1280 pooled features of EfficientNet-Lite0, of images resized to `side` x `side`.

    Its weights come with a package, so that colour images have a number where Inception's cannot be had. Values are
    comparable among themselves, and never with FID, whose features are Inception's.
    Source: Heusel et al. 2017; Tan & Le 2019 for the network.
    """

    side: int = 128

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[Column, ...]] = (
        Column("fd_imagenet", "squared features", "lower", "estimate",
               equation="|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), features of prior draws, training images"),
        Column("fd_imagenet_lp", "squared features", "lower", "estimate",
               equation="the same distance, of the prior draws whose aggregate posterior density q(z) is lowest"),
        Column("fd_imagenet_gap", "squared features", "none", "estimate", equation="fd_imagenet_lp - fd_imagenet"),
        Column("fd_imagenet_reconstruction", "squared features", "lower", "estimate",
               equation="the same distance, of reconstructions of the split and of training images"),
    )  # fmt: skip
    batch: ClassVar[int] = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, side=(32, 1024))

    @classmethod
    def on_request(cls, dataset: Dataset) -> bool:
        """True for grey images: minutes, and their boards have `fd-domain`, of the features of a digit or garment."""
        return dataset.space.shape[0] == 1

    def extractor(self, run: Run) -> tuple[str, Extract]:
        return imagenet.load(self.side, run.device)


plugin = {
    "quick": FdImagenet(samples=500, candidates=2000, limit=2000),
    "standard": FdImagenet(limit=10_000),
    "paper": FdImagenet(samples=50_000, candidates=500_000, side=224),
}
