"""Laws of the flat family: shapes over networks and spaces, options that do not fit, what the prior is."""

import math
from typing import Any

import pytest
import torch
from torch.distributions import Independent, Normal

from vaebench.core.data import Space
from vaebench.core.errors import UserError
from vaebench.core.tables import build
from vaebench.models.adapters.flat import Flat, Options
from vaebench.models.networks.flat import Centre

SIDES = {8: (4, 8, 16), 28: (4, 8, 16), 32: (4, 4, 8, 16), 64: (2, 4, 4, 8, 16)}


def example(space: Space, batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if space.levels is None:
        return torch.randn(batch, *space.shape, generator=generator)
    return torch.randint(0, space.levels, (batch, *space.shape), generator=generator).to(torch.uint8)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("colours", [1, 3])
@torch.no_grad()
def test_shapes(side: int, network: Any, colours: int) -> None:
    space = Space((colours, side, side), 256, "pmf")
    hidden = SIDES[side] if network == "conv" else (16,)
    model = Flat(space, Options(5, hidden, "discretised-logistic-mixture", network, "coupling"))
    x = example(space, 3)
    draws = model.draw(x, 2)
    assert [tuple(z.shape) for z in draws.latents] == [(2, 3, 5)]
    assert draws.log_weight.shape == (2, 3)
    assert draws.log_weight.isfinite().all()
    assert model.embed(x).shape == (3, 5)
    space.check(model.likelihood(draws.latents).sample())


@pytest.mark.parametrize(("shape", "sides"), [((1, 28, 28), [28, 14, 7, 4]), ((3, 9, 16), [16, 8, 4, 2])])
@torch.no_grad()
def test_any_image_is_halved_by_5x5_convolutions(shape: tuple[int, ...], sides: list[int]) -> None:
    space = Space(shape, 256, "pmf")
    model = Flat(space, Options(5, (4, 6, 8, 10), "discretised-logistic", "conv5", activation="softplus"))
    x, seen = example(space, 3), list[int]()
    for part in model.encoder:
        part.register_forward_hook(lambda part, x, y: seen.append(y.shape[-1]) if y.ndim == 4 else None)
    assert model.draw(x, 2).log_weight.shape == (2, 3)
    assert sorted(set(seen), reverse=True) == sides
    space.check(model.likelihood(model.prior(3).rsample(2)).sample())


@pytest.mark.parametrize(
    ("shape", "hidden", "message"),
    [
        ((1, 28, 28), (4, 4, 4, 8), "3 stride-2 convolutions need images with sides divisible by 8"),
        ((1, 8, 6), (4, 4, 8), "sides divisible by 4"),
        ((64,), (4, 8), r"not examples of shape \(64,\); change hidden or use network = 'mlp'"),
        ((1, 8, 8), (8,), "0 stride-2 convolutions need images"),
    ],
)
def test_convolutions_that_do_not_fit_are_refused(
    shape: tuple[int, ...], hidden: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Flat(Space(shape, 256, "pmf"), Options(2, hidden, "discretised-logistic", "conv"))


GOOD: dict[str, Any] = {"latent": 2, "hidden": [4], "likelihood": "bernoulli"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent": 0}, "should be positive widths"),
        ({"hidden": []}, "should be positive widths"),
        ({"hidden": [4, -1]}, "should be positive widths"),
        ({"hidden": 4}, "should be a list of int"),
        ({"network": "resnet"}, "one of 'mlp', 'conv', 'conv5'"),
        ({"activation": "gelu"}, "one of 'relu', 'tanh', 'silu'"),
        ({"likelihood": "bernouli"}, "one of 'bernoulli'"),
        ({"layers": 3}, "unknown key 'layers'"),
    ],
)
def test_options_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    build(Options, GOOD, "here")
    with pytest.raises(UserError, match=r"^here: ") as error:
        build(Options, {**GOOD, **change}, "here")
    assert message in str(error.value)


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu", "softplus"])
@pytest.mark.parametrize("network", ["mlp", "conv", "conv5"])
def test_seeds_make_networks_and_activations_differ(network: Any, activation: Any) -> None:
    space = Space((1, 8, 8), 2, "pmf")
    hidden = (8, 8)

    def made(seed: int, kind: Any = activation) -> torch.Tensor:
        torch.manual_seed(seed)
        model = Flat(space, Options(2, hidden, "bernoulli", network, activation=kind))
        return model.embed(example(space, 4)).detach()

    assert made(0).equal(made(0))
    assert not made(0).equal(made(1))
    assert not made(0).equal(made(0, "tanh" if activation == "relu" else "relu"))


@torch.no_grad()
def test_a_log_variance_starts_where_it_is_told_to() -> None:
    space, found = Space((1, 8, 8), 2, "pmf"), []
    for start in (None, -3.0):
        torch.manual_seed(0)
        found.append(Flat(space, Options(2, (8,), "bernoulli", init_log_variance=start)))
    plain, told = (model.encoder[-1].bias for model in found)
    assert told[2:].tolist() == [-3.0, -3.0]
    assert torch.equal(told[:2], plain[:2])
    assert not torch.equal(told[2:], plain[2:])
    assert float(found[1].posterior(example(space, 50)).log_variance.mean()) == pytest.approx(-3, abs=0.5)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_the_normal_prior_is_normal(temperature: float) -> None:
    model = Flat(Space((1, 2, 2), 2, "pmf"), Options(3, (4,), "bernoulli"))
    z = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = Independent(Normal(torch.zeros(2, 3), temperature * torch.ones(2, 3)), 1)
    torch.testing.assert_close(model.prior(2, temperature).log_prob((z,)), expected.log_prob(z))


@pytest.mark.parametrize("prior", ["normal", "coupling"])
@torch.no_grad()
def test_temperature_scales_every_draw(prior: Any) -> None:
    model = Flat(Space((1, 2, 2), 2, "pmf"), Options(3, (4,), "bernoulli", prior=prior))

    def generated(temperature: float) -> torch.Tensor:
        torch.manual_seed(0)
        (z,) = model.prior(4, temperature).rsample(10)
        return z if model.flow is None else model.flow(z)[0]

    torch.testing.assert_close(generated(0.4), 0.4 * generated(1.0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_levels_are_centred_on_minus_one_to_one(levels: int) -> None:
    x = torch.arange(levels).to(torch.uint8)
    torch.testing.assert_close(Centre(levels)(x), torch.linspace(-1, 1, levels))
    assert Centre(levels).state_dict() == {}
    assert Centre(levels).double()(x).dtype == torch.float64


def test_embedding_is_the_posterior_mean_and_prior_is_not_inferred() -> None:
    space = Space((1, 2, 2), 2, "pmf")
    model = Flat(space, Options(3, (4,), "bernoulli", prior="coupling"))
    x = example(space, 4)
    assert model.embed(x).equal(model.posterior(x).mean)
    assert {name.partition(".")[0] for name, _ in model.inference_parameters()} == {"encoder"}
    assert {name.partition(".")[0] for name, _ in model.named_parameters()} == {"encoder", "decoder", "flow"}


def test_data_outside_the_space_are_refused() -> None:
    model = Flat(Space((1, 2, 2), 2, "pmf"), Options(3, (4,), "bernoulli"))
    for x in (torch.full((1, 1, 2, 2), 2), torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, 1).long()):
        with pytest.raises(ValueError, match="examples"):
            model.posterior(x)


def test_a_new_model_explains_nothing_and_costs_little() -> None:
    """With zero weights in the last layers: q = p = N(0, I), and p(x|z) is 1/2 for every pixel."""
    space = Space((1, 2, 2), 2, "pmf")
    model = Flat(space, Options(3, (4,), "bernoulli"))
    with torch.no_grad():
        for net in (model.encoder, model.decoder):
            for parameter in net.parameters():
                parameter.zero_()
    log_weight = model.draw(example(space, 5), 7).log_weight
    torch.testing.assert_close(log_weight, torch.full((7, 5), -4 * math.log(2)))
