"""Laws of HVAE's Gaussian problem, whose posterior, marginal and best ELBO are known; a Hamiltonian fit of it."""

import math
from typing import Any

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.distributions import Normal

from vaebench.core.checks import check_model
from vaebench.core.data import Dataset, Space, Split, fingerprint
from vaebench.core.errors import UserError
from vaebench.core.model import LatentVariableModel
from vaebench.core.tables import build
from vaebench.datasets._toy import of_mean
from vaebench.distributions.noise import keyed
from vaebench.distributions.summary import OBSERVATIONS, GaussianSummary
from vaebench.models.adapters.flat import Flat
from vaebench.models.adapters.flat import Options as FlatOptions
from vaebench.models.adapters.hamiltonian import Hamiltonian, Options
from vaebench.training.objectives.elbo import Elbo
from vaebench.training.objectives.elbo import Options as ElboOptions

D = 3
SPACE = Space((2, D), None, "density")
DELTA, SIGMA = torch.tensor([-0.2, 0.0, 0.2]), torch.tensor([1.0, 0.1, 0.5])


def data(count: int) -> Tensor:
    """Examples (N, 2, D) of the law."""
    z = torch.randn(1, count, D, generator=torch.Generator().manual_seed(0))
    raw = torch.stack([z + DELTA, SIGMA.log().expand_as(z)], 2)
    with keyed(0, torch.arange(count)):
        return GaussianSummary(raw, SPACE.shape, None).sample()[0]


def flat(network: Any = "offset") -> Flat:
    return Flat(SPACE, FlatOptions(D, (), "gaussian-summary", network))


def hamiltonian(network: Any = "offset-prior", **changes: Any) -> Hamiltonian:
    return Hamiltonian(SPACE, Options(D, (), "gaussian-summary", network, init_step=0.005, **changes))


def set_truth(model: Flat | Hamiltonian) -> None:
    """Give a model the true parameters, and as q(z_0|x), where it is learnt, the exact posterior."""
    precision = 1 + OBSERVATIONS / SIGMA**2
    with torch.no_grad():
        decoder, encoder = model.decoder[0], model.encoder[0]
        decoder.delta.copy_(DELTA)
        decoder.log_sigma.copy_(SIGMA.log())
        encoder.slope.copy_(1 - 1 / precision)
        encoder.shift.copy_(-(1 - 1 / precision) * DELTA)
        encoder.log_variance.copy_(-precision.log())


def exact(x: Tensor, delta: Tensor, sigma: Tensor) -> Tensor:
    """log p(x), (N,) float64: the average is N(delta, 1 + sigma^2 / N), the variance independent of it."""
    x, delta, sigma = x.double(), delta.double(), sigma.double()
    average = Normal(delta, (1 + sigma**2 / OBSERVATIONS).sqrt()).log_prob(x[:, 0])
    raw = torch.stack([x[:, 0], sigma.log().expand_as(x[:, 0])], 1)[None]  # at its own mean: the variance alone
    spread = GaussianSummary(raw, SPACE.shape, None).log_prob(x)[0]
    return average.sum(1) + spread - Normal(0, sigma / math.sqrt(OBSERVATIONS)).log_prob(torch.zeros(D)).sum()


@torch.no_grad()
def test_the_best_elbo_of_mean_field_is_the_exact_likelihood() -> None:
    model, x = flat().double(), data(20)
    set_truth(model)
    with keyed(1, torch.arange(20)):
        weights = model.draw(x, 5).log_weight
    torch.testing.assert_close(weights, exact(x, DELTA, SIGMA).expand(5, -1), rtol=0, atol=1e-3)
    model.encoder[0].log_variance += 0.5  # and any other has less
    with keyed(1, torch.arange(20)):
        assert float((model.draw(x, 200).log_weight.mean(0) - exact(x, DELTA, SIGMA)).max()) < -0.05


@torch.no_grad()
@pytest.mark.parametrize("network", ["offset", "offset-prior"])
def test_zero_leapfrog_steps_are_the_vae(network: Any) -> None:
    plain, still, x = flat(network), hamiltonian(network, steps=0, tempering="none"), data(10)
    still.load_state_dict(plain.state_dict())
    with keyed(1, torch.arange(10)):
        expected = plain.draw(x, 4)
    with keyed(1, torch.arange(10)):
        found = still.draw(x, 4)
    assert found.log_likelihood.equal(expected.log_likelihood)
    torch.testing.assert_close(found.log_weight, expected.log_weight, rtol=1e-6, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("tempering", ["none", "fixed", "free"])
def test_a_hamiltonian_posterior_bounds_the_exact_likelihood(tempering: Any) -> None:
    """It starts at the prior: above the likelihood on average only by chance, and far below without steps."""
    x = data(20)
    gaps = []
    for steps, kind in ((0, "none"), (10, tempering)):
        model = hamiltonian(steps=steps, tempering=kind).double()
        model.decoder[0].delta.copy_(DELTA)
        model.decoder[0].log_sigma.copy_(SIGMA.log() + 2)
        if model.leapfrog.step is not None:
            size = (0.3 * (1 + OBSERVATIONS * torch.exp(-2 * model.decoder[0].log_sigma)) ** -0.5) / 0.5
            model.leapfrog.step.copy_(torch.logit(size))
        with keyed(1, torch.arange(20)):
            elbo = model.draw(x, 500).log_weight.mean(0)
        gaps.append(exact(x, DELTA, SIGMA * math.e**2) - elbo)
    assert float(gaps[1].min()) > 0
    assert float(gaps[1].mean()) < float(gaps[0].mean())


@pytest.mark.parametrize("network", ["offset", "offset-prior"])
def test_models_keep_their_promises(network: Any) -> None:
    for model in (flat("offset"), hamiltonian(network, steps=2), Flat(SPACE, FlatOptions(D, (4,), "gaussian-summary"))):
        assert [check for check in check_model(model) if not check.passed] == []


def train(model: LatentVariableModel, x: Tensor, steps: int) -> None:
    torch.manual_seed(0)
    objective, rate = Elbo(ElboOptions()), 0.02
    optimiser = torch.optim.Adam(model.parameters(), rate)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.5 * rate * (1 + math.cos(math.pi * step / steps))
        optimiser.zero_grad()
        objective(model, x, 0.0).total.backward()
        optimiser.step()


def most_likely(x: Tensor) -> tuple[Tensor, Tensor]:
    """The delta and sigma (D,) of the highest log p(x): the first is the mean, the second is searched."""
    delta, sigma = x[:, 0].double().mean(0), SIGMA.double().clone()
    for i in range(D):

        def loss(value: float, i: int = i) -> float:
            return -float(exact(x, delta, sigma.index_fill(0, torch.tensor([i]), value)).sum())

        bounds = (0.9 * float(SIGMA[i]), 1.1 * float(SIGMA[i]))
        sigma[i] = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x
    return delta, sigma


def test_the_data_hold_the_most_likely_parameters() -> None:
    """So that what the metric holds a model against is the exact maximum likelihood."""
    x = data(100)
    delta, sigma = most_likely(x)
    found = of_mean(x.double().mean(0))
    torch.testing.assert_close(found["delta"], delta)
    torch.testing.assert_close(found["sigma"], sigma, rtol=3e-4, atol=0)


def test_steps_from_the_prior_find_the_offset_that_mean_field_does_not() -> None:
    x = data(100)
    delta, sigma = most_likely(x)
    errors, spreads = [], []
    for model in (hamiltonian(steps=5, init_temperature=5.0), flat()):
        train(model, x, 800)
        errors.append(float((model.decoder[0].delta.detach() - delta).abs().max()))
        spreads.append(float((model.decoder[0].log_sigma.detach().exp() / sigma - 1).abs().max()))
    assert errors[0] < 0.02
    assert errors[1] > 0.1  # the encoder takes what the decoder lacks
    assert spreads[0] < 0.5
    assert spreads[1] < 0.01


BAD = [
    (FlatOptions, {"hidden": [4]}, r"network = 'offset' has no layers, but hidden = \[4\]; say hidden = \[\]"),
    (Options, {"hidden": [4]}, r"network = 'offset' has no layers, but hidden = \[4\]; say hidden = \[\]"),
    (FlatOptions, {"init_log_variance": -3.0}, r"init_log_variance = -3\.0 is of networks with layers; leave it out"),
    (FlatOptions, {"network": "mlp"}, r"latent = 3 and hidden = \[\] should be positive widths"),
    (Options, {"latent": 0}, r"latent = 0 and hidden = \[\] should be positive widths"),
]


@pytest.mark.parametrize(("kind", "change", "message"), BAD)
def test_bad_options_are_one_line(kind: type[Any], change: dict[str, Any], message: str) -> None:
    good = {"latent": D, "hidden": [], "likelihood": "gaussian-summary", "network": "offset"}
    build(kind, good, "card")
    with pytest.raises(UserError, match=message) as error:
        build(kind, {**good, **change}, "card")
    assert "\n" not in str(error.value)


def test_as_many_latents_as_dimensions_are_asked_for() -> None:
    with pytest.raises(ValueError, match=r"2 x 5, but the likelihood reads 6 numbers; set latent = 3"):
        Flat(SPACE, FlatOptions(5, (), "gaussian-summary", "offset"))
    plain = Flat(Space((D,), None, "density"), FlatOptions(D, (), "gaussian", "offset"))
    splits = {"test": Split("test", torch.randn(4, D))}
    assert Dataset("plain", plain.space, splits, fingerprint(splits)).split("test").x.shape == (4, D)
    assert plain.draw(splits["test"].x, 2).log_weight.shape == (2, 4)
