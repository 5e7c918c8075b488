"""Known answers of the likelihood's bounds, of the noise they are drawn with, and of what they are made of."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from vaebench.core.data import Batch, Space
from vaebench.distributions.coupling import CouplingFlow, DecoupledPrior
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.noise import keyed
from vaebench.evaluation.selftest.answer import Answer, average, equal, rounding, worst
from vaebench.functional.divergence import kl_gaussian
from vaebench.functional.importance import ImportanceWeights
from vaebench.metrics.shared.bounds import score
from vaebench.models.adapters import flat, nvae
from vaebench.models.oracles import Oracle, TwoLevelGaussian, oracles


def _scored(oracle: Oracle, device: torch.device, dtype: torch.dtype, samples: int, rows: int) -> dict[str, Tensor]:
    model, x = oracle.model.to(device=device, dtype=dtype), oracle.dataset.split("test").x
    batch = Batch(x.to(device=device, dtype=dtype), None, torch.arange(len(x), device=device))
    with torch.no_grad():
        return {name: value.cpu() for name, value in score(batch, 0, model=model, samples=samples, rows=rows).items()}


def likelihood(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """NLL, ELBO, rate and distortion of the linear-Gaussian oracles: slack 0 leaves rounding only.

    With z ~ N(m, s^2) for N(0, 1) in each of L dimensions, K / ESS is (s^2 / sqrt(2 s^2 - 1) e^(m^2 / (2 s^2 - 1)))^L.
    """
    for slack, samples in ((0.0, 10), (0.3, 1000)):
        for oracle in oracles(slack=slack):
            values = _scored(oracle, device, dtype, samples, 64 * 400)
            for name, exact in oracle.exact.items():
                label = f"likelihood {name}, {oracle.name} oracle, {'exact' if slack == 0 else 'slack'} q, K={samples}"
                yield average(label, exact, values[name], rounding(dtype, float(exact.mean())))
            if oracle.name == "flat":
                square = (1 + slack) ** 2
                ratio = square / (2 * square - 1) ** 0.5 * math.exp(slack**2 / (2 * square - 1))
                label = f"likelihood ess, flat oracle, {'exact' if slack == 0 else 'slack'} q, K={samples}"
                yield average(label, samples / ratio**4, values["ess"], 0.005 * samples)


def weights(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Bounds and effective sample size of 35 given weights, far below 1, that come in unequal chunks."""
    steps = [0.1 * ((7 * k) % 11) for k in range(35)]  # log w_k - base
    base, each = -1000.0, [math.exp(step) for step in steps]
    tenths = [math.log(math.fsum(each[3 * i : 3 * i + 3]) / 3) for i in range(11)]  # 35 // 10 draws in a tenth
    exact = {
        "elbo": base + math.fsum(steps) / 35,
        "log_marginal": base + math.log(math.fsum(each) / 35),
        "log_marginal_tenth": base + math.fsum(tenths) / 11,
        "effective_samples": math.fsum(each) ** 2 / math.fsum(w * w for w in each),
    }
    found, log_weight = ImportanceWeights(35), torch.tensor(steps, dtype=torch.float64)[:, None] + base
    for part in log_weight.split([4, 10, 1, 20]):
        found.add(part)
    names = {"elbo": "elbo", "log_marginal": "nll", "log_marginal_tenth": "nll_tenth", "effective_samples": "ess"}
    for field, value in found.result()._asdict().items():
        yield equal(f"likelihood {names[field]}, given weights", exact[field], value[0], size=-base)


def noise(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Draws in chunks are those drawn at once, whatever examples are beside; each is another standard normal."""
    oracle = oracles(count=40)[0]
    whole, cut = (_scored(oracle, device, dtype, 30, rows) for rows in (30 * 40, 7))
    for name in ("nll", "ess"):
        yield worst(f"noise across chunks, {name} of each example", whole[name], cut[name], torch.float32)
    with keyed(3, torch.arange(50, device=device)):
        shape, zero = torch.zeros(50, 400, device=device, dtype=dtype), torch.zeros(50, 400, device=device, dtype=dtype)
        (one,) = DiagonalGaussian(zero, shape).rsample(4)
        (two,) = DiagonalGaussian(zero, shape).rsample(4)
    with keyed(3, torch.arange(50, device=device)[10:], first_draw=2):
        (part,) = DiagonalGaussian(zero[10:], shape[10:]).rsample(2)
    yield worst("noise of a draw, by its number and example", one[2:, 10:], part)
    yield average("noise, mean", 0.0, one.flatten(), 0.0)
    yield average("noise, mean square", 1.0, one.flatten().square(), 0.0)
    pairs = {"draws": (one[0], one[1]), "examples": (one[:, 0], one[:, 1]), "calls": (one, two)}
    for name, (a, b) in pairs.items():
        yield average(f"noise, product across {name}", 0.0, (a * b).flatten(), 0.0)


def gaussians(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """KL of Gaussians of unequal means and variances, in one vector and in a chain of two groups."""

    def kl(m: float, v: float, n: float, w: float) -> float:
        return 0.5 * (math.log(w / v) + (v + (m - n) ** 2) / w - 1)

    cases = [(0.5, 2.0, -1.0, 0.5), (0.0, 0.25, 0.0, 4.0), (1.0, 3.0, 0.0, 1.0)]
    m, v, n, w = torch.tensor(cases, dtype=torch.float64).T
    q, p = DiagonalGaussian(m[None], v.log()[None]), DiagonalGaussian(n[None], w.log()[None])
    for name, a, b in (("forward", q, p), ("backward", p, q)):
        pairs = cases if name == "forward" else [(n, w, m, v) for m, v, n, w in cases]
        yield equal(f"Gaussian KL, unequal variances, {name}", sum(kl(*pair) for pair in pairs), a.kl(b)[0])
    exact = sum(kl(*pair, 0.0, 1.0) for pair in zip(m.tolist(), v.tolist(), strict=True))
    zero = torch.zeros_like(m)
    yield equal("Gaussian KL to a standard normal", exact, kl_gaussian(m, v.log(), zero, zero))
    point = torch.tensor([[[0.2, -1.0, 3.0]]], dtype=torch.float64)
    densities = [
        -0.5 * ((z - a) ** 2 / b + math.log(2 * math.pi * b)) for z, a, b in zip(point[0, 0], m, v, strict=True)
    ]
    yield equal("Gaussian log density", float(sum(densities)), q.log_prob((point,))[0, 0])


@torch.no_grad()
def consistency(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """KL between the two-level oracle's posteriors of two x: joint Gaussians of one covariance, d' V^-1 d / 2."""
    model, x = (oracle := oracles()[2]).model, oracle.dataset.split("test").x
    assert isinstance(model, TwoLevelGaussian)
    model, pair = model.double(), (x.double(), x.double().roll(1, 0))
    evidence, wide = model.evidence, (1 + model.slack) ** 2
    free = 1 - model.LINK**2
    slope = model.LINK / (free * evidence + 1)
    top, low = wide / (1 + model.LINK**2 / (1 / evidence + free)), wide / (evidence + 1 / free)
    one, two = (torch.stack(model.posterior(each).means())[:, 0] for each in pair)
    gap = one - two
    exact = 0.5 * (gap[0].square() / top + (gap[1] - slope * gap[0]).square() / low).sum(-1)
    model = model.to(device=device, dtype=dtype)
    with keyed(0, torch.arange(len(x), device=device)):
        q, p = (model.posterior(each.to(device=device, dtype=dtype)) for each in pair)
        found = q.kl(p).cpu()
    yield average("consistency, two-level oracle", exact, found, rounding(dtype, float(exact.mean())))


@torch.no_grad()
def temperature(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """Draws at temperature t are, where the prior is standard normal, t times those at 1; and their density."""
    plane, t = Space((4,), None, "density"), 0.6
    square = math.log(2 * math.pi * t**2)
    for kind in ("normal", "coupling"):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            model = flat.Flat(plane, flat.Options(4, (8,), "gaussian", prior=kind)).to(device=device, dtype=dtype)
        cold, plain = (model.prior(50, at) for at in (t, 1.0))
        with keyed(0, torch.arange(50, device=device)):
            (z,) = cold.rsample(3)
        with keyed(0, torch.arange(50, device=device)):
            (u,) = plain.rsample(3)
        log_det = torch.zeros(3, 50, dtype=dtype, device=device)
        if model.flow is not None:
            (z_base, log_det), (u, _) = model.flow(z), model.flow(u)
        else:
            z_base = z
        yield worst(f"prior temperature, draws of a {kind} prior", t * u, z_base, torch.float32)
        exact = -0.5 * (z_base.square().sum(-1) / t**2 + 4 * square) + log_det
        yield worst(f"prior temperature, density of a {kind} prior", exact, cold.log_prob((z,)), torch.float32)
    yield from _jacobian(device, dtype)
    first = [_small(device, dtype).prior(2, at).conditionals[0](None) for at in (t, 1.0)]
    yield worst("prior temperature, NVAE", 2 * math.log(t) + first[1][1], first[0][1], torch.float32)


def _jacobian(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """log |det dg/dz| of a decoupled prior at t = 1, by the determinant of autograd's Jacobian."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        flow = CouplingFlow(4).double()
    z = torch.tensor([[0.3, -1.2, 0.8, 2.0]], dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda at: flow(at)[0])(z[0])
    u = flow(z)[0]
    exact = float(-0.5 * (u.square().sum() + 4 * math.log(2 * math.pi)) + jacobian.detach().slogdet().logabsdet)
    yield equal("decoupled prior, density", exact, DecoupledPrior(flow, 1).log_prob((z[None],))[0, 0])


def _small(device: torch.device, dtype: torch.dtype) -> nvae.NVAE:
    """An NVAE of two groups with random weights."""
    options = nvae.Options(
        channels=4, scales=2, groups=1, latent=2, pre_cells=1, post_cells=1, encoder_cells=1, decoder_cells=1,
        likelihood="bernoulli",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nvae.NVAE(Space((1, 8, 8), 2, "pmf"), options).to(device=device, dtype=dtype).eval()


@torch.no_grad()
def hierarchy(device: torch.device, dtype: torch.dtype) -> Iterator[Answer]:
    """An NVAE whose encoder is silent below the first group: what is left of q there is p, and its rate is 0."""
    model = _small(device, dtype)
    for name, parameter in model.network.enc_sampler.named_parameters():
        if not name.startswith("0."):  # weights are normalised: their norm vanishes, and the bias
            parameter.fill_(-1e4 if name.endswith("log_weight_norm") else 0.0)
        elif name == "0.bias":
            parameter.fill_(1.0)  # so that KL(q || p) is far from KL(p || q)
    x = torch.arange(2 * 64, device=device).reshape(2, 1, 8, 8) % 2
    with keyed(0, torch.arange(2, device=device)):
        draws, rates = model.draw_groups(x.to(torch.uint8), 50)
    yield worst("NVAE, rate of a group whose residual is 0", torch.zeros_like(rates[1]), rates[1], torch.float32)
    ratio = (draws.log_posterior - draws.log_prior).double() - rates.double().sum(0)
    yield average("NVAE, log q - log p less the groups' rates", 0.0, ratio.flatten(), rounding(dtype, 100))
