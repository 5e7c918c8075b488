"""Frechet distance on features of a small classifier that the zoo ships: random, low-posterior, reconstructions."""

from dataclasses import dataclass
from typing import ClassVar, final

from vaebench.core.metric import Column, Run
from vaebench.metrics.shared.sample_quality import Extract, SampleQuality


@final
@dataclass(frozen=True)
class FdDomain(SampleQuality):
    """`SampleQuality` on the hidden layer of the dataset's classifier, so that nothing need be downloaded.

    Values are comparable within a dataset only, and never with FID, whose features are Inception's.
    Source: Heusel et al. 2017; Bhalodia et al. 2020, section 4.2, for low-posterior draws.
    """

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[Column, ...]] = (
        Column("fd_domain", "squared features", "lower", "estimate",
               equation="|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), features of prior draws, training images"),
        Column("fd_domain_lp", "squared features", "lower", "estimate",
               equation="the same distance, of the prior draws whose aggregate posterior density q(z) is lowest"),
        Column("fd_domain_gap", "squared features", "none", "estimate", equation="fd_domain_lp - fd_domain"),
        Column("fd_domain_reconstruction", "squared features", "lower", "estimate",
               equation="the same distance, of reconstructions of the split and of training images"),
    )  # fmt: skip

    def extractor(self, run: Run) -> tuple[str, Extract]:
        return run.resources.features()


plugin = {
    "quick": FdDomain(samples=500, candidates=2000),
    "standard": FdDomain(),
    "paper": FdDomain(samples=10_000, candidates=100_000),
}
