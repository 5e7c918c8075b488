"""Laws of tempered leapfrog and of the Hamiltonian family, its oracle, and slips that the same comparisons catch."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from weekly import weekly

from vaebench.core import registry as plugins
from vaebench.core.checks import Check, check_model
from vaebench.core.data import Batch, Source, Space
from vaebench.core.errors import UserError
from vaebench.core.tables import build
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.leapfrog import HamiltonianGaussian, TemperedLeapfrog, quadratic_cooling
from vaebench.distributions.noise import keyed
from vaebench.functional.bernoulli import log_likelihood
from vaebench.functional.gaussian import log_density
from vaebench.functional.statistics import mean_stderr
from vaebench.metrics.shared.bounds import score
from vaebench.models.adapters.flat import Flat
from vaebench.models.adapters.flat import Options as FlatOptions
from vaebench.models.adapters.hamiltonian import Hamiltonian, Leapfrog, Options
from vaebench.models.card import Card, Recipe
from vaebench.models.oracles import LeapfrogGaussian, Oracle, oracles
from vaebench.training import loop as training

SPACE = Space((1, 4, 4), 2, "pmf")
TEMPERING: list[Any] = ["none", "fixed", "free"]


def model(tempering: Any = "fixed", steps: int = 3, space: Space = SPACE, **changes: Any) -> Hamiltonian:
    torch.manual_seed(0)
    likelihood: Any = changes.pop("likelihood", "bernoulli")
    options = Options(3, (8,), likelihood, steps=steps, tempering=tempering, init_temperature=2.0, **changes)
    return Hamiltonian(space, options)


def examples(batch: int, space: Space = SPACE) -> Tensor:
    return torch.randint(0, space.levels or 2, (batch, *space.shape), generator=torch.Generator().manual_seed(0))


def curved(z: Tensor) -> Tensor:
    """A potential that is neither quadratic nor separable: (S, B, L) to (S, B)."""
    return 0.5 * z.square().sum(-1) + torch.cos(z.sum(-1)) + 0.1 * z.prod(-1)


SIZES: list[Any] = ["shared", "each"]


def leapfrog(
    tempering: Any, potential: Callable[[Tensor], Tensor] = curved, latent: int = 2, sizes: Any = "shared"
) -> TemperedLeapfrog:
    torch.manual_seed(1)
    options = Options(latent, (1,), "gaussian", steps=4, tempering=tempering, init_temperature=3.0, step_sizes=sizes)
    learnt = Leapfrog(options).double()
    with torch.no_grad():
        for parameter in learnt.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return TemperedLeapfrog(potential, learnt.step_size, learnt.log_alpha)


def points(latent: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    z, rho = torch.randn(2, 5, 3, latent, generator=generator, dtype=torch.float64)
    return z, rho


@pytest.mark.parametrize("samples", [1, 7])
@pytest.mark.parametrize("network", ["mlp", "conv", "conv5"])
@torch.no_grad()
def test_zero_steps_are_the_flat_model(samples: int, network: Any) -> None:
    hidden = (8,) if network == "mlp" else (4, 8)
    options: dict[str, Any] = {"network": network, "activation": "relu"}
    flat = Flat(SPACE, FlatOptions(3, hidden, "bernoulli", **options))
    still = Hamiltonian(SPACE, Options(3, hidden, "bernoulli", steps=0, tempering="none", **options))
    still.load_state_dict(flat.state_dict())
    x = examples(4)
    for first in (0, 3):
        with keyed(5, torch.arange(4), first):
            a = flat.draw(x, samples)
        with keyed(5, torch.arange(4), first):
            b = still.draw(x, samples)
        assert a.latents[0].equal(b.latents[0])
        assert a.log_likelihood.equal(b.log_likelihood)
        torch.testing.assert_close(a.log_weight, b.log_weight, rtol=1e-6, atol=1e-5)
    assert flat.embed(x).equal(still.embed(x))
    assert not [name for name, _ in still.inference_parameters() if not name.startswith("encoder.")]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("tempering", TEMPERING)
@torch.no_grad()
def test_the_inverse_undoes_the_map(tempering: Any, sizes: Any) -> None:
    flow, start = leapfrog(tempering, sizes=sizes), points()
    end = flow.forward(*start)
    assert float((end[0] - start[0]).abs().min()) > 1e-4
    torch.testing.assert_close(flow.inverse(*end), start, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(flow.forward(*flow.inverse(*start)), start, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("tempering", TEMPERING)
def test_volume_changes_by_the_cooling_alone(tempering: Any, sizes: Any) -> None:
    flow, (z, rho) = leapfrog(tempering, sizes=sizes), points()

    def flat(point: Tensor) -> Tensor:
        return torch.cat([part.flatten() for part in flow.forward(*point.view(2, 1, 1, 2).unbind())])

    for s in range(2):
        jacobian = torch.autograd.functional.jacobian(flat, torch.cat([z[s, 0], rho[s, 0]]))
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, flow.log_det, rtol=1e-10, atol=1e-12)
    assert (abs(float(flow.log_det.detach())) > 0.1) == (tempering != "none")


@torch.no_grad()
def test_step_sizes_of_each_step_are_those_of_flows_in_turn() -> None:
    flow, end = leapfrog("free", sizes="each"), points()
    assert flow.step.shape == (4, 2)
    assert len(flow.step.flatten().unique()) == 8
    for step, log_alpha in zip(flow.step, flow.log_alpha, strict=True):
        end = TemperedLeapfrog(curved, step, log_alpha[None]).forward(*end)
    torch.testing.assert_close(flow.forward(*points()), end, rtol=1e-12, atol=1e-12)
    once = TemperedLeapfrog(curved, flow.step[0], flow.log_alpha)
    same = TemperedLeapfrog(curved, flow.step[:1].expand(4, 2), flow.log_alpha)
    assert all(a.equal(b) for a, b in zip(once.forward(*points()), same.forward(*points()), strict=True))


@pytest.mark.parametrize("tempering", TEMPERING)
@torch.no_grad()
def test_squares_of_alpha_multiply_to_the_inverse_temperature(tempering: Any) -> None:
    flow = leapfrog(tempering)
    torch.testing.assert_close(flow.log_alpha.exp().square().prod(), 1 / flow.log_temperature.exp())
    assert bool((flow.log_alpha <= 0).all())
    fresh = Leapfrog(Options(2, (1,), "gaussian", steps=4, tempering=tempering, init_temperature=3.0))
    torch.testing.assert_close((-2 * fresh.log_alpha.sum()).exp(), torch.tensor(1.0 if tempering == "none" else 3.0))
    torch.testing.assert_close(fresh.step_size, torch.full((2,), 0.2))


def test_the_quadratic_schedule_is_the_one_of_the_protocol() -> None:
    t = [4 - 3 * k**2 / 9 for k in range(4)]
    expected = [math.sqrt(b / a) for a, b in pairwise(t)]
    found = quadratic_cooling(torch.tensor(4.0, dtype=torch.float64), 3).exp().tolist()
    assert found == pytest.approx(expected, abs=1e-12)


def cooled_momentum(tempering: Any) -> Tensor:
    """rho_K where no force acts, divided by the standard normal noise that it came from: (S, B, L)."""
    flow = leapfrog(tempering, lambda z: 0 * z.sum(-1))
    zero = torch.zeros(3, 2, dtype=torch.float64)
    with torch.no_grad(), keyed(0, torch.arange(3)):
        _, rho = HamiltonianGaussian(DiagonalGaussian(zero, zero), flow).rsample(5)
    with keyed(0, torch.arange(3)):
        (_, momentum) = (DiagonalGaussian(zero, zero).rsample(5)[0] for _ in range(2))
    return rho / momentum


@pytest.mark.parametrize("tempering", TEMPERING)
def test_free_momentum_ends_at_temperature_one(tempering: Any) -> None:
    torch.testing.assert_close(cooled_momentum(tempering), torch.ones(5, 3, 2, dtype=torch.float64))


@torch.no_grad()
def test_energy_is_kept_to_second_order() -> None:
    """Half the step over twice the steps leaves a quarter of the error; of a first-order map, half."""
    z, rho = points()
    worst = []
    for steps in (20, 40):
        step = torch.full((2,), 2.0 / steps, dtype=torch.float64)
        end = TemperedLeapfrog(curved, step, torch.zeros(steps, dtype=torch.float64)).forward(z, rho)
        change = curved(end[0]) + 0.5 * end[1].square().sum(-1) - curved(z) - 0.5 * rho.square().sum(-1)
        worst.append(float(change.abs().max()))
    assert 3.5 < worst[0] / worst[1] < 4.5


def test_gradients_through_the_flow_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    slope = torch.randn(2, dtype=torch.float64, requires_grad=True)
    step = torch.tensor([0.3, 0.2], dtype=torch.float64, requires_grad=True)
    log_alpha = torch.tensor([-0.1, -0.3], dtype=torch.float64, requires_grad=True)
    z, rho = (part[:1, :2].clone().requires_grad_() for part in points())

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        z, rho, slope, step, log_alpha = inputs
        flow = TemperedLeapfrog(lambda u: curved(u) + (slope * u).sum(-1).tanh(), step, log_alpha)
        back = flow.inverse(z, rho)
        return (*flow.forward(z, rho), *back, flow.log_det)

    assert torch.autograd.gradcheck(run, (z, rho, slope, step, log_alpha))


def test_the_fast_bernoulli_is_differentiable_twice() -> None:
    logits = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    x = torch.tensor([0.0, 1, 1, 0, 1, 0], dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda value: log_likelihood(value, x), (logits,))


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "discretised-logistic"])
@pytest.mark.parametrize("tempering", TEMPERING)
def test_gradients_reach_every_part(tempering: Any, likelihood: str) -> None:
    space = SPACE if likelihood == "bernoulli" else Space((1, 4, 4), 17, "pmf")
    network = model(tempering, likelihood=likelihood, space=space)
    (-network.draw(examples(4, space), 2).log_weight.mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().max()) > 0, name


@torch.no_grad()
def test_without_gradients_no_graph_is_kept() -> None:
    network, x = model(), examples(2)
    draws = network.draw(x, 3)
    tensors = [*draws.latents, draws.log_weight, network.posterior(x).log_prob(draws.latents)]
    assert not any(tensor.requires_grad for tensor in tensors)


@pytest.mark.parametrize("tempering", TEMPERING)
@torch.no_grad()
def test_the_decoder_shapes_q_and_belongs_to_p(tempering: Any) -> None:
    network = model(tempering)
    names = {name.partition(".")[0] for name, _ in network.inference_parameters()}
    learnt = {name for name, _ in network.inference_parameters() if name.startswith("leapfrog.")}
    assert names == {"encoder", "leapfrog"}
    cooling = {"none": set(), "fixed": {"leapfrog.temperature"}, "free": {"leapfrog.alpha"}}[tempering]
    assert learnt == {"leapfrog.step"} | cooling


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@torch.no_grad()
def test_temperature_scales_position_and_momentum(temperature: float) -> None:
    network = model()
    with keyed(0, torch.arange(2)):
        warm = network.prior(2, temperature).rsample(3)
    with keyed(0, torch.arange(2)):
        one = network.prior(2).rsample(3)
    log_variance = torch.full((3,), 2 * math.log(temperature))
    for a, b in zip(warm, one, strict=True):
        torch.testing.assert_close(a, temperature * b)
    density = sum(log_density(group, torch.zeros(3), log_variance) for group in warm)
    torch.testing.assert_close(network.prior(2, temperature).log_prob(warm), density)


def failed(network: Any) -> dict[str, str]:
    checks: list[Check] = list(check_model(network))
    return {check.name: check.detail for check in checks if not check.passed}


@pytest.mark.parametrize("tempering", weekly(TEMPERING, "free"))
@pytest.mark.parametrize(
    ("likelihood", "space"),
    [("bernoulli", SPACE), ("categorical", Space((2, 2, 2), 5, "pmf")), ("gaussian", Space((3,), None, "density"))],
)
def test_every_model_keeps_its_promises(likelihood: str, space: Space, tempering: Any) -> None:
    assert failed(model(tempering, likelihood=likelihood, space=space)) == {}


def test_twenty_steps_of_their_own_sizes_keep_their_promises() -> None:
    assert failed(model("free", steps=20, step_sizes="each")) == {}


def test_the_papers_network_fits_a_card() -> None:
    options = build(Options, {"latent": 64, "hidden": [16, 32, 32, 450], "network": "conv5", "activation": "softplus",
                              "likelihood": "bernoulli", "steps": 20, "step_sizes": "each", "tempering": "free"},
                    "card")  # fmt: skip
    made = Hamiltonian(Space((1, 28, 28), 2, "pmf"), options)
    kernels = [tuple(p.shape) for n, p in made.encoder.named_parameters() if p.ndim == 4]
    assert kernels == [(16, 1, 5, 5), (32, 16, 5, 5), (32, 32, 5, 5)]
    assert [tuple(p.shape) for p in made.decoder.parameters() if p.ndim == 4] == [
        (32, 32, 5, 5), (32, 16, 5, 5), (16, 1, 5, 5)]  # fmt: skip
    x = torch.randint(0, 2, (2, 1, 28, 28), dtype=torch.uint8)
    assert made.draw(x, 1).log_weight.shape == (1, 2)


def test_a_still_model_keeps_its_promises() -> None:
    assert failed(model("none", steps=0)) == {}


def oracle(name: str = "hamiltonian", slack: float = 0.3) -> Oracle:
    return next(o for o in oracles(slack=slack) if o.name == name)


def faults(found: Oracle, samples: int, limit: float = 3.0) -> set[str]:
    """The values whose mean paired error is beyond `limit` standard errors."""
    x = found.dataset.split("test").x
    with torch.no_grad():
        values = score(Batch(x, None, torch.arange(len(x))), 1, model=found.model, samples=samples, rows=100 * len(x))
    errors = {name: mean_stderr(values[name] - exact) for name, exact in found.exact.items()}
    return {name for name, (error, stderr) in errors.items() if abs(error) > limit * (stderr or 0.0) + 1e-5}


@pytest.mark.parametrize("samples", [200, 1000])
@pytest.mark.parametrize("steps", [1, 3, 6])
def test_estimates_meet_the_exact_answers(samples: int, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeapfrogGaussian, "STEPS", steps)
    assert faults(oracle(), samples) == set()


def test_the_bound_is_tighter_than_without_steps() -> None:
    flat, moved = oracle("flat").exact, oracle().exact
    assert flat["nll"].equal(moved["nll"])
    gain, stderr = mean_stderr(moved["elbo"] - flat["elbo"])
    assert stderr is not None
    assert gain > 0.1 + 3 * stderr
    assert bool((moved["elbo"] < -moved["nll"]).all())


# Slips: each must be seen by a comparison above.


def forget_the_cooling(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TemperedLeapfrog, "log_det", property(lambda self: torch.zeros(())))


def momentum_scored_at_one(patch: pytest.MonkeyPatch) -> None:
    draw = HamiltonianGaussian.rsample_with_log_prob

    def scored(self: HamiltonianGaussian, samples: int) -> tuple[tuple[Tensor, ...], Tensor]:
        latents, _ = draw(self, samples)
        return latents, log_prob(self, latents)

    def log_prob(self: HamiltonianGaussian, latents: tuple[Tensor, ...]) -> Tensor:
        z, rho = self.flow.inverse(*latents)
        zero = torch.zeros_like(rho)
        return self.base.log_prob((z,)) + log_density(rho, zero, zero) - self.flow.log_det

    patch.setattr(HamiltonianGaussian, "rsample_with_log_prob", scored)
    patch.setattr(HamiltonianGaussian, "log_prob", log_prob)


@pytest.mark.parametrize("slip", [forget_the_cooling, momentum_scored_at_one])
def test_a_slip_in_the_density_is_seen(slip: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    slip(monkeypatch)
    assert {"nll", "elbo", "rate"} <= faults(oracle(), 200)
    assert {"samples agree with scores", "draws rescore to the same values"} & set(failed(model("free")))


def test_a_wrong_first_temperature_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a valid q, so that the NLL stays right: the exact ELBO and the temperature law see it."""
    monkeypatch.setattr(TemperedLeapfrog, "log_temperature", property(lambda self: -self.log_alpha.sum()))
    assert "elbo" in faults(oracle(), 200)
    assert float((cooled_momentum("fixed") - 1).abs().max()) > 0.1


def test_a_whole_step_of_momentum_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: TemperedLeapfrog, z: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        for alpha in self.log_alpha.exp():
            rho = rho + self.step * self._force(z)  # and none after: volume is kept, but it is not leapfrog
            z = z + self.step * rho
            rho = alpha * rho
        return z, rho

    monkeypatch.setattr(TemperedLeapfrog, "forward", forward)
    assert "elbo" in faults(oracle(), 200)
    assert "draws rescore to the same values" in failed(model("free"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": -1}, "steps = -1 should be at least 0"),
        ({"steps": 0}, "steps = 0 leaves nothing to temper; use tempering = 'none', not 'fixed'"),
        ({"steps": 0, "tempering": "none", "step_sizes": "each"}, "steps = 0 leaves no step to size"),
        ({"init_step": 0.6}, "init_step = 0.6 should lie between 0 and max_step = 0.5"),
        ({"init_step": 0.0}, "init_step = 0.0 should lie"),
        ({"max_step": float("inf")}, "and max_step = inf"),
        ({"init_temperature": 1.0}, "init_temperature = 1.0 should be more than 1"),
        ({"tempering": "quadratic"}, "one of 'none', 'fixed', 'free'"),
        ({"latent": 0}, "should be positive widths"),
        ({"step": 3}, "did you mean 'steps'?"),
    ],
)
def test_options_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    good = {"latent": 2, "hidden": [4], "likelihood": "bernoulli"}
    build(Options, good, "here")
    with pytest.raises(UserError, match=r"^here: ") as error:
        build(Options, {**good, **change}, "here")
    assert message in str(error.value)


@pytest.mark.parametrize("tempering", ["fixed", "free"])
def test_it_trains_on_digits(tempering: str, tmp_path: Path) -> None:
    source = plugins.load("datasets", "digits")
    assert isinstance(source, Source)
    options = {"latent": 4, "hidden": [32], "likelihood": "categorical", "steps": 2, "tempering": tempering}
    card = Card("hvae", "digits", "", "hamiltonian", options, training=Recipe(2, 64, validation=200))
    training.train(card, source.load(tmp_path), tmp_path, device=torch.device("cpu"), report=lambda *_: None)
    log = (tmp_path / "hvae.log.jsonl").read_text(encoding="utf-8").splitlines()
    first, second = (float(line.partition('"validation": ')[2].partition(",")[0]) for line in log)
    assert second < first
    start = Leapfrog(build(Options, options, "here")).state_dict()
    learnt = load_file(tmp_path / "hvae.safetensors")
    for name, value in start.items():
        assert not learnt[f"leapfrog.{name}"].equal(value), name
