"""Does each code follow one factor? MIG twice, DCI, SAP, modularity, FactorVAE and beta-VAE scores; local MIG."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor

from vaebench.core.data import Batch, Dataset, GroundTruth, Split
from vaebench.core.metric import BLOCK, Column, Curve, Measurement, Metric, Run
from vaebench.core.model import LatentVariableModel
from vaebench.functional import random
from vaebench.functional.aggregate import draw_mixture
from vaebench.functional.bootstrap import bootstrap_stderr
from vaebench.functional.disentanglement import (
    entropies,
    histogram_bins,
    information_gap,
    latent_information_terms,
    mig_chen,
    modularity,
    mutual_information,
)
from vaebench.functional.factor_prediction import (
    Sample,
    beta_vae_score,
    concentration,
    explicitness,
    factor_vae_score,
    importances,
    sap,
    separability,
)
from vaebench.functional.factors import FEW, uniform_factors
from vaebench.functional.statistics import mean_stderr
from vaebench.metrics.shared.encoder import IMAGES, Encoder, around, pairs, points, votes
from vaebench.metrics.shared.jacobian_picture import jacobian_picture
from vaebench.metrics.shared.sample_quality import no_images

RHOS = (0.1, 0.2, 0.3, 0.6, 1.0)  # of the curves; the scalar columns are at the first
PICTURED = 4  # images beside which the decoder's Jacobian is shown
CHUNK = 100  # points about a centre that make one example of a pass


def fits(batch: Batch, _: int, *, train: Sample, test: Sample, trees: int, own: int) -> dict[str, Tensor]:
    """`importances` as the one example of a pass, so that it is journalled."""
    weights, correct = importances(train, test, trees, own)
    return {"weights": weights[None], "correct": correct[None]}


def local_scores(codes: Tensor, factors: Tensor, bins: int) -> tuple[float, float]:
    """MIG and modularity of the points about one centre."""
    information = mutual_information(histogram_bins(codes, bins), factors)
    return information_gap(information, entropies(factors)), modularity(information)


@final
@dataclass(frozen=True)
class Disentanglement(Metric):
    """Scores of `model.embed` as codes of the factors that a rendered dataset is made from, from fresh draws of these.

    Images are read as `split` reads them: binarised where it is. Nothing else of the split is used.

    * mig_dlib, modularity: plug-in mutual information of `bins` equal parts of each code's range, on `points` points.
    * mig_chen: `draws` draws of q(z|x), over the mixture of `mixture` points; divided by the log of a factor's size.
    * sap, explicitness: classifiers trained on `points` points, judged on `test_points`.
    * dci_*: boosted trees (`trees` rounds) on `dci_points` points, judged on `test_points`; the mean of `dci_repeats`
      disjoint sets of points.
    * factor_vae_score, beta_vae_score: `votes` votes of `vote_size` images or pairs train a classifier, `test_votes`
      judge it.
    * local_mig, local_modularity: the mean over `centres`, of `local_points` points each whose factors lie within
      floor(rho size) of the centre's, `local_bins` parts; at rho = 0.1, the curve at others. A factor of fewer than 10
      values is the centre's: it has no part in the gap, but counts in modularity, as does a code that knows nothing.

    Standard errors: of mig_* and modularity by a bootstrap over points or draws (the mixture and the edges of the parts
    kept); of sap by a bootstrap over test points, the classifiers kept, and of explicitness by its influence function
    there; of dci_* over its repeats; of the two scores over test votes, the classifier kept; of local_* over centres.
    On `three-dots` the discs are alike, so that no code can tell which is which: its global scores are near 0 for any
    model, and only the local ones can be high. `mig_chen` needs a diagonal Gaussian q(z|x).

    `jacobian.png` shows what each latent coordinate changes, where latents are one vector: columns of the decoder's
    Jacobian beside a few images.
    Source: constants of disentanglement_lib (Locatello et al. 2019); Rhodes & Lee 2021 (local scores); Chen et al. 2018
    (MIG); Eastwood & Williams 2018 (DCI); Kumar et al. 2018 (SAP); Ridgeway & Mozer 2018 (modularity); Kim & Mnih 2018
    and Higgins et al. 2017 (the scores of FactorVAE and beta-VAE).
    """

    points: int = 10_000
    test_points: int = 5_000
    bins: int = 20
    mixture: int = 50_000
    draws: int = 10_000
    dci_points: int = 1_000
    dci_repeats: int = 3
    trees: int = 100
    votes: int = 10_000
    test_votes: int = 5_000
    vote_size: int = 64
    centres: int = 20
    local_points: int = 10_000
    local_bins: int = 5

    version: ClassVar[int] = 1
    given = ("binarisation",)
    splits = ()
    columns: ClassVar[tuple[Column, ...]] = (
        Column("mig_dlib", "", "higher", "estimate",
               equation="mean_f (I_1f - I_2f) / H(v_f), I_kf the k-th highest over codes of I(z_l; v_f), by bins"),
        Column("mig_chen", "", "higher", "estimate",
               equation="mean_f (I_1f - I_2f) / log |v_f|, highest over codes of E[log q(z_l|v_f) - log q(z_l)]"),
        Column("dci_disentanglement", "", "higher", "estimate",
               equation="sum_l rho_l (1 - H(R_l.) / log F), R the trees' importances (L, F), rho the codes' shares"),
        Column("dci_completeness", "", "higher", "estimate",
               equation="sum_f rho_f (1 - H(R_.f) / log L), R the trees' importances (L, F), rho the factors' shares"),
        Column("dci_informativeness", "", "higher", "estimate",
               equation="mean_f accuracy of boosted trees that predict v_f from all codes"),
        Column("sap", "", "higher", "estimate",
               equation="mean_f (a_1f - a_2f), a_kf the k-th highest over codes of a linear classifier's accuracy"),
        Column("modularity", "", "higher", "estimate",
               equation="mean_l 1 - sum_{f != best} I_lf^2 / (I_l,best^2 (F - 1))"),
        Column("explicitness", "", "higher", "estimate",
               equation="mean over factors and values of the area under the ROC curve of [v_f = value], by all codes"),
        Column("factor_vae_score", "", "higher", "estimate",
               equation="accuracy of a majority vote for the fixed factor, by argmin_l Var(z_l) / Var_all(z_l)"),
        Column("beta_vae_score", "", "higher", "estimate",
               equation="accuracy of logistic regression for the shared factor, by mean |z - z'| over pairs"),
        Column("local_mig", "", "higher", "estimate",
               equation="mean over centres of mig_dlib among points whose factors lie within rho of the centre's"),
        Column("local_modularity", "", "higher", "estimate",
               equation="mean over centres of modularity among points whose factors lie within rho of the centre's"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        low = {"dci_repeats": 1, "trees": 1, "centres": 1, "votes": 10, "test_votes": 1}
        for name in ("points", "test_points", "bins", "mixture", "draws", "dci_points", "vote_size", "local_points",
                     "local_bins", *low):  # fmt: skip
            if getattr(self, name) < low.get(name, 2):
                raise ValueError(f"{name} = {getattr(self, name)} should be at least {low.get(name, 2)}")
        if self.local_points % self.chunk:
            raise ValueError(f"local_points = {self.local_points} should be below {CHUNK} or a multiple of it")

    @property
    def chunk(self) -> int:
        """Points about a centre that make one example of a pass."""
        return min(CHUNK, self.local_points)

    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        if (reason := super().unsupported(model, dataset)) is not None:
            return reason
        if dataset.ground_truth is None:
            return f"{dataset.name} is not rendered from known factors"
        if len(dataset.ground_truth.sizes) < 2:
            return f"{dataset.name} has one factor: there is nothing to tell it from"
        return None

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        truth = dataset.ground_truth
        assert truth is not None
        encoder = Encoder(model, truth, dataset.split(self.split).binarised)
        train = max(self.points, self.mixture, self.dci_points * self.dci_repeats)
        numbers = _numbers("points", train + self.test_points)
        found = run.map(partial(points, encoder=encoder), numbers, batch=BLOCK)
        codes, factors = found["codes"], found["factors"]
        sample, test = Sample(codes[: self.points], factors[: self.points]), Sample(codes[train:], factors[train:])
        yield from self._information(sample, run)
        if "mean" in found:
            yield self._latent(found, truth, run)
        yield from self._prediction(sample, test, run)
        yield from self._votes(encoder, sample.codes.double().var(0), run)
        if max(truth.sizes) >= FEW:
            yield from self._local(encoder, run)
        yield from self._importance(Sample(codes[:train], factors[:train]), test, run)
        if no_images(dataset) is not None:
            return
        centres = uniform_factors(random.derive(run.seed, "Jacobian"), truth.sizes, torch.arange(PICTURED))
        title = f"{run.model_name} on {dataset.name}: the decoder's derivative in each latent, largest first"
        if (picture := jacobian_picture(title, encoder, centres, run)) is not None:
            run.keep("jacobian.png", picture)

    def _information(self, sample: Sample, run: Run) -> Iterator[Measurement]:
        parts, factors = histogram_bins(sample.codes, self.bins), sample.factors

        def gap(index: Tensor) -> float:
            return information_gap(mutual_information(parts[index], factors[index]), entropies(factors[index]))

        def modular(index: Tensor) -> float:
            return modularity(mutual_information(parts[index], factors[index]))

        every = torch.arange(self.points)
        for name, statistic in (("mig_dlib", gap), ("modularity", modular)):
            error = bootstrap_stderr(statistic, self.points, run.seed)
            yield Measurement(name, statistic(every), error, self.points)

    def _latent(self, found: Mapping[str, Tensor], truth: GroundTruth, run: Run) -> Measurement:
        mean, log_variance, factors = (found[name][: self.mixture] for name in ("mean", "log_variance", "factors"))
        draws = draw_mixture(mean, log_variance, self.draws, run.seed)
        terms = latent_information_terms(draws, mean, log_variance, factors)
        error = bootstrap_stderr(lambda index: mig_chen(terms[index], truth.sizes), self.draws, run.seed)
        return Measurement("mig_chen", mig_chen(terms, truth.sizes), error, self.mixture)

    def _prediction(self, sample: Sample, test: Sample, run: Run) -> Iterator[Measurement]:
        correct = separability(sample, test).double()
        error = bootstrap_stderr(lambda index: sap(correct[index].mean(0)), self.test_points, run.seed)
        yield Measurement("sap", sap(correct.mean(0)), error, self.test_points)
        yield Measurement("explicitness", *explicitness(sample, test), self.test_points)

    def _importance(self, train: Sample, test: Sample, run: Run) -> Iterator[Measurement]:
        values: dict[str, list[float]] = {"disentanglement": [], "completeness": [], "informativeness": []}
        for repeat in range(self.dci_repeats):
            part = slice(repeat * self.dci_points, (repeat + 1) * self.dci_points)
            some = Sample(train.codes[part], train.factors[part])
            own = random.derive(run.seed, repeat)
            function = partial(fits, train=some, test=test, trees=self.trees, own=own)
            found = run.map(function, _numbers(f"importances {repeat}", 1))
            weights = found["weights"][0]
            values["disentanglement"].append(concentration(weights))
            values["completeness"].append(concentration(weights.T))
            values["informativeness"].append(float(found["correct"].double().mean()))
        for name, each in values.items():
            yield Measurement.mean(f"dci_{name}", torch.tensor(each), self.dci_points)

    def _votes(self, encoder: Encoder, variance: Tensor, run: Run) -> Iterator[Measurement]:
        for name, ballot in (("factor_vae_score", votes), ("beta_vae_score", pairs)):
            function = partial(ballot, encoder=encoder, size=self.vote_size)
            numbers = _numbers(name, self.votes + self.test_votes)
            found = run.map(function, numbers, batch=_batch(self.vote_size))
            which, value = (found[key].split([self.votes, self.test_votes]) for key in ("which", "value"))
            train, test = (which[0], value[0]), (which[1], value[1])
            if name == "factor_vae_score":
                correct = factor_vae_score(train, test, variance, len(encoder.truth.sizes))
            else:
                correct = beta_vae_score(train, test)
            yield Measurement.proportion(name, *mean_stderr(correct), self.test_votes)

    def _local(self, encoder: Encoder, run: Run) -> Iterator[Measurement]:
        sizes = encoder.truth.sizes
        centres = uniform_factors(random.derive(run.seed, "centres"), sizes, torch.arange(self.centres))
        number = torch.arange(self.centres).repeat_interleave(self.local_points // self.chunk)
        scores = []
        for rho in RHOS:
            function = partial(around, encoder=encoder, centres=centres, rho=rho, size=self.chunk)
            found = run.map(function, Split(f"around {rho}", number), batch=_batch(self.chunk))
            codes, factors = (found[name].reshape(self.centres, self.local_points, -1) for name in ("codes", "factors"))
            scores.append([local_scores(c, f.long(), self.local_bins) for c, f in zip(codes, factors, strict=True)])
        table = torch.tensor(scores, dtype=torch.float64)  # (rho, centre, 2)
        for i, name in enumerate(("local_mig", "local_modularity")):
            curve = Curve(RHOS, tuple(table[:, :, i].mean(1).tolist()), "rho", name)
            yield Measurement.mean(name, table[0, :, i], self.local_points, curve)


def _numbers(name: str, count: int) -> Split:
    """`count` examples that are nothing but their numbers, for a pass that draws its own factors."""
    return Split(f"{name} {count}", torch.arange(count))


def _batch(images: int) -> int:
    """How many examples of so many images to take at once."""
    return max(1, IMAGES // images)


plugin = {
    "quick": Disentanglement(
        points=2000, test_points=1000, mixture=3000, draws=1000, dci_points=150, trees=5, votes=200, test_votes=100,
        vote_size=32, centres=5, local_points=500,
    ),
    "standard": Disentanglement(),
    "paper": Disentanglement(dci_points=10_000),
}  # fmt: skip
