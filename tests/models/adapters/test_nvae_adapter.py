"""Laws of NVAE: promises to metrics, fused draws, exact oracles through its chain, what evaluation prepares."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from weekly import weekly

from vaebench.core import checks
from vaebench.core.arithmetic import arithmetic
from vaebench.core.data import Batch, Space
from vaebench.core.errors import UserError
from vaebench.core.metric import UnavailableError
from vaebench.core.model import Draws, Latents, LatentVariableModel
from vaebench.core.tables import build
from vaebench.distributions import noise
from vaebench.distributions.gaussian import DiagonalGaussian, TopDownGaussian, walk
from vaebench.distributions.likelihoods import DiscretisedLogisticMixture
from vaebench.metrics.shared.bounds import score
from vaebench.models.adapters import nvae
from vaebench.models.adapters.nvae import NVAE, Options
from vaebench.models.networks import nvae_evaluation
from vaebench.models.oracles import TwoLevelGaussian, oracles

SMALL = Options(
    channels=4, scales=2, groups=2, adaptive=True, latent=2, pre_cells=1, post_cells=1, encoder_cells=1,
    decoder_cells=1, likelihood="discretised-logistic-mixture",
)  # fmt: skip
GREY = Space((1, 8, 8), 17, "pmf")
MODELS: dict[str, tuple[Space, dict[str, Any]]] = {
    "mixture": (GREY, {}),
    "flow": (GREY, {"flows": 1, "likelihood": "categorical"}),
    "two flows": (Space((1, 4, 4), 3, "pmf"), {"flows": 2, "likelihood": "discretised-logistic"}),
    "plain posterior": (GREY, {"residual": False, "squeeze_excitation": False}),
    "padded bernoulli": (Space((1, 6, 6), 2, "pmf"), {"likelihood": "bernoulli", "padding": 1}),
    "colours": (Space((3, 4, 4), 32, "pmf"), {}),
    "gaussian": (Space((3, 4, 4), None, "density"), {"likelihood": "gaussian"}),
    "vanilla": (GREY, {"scales": 1, "groups": 1}),
    "readjusted": (GREY, {"readjust": 3, "readjust_temperature": 0.8}),
}


def model(name: str = "mixture", **options: Any) -> NVAE:
    """In evaluation, with every weight and statistic moved off its initial value."""
    torch.manual_seed(0)
    space, changed = MODELS[name]
    made = NVAE(space, replace(SMALL, **{**changed, **options}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                module.running_mean.normal_(0, 0.3, generator=generator)
    return made.eval()


def images(space: Space, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    if space.levels is None:
        return torch.rand(batch, *space.shape, generator=generator) * 2 - 1
    return torch.randint(0, space.levels, (batch, *space.shape), generator=generator).to(torch.uint8)


@pytest.mark.parametrize("name", weekly(MODELS, "two flows", "gaussian", "readjusted"))
def test_every_promise_is_kept(name: str) -> None:
    assert {c.name: c.detail for c in checks.check_model(model(name)) if not c.passed} == {}


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_fused_draws_are_the_composed_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    m, x = model(name), images(MODELS[name][0])
    with noise.keyed(5, torch.arange(3)):
        fused = m.draw(x, 4)
    with noise.keyed(5, torch.arange(3)):
        q = m.posterior(x)
        z = q.rsample(4)
    p = m.prior(3)
    composed = Draws(z, m.likelihood(z).log_prob(x), p.log_prob(z), q.log_prob(z))
    for a, b in zip((*fused.latents, *fused[1:]), (*composed.latents, *composed[1:]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(nvae, "FLOATS", 1)  # one draw at a time
    with noise.keyed(5, torch.arange(3)):
        parts = m.draw(x, 4)
    torch.testing.assert_close(m.likelihood(z).log_prob(x), composed.log_likelihood, rtol=1e-4, atol=1e-4)
    for a, b in zip((*fused.latents, *fused[1:]), (*parts.latents, *parts[1:]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mixture", "flow"])
@torch.no_grad()
def test_rates_of_groups_add_up_to_the_rate(name: str) -> None:
    m, x = model(name), images(GREY)
    draws, rates = m.draw_groups(x, 4000 if name == "mixture" else 5)
    sampled = draws.log_posterior - draws.log_prior
    assert rates.shape == (3, *sampled.shape)
    if name == "flow":
        torch.testing.assert_close(rates.sum(0), sampled, rtol=1e-4, atol=1e-3)
        return
    assert m.groups_per_scale == (1, 2)
    difference = (rates.sum(0) - sampled).double()
    error = difference.mean(0) / (difference.std(0) / len(sampled) ** 0.5)
    assert float(error.abs().max()) < 4.5
    assert float(rates.std(1)[0].max()) == 0  # the first group's is one number for an image
    assert bool((rates >= 0).all())


@torch.no_grad()
def test_evaluation_and_gradients_see_one_model() -> None:
    for name in MODELS:
        m, x = model(name), images(MODELS[name][0])
        with noise.keyed(1, torch.arange(3)):
            found = m.draw(x, 2)
        with noise.keyed(1, torch.arange(3)), torch.enable_grad():
            plain = m.draw(x, 2)
        torch.testing.assert_close(found.log_weight, plain.log_weight.detach(), rtol=1e-4, atol=1e-3)
        assert plain.log_posterior.requires_grad
        assert plain.log_likelihood.requires_grad


@torch.no_grad()
def test_what_is_prepared_follows_the_weights() -> None:
    m, x = model(), images(GREY)

    def weights() -> Tensor:
        with noise.keyed(1, torch.arange(3)):
            return m.draw(x, 2).log_weight

    before = weights()
    torch.testing.assert_close(weights(), before, rtol=0, atol=0)
    state = copy.deepcopy(m.state_dict())
    for change in (
        lambda: m.network.enc_tower[0]._ops[0].bn_act.running_mean.add_(1),
        lambda: m.network.enc0[1].weight.mul_(-1),
        lambda: m.load_state_dict({**state, "network.stem.bias": state["network.stem.bias"] + 1}),
    ):
        change()
        assert not torch.allclose(weights(), before, atol=1e-3)
        m.load_state_dict(state)
        torch.testing.assert_close(weights(), before, rtol=0, atol=0)
    x.copy_(16 - x)  # in place: what was seen of it is void
    found = weights()
    x = x.clone()
    torch.testing.assert_close(weights(), found, rtol=0, atol=0)
    assert copy.deepcopy(m)._evaluation is not m._evaluation
    m.double()
    assert weights().dtype == torch.float64


@torch.no_grad()
def test_the_tower_is_climbed_once_for_all_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    m, x = model(), images(GREY)
    calls: list[Tensor] = []
    real = nvae.Network.features
    monkeypatch.setattr(nvae.Network, "features", lambda self, x: calls.append(x) or real(self, x))
    score(Batch(x, None, torch.arange(3)), 0, model=m, samples=50, rows=9)  # image by image, 6 calls of draw each
    assert len(calls) == 3
    monkeypatch.setattr(nvae, "FLOATS", 1)
    m.draw(images(GREY), 20)
    assert len(calls) == 4
    m.draw(x, 2)  # other images came between: the features are this thread's latest alone
    assert len(calls) == 5


def test_training_moves_statistics_and_evaluation_does_not() -> None:
    m, x = model().train(), images(GREY)
    before = {name: tensor.clone() for name, tensor in m.named_buffers()}
    (-m.draw(x, 1).log_weight.mean()).backward()
    assert all(p.grad is not None for p in m.parameters())
    moved = [name for name, tensor in m.named_buffers() if not tensor.equal(before[name])]
    assert len([name for name in moved if name.endswith("running_mean")]) == sum(
        isinstance(module, nn.BatchNorm2d) for module in m.modules()
    )


@torch.no_grad()
def test_readjusted_statistics_are_used_and_not_stored() -> None:
    plain, moved = model("mixture"), model("readjusted")
    assert all(a.equal(b) for a, b in zip(plain.state_dict().values(), moved.state_dict().values(), strict=True))
    z = plain.prior(2).rsample(3)
    assert not torch.allclose(plain.likelihood(z).raw, moved.likelihood(z).raw, atol=1e-3)
    moved.likelihood(z)
    assert all(a.equal(b) for a, b in zip(plain.state_dict().values(), moved.state_dict().values(), strict=True))


def test_statistics_are_readjusted_again_for_generative_weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    m, x, calls = model("readjusted"), images(GREY), list[Any]()
    real = nvae_evaluation.readjusted
    monkeypatch.setattr(nvae_evaluation, "readjusted", lambda network, how: calls.append(network) or real(network, how))

    def weights(of: NVAE) -> Tensor:
        with noise.keyed(0, torch.arange(3)):
            return of.draw(x, 1).log_weight

    weights(m)
    for name, count in (("enc_sampler.0.bias", 1), ("dec_tower.0.conv.bias", 2)):
        with torch.no_grad():
            m.network.get_parameter(name).add_(0.5)
        found = weights(m)
        assert len([network for network in calls if network is m.network]) == count
        torch.testing.assert_close(found, weights(copy.deepcopy(m)))


@torch.no_grad()
def test_halves_of_convolutions_move_the_bound_little() -> None:
    m, x = model(), images(GREY)
    with noise.keyed(1, torch.arange(3)):
        a = m.draw(x, 50)
    with noise.keyed(1, torch.arange(3)), arithmetic(torch.bfloat16):
        b = m.draw(x, 50)
    with noise.keyed(1, torch.arange(3)):
        assert torch.equal(m.draw(x, 50).log_weight, a.log_weight)
    with noise.keyed(1, torch.arange(3)):
        assert torch.equal(model(evaluation="bfloat16").draw(x, 50).log_weight, b.log_weight)
    assert b.log_weight.dtype == torch.float32
    assert 0 < float((a.log_weight - b.log_weight).mean().abs()) / (64 * 0.693) < 0.05


@torch.no_grad()
def test_embedding_and_first_group() -> None:
    m, x = model(), images(GREY)
    q = m.posterior(x)
    first = q.first()
    assert isinstance(first, DiagonalGaussian)
    assert first.mean.shape == (3, 2 * 2 * 2)
    embedding = m.embed(x)
    assert embedding.shape == (3, 8 + 2 * 32)
    torch.testing.assert_close(embedding[:, :8], first.mean)
    z = TopDownGaussian(q.conditionals[:1]).rsample(20_000)[0].flatten(2)
    torch.testing.assert_close(z.mean(0), first.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(z.var(0), first.log_variance.exp(), rtol=0.05, atol=0)
    assert float((0.5 * m.prior(1).first().log_variance).exp().max()) == pytest.approx(1.01)
    with pytest.raises(UnavailableError, match="needs a diagonal Gaussian"):
        model("flow").posterior(x).first()


@torch.no_grad()
def test_temperature_scales_every_group() -> None:
    m = model()

    def first(temperature: float) -> Latents:
        with noise.keyed(0, torch.arange(2)):
            return m.prior(2, temperature).rsample(3)

    cold, warm = first(0.5), first(1.0)
    torch.testing.assert_close(cold[0], 0.5 * warm[0])
    q = [m.prior(2, t).conditionals[1](m.network.absorb(0, m.network.start(2), warm[0])) for t in (0.5, 1.0)]
    torch.testing.assert_close(q[0][0], q[1][0])
    torch.testing.assert_close(q[0][1], q[1][1] - 2 * torch.tensor(2.0).log())


@pytest.mark.parametrize("bits", range(1, 9))
@torch.no_grad()
def test_one_to_eight_bits(bits: int) -> None:
    space = Space((3, 4, 4), 2**bits, "pmf")
    m = NVAE(space, replace(SMALL, tail="nvae")).eval()
    x = images(space)
    assert m.draw(x, 2).log_weight.isfinite().all()
    assert isinstance(m.likelihood(m.prior(1).rsample(1)), DiscretisedLogisticMixture)
    centred = m.centre(torch.tensor([0, 2**bits - 1]).to(torch.uint8))
    torch.testing.assert_close(centred, torch.tensor([-1.0, 1.0]))


@torch.no_grad()
def test_padding_is_the_lowest_level_and_is_not_scored() -> None:
    m = model("padded bernoulli")
    x, seen = images(m.space), list[Tensor]()
    handle = m.network.stem.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.enable_grad():
        m.embed(x)
    handle.remove()
    (inner,) = seen
    assert inner.shape == (3, 1, 8, 8)
    torch.testing.assert_close(inner[:, :, 1:-1, 1:-1], 2 * x.float() - 1)
    assert float(inner.sum()) == float((2 * x.float() - 1).sum()) - 3 * 28
    assert m.likelihood(m.prior(1).rsample(1)).raw.shape == (1, 1, 1, 6, 6)


# linear-Gaussian answers through the same chain


class Carried(LatentVariableModel):
    """The two-level oracle whose chains carry a running state: what NVAE's chains do."""

    def __init__(self, inner: TwoLevelGaussian) -> None:
        super().__init__(inner.space)
        self.inner = inner

    @staticmethod
    def absorb(group: int, state: Any, z: Tensor) -> Any:
        return (z,) if group == 0 else (*state, z)

    def prior(self, batch: int, temperature: float = 1.0) -> TopDownGaussian:
        return TopDownGaussian(self.inner.prior(batch, temperature).conditionals, (), self.absorb)  # type: ignore[attr-defined]

    def posterior(self, x: Tensor) -> TopDownGaussian:
        return TopDownGaussian(self.inner.posterior(x).conditionals, (), self.absorb)

    def likelihood(self, latents: Latents) -> Any:
        return self.inner.likelihood(latents)

    def draw(self, x: Tensor, samples: int) -> Draws:
        q, p = self.posterior(x), self.prior(len(x))
        eps = [noise.standard_normal((samples, len(x), 4), x) for _ in range(2)]
        walked = walk(q, p, eps)
        score = self.likelihood(walked.state).log_prob(x)
        return Draws(walked.latents, score, sum(walked.log_p), sum(walked.log_q))  # type: ignore[arg-type]

    def embed(self, x: Tensor) -> Tensor:
        return self.inner.embed(x)

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield "inner.slack", self.inner.slack


@torch.no_grad()
def test_the_chain_meets_the_two_level_oracle() -> None:
    oracle = next(o for o in oracles(count=60) if o.name == "two-level")
    assert isinstance(oracle.model, TwoLevelGaussian)
    carried = Carried(oracle.model)
    x = oracle.dataset.split("test").x
    values = score(Batch(x, None, torch.arange(60)), 0, model=carried, samples=2000, rows=6000)
    plain = score(Batch(x, None, torch.arange(60)), 0, model=oracle.model, samples=2000, rows=6000)
    torch.testing.assert_close(values["nll"], plain["nll"], rtol=1e-5, atol=1e-5)
    difference = values["nll"] - oracle.exact["nll"]
    assert float(difference.mean()) + 0.005 >= 0
    assert float(difference.abs().mean()) < 0.05
    exact = TwoLevelGaussian(oracle.model.decoder.weight, oracle.model.decoder.bias, 0.0)
    weight = Carried(exact).draw(x, 7).log_weight.double()
    torch.testing.assert_close(-weight, oracle.exact["nll"].expand(7, 60), rtol=0, atol=2e-4)
    spoilt = Carried(exact)
    spoilt.absorb = lambda group, state, z: (z + 0.1,) if group == 0 else (*state, z)  # type: ignore[method-assign]
    assert float((-spoilt.draw(x, 7).log_weight.double() - oracle.exact["nll"]).abs().max()) > 0.01


@pytest.mark.slow
@torch.no_grad()
def test_kl_of_chains_with_one_flow_is_that_of_their_draws() -> None:
    for name in ("mixture", "flow"):
        m = model(name)
        x = images(GREY, 2)
        q, p = m.posterior(x[:1]), m.posterior(x[1:])
        z = q.rsample(2000)
        drawn = (q.log_prob(z) - p.log_prob(z))[:, 0].double()
        exact = torch.stack([q.kl(p) for _ in range(300)])[:, 0].double()
        error = (drawn.var() / len(drawn) + exact.var() / len(exact)) ** 0.5
        assert abs(float(drawn.mean() - exact.mean())) < 4.5 * float(error), name
        assert float(exact.mean()) > 10 * float(error)
    with pytest.raises(UnavailableError, match="no KL between a Gaussian carried by a flow and another"):
        q.kl(model("flow").posterior(x[1:]))


GOOD: dict[str, Any] = {"channels": 4, "likelihood": "bernoulli"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"likelihood": "bernouli"}, "one of 'bernoulli'"),
        ({"tail": "nvae"}, "tail = 'nvae' is of the likelihood 'discretised-logistic-mixture' alone"),
        ({"padding": -1}, "padding = -1 should be at least 0"),
        ({"readjust_temperature": 0.0}, "readjust_temperature = 0.0 should be positive"),
        ({"evaluation": "float16"}, "one of 'float32', 'bfloat16'"),
        ({"arch": "res_conv"}, "one of 'res_mbconv'"),
        ({"scales": 0}, "scales = 0 should be at least 1"),
        ({"chanels": 4}, "unknown key 'chanels'; did you mean 'channels'"),
    ],
)
def test_options_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    build(Options, GOOD, "here")
    with pytest.raises(UserError, match=r"^here: ") as error:
        build(Options, {**GOOD, **change}, "here")
    assert message in str(error.value)


def test_images_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"NVAE needs square images, not examples of shape \(1, 8, 4\)"):
        NVAE(Space((1, 8, 4), 17, "pmf"), SMALL)
    with pytest.raises(ValueError, match="2 halvings need images whose side is a multiple of 4, not 6"):
        NVAE(Space((1, 6, 6), 17, "pmf"), SMALL)
    with pytest.raises(ValueError, match="outside the 17 levels"):
        model().posterior(torch.full((1, 1, 8, 8), 17))
