"""Writes leaderboards/CLAIMS.md: what papers claim of their methods, beside what the boards here say.

python .github/claims.py
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from vaebench.boards import paired as comparison
from vaebench.boards import per_example as values
from vaebench.boards import store as board
from vaebench.boards import text
from vaebench.boards.rows import Row
from vaebench.core.errors import DataError, UserError

BOARDS = Path(__file__).parent.parent / "leaderboards"
PAGE = BOARDS / "CLAIMS.md"
LATENT_TWINS = (
    ("dpvae", "vae"),
    ("dpvae-seed-1", "vae-seed-1"),
    ("dpvae-seed-2", "vae-seed-2"),
    ("beta-dpvae-h", "beta-vae-h"),
    ("beta-dpvae-b", "beta-vae-b"),
    ("beta-tc-dpvae", "beta-tcvae"),
    ("factor-dpvae", "factor-vae"),
    ("info-dpvae", "info-vae"),
)
CONSISTENT = (("crvae-vae", "vae"), ("crvae-iwae", "iwae"), ("crvae-beta-vae", "beta-vae-h"), ("crvae-nvae", "nvae"))


class Claim(NamedTuple):
    """`column` of `metric` is on the `better` side for the first model of each pair; `of` is taken of both values.

    `loose`: the claim is only that it is not on the other side. `note` is what a reader should know beside the table.
    """

    text: str
    source: str
    metric: str
    column: str
    better: str
    datasets: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    of: Callable[[float], float] = float
    loose: bool = False
    note: str = ""


CLAIMS = (
    Claim("A decoupled prior has a lower symmetric KL between prior and aggregate posterior",
          "Bhalodia et al. 2020 (dpVAE), table 1", "latent-gap", "skl", "lower",
          ("digits", "mnist", "fashion-mnist"), LATENT_TWINS,
          note="A posterior that ignores the data matches any prior: where a plain model is close to that (by "
          "`mutual_information`, `active_units` of `information`), as `factor-vae` on mnist and `beta-vae-h` on digits "
          "are, its twin cannot be lower. Narrow posteriors (`beta-vae-b`, `beta-dpvae-b`) leave most of the prior "
          "uncovered, and its KL to them is then hundreds of nats."),
    Claim("A decoupled prior has a smaller gap between the Fréchet distances of low-posterior and of random samples "
          "(here on the features of a small classifier; the paper's are Inception's)",
          "Bhalodia et al. 2020 (dpVAE), table 1", "fd-domain", "fd_domain_gap", "lower",
          ("digits", "mnist", "fashion-mnist"), LATENT_TWINS, of=abs),
    Claim("IWAE's NLL is not above the VAE's", "Burda et al. 2016, table 1", "likelihood", "nll", "lower",
          ("digits", "mnist"), (("iwae", "vae"),), loose=True),
    Claim("The Hamiltonian VAE's bound is tighter: its ELBO is above that of the VAE of the same nets",
          "Caterini et al. 2018", "likelihood", "elbo", "higher", ("mnist",), (("hvae", "vae-silu"),),
          note="The leapfrog does tighten the bound of the Gaussian it starts from: with `steps` 0 in its card, the "
          "weights of `hvae` lose 0.82 ± 0.02 nats (2,000 test images, 50 draws of each), and 0.32 ± 0.02 with "
          "`tempering` \"none\". Trained to be moved, that Gaussian is as much worse than `vae-silu`'s."),
    Claim("Consistency regularisation lowers the KL between the posteriors of an image and of the transformed image",
          "Sinha & Dieng 2021 (CR-VAE)", "consistency", "consistency_small", "lower", ("digits", "mnist"), CONSISTENT,
          note="These models are trained with the weight 1e-3 that the paper's code defaults to, which does next to "
          "nothing: `digits/crvae-vae` trained again with `strength` 0, 0.001, 0.1 and 1 in its card has 17.5, 17.5, "
          "10.6 and 3.3 nats here, an NLL (K = 100) of 93.2, 93.2, 93.3 and 94.5, and a label that survives the "
          "transform for 71, 71, 73 and 79% of images. What lifts the KL above the VAE's is training on augmented "
          "images."),
    Claim("Consistency regularisation does not lower the accuracy of a linear probe",
          "Sinha & Dieng 2021 (CR-VAE)", "probe", "probe_all", "higher", ("digits", "mnist"), CONSISTENT, loose=True),
    Claim("Consistency regularisation lowers NLL",
          "Sinha & Dieng 2021 (CR-VAE): 76.93 nats on MNIST for CR-NVAE, where NVAE has 78.01",
          "likelihood", "nll", "lower", ("digits", "mnist", "cifar10"), CONSISTENT,
          note="As above, `digits/crvae-vae` has the same NLL without the regulariser: what raises it in these small "
          "models is that half of the images they are trained on are augmented, and none that they are tested on."),
    Claim("JL1-VAE's local MIG is above the beta-VAE's", "Rhodes & Lee 2021 (JL1-VAE), three-dots",
          "disentanglement", "local_mig", "higher", ("three-dots",), (("jl1-vae", "beta-vae-h"),)),
)  # fmt: skip


class Compared(NamedTuple):
    """Two rows of one class, the difference of `of` their values, the half-width of its 95% interval, and whether it is
    paired.
    """

    first: Row
    second: Row
    difference: float
    half: float
    exact: bool


@functools.cache
def board_of(dataset: str) -> list[Row]:
    """The rows of a board, read once."""
    return board.read(BOARDS, dataset)


def compare(claim: Claim, dataset: str, pair: tuple[str, str]) -> Compared | None:
    """The comparable rows of `pair` of the most examples, the last of those; None where the board has none."""
    rows = [row for row in board_of(dataset) if (row.metric, row.column) == (claim.metric, claim.column)]
    try:
        both = comparison.pairs(*([row for row in rows if row.model == model] for model in pair))
    except UserError:
        return None
    first, second = sorted(both, key=lambda rows: rows[0].n or 0)[-1]
    assert first.value is not None
    assert second.value is not None
    try:
        found = comparison.paired(values.read(BOARDS, first), values.read(BOARDS, second))
        return Compared(first, second, found.difference, (found.high - found.low) / 2, True)
    except DataError:
        apart = comparison.apart(first, second)
        difference = claim.of(first.value) - claim.of(second.value)
        return Compared(first, second, difference, (apart.high - apart.low) / 2, False)


def verdict(claim: Claim, difference: float, half: float) -> str:
    """What the interval difference +- half says of the claim."""
    if abs(difference) <= half:
        return "not separable" if not claim.loose else "borne out: not separable"
    return "borne out" if (difference > 0) == (claim.better == "higher") else "**not borne out**"


def lines(claim: Claim) -> Iterator[str]:
    """The table of one claim."""
    yield f"## {claim.text}\n"
    yield f"{claim.source}. Column `{claim.column}` of `{claim.metric}`. {claim.note}".rstrip() + "\n"
    yield "| dataset | n | model | its value | against | its value | difference, 95% | |"
    yield "|---|---|---|---|---|---|---|---|"
    for dataset in claim.datasets:
        seeds: dict[str, list[Compared]] = {}
        for pair in claim.pairs:
            if (found := compare(claim, dataset, pair)) is None:
                continue
            one, other = (text.cell(row) for row in (found.first, found.second))
            change = f"{found.difference:.4g} ± {found.half:.2g}{' paired' if found.exact else ''}"
            said = verdict(claim, found.difference, found.half)
            yield f"| {dataset} | {found.first.n} | {pair[0]} | {one} | {pair[1]} | {other} | {change} | {said} |"
            seeds.setdefault(pair[0].partition("-seed-")[0], []).append(found)
        for name, repeats in seeds.items():
            if len(repeats) > 1:
                yield seeded(claim, dataset, name, repeats)
    yield ""


def seeded(claim: Claim, dataset: str, name: str, repeats: Sequence[Compared]) -> str:
    """The line over trainings: means of `of` the values, and Student's interval over seeds."""
    first, second = (
        np.array([claim.of(row.value) for row in rows if row.value is not None])
        for rows in zip(*((found.first, found.second) for found in repeats), strict=True)
    )
    count = len(first)
    errors = [float(side.std(ddof=1)) / math.sqrt(count) for side in (first, second)]
    difference = float(first.mean() - second.mean())
    half = float(stats.t.ppf(0.975, 2 * count - 2)) * math.hypot(*errors)
    means = zip((first, second), errors, strict=True)
    one, other = (text.number(float(side.mean()), error) for side, error in means)
    plain = repeats[0].second.model
    return (
        f"| {dataset} | {repeats[0].first.n} | {name}, {count} seeds | {one} | {plain}, {count} seeds | {other} "
        f"| {difference:.4g} ± {half:.2g} | {verdict(claim, difference, half)} |"
    )


HEAD = """# Claims and measurements

What papers claim of their methods, and what the models of this zoo say: small nets, trained once by one recipe each
(three times where it says seeds), evaluated here. Every figure in a table is a row of a board in this folder; this page
is written from them by `python .github/claims.py`.

Behind a value, ± is one standard error: over test images, over three sets of samples for Fréchet distances, over
trainings where it says seeds. It says nothing of how far a bound is from the truth: one that has not converged is
marked. n is the number of examples or samples behind a value; Fréchet distances of few samples are biased upwards, so
compare them only at one n. The difference is the first less the second, of absolute values for gaps, with Student's 95%
interval: "paired" example by example, else from both standard errors with Welch's degrees of freedom, or over seeds. An
interval that is not over seeds says nothing of how another training would turn out. Nothing was tuned until it looked
right.
"""


def page() -> str:
    """The whole page, in Markdown."""
    return HEAD + "\n" + "\n".join(line for claim in CLAIMS for line in lines(claim)).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
