"""Annealed importance sampling: unbiased both ways where log p(x) is known, and every planted fault is seen."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from vaebench.functional import ais
from vaebench.metrics.certified import with_gradient
from vaebench.models.oracles import Oracle, oracles

CHAINS, STEPS, LEAPFROGS = 3000, 4, 3
STEP = 1.1  # in units of noise: large, so that a good part of the proposals is rejected
FAMILIES = ("flat", "decoupled", "two-level", "hamiltonian")
SOME = ["flat", pytest.param("decoupled", marks=pytest.mark.slow), "two-level",
        pytest.param("hamiltonian", marks=pytest.mark.slow)]  # fmt: skip
LIMIT = 4.5  # standard errors


class Noise:
    """Fresh momenta and uniform numbers, in double precision."""

    def __init__(self, shape: torch.Size, seed: int) -> None:
        self.shape, self.generator = shape, torch.Generator().manual_seed(seed)

    def __call__(self, t: int) -> tuple[Tensor, Tensor]:
        momenta = torch.randn(self.shape, generator=self.generator, dtype=torch.float64)
        return momenta, torch.rand(self.shape[:2], generator=self.generator, dtype=torch.float64)


class Sticky:
    """Noise that gives a chain whose proposal was rejected the momentum it had: a fault."""

    def __init__(self, inner: Noise, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inner, self.last, self.taken = inner, torch.empty(0), torch.empty(0)
        accepted = ais.accepted

        def seen(log_ratio: Tensor, uniform: Tensor) -> Tensor:
            self.taken = accepted(log_ratio, uniform)
            return self.taken

        monkeypatch.setattr(ais, "accepted", seen)

    def __call__(self, t: int) -> tuple[Tensor, Tensor]:
        momenta, uniform = self.inner(t)
        if len(self.last):
            momenta = torch.where(self.taken[..., None], momenta, self.last)
        self.last = momenta
        return momenta, uniform


def pair(family: str) -> tuple[Oracle, Oracle]:
    """An oracle whose q is spoilt, and the one of the same p whose q is exact."""
    return tuple(oracles(count=6, slack=slack)[FAMILIES.index(family)] for slack in (0.25, 0.0))  # type: ignore[return-value]


def deviations(
    family: str,
    betas: list[float],
    noise_of: Callable[[Noise], ais.Noise] = lambda noise: noise,
    tilt_of: Callable[[ais.Tilt], ais.Tilt] = lambda tilt: tilt,
) -> tuple[float, float, float]:
    """E[w] / p(x) - 1 of the forward chains and E[1/w] p(x) - 1 of the reverse ones in standard errors; acceptance."""
    spoilt, exact = pair(family)
    x, nll = spoilt.dataset.split("test").x.double(), spoilt.exact["nll"]
    with torch.no_grad():
        joint, best = (oracle.model.double().joint(x) for oracle in (spoilt, exact))
        shape = torch.Size((CHAINS, len(x), joint.size))
        generator = torch.Generator().manual_seed(7)
        normal = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]
        latents, _ = best.q.made(normal[1])  # type: ignore[attr-defined]
        tilt, steps = tilt_of(partial(with_gradient, joint.log_weight)), torch.full((len(betas) - 2, len(x)), STEP)
        there = ais.forward(tilt, normal[0], betas, steps, noise_of(Noise(shape, 1)), LEAPFROGS)
        back = ais.reverse(tilt, joint.noise_of(latents), betas, steps, noise_of(Noise(shape, 2)), LEAPFROGS)
    ratios = (there.log_weight + nll).exp() - 1, (-nll - back.log_weight).exp() - 1
    z = [float(r.mean() / (r.std() / r.numel() ** 0.5)) for r in ratios]
    return z[0], z[1], float(there.acceptance.mean())


@pytest.mark.parametrize("family", SOME)
def test_weights_are_unbiased_in_both_directions(family: str) -> None:
    forward, reverse, acceptance = deviations(family, ais.schedule(STEPS))
    assert abs(forward) < LIMIT
    assert abs(reverse) < LIMIT
    assert 0.3 < acceptance < 0.9  # so that the acceptance step has work to do


@pytest.mark.parametrize("family", SOME)
def test_a_schedule_that_ends_before_one_is_seen(family: str) -> None:
    forward, reverse, _ = deviations(family, [0.9 * beta for beta in ais.schedule(STEPS)])
    assert min(abs(forward), abs(reverse)) > 2 * LIMIT


@pytest.mark.parametrize("family", SOME)
def test_a_missing_acceptance_step_is_seen(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ais, "accepted", lambda log_ratio, uniform: torch.ones_like(uniform, dtype=torch.bool))
    forward, reverse, _ = deviations(family, ais.schedule(STEPS))
    assert min(abs(forward), abs(reverse)) > 2 * LIMIT


@pytest.mark.parametrize("family", SOME)
def test_a_reversed_sign_of_the_energy_is_seen(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = ais.accepted
    monkeypatch.setattr(ais, "accepted", lambda log_ratio, uniform: accepted(-log_ratio, uniform))
    forward, reverse, _ = deviations(family, ais.schedule(STEPS))
    assert min(abs(forward), abs(reverse)) > 2 * LIMIT


@pytest.mark.parametrize("family", SOME)
def test_a_reversed_sign_of_the_weight_is_seen(family: str) -> None:
    def turned(tilt: ais.Tilt) -> ais.Tilt:
        return lambda noise: tuple(-part for part in tilt(noise))  # type: ignore[return-value]

    forward, reverse, _ = deviations(family, ais.schedule(STEPS), tilt_of=turned)
    assert min(abs(forward), abs(reverse)) > LIMIT


@pytest.mark.parametrize("family", SOME)
def test_a_momentum_kept_on_rejection_is_seen(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def sticky(noise: Noise) -> Sticky:
        monkeypatch.undo()
        return Sticky(noise, monkeypatch)

    forward, reverse, _ = deviations(family, ais.schedule(16), noise_of=sticky)
    assert max(abs(forward), abs(reverse)) > LIMIT


def test_a_gradient_of_no_use_costs_acceptance_and_not_truth() -> None:
    """Any force keeps volume and can be undone: the estimate stays unbiased, as theory has it."""

    def blind(tilt: ais.Tilt) -> ais.Tilt:
        return lambda noise: (tilt(noise)[0], torch.zeros_like(noise))

    forward, reverse, _ = deviations("flat", ais.schedule(STEPS), tilt_of=blind)
    assert max(abs(forward), abs(reverse)) < LIMIT


@pytest.mark.parametrize("steps", [2, 3, 100, 1000])
def test_the_schedule_rises_from_zero_to_one_and_is_its_own_mirror(steps: int) -> None:
    betas = torch.tensor(ais.schedule(steps), dtype=torch.float64)
    assert len(betas) == steps + 1
    assert (betas[0], betas[-1]) == (0, 1)
    assert bool((betas.diff() > 0).all())
    torch.testing.assert_close(betas, 1 - betas.flip(0))


@pytest.mark.parametrize("steps", [-1, 0, 1])
def test_a_schedule_of_one_step_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps = {steps} should be at least 2"):
        ais.schedule(steps)


def test_exact_chains_have_no_gap() -> None:
    """Where q is p(z|x), every weight is p(x)."""
    for exact in oracles(count=3, slack=0.0):
        x = exact.dataset.split("test").x.double()
        with torch.no_grad():
            joint = exact.model.double().joint(x)
            tilt, shape = partial(with_gradient, joint.log_weight), torch.Size((2, 3, joint.size))
            start, betas = Noise(shape, 0)(0)[0], ais.schedule(5)
            for run in (ais.forward, ais.reverse):
                found = run(tilt, start, betas, torch.full((4, 3), 0.2), Noise(shape, 1), 2)
                torch.testing.assert_close(found.log_weight, -exact.exact["nll"].expand(2, -1), rtol=1e-6, atol=1e-5)


def test_chains_side_by_side_are_those_that_move_alone() -> None:
    """Each set has its own noise, place and direction, and steps of its own sizes."""
    oracle = oracles(count=3, slack=0.25)[0]
    with torch.no_grad():
        joint = oracle.model.double().joint(oracle.dataset.split("test").x.double())
        tilt, betas = partial(with_gradient, joint.log_weight), ais.schedule(6)
        shapes = [torch.Size((count, 3, joint.size)) for count in (2, 5)]
        starts = [Noise(shape, seed)(0)[0] for seed, shape in enumerate(shapes)]
        steps = torch.linspace(0.3, 1.5, 15, dtype=torch.float64).view(5, 3)
        alone = [
            run(tilt, start, betas, steps, Noise(shape, 3), LEAPFROGS)
            for run, start, shape in zip((ais.forward, ais.reverse), starts, shapes, strict=True)
        ]
        sets = [
            ais.Chains(start, Noise(shape, 3), back)
            for start, shape, back in zip(starts, shapes, (False, True), strict=True)
        ]
        together = ais.side_by_side(tilt, sets, betas, steps, LEAPFROGS)
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other)
        assert 0 < float(one.acceptance.min()) < 1


@pytest.mark.parametrize("hole", [-torch.inf, torch.nan])
def test_where_there_is_no_density_no_chain_goes_and_nan_is_never_walked_around(hole: float) -> None:
    def tilt(noise: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(noise[..., 0] > 0, hole, 0.0), torch.zeros_like(noise)

    shape = torch.Size((50, 1, 2))
    start = -Noise(shape, 0)(0)[0].abs()
    found = ais.forward(tilt, start, ais.schedule(10), torch.full((9, 1), 0.5), Noise(shape, 1), 3)
    if hole == -torch.inf:
        assert bool((found.log_weight == 0).all())
        assert 0 < float(found.acceptance) < 1
    else:
        assert int(found.log_weight.isnan().sum()) > 0


def test_the_pilot_steers_to_its_target_and_no_further_than_a_quarter_period() -> None:
    def narrow(noise: Tensor) -> tuple[Tensor, Tensor]:  # sigma 0.05 at b = 1
        return -0.5 * 399 * noise.square().sum(-1), -399 * noise

    def flat(noise: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(noise[..., 0]), torch.zeros_like(noise)

    betas, shape = ais.schedule(300), torch.Size((64, 5, 6))
    start = Noise(shape, 0)(0)[0]
    steps = ais.pilot(narrow, start, betas, Noise(shape, 1), 5)
    assert bool((steps[-1] < 0.15).all())
    found = ais.forward(narrow, start, betas, steps, Noise(shape, 2), 5)
    assert float((found.acceptance - ais.TARGET).abs().max()) < 0.12
    quarter = torch.full((299, 5), torch.pi / 10, dtype=torch.float64)
    torch.testing.assert_close(ais.pilot(flat, start, betas, Noise(shape, 1), 5), quarter)
