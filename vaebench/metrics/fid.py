"""Frechet Inception distance: random samples, low-posterior samples (FID(LP)), reconstructions."""

from dataclasses import dataclass
from typing import ClassVar, final

from vaebench.core.metric import Column, Run
from vaebench.metrics.shared import inception
from vaebench.metrics.shared.sample_quality import Extract, SampleQuality


@final
@dataclass(frozen=True)
class Fid(SampleQuality):
    """`SampleQuality` on the 2048 pooled features of torch-fidelity's Inception of 2015-12-05, which resizes to 299.

    A single channel is repeated three times. `release` is how the SHA-256 of the weights begins: with others than the
    released ones the distance is not FID, and the row says so. `arithmetic` "bfloat16" is that of Inception's
    convolutions: faster, and a protocol of its own (its effect: tests/benchmarks). Source: Heusel et al.
    2017.
    """

    release: str = inception.RELEASE
    arithmetic: inception.Arithmetic = "float32"

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[Column, ...]] = (
        Column("fid", "squared features", "lower", "estimate",
               equation="|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), features of prior draws, training images"),
        Column("fid_lp", "squared features", "lower", "estimate",
               equation="the same distance, of the prior draws whose aggregate posterior density q(z) is lowest"),
        Column("fid_gap", "squared features", "none", "estimate", equation="fid_lp - fid"),
        Column("fid_reconstruction", "squared features", "lower", "estimate",
               equation="the same distance, of reconstructions of the split and of training images"),
    )  # fmt: skip
    batch: ClassVar[int] = 20  # 299 x 299 each, on every thread

    def extractor(self, run: Run) -> tuple[str, Extract]:
        return inception.load(run.resources.inception_weights(), self.release, run.device, arithmetic=self.arithmetic)


plugin = {
    "quick": Fid(samples=500, candidates=2000, limit=2000),
    "standard": Fid(),
    "paper": Fid(samples=50_000, candidates=500_000),
}
