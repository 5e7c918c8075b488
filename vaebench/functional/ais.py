"""Annealed importance sampling forwards and backwards, with Hamiltonian transitions, of a tilted standard normal.

The path is log pi_b(e) = log N(e; 0, I) + b log w(e) up to a constant, b from 0 to 1, over noise e of E dimensions.
With w(e) = p(x, z) / q(z|x) for the z that e makes of q, it leads from q(z|x) to p(z|x), and E_q[w] = p(x): in z it is
(1 - b) log q(z|x) + b log p(x, z), whatever the coordinates, and a hierarchy's groups all move at once.

Source: Neal 2001; Grosse, Ghahramani & Adams 2015 (arXiv 1511.02543) for the reverse; Neal 2011 for the transition.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

TARGET = 0.65  # acceptance that steps are fitted to: Neal 2011, section 5.4.2
_RATE = 0.5  # of the pilot's steps in their logarithm
_FAR = 1e12  # squared distance from which on a trajectory has diverged, and NaN says nothing of the density
_SLOPE = 4.0  # of the schedule: Wu et al. 2017

Tilt = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From noise e (S, B, E) to log w(e), (S, B) nats, and its gradient in e, (S, B, E)."""
Noise = Callable[[int], tuple[Tensor, Tensor]]
"""From t to the momenta (S, B, E), standard normal, and the uniform numbers (S, B) of the t-th transition."""


class State(NamedTuple):
    """Where S chains for each of B examples are, with log w and its gradient there."""

    noise: Tensor
    log_weight: Tensor
    gradient: Tensor


class Chains(NamedTuple):
    """S chains for each of B examples: where they begin, (S, B, E), their noise, and whether they go back to b = 0."""

    start: Tensor
    noise: Noise
    back: bool


class Annealed(NamedTuple):
    """S chains for each of B examples: `log_weight` (S, B) float64 nats; `acceptance` (B,), the mean probability."""

    log_weight: Tensor
    acceptance: Tensor


def schedule(steps: int) -> list[float]:
    """b_0 = 0 < b_1 < ... < b_T = 1 for T = `steps` >= 2, dense at both ends: a sigmoid from -4 to 4, rescaled."""
    if steps < 2:
        raise ValueError(f"steps = {steps} should be at least 2")
    ends = 1 / (1 + math.exp(_SLOPE)), 1 / (1 + math.exp(-_SLOPE))
    inner = [1 / (1 + math.exp(-_SLOPE * (2 * t / steps - 1))) for t in range(1, steps)]
    return [0.0, *((value - ends[0]) / (ends[1] - ends[0]) for value in inner), 1.0]


def accepted(log_ratio: Tensor, uniform: Tensor) -> Tensor:
    """Whether a proposal is accepted (Metropolis): log u < log ratio, and not where a trajectory has diverged."""
    return uniform.log() < log_ratio


def transition(
    state: State, tilt: Tilt, beta: Tensor, step: Tensor, noise: tuple[Tensor, Tensor], leapfrogs: int
) -> tuple[State, Tensor]:
    """`state` after one Hamiltonian transition that leaves pi_b as it is, and the acceptance probabilities (S, B).

    `beta` () or (S, 1) is b; `step` (B,) or (S, B) is in units of e and must not depend on where the chains are;
    `noise` is fresh momenta and uniform numbers. `tilt` is called once for each of the `leapfrogs` steps: the last
    gives both the proposal's energy and the next gradient.
    A chain that meets log w = NaN stays NaN: a density that is not one is not walked around.
    """
    momentum, uniform = noise
    step, force = step[..., None], beta[..., None]
    at, rho = state.noise, torch.addcmul(momentum, 0.5 * step, force * state.gradient - state.noise)
    sick = state.log_weight.isnan()
    for i in range(leapfrogs):
        at = torch.addcmul(at, step, rho)
        log_weight, gradient = tilt(at)
        sick = sick | (log_weight.isnan() & (at.square().sum(-1) < _FAR))
        rho = torch.addcmul(rho, step if i + 1 < leapfrogs else 0.5 * step, force * gradient - at)
    squares = state.noise.square() + momentum.square() - at.square() - rho.square()
    log_ratio = beta * (log_weight - state.log_weight) + 0.5 * squares.sum(-1)
    taken = accepted(log_ratio, uniform)
    chosen = State(
        torch.where(taken[..., None], at, state.noise),
        torch.where(taken, log_weight, state.log_weight).masked_fill(sick, math.nan),
        torch.where(taken[..., None], gradient, state.gradient),
    )
    return chosen, log_ratio.clamp(max=0.0).exp().nan_to_num(0.0)


def pilot(tilt: Tilt, start: Tensor, betas: list[float], noise: Noise, leapfrogs: int) -> Tensor:
    """Step sizes (T - 1, B) by transition, from a forward pass whose acceptance steers them to `TARGET`.

    The pass begins at `start` (S, B, E), standard normal. Its noise must be its own: a step that depended on the
    chains that are weighted would bias their weights. No trajectory is longer than a quarter of the period of the
    standard normal, after which it comes back to where it was: where q is good, acceptance is then above the target.
    """
    state, sizes = State(start, *tilt(start)), []
    longest = 0.5 * math.pi / leapfrogs
    step = torch.full_like(start[0, :, 0], longest)
    for t, beta in enumerate(step.new_tensor(betas[1:-1])):
        sizes.append(step)
        state, acceptance = transition(state, tilt, beta, step, noise(t), leapfrogs)
        step = (step * (_RATE * (acceptance.mean(0) - TARGET)).exp()).clamp(max=longest)
    return torch.stack(sizes)


def forward(tilt: Tilt, start: Tensor, betas: list[float], steps: Tensor, noise: Noise, leapfrogs: int) -> Annealed:
    """Chains from `start` (S, B, E), standard normal, to b = 1; E[exp(log_weight)] = E_N[w].

    log weight = sum_t (b_{t+1} - b_t) log w(e_t), where e_t comes of the transition at b_t. `steps` is of `pilot`.
    """
    return side_by_side(tilt, [Chains(start, noise, back=False)], betas, steps, leapfrogs)[0]


def reverse(tilt: Tilt, start: Tensor, betas: list[float], steps: Tensor, noise: Noise, leapfrogs: int) -> Annealed:
    """Chains from `start` (S, B, E), exact draws of pi_1, back to b = 0; E[exp(-log_weight)] = 1 / E_N[w].

    The log weights are those of `forward`, along the same transitions in the other order.
    """
    return side_by_side(tilt, [Chains(start, noise, back=True)], betas, steps, leapfrogs)[0]


def side_by_side(
    tilt: Tilt, sets: Sequence[Chains], betas: list[float], steps: Tensor, leapfrogs: int
) -> list[Annealed]:
    """What `forward` or `reverse` gives of each of `sets`: all of them share each call of `tilt`."""
    start = torch.cat([each.start for each in sets])
    sizes = [len(each.start) for each in sets]
    repeats = torch.tensor(sizes, device=start.device)

    def by_chain(values: Tensor) -> Tensor:
        return values.repeat_interleave(repeats, 0, output_size=sum(sizes))

    b, state = start.new_tensor(betas, dtype=torch.float64), State(start, *tilt(start))
    widths = b.diff()
    total = rate = torch.zeros_like(state.log_weight, dtype=torch.float64)
    for place in range(len(betas) - 1):
        t = [len(betas) - 2 - place if each.back else place for each in sets]
        if place:
            between = [i + each.back for i, each in zip(t, sets, strict=True)]  # b of the transition from t before to t
            drawn = [each.noise(i) for i, each in zip(between, sets, strict=True)]
            noise = torch.cat([momenta for momenta, _ in drawn]), torch.cat([uniform for _, uniform in drawn])
            beta, step = by_chain(b[between, None].to(start.dtype)), by_chain(steps[[i - 1 for i in between]])
            state, acceptance = transition(state, tilt, beta, step, noise, leapfrogs)
            rate = rate + acceptance
        total = total + by_chain(widths[t, None]) * state.log_weight
    rates = rate / (len(betas) - 2)
    return [Annealed(w, a.mean(0)) for w, a in zip(total.split(sizes), rates.split(sizes), strict=True)]


def lower_bound(log_weight: Tensor) -> Tensor:
    """log (1/S) sum_s w_s of forward weights (S, B): at most log E_N[w] in expectation, (B,) nats."""
    return log_weight.logsumexp(0) - math.log(len(log_weight))


def upper_bound(log_weight: Tensor) -> Tensor:
    """-log (1/S) sum_s 1/w_s of reverse weights (S, B): at least log E_N[w] in expectation, (B,) nats."""
    return math.log(len(log_weight)) - (-log_weight).logsumexp(0)
