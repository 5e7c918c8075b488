"""JL1-VAE: linear decoders in closed form, every likelihood against autograd, annealing."""

from typing import Any

import pytest
import torch
from gaussians import correlated, data, exact, meets, repeat

from vaebench.core.data import Space
from vaebench.models.adapters.flat import Flat
from vaebench.models.adapters.flat import Options as FlatOptions
from vaebench.models.oracles import LinearGaussian
from vaebench.training.objectives import jacobian


def linear_penalty(model: LinearGaussian, power: int) -> float:
    return float(model.decoder.weight.detach().abs().pow(power).sum())


@pytest.mark.parametrize("power", [1, 2])
def test_jacobian_of_a_linear_decoder_and_its_annealing(power: Any) -> None:
    model, x = correlated(), data(100)
    distortion, rate = exact(model, x)
    objective = jacobian.Jacobian(jacobian.Options(beta=2.0, gamma=5.0, until=0.5, power=power))
    for progress, warm in ((0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (1.0, 1.0)):
        loss = repeat(objective, model, x, progress)
        torch.testing.assert_close(loss.terms["jacobian"].mean().item(), linear_penalty(model, power))
        assert meets(loss.total, distortion + warm * (2 * rate + 5 * linear_penalty(model, power)))
    assert linear_penalty(model, 1) != pytest.approx(linear_penalty(model, 2), rel=0.05)


def grey(likelihood: Any = "discretised-logistic-mixture", network: Any = "mlp") -> Flat:
    options = FlatOptions(3, (4, 6) if network == "conv" else (6,), likelihood, network)
    return Flat(Space((1, 4, 4), 17, "pmf"), options)


LIKELIHOODS = ["categorical", "discretised-logistic", "discretised-logistic-mixture"]


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_jacobian_is_autograds_of_the_mean_on_unit_scale(likelihood: str, network: str) -> None:
    model, z = grey(likelihood, network), torch.randn(1, 5, 3)
    found = jacobian.penalty(model, z, 1)
    total = torch.zeros(())
    for b in range(5):
        whole = torch.autograd.functional.jacobian(lambda at: model.likelihood((at[None, None],)).mean / 16, z[0, b])
        total = total + whole.abs().sum()
    torch.testing.assert_close(found, total / 5, rtol=1e-4, atol=1e-6)
    assert float(found.detach()) != pytest.approx(float(total), rel=0.1)


def test_the_penalty_regularises_the_decoder_alone() -> None:
    model = grey()
    draws = model.draw(torch.randint(0, 17, (5, 1, 4, 4), dtype=torch.uint8), 1)
    jacobian.penalty(model, draws.latents[0], 1).backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    first = dict(model.decoder.named_parameters())["0.weight"].grad
    assert first is not None
    assert first.any()
