"""The public conformance suite: does a model, a dataset or a metric keep the promises that the suite relies on?

`vaebench check` runs it on anything, built in or from outside; the project's own tests run it on all they ship.
Statistical checks compare with exact identities in standard errors and fail beyond `LIMIT` of them.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor

from vaebench.core.data import Dataset, Space, fingerprint
from vaebench.core.metric import Metric
from vaebench.core.model import LatentDistribution, Latents, LatentVariableModel
from vaebench.core.names import CSV_AFTER, CSV_BEFORE
from vaebench.core.normaliser import OK, normalised
from vaebench.distributions.errors import UnavailableError
from vaebench.distributions.noise import keyed, uniform

LIMIT = 5.0  # standard errors
DRAWS = 2000
PIXELS = 400


class Check(NamedTuple):
    """One promise: its name, whether it was kept, and what was seen where it was not, or could not be decided."""

    name: str
    passed: bool
    detail: str = ""
    undecided: bool = False

    @property
    def failed(self) -> bool:
        """Whether it was broken."""
        return not self.passed and not self.undecided

    @property
    def result(self) -> str:
        """The outcome in a word: "ok", "undecided" or "FAILED"."""
        return "undecided" if self.undecided else "ok" if self.passed else "FAILED"


def _examples(space: Space, batch: int) -> Tensor:
    """`batch` points of `space`, always the same."""
    with keyed(0, torch.arange(batch)):
        u = uniform((1, batch, *space.shape), torch.empty(()))[0]
    if space.levels is None:
        low, high = space.interval or (-2, 2)
        return low + (high - low) * u
    return (u * space.levels).long().clamp_(max=space.levels - 1).to(torch.uint8)


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-3)


def _refuses(action: Callable[[], object], *errors: type[Exception]) -> bool:
    try:
        action()
    except errors:
        return True
    return False


def _scored(model: LatentVariableModel) -> bool:
    """Whether the model has a likelihood, so that it can score its draws."""
    return model.likelihood(model.prior(1).rsample(1)).unscored is None


def _drawn(model: LatentVariableModel, x: Tensor, samples: int) -> tuple[Latents, dict[str, Tensor]]:
    """Draws of q(z|x) and their scores: those of `draw`, or where there is no likelihood what there is."""
    if _scored(model):
        draws = model.draw(x, samples)
        scores = ("log_likelihood", "log_prior", "log_posterior")
        return draws.latents, {name: getattr(draws, name) for name in scores}
    latents = model.posterior(x).rsample(samples)
    return latents, {"log_prior": model.prior(len(x)).log_prob(latents)}


def _shapes(model: LatentVariableModel) -> str:
    for samples in (1, 3):
        for batch in (1, 4):
            latents, scores = _drawn(model, _examples(model.space, batch), samples)
            for name, score in scores.items():
                if (shape := tuple(score.shape)) != (samples, batch):
                    return f"{name} of {samples} draws for {batch} examples is {shape}"
            for group in latents:
                if tuple(group.shape[:2]) != (samples, batch):
                    return f"a latent group of {samples} draws for {batch} examples is {tuple(group.shape)}"
            likelihood = model.likelihood(latents)
            for name, value in (("sample", likelihood.sample()), ("mean", likelihood.mean)):
                if tuple(value.shape) != (samples, batch, *model.space.shape):
                    return f"likelihood {name} is {tuple(value.shape)}"
            model.space.check(likelihood.sample())
            if (embedding := model.embed(_examples(model.space, batch))).ndim != 2 or len(embedding) != batch:
                return f"embed gives {tuple(embedding.shape)} for {batch} examples"
            prior = model.prior(batch).rsample(samples)
            if [g.shape for g in prior] != [g.shape for g in latents]:
                return "prior and posterior draws differ in shape"
    return ""


def _rescoring(model: LatentVariableModel) -> str:
    x = _examples(model.space, 3)
    drawn, scores = _drawn(model, x, 2)
    again: dict[str, Callable[[Latents], Tensor]] = {
        "log_likelihood": lambda z: model.likelihood(z).log_prob(x),
        "log_prior": model.prior(3).log_prob,
        "log_posterior": model.posterior(x).log_prob,
    }
    nudged = tuple(torch.nextafter(group, group + 1) for group in drawn)
    for name, distribution in (("prior", model.prior(3)), ("posterior", model.posterior(x))):
        try:
            latents, score = distribution.rsample_with_log_prob(2)
        except UnavailableError:
            continue  # it has no density
        value = distribution.log_prob(latents)
        up = distribution.log_prob(tuple(torch.nextafter(group, group + 1) for group in latents))
        if _close(up, value) and not _close(score, value):
            return f"the {name} scores its own draw {score[0, 0]:.6g}, rescored {value[0, 0]:.6g}"
    for name, score in scores.items():
        value = again[name](drawn)
        if name != "log_likelihood" and not _close(again[name](nudged), value):
            continue  # so narrow that the rounding of z decides: only the noise of a draw can score it
        if not _close(score, value):
            return f"draw's {name} is {score[0, 0]:.6g}, rescored {value[0, 0]:.6g}"
    return ""


def _companions(model: LatentVariableModel) -> str:
    x = _examples(model.space, 3)
    what = "log weights" if _scored(model) else "latents"

    def seen(i: int, j: int) -> Tensor:
        with keyed(1, torch.arange(i, j)):
            if what == "latents":
                return _flat(model.posterior(x[i:j]).rsample(2))
            return model.draw(x[i:j], 2).log_weight

    together = seen(0, 3)
    for i in range(3):
        if not _close(alone := seen(i, i + 1), together[:, i : i + 1]):
            return f"{what} {alone.flatten()[:2].tolist()} alone, {together[:, i].flatten()[:2].tolist()} with others"
    return ""


def _gradients(model: LatentVariableModel) -> str:
    x = _examples(model.space, 2)
    inference = dict(model.inference_parameters())
    if unknown := inference.keys() - dict(model.named_parameters()).keys():
        return f"inference_parameters names {sorted(unknown)[0]}, which is not a parameter of the model"
    with torch.enable_grad():
        latents = tuple(group.detach() for group in _drawn(model, x, 1)[0])
        likelihood = model.likelihood(latents)
        terms = likelihood.log_prob(x).sum() if likelihood.unscored is None else likelihood.raw.sum()
        terms = terms + model.prior(2).log_prob(latents).sum()
        q = model.posterior(x)
        try:
            posterior = q.log_prob(latents).sum()
        except UnavailableError:  # it has no density
            posterior = _flat(q.rsample(1)).sum()
        wanted = list(inference.values())
        generative: tuple[Tensor | None, ...] = (None,) * len(wanted)
        if terms.requires_grad:
            generative = torch.autograd.grad(terms, wanted, allow_unused=True)
        inferred: tuple[Tensor | None, ...] = torch.autograd.grad(posterior, wanted, allow_unused=True)
    for name, leak, use in zip(inference, generative, inferred, strict=True):
        if leak is not None and bool(leak.abs().max() > 0):
            return f"p(x, z) depends on inference parameter {name}"
        if use is None:
            return f"q(z|x) does not depend on inference parameter {name}"
    return ""


def _flat(latents: Latents) -> Tensor:
    return torch.cat([group.flatten(2) for group in latents], dim=2)


def _score_identity(distribution: LatentDistribution) -> str:
    """E_q[(z - c) . grad log q(z)] = -dim for z ~ q and any c: a density that is not of the draws breaks it.

    Stein's identity, which needs q continuous; c is the mean of other draws. Then E_q[r / q] = 1 for a narrower
    Gaussian r, which a wrong normaliser breaks (judged only where the weights are even enough to tell).
    """
    with torch.no_grad():
        fit = _flat(distribution.rsample(DRAWS))[:, 0]
        latents = distribution.rsample(DRAWS)
    centre, width = fit.mean(0), 0.9 * fit.std(0)
    with torch.enable_grad():
        latents = tuple(group.detach().requires_grad_() for group in latents)
        log_q = distribution.log_prob(latents)
        gradient = _flat(torch.autograd.grad(log_q.sum(), latents))[:, 0]
    z = _flat(latents).detach()[:, 0]
    stein = ((z - centre) * gradient).sum(1).double()
    error = float((stein.mean() + z.shape[1]) / (stein.std() / DRAWS**0.5))
    if abs(error) > LIMIT:
        return f"E[z . grad log q] is {stein.mean():.4g} instead of {-z.shape[1]} ({error:+.1f} standard errors)"
    log_r = torch.distributions.Normal(centre, width).log_prob(z).sum(1)
    ratio = (log_r - log_q[:, 0].detach()).double().exp()
    if float(ratio.sum() ** 2 / ratio.square().sum()) > DRAWS / 10:
        error = float((ratio.mean() - 1) / (ratio.std() / DRAWS**0.5))
        if abs(error) > LIMIT:
            return f"the density's normaliser is off by a factor {ratio.mean():.4g} ({error:+.1f} standard errors)"
    return ""


def _sampling(model: LatentVariableModel) -> str:
    """Draws and densities of prior, posterior and likelihood agree."""
    with keyed(2, torch.arange(1)):
        for name, distribution in (
            ("prior", model.prior(1)),
            ("posterior", model.posterior(_examples(model.space, 1))),
        ):
            with suppress(UnavailableError):  # it has no density
                if fault := _score_identity(distribution):
                    return f"{name}: {fault}"
        if not _scored(model):
            return ""
        latents = tuple(group.expand(PIXELS, *group.shape[1:]) for group in model.prior(1).rsample(1))
        x = model.likelihood(latents).sample()[:, 0]  # (PIXELS, *shape)
        spare = uniform((PIXELS, 1), torch.empty(()))[:, 0]
    if (levels := model.space.levels) is None:
        return ""
    one = model.likelihood(tuple(group[:1].expand(levels, *group.shape[1:]) for group in latents))
    ranks = []
    for i in range(PIXELS):
        pixel, level = (i * 7919) % model.space.dims, torch.arange(levels, dtype=x.dtype)
        variants = x[i].flatten().repeat(levels, 1)  # every value of one pixel, the others as they are
        chosen = int(variants[0, pixel])
        variants[:, pixel] = level
        mass = one.log_prob(variants.view(levels, 1, *model.space.shape)).flatten().double().softmax(0)
        ranks.append(float(mass[:chosen].sum() + spare[i] * mass[chosen]))
    p = float(stats.kstest(ranks, "uniform").pvalue)
    return "" if p > 1e-5 else f"likelihood samples do not follow its masses (Kolmogorov-Smirnov p = {p:.2g})"


def _refusals(model: LatentVariableModel) -> str:
    space = model.space
    if space.levels is not None:
        outside = torch.full((1, *space.shape), space.levels)
        if not _refuses(lambda: model.posterior(outside), ValueError):
            return f"posterior takes x = {space.levels}, outside the {space.levels} levels"
    state = model.state_dict()
    for name, change in (
        ("missing", dict(list(state.items())[1:])),
        ("extra", {**state, "vaebench.extra": torch.zeros(1)}),
    ):
        if not _refuses(lambda change=change: model.load_state_dict(change), RuntimeError, KeyError):  # type: ignore[misc]
            return f"a state dict with one {name} tensor is loaded without a word"
    return ""


PROPER = "p(x|z) is a mass that sums to 1, or a density that integrates to 1"
_QUICK: dict[str, Callable[[LatentVariableModel], str]] = {
    "shapes at two S and two B": _shapes,
    "draws rescore to the same values": _rescoring,
}
_MODEL: dict[str, Callable[[LatentVariableModel], str]] = {
    **_QUICK,
    "batch companions change nothing": _companions,
    "p(x, z) has no gradient in inference parameters, q(z|x) has": _gradients,
    "samples agree with scores": _sampling,
    "foreign data and loose state dicts are refused": _refusals,
}


def check_model(model: LatentVariableModel, *, quick: bool = False) -> Iterator[Check]:
    """Every promise of `model.py`, on made-up points of the model's own space; the model is left as it was.

    With `quick`, those alone without which a likelihood cannot be right.
    """
    modes = {module: module.training for module in model.modules()}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.eval()
    try:
        with torch.no_grad():
            for name, function in (_QUICK if quick else _MODEL).items():
                yield _run(name, lambda function=function: function(model))  # type: ignore[misc]
            yield _proper(model)
        after = model.state_dict()
        changed = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
        yield Check("using the model changes no tensor of it", not changed, ", ".join(changed[:3]))
    finally:
        for module, training in modes.items():
            module.training = training


def _proper(model: LatentVariableModel) -> Check:
    found = OK

    def finding() -> str:
        nonlocal found
        found = normalised(model)
        return "" if found.outcome == "ok" else found.detail

    check = _run(PROPER, finding)
    return check._replace(undecided=found.outcome == "undecided", detail=check.detail or found.detail)


def _run(name: str, function: Callable[[], str]) -> Check:
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            detail = function()
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
    return Check(name, not detail, detail)


def check_dataset(dataset: Dataset) -> Iterator[Check]:
    """Splits are not empty, lie in the space and read the same twice; the fingerprint is the content's."""
    for name, split in dataset.splits.items():

        def reading(split=split) -> str:  # type: ignore[no-untyped-def]
            index = torch.arange(min(64, len(split)))
            with keyed(3, index):
                first = split.take(index)
            with keyed(3, index):
                second = split.take(index)
            dataset.space.check(first.x)
            if not torch.equal(first.x, second.x):
                return "equal noise gives unequal examples"
            if split.y is not None and len(split.y) != len(split):
                return f"{len(split.y)} labels for {len(split)} examples"
            return "" if len(split) else "the split is empty"

        yield _run(f"split {name} lies in the space and reads the same twice", reading)
    same = fingerprint(dataset.splits) == dataset.fingerprint
    yield Check("the fingerprint is the content's", same, "" if same else "it is not")


def check_metric(metric: Metric) -> Iterator[Check]:
    """A metric is a frozen dataclass with a version and distinct, fully described columns."""
    frozen = dataclasses.is_dataclass(metric) and all(
        _refuses(lambda name=field.name: setattr(metric, name, getattr(metric, name)), dataclasses.FrozenInstanceError)  # type: ignore[misc]
        for field in dataclasses.fields(metric)
    )
    yield Check("parameters are fields of a frozen dataclass", frozen, "" if frozen else "they can be changed")
    names = [column.name for column in metric.columns]
    distinct = len(names) == len(set(names)) > 0 and metric.version >= 1
    yield Check("columns are distinct and the version positive", distinct, "" if distinct else f"columns {names}")
    taken = [name for name in names if name in (*CSV_BEFORE, *CSV_AFTER) or name.endswith("_stderr")]
    yield Check("no column has a name that the CSV uses itself", not taken, ", ".join(taken))
