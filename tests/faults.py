"""Faults of one line, and which of selftest's answers must fail for each."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import getsource, unwrap
from types import FunctionType, ModuleType
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """In `module` of the package, what stands once as `right` becomes `wrong`; `answers` of selftest see it."""

    answers: str
    module: str
    right: str
    wrong: str


FAULTS = (
    # likelihoods
    Fault("masses", "distributions.likelihoods", "MIN_LOG_SCALE = -7.0", "MIN_LOG_SCALE = -5.0"),
    Fault("densities", "distributions.likelihoods", "log_sigma.clamp(min=-7.0)", "log_sigma.clamp(min=-3.0)"),
    Fault("masses", "functional.bernoulli", "logits * (1 - 2 * x)", "logits * (2 * x - 1)"),
    Fault("masses", "functional.bernoulli", "products.log_().sum(-1) -", "products.log_().sum(-1) +"),
    Fault("masses", "functional.categorical", "logits.log_softmax(dim).gather", "logits.log().gather"),
    Fault("masses", "functional.logistic", "x < -0.999, x > upper", "x < -2.0, x > 2.0"),
    Fault("masses", "functional.logistic", "half, narrow = 1.0 / (levels - 1)", "half, narrow = 1.0 / levels"),
    Fault("masses", "functional.logistic", "(2 * t / (1 + t))", "(2 * t)"),
    Fault("masses", "distributions.likelihoods", "(2.0 / (levels - 1)) - 1.0", "(2.0 / levels) - 1.0"),
    Fault("masses", "distributions.likelihoods", ".round().clamp_(0, levels - 1)", ".floor().clamp_(0, levels - 1)"),
    Fault("masses", "distributions.likelihoods", "parts[2].tanh() if kinds", "parts[2] if kinds"),
    Fault("masses", "distributions.likelihoods", "coefficient[:, :, 2] * green", "coefficient[:, :, 2] * red"),
    Fault("masses", "distributions.likelihoods", "coefficient[:, :, 0] * red", "coefficient[:, :, 1] * red"),
    Fault("masses", "distributions.likelihoods", "self.raw[:, :, :10].log_softmax(2)", "self.raw[:, :, :10]"),
    Fault(
        "masses", "distributions.likelihoods", '(0.999, False) if tail == "strict"', '(0.99, False) if tail == "strict"'
    ),
    Fault("densities", "distributions.likelihoods", "- math.log(self.SCALE)", "+ math.log(self.SCALE)"),
    Fault("bits", "metrics.likelihood", "space.dims * math.log(2)", "space.shape[0] * math.log(2)"),
    Fault("bits", "metrics.likelihood", "-space.dims * cell", "space.dims * cell"),
    Fault("densities", "functional.continuous_bernoulli", "- rate.log())", "+ rate.log())"),
    Fault("densities", "functional.continuous_bernoulli", "(x - 0.5) - series", "(x - 0.5)"),
    Fault("densities", "functional.continuous_bernoulli", "torch.where(up, 1 - distance, distance)", "distance"),
    # annealing
    Fault("certified", "functional.ais", "for value in inner), 1.0]", "for value in inner), 0.9]"),
    Fault("certified", "functional.ais", "return uniform.log() < log_ratio", "return uniform.log() < 0 * log_ratio"),
    Fault("certified", "functional.ais", "return uniform.log() < log_ratio", "return uniform.log() < -log_ratio"),
    Fault("certified", "functional.ais", "- at.square() - rho.square()", "- at.square()"),
    Fault("certified", "functional.ais", "widths = b.diff()", "widths = -b.diff()"),
    Fault("certified", "functional.ais", "[i + each.back for i", "[min(i + 1, len(betas) - 2) for i"),
    Fault("certified", "functional.ais", "torch.where(taken, log_weight,", "torch.where(~taken, log_weight,"),
    Fault("certified", "distributions.joint", "+ self.log_prior(latents) - log_q", "- self.log_prior(latents) - log_q"),
    Fault("code length", "metrics.shared.bits_back", "for start in reversed(starts)]", "for start in starts]"),
    Fault("code length", "metrics.shared.bits_back", "torch.cat(parts[::-1])", "torch.cat(parts)"),
    # bounds
    Fault("weights", "functional.importance", "torch.exp(2 * total - self._square)", "torch.exp(total - self._square)"),
    Fault("weights", "functional.importance", "- math.log(self._size)", "- math.log(self.samples)"),
    Fault("weights", "functional.importance", "total - math.log(self.samples)", "total - math.log(self.samples - 1)"),
    Fault("weights", "functional.importance", "totals.pop())", "self._total[-1])"),
    Fault("bits", "metrics.shared.bounds", '"nll": -bounds.log_marginal', '"nll": bounds.log_marginal'),
    Fault("bounds", "metrics.shared.bounds", "draws.log_posterior - draws.log_prior", "draws.log_posterior"),
    Fault("noise", "metrics.shared.bounds", "keyed(seed, batch.example, first)", "keyed(seed, batch.example)"),
    Fault(
        "noise",
        "distributions.noise",
        "torch.arange(self.first_draw, self.first_draw + samples",
        "torch.arange(0, samples",
    ),
    Fault("noise", "distributions.noise", "self.calls += 1", "self.calls = 1"),
    Fault(
        "gaussians",
        "functional.divergence",
        "standardised(mean - other_mean, other_log_variance)",
        "standardised(mean - other_mean, log_variance)",
    ),
    Fault(
        "gaussians",
        "functional.divergence",
        "gap = log_variance - other_log_variance",
        "gap = other_log_variance - log_variance",
    ),
    Fault("gaussians", "functional.gaussian", "log_variance + math.log(2 * math.pi)", "log_variance"),
    Fault("bounds", "distributions.gaussian", "self.mean + (0.5 * self.log", "self.mean + (0.6 * self.log"),
    Fault("bounds", "functional.gaussian", "noise.square() + log_variance", "noise.square()"),
    Fault("temperature", "distributions.coupling", "return normal + cast(Tensor, log_det)", "return normal"),
    Fault(
        "temperature",
        "distributions.coupling",
        "inverse_with_log_det(self.temperature * noise)",
        "inverse_with_log_det(noise)",
    ),
    Fault(
        "temperature",
        "distributions.coupling",
        "square().sum(-1) / self.temperature**2",
        "square().sum(-1) / self.temperature",
    ),
    Fault("temperature", "models.adapters._vector", "2 * torch.tensor(temperature)", "torch.tensor(temperature)"),
    Fault("bounds", "distributions.leapfrog", "(eps, heat) - self.flow.log_det", "(eps, heat) + self.flow.log_det"),
    Fault("hierarchy", "models.networks.nvae", "return raw + self.prior(group, state) if", "return raw if"),
    Fault(
        "hierarchy",
        "distributions.gaussian",
        "kl_gaussian(mean, log_variance, *other, dims)",
        "kl_gaussian(*other, mean, log_variance, dims)",
    ),
    # the aggregate posterior
    Fault("aggregate", "metrics.latent_gap", "both[0].value + both[1].value", "both[0].value + both[0].value"),
    Fault("aggregate", "metrics.latent_gap", "knn_kl(p, q) + knn_kl(q, p)", "knn_kl(p, q) + knn_kl(p, q)"),
    Fault("aggregate", "metrics.latent_gap", "log_q[1] - log_p[1]", "log_q[1] - log_p[0]"),
    Fault("aggregate", "functional.leakage", "log_aggregate - log_base, 0.0", "log_base - log_aggregate, 0.0"),
    Fault("aggregate", "functional.leakage", "leaked = log_base < tau", "leaked = log_base > tau"),
    Fault("aggregate", "functional.leakage", "stats.chi2.isf(tail, latent)", "stats.chi2.ppf(tail, latent)"),
    Fault("aggregate", "functional.aggregate", "- math.log(size)", ""),
    Fault("aggregate", "functional.information", "(1 + math.log(2 * math.pi)", "(math.log(2 * math.pi)"),
    Fault("neighbours", "functional.leakage", "return log_density < own", "return log_density <= own"),
    Fault("neighbours", "functional.knn_kl", "len(theirs) / (n - 1)", "len(theirs) / n"),
    Fault("neighbours", "functional.knn_kl", "float(d * ratio.mean())", "float(ratio.mean())"),
    Fault("latent gap", "metrics.shared.prior", "density[:, 0].double()", "0.5 * density[:, 0].double()"),
    # images
    Fault("frechet", "functional.frechet", "self.scatter / (self.size - 1)", "self.scatter / self.size"),
    Fault("frechet", "functional.frechet", "difference * (b.size / size)", "difference * (a.size / size)"),
    Fault("frechet", "functional.frechet", "(a.size * b.size / size)", "(b.size / size)"),
    Fault("frechet", "functional.frechet", "total - 2 * cross", "total - cross"),
    Fault("image quality", "functional.complexity", "nll / math.log(2) - bits", "nll / math.log(2) + bits"),
    Fault("perception", "functional.perceptual", "apart, head).mean((1, 2))", "apart, head).sum((1, 2))"),
    Fault("perception", "functional.perceptual", "(_unit(one) - _unit(other))", "(one - other)"),
    Fault("perception", "functional.perceptual", "x.double().mean((2, 3)) -", "x.double().mean((2, 3)) +"),
    Fault("perception", "metrics.shared.perception", "if low >= 0:", "if low >= 2:"),
    Fault("perception", "metrics.shared.perception", "if not -1 <= low <= high <= 1:", "if low != low:"),
    Fault("perception", "metrics.shared.perception", "/ 127.5 - 1 for image", "/ 255 for image"),
    # clouds
    Fault("clouds", "functional.clouds", "cost[linear_sum_assignment(cost)].mean()", "cost.diagonal().mean()"),
    Fault("clouds", "functional.clouds", "cross.argmin(0)", "cross.argmin(1)"),
    Fault("clouds", "functional.clouds", "float(cross.amin(1).mean())", "float(cross.amin(0).mean())"),
    Fault("clouds", "functional.clouds", "alone_drawn.amin(1) < cross.amin(0)", "alone_drawn.amin(1) < cross.amin(1)"),
    Fault("densities", "distributions.points", "torch.sigmoid(spread - 1.0)", "torch.sigmoid(spread)"),
    # scores
    Fault("detection", "functional.separation", "(true - gain / 2)", "true"),
    Fault("detection", "functional.separation", "20 * true >= 19", "20 * true > 19"),
    Fault(
        "detection",
        "functional.separation",
        "gain * true / (true + false)",
        "gain * (true - gain / 2) / (true + false)",
    ),
    Fault(
        "detection", "functional.influence", "(float(rank[ood].mean()) - 1) / total", "float(rank[ood].mean()) / total"
    ),
    Fault("proportions", "functional.intervals", "centre = part + z**2 / (2 * n)", "centre = part + z**2 / n"),
    Fault("proportions", "functional.statistics", "(high - low) / (2 * 1.96)", "(high - low) / 1.96"),
    Fault("proportions", "functional.statistics", "values.std() / len(values) ** 0.5", "values.std() / len(values)"),
    Fault("regret", "metrics.regret", "parameter.copy_(copies[name][i])", "copies[name][i]"),
    Fault("regret", "metrics.regret", 'after.append(nll(one, 0)["nll"])', "after.append(before[i : i + 1])"),
    Fault("tracin", "functional.influence", "rate * steps * batch / examples", "rate * steps / examples"),
    # codes
    Fault("probe", "functional.probe", "C=inverse_penalty", "C=1 / inverse_penalty"),
    Fault("probe", "functional.probe", "min(neighbours, len(embedding))", "min(1, len(embedding))"),
    Fault("probe", "metrics.probe", "trainings.var() / len(each)", "trainings.var()"),
    Fault("consistency", "metrics.consistency", "q.kl(p).double()", "p.kl(q).double()"),
    Fault("consistency", "metrics.consistency", "label(other) == still", "label(other) != still"),
    Fault("chains", "functional.divergence", "0.5 * (gap.expm1()", "1.0 * (gap.expm1()"),
    Fault("disentanglement", "functional.disentanglement", "((first - second)[varies]", "(first[varies]"),
    Fault("disentanglement", "functional.disentanglement", "max(square.shape[1] - 1, 1)", "square.shape[1]"),
    Fault("disentanglement", "functional.factor_prediction", "((1 - entropy) * total)", "(entropy * total)"),
    Fault("disentanglement", "functional.factor_prediction", "[:, active].argmin(1)", "[:, active].argmax(1)"),
    Fault(
        "disentanglement",
        "functional.factor_prediction",
        "return float((first - second).mean())",
        "return float(first.mean())",
    ),
)


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """The package with the fault: the live functions get the code of the changed source, and its constants."""
    module = import_module(f"vaebench.{fault.module}")
    source = getsource(module)
    assert source.count(fault.right) == 1, f"{fault}: the line is another now; plant the fault in what it became"
    changed = ModuleType(module.__name__)
    vars(changed)["__file__"] = module.__file__
    exec(compile(source.replace(fault.right, fault.wrong), str(module.__file__), "exec"), vars(changed))
    undo = [swap for name in vars(changed) if name in vars(module) for swap in _exchange(module, changed, name)]
    assert undo, f"nothing is other for {fault}"
    try:
        yield
    finally:
        for owner, name, value in undo:
            setattr(owner, name, value)


def _exchange(owner: Any, changed: Any, name: str) -> Iterator[tuple[Any, str, Any]]:
    """What was replaced in `owner`, a module or class, where `changed` has another `name`."""
    old, new = vars(owner)[name], vars(changed)[name]
    old, new = (getattr(value, "fget", None) or getattr(value, "__func__", value) for value in (old, new))
    if isinstance(old, type):
        if old.__module__ == new.__module__ == getattr(owner, "__module__", owner.__name__) and old is not new:
            for part in [part for part in vars(old) if part in vars(new) and not part.startswith("__weak")]:
                yield from _exchange(old, new, part)
        return
    if not callable(old):
        if isinstance(old, int | float | str | tuple) and not name.startswith("__") and old != new:
            yield owner, name, old
            setattr(owner, name, new)
        return
    old, new = unwrap(old), unwrap(new)
    if isinstance(old, FunctionType) and isinstance(new, FunctionType) and old.__code__ != new.__code__:
        yield old, "__code__", old.__code__
        old.__code__ = new.__code__
