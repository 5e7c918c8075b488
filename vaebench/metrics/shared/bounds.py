"""The pass of importance-weighted bounds, which every metric with an NLL takes."""

import torch
from torch import Tensor

from vaebench.core.data import Batch
from vaebench.core.model import LatentVariableModel
from vaebench.core.normaliser import mass_fault
from vaebench.distributions.errors import UnavailableError
from vaebench.distributions.noise import keyed
from vaebench.functional.importance import ImportanceWeights


def unscored(model: LatentVariableModel) -> str | None:
    """Why p(x|z) cannot be scored, as of a decoder that was trained to look right; or None."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad(), keyed(0, torch.arange(1, device=device)):
            p = model.likelihood(model.prior(1).rsample(1))
            p.log_prob(p.sample()[0])
    except UnavailableError as error:
        return str(error)
    return None


def score(batch: Batch, seed: int, *, model: LatentVariableModel, samples: int, rows: int) -> dict[str, Tensor]:
    """Per-example bounds of `samples` posterior draws, at most about `rows` of them decoded at once: each (B,) float64.

    `nll` is -L_K with K = `samples`, `nll_tenth` that of K / 10, and `elbo` is `-distortion - rate`, all nats; `ess` is
    the effective number of draws.

    Raises ValueError if a draw gives x a mass above 1.
    """
    chunk = max(1, rows // samples)
    parts = [
        _score(Batch(batch.x[i : i + chunk], None, batch.example[i : i + chunk]), seed, model, samples, rows)
        for i in range(0, len(batch.x), chunk)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _score(batch: Batch, seed: int, model: LatentVariableModel, samples: int, rows: int) -> dict[str, Tensor]:
    weights, draw = ImportanceWeights(samples), model.drawer(batch.x)
    distortion = rate = torch.zeros(len(batch.x), dtype=torch.float64, device=batch.x.device)
    chunk = max(1, rows // len(batch.x))
    for first in range(0, samples, chunk):
        with keyed(seed, batch.example, first):
            draws = draw(min(chunk, samples - first))
        if fault := mass_fault(draws.log_likelihood, model.space):
            raise ValueError(fault)
        weights.add(draws.log_weight)
        distortion = distortion - draws.log_likelihood.double().sum(0)
        rate = rate + (draws.log_posterior - draws.log_prior).double().sum(0)
    bounds = weights.result()
    return {
        "elbo": bounds.elbo,
        "nll": -bounds.log_marginal,
        "nll_tenth": -bounds.log_marginal_tenth,
        "ess": bounds.effective_samples,
        "rate": rate / samples,
        "distortion": distortion / samples,
    }
