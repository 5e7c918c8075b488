"""Classifiers on embeddings: logistic regression, nearest neighbours, and the subsets that they are trained on."""

import warnings
from dataclasses import dataclass
from typing import final

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from vaebench.functional import random

STEPS = 5000


def stratified(label: Tensor, count: int, seed: int) -> Tensor:
    """`count` examples chosen at random by `seed`, rising: (count,) int64 indices of `label` (N,).

    Each class gives count N_class / N, rounded down or up by systematic sampling, so that every example is as likely
    as another. Raises ValueError if count > N.
    """
    if count > len(label):
        raise ValueError(f"{count} of {len(label)} examples were asked for")
    shuffled = random.keys(random.derive(seed, "order"), torch.arange(len(label))).argsort(stable=True)
    classes, sizes = label.unique(return_counts=True)
    start = random.uniform(random.keys(random.derive(seed, "start"), torch.zeros(1, dtype=torch.int64)), ()).double()
    until = (count * sizes.cumsum(0).double() / len(label) + start).floor().long()
    taken = until.diff(prepend=torch.zeros(1, dtype=torch.int64)).tolist()
    chosen = [shuffled[label[shuffled] == which][:share] for which, share in zip(classes, taken, strict=True)]
    return torch.cat(chosen).sort().values


@final
@dataclass(frozen=True)
class LinearProbe:
    """The class of largest `weight` . (x - centre) / scale + `bias`: weight (C, F), bias (C,), classes (C,) int64."""

    centre: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    classes: Tensor

    def __call__(self, embedding: Tensor) -> Tensor:
        """The class of each of `embedding` (..., F), (...,) int64 on its device."""
        parts = (self.centre, self.scale, self.weight, self.bias, self.classes)
        centre, scale, weight, bias, classes = (part.to(embedding.device) for part in parts)
        logits = (embedding.double() - centre) / scale @ weight.T + bias
        return classes[logits.argmax(-1)]


def logistic_probe(embedding: Tensor, label: Tensor, inverse_penalty: float) -> LinearProbe:
    """Multinomial logistic regression of `label` (N,) on `embedding` (N, F), each dimension first standardised.

    Minimises inverse_penalty sum_n -log p(label_n) + |weight|^2 / 2, biases free. Raises ValueError if there is one
    class only, if an embedding is not finite, or if it does not converge in `STEPS` steps.
    """
    if sick := int((~torch.isfinite(embedding)).any(1).sum()):
        raise ValueError(f"{sick} of {len(embedding)} embeddings are NaN or infinite")
    scaler, model = StandardScaler(), LogisticRegression(C=inverse_penalty, max_iter=STEPS)
    x = scaler.fit_transform(embedding.double().numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, label.numpy())
    if max(model.n_iter_) >= STEPS:
        raise ValueError(f"logistic regression did not converge in {STEPS} steps; lower inverse_penalty")
    weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if len(model.classes_) == 2:  # one logit, of the second class
        weight, bias = torch.cat([0 * weight, weight]), torch.cat([0 * bias, bias])
    centre, scale = torch.from_numpy(scaler.mean_), torch.from_numpy(scaler.scale_)
    return LinearProbe(centre, scale, weight, bias, torch.from_numpy(model.classes_))


def nearest_neighbours(embedding: Tensor, label: Tensor, query: Tensor, neighbours: int) -> Tensor:
    """The commonest `label` (N,) among the `neighbours` nearest of `embedding` (N, F) to each `query` (M, F): (M,).

    Euclidean distance as it is; of equally common labels the lowest.
    """
    model = KNeighborsClassifier(min(neighbours, len(embedding)), algorithm="brute")
    model.fit(embedding.numpy(), label.numpy())
    return torch.from_numpy(model.predict(query.numpy()))
