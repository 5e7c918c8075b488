"""Estimators against exact answers, on the user's own machine: `vaebench selftest`.

A known answer is compared per example with its estimate, so that the standard error is the estimator's alone.
Each estimator has a function in `ANSWERS`, in the module of its kind.
"""

from collections.abc import Callable, Iterator

import torch

from vaebench.evaluation.selftest import annealing, bounds, codes, latents, masses, perception, samples, scores
from vaebench.evaluation.selftest.answer import LIMIT, Answer

ANSWERS: dict[str, Callable[[torch.device, torch.dtype], Iterator[Answer]]] = {
    "bounds": bounds.likelihood,
    "weights": bounds.weights,
    "noise": bounds.noise,
    "gaussians": bounds.gaussians,
    "temperature": bounds.temperature,
    "hierarchy": bounds.hierarchy,
    "certified": annealing.certified,
    "code length": annealing.code_length,
    "masses": masses.masses,
    "densities": masses.densities,
    "bits": masses.bits,
    "latent gap": latents.latent_gap,
    "aggregate": latents.aggregate,
    "neighbours": latents.neighbours,
    "frechet": samples.frechet,
    "image quality": samples.image_quality,
    "perception": perception.perception,
    "clouds": samples.clouds,
    "detection": scores.detection,
    "proportions": scores.proportions,
    "regret": scores.regret,
    "tracin": scores.tracin,
    "probe": codes.probe,
    "chains": bounds.consistency,
    "consistency": codes.consistency,
    "disentanglement": codes.disentanglement,
}
"""By what they are about."""


def answers(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Every known answer."""
    for function in ANSWERS.values():
        yield from function(device, dtype)


__all__ = ["ANSWERS", "LIMIT", "Answer", "answers"]
