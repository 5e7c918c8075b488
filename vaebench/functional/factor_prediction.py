"""How well factors can be told from codes, and from which: DCI, SAP, explicitness, the FactorVAE and beta-VAE scores.

Codes (N, L) are what a model makes of N examples, factors (N, F) int64 what these were rendered from; classifiers are
scikit-learn's, with the constants of disentanglement_lib.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import Tensor

ACTIVE = 0.05
"""The standard deviation below which a code has no say in FactorVAE's score."""


class Sample(NamedTuple):
    """`codes` (N, L) and `factors` (N, F) of N examples."""

    codes: Tensor
    factors: Tensor


def importances(train: Sample, test: Sample, trees: int, seed: int) -> tuple[Tensor, Tensor]:
    """How much each code matters to boosted trees that predict each factor, (L, F), each column summing to 1; and
    which test examples (N, F) these predict correctly.

    `trees` rounds of boosting, as many trees of depth 3 for each value of a factor. A factor that does not vary in
    `train` needs no code: its column is 0. Source: Eastwood & Williams 2018, with disentanglement_lib's classifier.
    """
    columns, correct = [], []
    for f in range(train.factors.shape[1]):
        y, truth = train.factors[:, f].numpy(), test.factors[:, f].numpy()
        if (y == y[0]).all():
            columns.append(np.zeros(train.codes.shape[1]))
            correct.append(truth == y[0])
            continue
        classifier = GradientBoostingClassifier(n_estimators=trees, random_state=seed % 2**32)
        classifier.fit(train.codes.double().numpy(), y)
        columns.append(abs(classifier.feature_importances_))  # rounding can leave -1e-17 where there is none
        correct.append(classifier.predict(test.codes.double().numpy()) == truth)
    return torch.from_numpy(np.stack(columns, 1)), torch.from_numpy(np.stack(correct, 1))


def concentration(weights: Tensor) -> float:
    """The mean over rows of 1 - H(row) / log(columns), weighted by each row's share of `weights` (R, C); 0 to 1.

    DCI's disentanglement of importances (L, F), and its completeness of their transpose. Rows that sum to 0 have no
    share; all 0 gives 0. Source: Eastwood & Williams 2018, section 2.
    """
    total = weights.sum(1)
    if not bool(total.any()) or weights.shape[1] == 1:
        return float(total.any())
    p = weights / total.clamp(min=torch.finfo(weights.dtype).tiny)[:, None]
    entropy = -torch.xlogy(p, p).sum(1) / np.log(weights.shape[1])
    return float(((1 - entropy) * total).sum() / total.sum())


def separability(train: Sample, test: Sample) -> Tensor:
    """Which factors of which test examples a linear classifier predicts from one code, (N, L, F) bool.

    A support vector machine for each code and factor, C = 0.01, values weighted to the same total. The mean over
    examples is SAP's matrix. Source: Kumar et al. 2018, section 3, with disentanglement_lib's constants.
    """
    correct = torch.zeros(len(test.codes), train.codes.shape[1], train.factors.shape[1], dtype=torch.bool)
    for f in range(train.factors.shape[1]):
        y, truth = train.factors[:, f].numpy(), test.factors[:, f].numpy()
        for code in range(train.codes.shape[1]):
            if (y == y[0]).all():
                predicted = np.full_like(truth, y[0])
            else:
                machine = LinearSVC(C=0.01, class_weight="balanced", dual=False)
                machine.fit(train.codes[:, code : code + 1].double().numpy(), y)
                predicted = machine.predict(test.codes[:, code : code + 1].double().numpy())
            correct[:, code, f] = torch.from_numpy(predicted == truth)
    return correct


def sap(accuracy: Tensor) -> float:
    """The mean over factors of highest - second highest of `accuracy` (L, F) over codes; with one code, of the highest.

    Source: Kumar et al. 2018, section 3.
    """
    padded = torch.cat([accuracy, torch.zeros_like(accuracy[:1])])
    first, second = padded.topk(2, dim=0).values
    return float((first - second).mean())


def explicitness(train: Sample, test: Sample) -> tuple[float, float]:
    """The mean over factors and their values of the area under the ROC curve of "has this value", and its error.

    By multinomial logistic regression on the codes; 0.5 is chance. The error is over test examples, by the area's
    influence function. Values that no test example has, or all have, are left out; so are factors that do not vary.
    Raises ValueError if nothing is left. Source: Ridgeway & Mozer 2018, section 3.3, as disentanglement_lib has it.
    """
    areas, influence = [], torch.zeros(len(test.codes), dtype=torch.float64)
    for f in range(train.factors.shape[1]):
        y, truth = train.factors[:, f].numpy(), test.factors[:, f].numpy()
        if (y == y[0]).all():
            continue
        classifier = LogisticRegression(max_iter=1000).fit(train.codes.double().numpy(), y)
        scores = classifier.predict_proba(test.codes.double().numpy())
        found = [_roc(scores[:, i], truth == value) for i, value in enumerate(classifier.classes_)]
        usable = [one for one in found if one is not None]
        if usable:
            areas.append(sum(area for area, _ in usable) / len(usable))
            influence += torch.from_numpy(np.mean([effect for _, effect in usable], 0))
    if not areas:
        raise ValueError("no factor varies: there is nothing to be explicit about")
    return sum(areas) / len(areas), float(influence.std()) / len(areas) / len(influence) ** 0.5


def _roc(score: NDArray[Any], has: NDArray[Any]) -> tuple[float, NDArray[Any]] | None:
    """The area under the ROC curve, ties at one half, and each example's influence on it (N,); None without both kinds.

    Source: DeLong, DeLong & Clarke-Pearson 1988.
    """
    count, positives = len(has), int(has.sum())
    if positives in (0, count):
        return None
    rank = rankdata(score)
    below = (rank[has] - rankdata(score[has])) / (count - positives)  # the part of the others below each that has it
    above = 1 - (rank[~has] - rankdata(score[~has])) / positives
    area = float(below.mean())
    influence = np.empty(count)
    influence[has] = (below - area) * count / positives
    influence[~has] = (above - area) * count / (count - positives)
    return area, influence


def factor_vae_score(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], variance: Tensor, factors: int
) -> Tensor:
    """Which test votes a majority classifier gets right, (E,) bool: their mean is FactorVAE's score.

    `train` and `test` are which factor was fixed (V,), and the variances of the codes in the vote (V, L); `variance`
    (L,) is that over all the data. A vote is for the code whose variance, divided by that over all the data, is least;
    codes whose standard deviation over all the data is below `ACTIVE` have none. The classifier says of each code the
    factor that was fixed most often in its training votes (the first of `factors` where it had none). All wrong
    where no code is active. Source: Kim & Mnih 2018, section 4; constants of disentanglement_lib.
    """
    active = variance.double().sqrt() >= ACTIVE
    if not bool(active.any()):
        return torch.zeros(len(test[0]), dtype=torch.bool)
    ballots = [(which, (found / variance)[:, active].argmin(1)) for which, found in (train, test)]
    (which, vote), (truth, asked) = ballots
    width = int(active.sum())
    votes = torch.bincount(which * width + vote, minlength=factors * width).reshape(factors, width)
    return votes.argmax(0)[asked] == truth


def beta_vae_score(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Tensor:
    """Which test votes logistic regression gets right, (E,) bool: their mean is the beta-VAE score.

    `train` and `test` are which factor was shared (V,), and the mean of |z_1 - z_2| over the vote's pairs (V, L).
    Source: Higgins et al. 2017, section 3; constants of disentanglement_lib.
    """
    classifier = LogisticRegression(max_iter=1000).fit(train[1].double().numpy(), train[0].numpy())
    return torch.from_numpy(classifier.predict(test[1].double().numpy()) == test[0].numpy())
