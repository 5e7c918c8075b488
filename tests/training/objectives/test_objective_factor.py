"""FactorVAE: the best discriminator in closed form, and gradients that never cross."""

from typing import Any

import pytest
import torch
from gaussians import COVARIANCE, WIDTH, correlated, data, decomposition, meets, repeat
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from vaebench.core.model import LatentVariableModel
from vaebench.distributions import noise
from vaebench.models.card import Recipe
from vaebench.training import optimiser
from vaebench.training.objectives import factor


class Ratio(nn.Module):
    """log q(z) - log prod q(z_l) of N(0, COVARIANCE): the best discriminator's logit."""

    def forward(self, z: Tensor) -> Tensor:
        normal = torch.distributions.MultivariateNormal(torch.zeros(WIDTH), COVARIANCE)
        apart = Independent(Normal(torch.zeros(WIDTH), COVARIANCE.diag().sqrt()), 1)
        logit: Tensor = (normal.log_prob(z) - apart.log_prob(z))[:, None]
        return logit


def prepared(gamma: float, model: LatentVariableModel, **options: Any) -> factor.Factor:
    objective = factor.Factor(factor.Options(gamma, **options))
    objective.prepare(model, 100)
    return objective


def factor_meets_the_closed_form() -> None:
    model = correlated()
    objective = prepared(10.0, model)
    objective.discriminator = nn.Sequential(Ratio())
    losses = [repeat(objective, model, data(300, seed), times=1) for seed in range(60)]
    values = {name: torch.cat([loss.terms[name] for loss in losses]) for name in losses[0].terms}
    truth = decomposition(model)["total_correlation"]
    assert meets(values["total_correlation"], truth)
    rest = values["distortion"] + values["rate"] + values["discriminator"]
    assert meets(torch.cat([loss.total for loss in losses]) - rest, 10 * truth)
    generator = torch.Generator().manual_seed(9)  # the cross-entropy of the best discriminator, by direct draws
    z = torch.randn(200_000, WIDTH, generator=generator)
    joint = Ratio()(z @ torch.linalg.cholesky(COVARIANCE).T).sigmoid().log().mean()
    apart = (-Ratio()(z * COVARIANCE.diag().sqrt())).sigmoid().log().mean()
    assert meets(values["discriminator"], float(-0.5 * (joint + apart)))


def test_factor_with_the_best_discriminator_in_closed_form() -> None:
    factor_meets_the_closed_form()


@pytest.mark.parametrize("fault", ["rows kept together", "sum for mean"])
def test_faults_in_factor_are_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(z: Tensor, uniform: Tensor) -> Tensor:
        return z[uniform[:, 0].argsort()] if fault == "rows kept together" else torch.zeros_like(z)

    monkeypatch.setattr(factor, "permuted", planted)
    with pytest.raises(AssertionError):
        factor_meets_the_closed_form()


def test_permuting_keeps_every_column_and_breaks_every_row() -> None:
    z = torch.arange(60.0).reshape(20, 3)
    found = factor.permuted(z, torch.rand(20, 3))
    assert torch.equal(found.sort(0).values, z)
    assert not torch.equal((found[:, 0] // 3).sort().values, (found[:, 0] // 3))
    assert ((found // 3)[:, 0] != (found // 3)[:, 1]).any()


def test_gradients_never_cross() -> None:
    model, x = correlated(), data(40)
    objective = prepared(10.0, model, width=8, depth=2)
    loss = objective(model, x, 0.0)
    own = loss.terms["discriminator"]
    theirs = loss.total - own
    for value, blind, seeing in ((own, model, objective), (theirs, objective, model)):
        unused = torch.autograd.grad(value, list(blind.parameters()), retain_graph=True, allow_unused=True)
        assert all(gradient is None or not gradient.any() for gradient in unused)
        used = torch.autograd.grad(value, list(seeing.parameters()), retain_graph=True, allow_unused=True)
        assert any(gradient is not None and bool(gradient.any()) for gradient in used)


def two_optimisers(crossed: bool) -> None:
    """Steps of the one loss by the recipe's optimiser are those of an Adam for the model and one for the other."""
    one, two = correlated(), correlated()
    joint = prepared(10.0, one, width=8, depth=2)
    apart = prepared(10.0, two, width=8, depth=2)
    apart.load_state_dict(joint.state_dict())
    stepping = optimiser.build(Recipe(1, weight_decay=0.1), one, joint)
    both = stepping.optimiser
    optimisers = (
        torch.optim.Adam(two.parameters(), 1e-2, weight_decay=0.1),
        torch.optim.Adam(apart.parameters(), 1e-4, (0.5, 0.9)),
    )
    for step in range(4):
        stepping.rate(1e-2)
        x, n = data(40, step), torch.arange(40)
        both.zero_grad()
        with noise.keyed(step, n):
            joint(one, x, 0.0).total.backward()
        both.step()
        for each in optimisers:
            each.zero_grad()
        with noise.keyed(step, n):  # written out from the paper, with nothing detached
            draws = two.draw(x, 1)
            z, uniform = draws.latents[0][0], noise.uniform((1, 40, WIDTH), x)[0]
        theirs = -draws.log_weight.mean() + 10 * apart.discriminator(z).mean()
        shuffled = torch.stack([z[20:, j][uniform[20:, j].argsort()] for j in range(WIDTH)], 1)
        own = 0.5 * (nn.functional.softplus(-apart.discriminator(z[:20])).mean()
                     + nn.functional.softplus(apart.discriminator(shuffled)).mean())  # fmt: skip
        groups = list(two.parameters()), list(apart.parameters())
        losses = (theirs + own, theirs + own) if crossed else (theirs, own)
        gradients = [torch.autograd.grad(a, b, retain_graph=True) for a, b in zip(losses, groups, strict=True)]
        for group, found, each in zip(groups, gradients, optimisers, strict=True):
            for parameter, gradient in zip(group, found, strict=True):
                parameter.grad = gradient
            each.step()
    for left, right in ((one, two), (joint, apart)):
        for a, b in zip(left.parameters(), right.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_one_loss_equals_two_optimisers() -> None:
    two_optimisers(crossed=False)
    with pytest.raises(AssertionError):
        two_optimisers(crossed=True)


def test_the_discriminators_loss_is_no_part_of_evaluation() -> None:
    model, x = correlated(), data(40)
    objective = prepared(10.0, model, width=8, depth=2).eval()
    loss = objective(model, x, 1.0)
    t = loss.terms
    torch.testing.assert_close(loss.total, t["distortion"] + t["rate"] + 10 * t["total_correlation"])
