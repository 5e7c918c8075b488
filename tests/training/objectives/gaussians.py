"""A linear-Gaussian model whose aggregate posterior is a correlated Gaussian, and means in standard errors."""

import math

import torch
from torch import Tensor

from vaebench.core.model import LatentVariableModel
from vaebench.core.objective import Loss, Objective
from vaebench.models import oracles
from vaebench.models.oracles import LinearGaussian

WIDTH, NOISE = 3, 0.2
COVARIANCE = torch.tensor([[1.0, 0.7, 0.2], [0.7, 1.4, 0.0], [0.2, 0.0, 0.8]])


def correlated(decoupled: bool = False) -> LinearGaussian:
    """q(z|x) = N(x, NOISE I), so that q(z) = N(0, COVARIANCE) over `data`; the flow is affine where decoupled."""
    flow = oracles.affine_flow(WIDTH, torch.Generator().manual_seed(2)) if decoupled else None
    with torch.no_grad():
        model = LinearGaussian(torch.diag(torch.tensor([0.9, -1.1, 0.4])), torch.zeros(WIDTH), 0.0, flow)
        model.head.weight.copy_(torch.eye(WIDTH))
        model.head.bias.zero_()
        model.log_variance.fill_(math.log(NOISE))
    return model


def data(count: int, seed: int = 0) -> Tensor:
    root = torch.linalg.cholesky(COVARIANCE - NOISE * torch.eye(WIDTH))
    x: Tensor = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)) @ root.T
    return x


@torch.no_grad()
def repeat(objective: Objective, model: LatentVariableModel, x: Tensor, progress: float = 1.0, times: int = 40) -> Loss:
    """(times,) values of the total and of each term."""
    losses = [objective(model, x, progress) for _ in range(times)]
    stacked = {name: torch.stack([loss.terms[name] for loss in losses]).double() for name in losses[0].terms}
    return Loss(torch.stack([loss.total for loss in losses]).double(), stacked)


def meets(values: Tensor, truth: float) -> bool:
    return abs(float(values.mean()) - truth) < 4.5 * float(values.std()) / math.sqrt(len(values)) + 1e-5


def exact(model: LinearGaussian, x: Tensor) -> tuple[float, float]:
    with torch.no_grad():
        found = model.exact(x)
    return float(found["distortion"].mean()), float(found["rate"].mean())


def decomposition(model: LinearGaussian) -> dict[str, float]:
    covariance = COVARIANCE.double()
    variance, logdet = covariance.diag(), float(covariance.logdet())
    centre, spread = model.centre.double(), model.spread.double()
    standard = (variance + centre.square()) / spread.square()
    return {
        "mutual_information": 0.5 * (logdet - WIDTH * math.log(NOISE)),
        "total_correlation": 0.5 * (float(variance.log().sum()) - logdet),
        "dimension_wise_kl": 0.5 * float((standard - 1 - (variance / spread.square()).log()).sum()),
    }
