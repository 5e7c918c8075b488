"""The conformance suite passes what the project ships and catches each planted fault by the check named for it."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from weekly import weekly

from vaebench.core import registry as plugins
from vaebench.core.checks import Check, check_dataset, check_metric, check_model
from vaebench.core.data import Batch, Binarised, Dataset, Source, Space, Split, fingerprint
from vaebench.core.metric import Column, Measurement, Metric
from vaebench.core.model import Latents
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.likelihoods import Likelihood
from vaebench.models.adapters.flat import Flat, Options
from vaebench.models.oracles import oracles

SHAPES = "shapes at two S and two B"
RESCORING = "draws rescore to the same values"
COMPANIONS = "batch companions change nothing"
GRADIENTS = "p(x, z) has no gradient in inference parameters, q(z|x) has"
SAMPLES = "samples agree with scores"
REFUSALS = "foreign data and loose state dicts are refused"
UNCHANGED = "using the model changes no tensor of it"


def failed(checks: Iterator[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.passed}


def pmf(levels: int, *shape: int) -> Space:
    return Space(shape, levels, "pmf")


SPACES = [
    ("bernoulli", pmf(2, 1, 4, 4)),
    ("categorical", pmf(17, 1, 4, 4)),
    ("categorical", pmf(5, 3, 4, 4)),
    ("discretised-logistic", pmf(256, 1, 4, 4)),
    ("discretised-logistic", pmf(17, 3, 4, 4)),
    ("discretised-logistic-mixture", pmf(32, 1, 4, 4)),
    ("discretised-logistic-mixture", pmf(32, 3, 4, 4)),
    ("gaussian", Space((1, 4, 4), None, "density")),
    ("fixed-gaussian", Space((1, 4, 4), None, "density")),
]


def flat(likelihood: str, space: Space, prior: str = "normal", network: str = "mlp") -> Flat:
    torch.manual_seed(0)
    hidden = (8,) if network == "mlp" else (4, 8)
    return Flat(space, Options(3, hidden, likelihood, network, prior))  # type: ignore[arg-type]


FLAT = [(*each, *both) for each in SPACES for both in itertools.product(("mlp", "conv"), ("normal", "coupling"))]
DAILY = [each for each in FLAT if each[2:] == ("mlp", "coupling") or each[0::2] == ("bernoulli", "conv")][::2]


@pytest.mark.parametrize(("likelihood", "space", "network", "prior"), weekly(FLAT, *DAILY))
def test_every_flat_model_keeps_its_promises(likelihood: str, space: Space, network: str, prior: str) -> None:
    assert failed(check_model(flat(likelihood, space, prior, network))) == {}


def test_flat_vectors_keep_their_promises() -> None:
    assert failed(check_model(flat("gaussian", Space((2,), None, "density"), "coupling"))) == {}


@pytest.mark.parametrize("slack", weekly([0.0, 0.3], 0.3))
def test_the_oracles_keep_their_promises(slack: float) -> None:
    for oracle in oracles(slack=slack):
        assert failed(check_model(oracle.model)) == {}, oracle.name


def test_the_oracles_data_keep_their_promises() -> None:
    for oracle in oracles(count=10):
        assert failed(check_dataset(oracle.dataset)) == {}, oracle.name


def sound() -> Flat:
    """A model whose masses are peaked, as a trained one's are."""
    model = flat("categorical", pmf(5, 1, 3, 3))
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(5)
    return model


def test_the_model_is_left_as_it_was() -> None:
    model = sound().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    assert failed(check_model(model)) == {}
    assert torch.rand(3).equal(expected)
    assert model.training
    assert all(model.state_dict()[name].equal(tensor) for name, tensor in before.items())


# Planted faults: each changes a sound model in place.


def replace(model: Any, name: str, function: Callable[..., Any]) -> None:
    """`model.name`, now a function of the old one and the arguments."""
    old = getattr(model, name)
    setattr(model, name, lambda *arguments: function(old, *arguments))


def wrong_log_prior(model: Flat) -> None:
    replace(model, "draw", lambda old, x, s: (d := old(x, s))._replace(log_prior=d.log_prior + 0.1))


def summed_draws(model: Flat) -> None:
    replace(model, "draw", lambda old, x, s: (d := old(x, s))._replace(log_prior=d.log_prior.sum(0)))


def posterior_of_other_latents(model: Flat) -> None:
    replace(model, "draw", lambda old, x, s: (d := old(x, s))._replace(latents=tuple(-z for z in d.latents)))


def ignore_batch_order(model: Flat) -> None:
    replace(model, "likelihood", lambda old, latents: old(tuple(z.roll(1, 1) for z in latents)))


def mirror_the_batch(model: Flat) -> None:
    replace(model, "likelihood", lambda old, latents: old(tuple(z.flip(1) for z in latents)))


def batch_mean(model: Flat) -> None:
    def posterior(old: Callable[[Tensor], DiagonalGaussian], x: Tensor) -> DiagonalGaussian:
        q = old(x)
        return DiagonalGaussian(q.mean - q.mean.mean(0), q.log_variance)

    replace(model, "posterior", posterior)


def batch_norm_that_stays_in_training(model: Flat) -> None:
    class Stubborn(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> "Stubborn":
            super().train(True)
            return self

    model.encoder.append(Stubborn(6))


def stretched_prior_draws(model: Flat) -> None:
    class Stretched(DiagonalGaussian):  # type: ignore[misc]
        def rsample(self, samples: int) -> Latents:
            return tuple(1.3 * z for z in super().rsample(samples))

    replace(model, "prior", lambda old, *a: Stretched((p := old(*a)).mean, p.log_variance))


def unnormalised_prior(model: Flat) -> None:
    class Unnormalised(DiagonalGaussian):  # type: ignore[misc]
        def log_prob(self, latents: Latents) -> Tensor:
            return super().log_prob(latents) + 0.5

    replace(model, "prior", lambda old, *a: Unnormalised((p := old(*a)).mean, p.log_variance))


def sigma_for_variance(model: Flat) -> None:
    class Confused(DiagonalGaussian):  # type: ignore[misc]
        def log_prob(self, latents: Latents) -> Tensor:
            return DiagonalGaussian(self.mean, 0.5 * self.log_variance - 0.7).log_prob(latents)

    replace(model, "posterior", lambda old, x: Confused((q := old(x)).mean, q.log_variance))


def resample(model: Flat, change: Callable[[Tensor], Tensor]) -> None:
    def likelihood(old: Callable[[Latents], Likelihood], latents: Latents) -> Likelihood:
        found = old(latents)
        sample = found.sample
        found.sample = lambda *a: change(sample(*a))  # type: ignore[method-assign]
        return found

    replace(model, "likelihood", likelihood)


def off_by_one_sample(model: Flat) -> None:
    resample(model, lambda x: (x + 1).clamp(max=4))


def sample_outside_the_space(model: Flat) -> None:
    resample(model, lambda x: x + 1)


def flat_sample(model: Flat) -> None:
    resample(model, lambda x: x.flatten(2))


def leaking_gradient(model: Flat) -> None:
    replace(model, "inference_parameters", lambda old: model.named_parameters())


def unknown_parameter(model: Flat) -> None:
    replace(model, "inference_parameters", lambda old: iter([("ghost", nn.Parameter(torch.ones(1)))]))


def idle_parameter(model: Flat) -> None:
    model.idle = nn.Parameter(torch.ones(1))
    replace(model, "inference_parameters", lambda old: iter([*old(), ("idle", model.idle)]))


def take_any_data(model: Flat) -> None:
    def posterior(old: object, x: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(*model.encoder(x).chunk(2, dim=1))

    replace(model, "posterior", posterior)


def loose_state_dict(model: Flat) -> None:
    replace(model, "load_state_dict", lambda old, state: old(state, False))


def counted_uses(model: Flat) -> None:
    model.register_buffer("uses", torch.zeros(()))
    replace(model, "embed", lambda old, x: (model.get_buffer("uses").add_(1), old(x))[1])


def embedding_with_draws(model: Flat) -> None:
    replace(model, "embed", lambda old, x: old(x)[None])


FAULTS = [
    (wrong_log_prior, RESCORING),
    (posterior_of_other_latents, RESCORING),
    (summed_draws, SHAPES),
    (flat_sample, SHAPES),
    (sample_outside_the_space, SHAPES),
    (embedding_with_draws, SHAPES),
    (ignore_batch_order, COMPANIONS),
    (mirror_the_batch, COMPANIONS),
    (batch_mean, COMPANIONS),
    (batch_norm_that_stays_in_training, COMPANIONS),
    (batch_norm_that_stays_in_training, UNCHANGED),
    (counted_uses, UNCHANGED),
    (leaking_gradient, GRADIENTS),
    (unknown_parameter, GRADIENTS),
    (idle_parameter, GRADIENTS),
    (stretched_prior_draws, SAMPLES),
    (unnormalised_prior, SAMPLES),
    (sigma_for_variance, SAMPLES),
    (off_by_one_sample, SAMPLES),
    (take_any_data, REFUSALS),
    (loose_state_dict, REFUSALS),
]


@pytest.mark.parametrize(("fault", "name"), FAULTS)
def test_a_planted_fault_is_caught(fault: Callable[[Flat], None], name: str) -> None:
    model = sound()
    fault(model)
    assert name in failed(check_model(model))


# Datasets.


def dataset(split: Split, levels: int = 5, name: str = "toy") -> Dataset:
    return Dataset(name, pmf(levels, 1, 2, 2), {"test": split}, fingerprint({"test": split}))


PIXELS = torch.arange(20).view(5, 1, 2, 2).remainder(5).to(torch.uint8)
TEST = "split test lies in the space and reads the same twice"


class Restless(Split):
    """Reads with noise that is not the suite's."""

    def take(self, index: Tensor) -> Batch:
        return super().take(index)._replace(x=torch.randint(0, 5, (len(index), 1, 2, 2)))


def test_a_sound_dataset_passes() -> None:
    assert failed(check_dataset(dataset(Split("test", PIXELS, torch.arange(5))))) == {}
    assert failed(check_dataset(dataset(Split("test", PIXELS * 60, None, reading=Binarised()), levels=2))) == {}


@pytest.mark.parametrize("name", [n for n in plugins.names("datasets") if n in ("digits", "two-moons")])
def test_bundled_datasets_pass(name: str, tmp_path: Any) -> None:
    source = plugins.load("datasets", name)
    assert isinstance(source, Source)
    assert failed(check_dataset(source.load(tmp_path))) == {}


@pytest.mark.parametrize(
    ("faulty", "name"),
    [
        (dataset(Split("test", PIXELS), levels=4), TEST),
        (dataset(Split("test", PIXELS.float())), TEST),
        (dataset(Split("test", PIXELS.flatten(1))), TEST),
        (dataset(Restless("test", PIXELS)), TEST),
        (dataclasses.replace(dataset(Split("test", PIXELS)), fingerprint="0" * 64), "the fingerprint is the content's"),
    ],
    ids=["levels", "float", "shape", "noise", "fingerprint"],
)
def test_a_faulty_dataset_is_caught(faulty: Dataset, name: str) -> None:
    assert list(failed(check_dataset(faulty))) == [name]


def test_one_changed_pixel_or_label_changes_the_fingerprint_and_order_does_not() -> None:
    y = torch.arange(5)
    base = fingerprint({"test": Split("test", PIXELS, y)})
    order = torch.tensor([3, 1, 4, 0, 2])
    assert fingerprint({"test": Split("test", PIXELS[order], y[order])}) == base
    changed = PIXELS.clone()
    changed[0, 0, 0, 0] += 1
    others = [Split("test", changed, y), Split("test", PIXELS, y + 1), Split("test", PIXELS), Split("test", PIXELS[:4])]
    assert len({base, *(fingerprint({"test": s}) for s in others), fingerprint({"x": Split("x", PIXELS, y)})}) == 6


# Metrics.

GOOD = (Column("a", "nats", "lower", "upper"), Column("b", "", "none", "estimate"))


def metric(columns: tuple[Column, ...] = GOOD, version: int = 1, frozen: bool = True) -> Metric:
    def measure(self: Metric, *_: object) -> Iterator[Measurement]:
        return iter(())

    body = {"version": version, "columns": columns, "measure": measure}
    if frozen:
        return dataclass(frozen=True)(type("Toy", (Metric,), body))()
    made: Metric = type("Loose", (Metric,), {**body, "__setattr__": object.__setattr__})()
    return made


def test_a_sound_metric_passes() -> None:
    assert failed(check_metric(metric())) == {}


@pytest.mark.parametrize("name", plugins.names("metrics"))
def test_every_metric_and_preset_passes(name: str) -> None:
    presets = plugins.load("metrics", name)
    assert isinstance(presets, dict)
    for preset, made in presets.items():
        assert failed(check_metric(made)) == {}, preset
        assert [column.name for column in made.columns if not column.equation] == []


FROZEN = "parameters are fields of a frozen dataclass"
DISTINCT = "columns are distinct and the version positive"
TAKEN = "no column has a name that the CSV uses itself"


@pytest.mark.parametrize(
    ("faulty", "name"),
    [
        (metric(frozen=False), FROZEN),
        (metric(columns=(*GOOD, GOOD[0])), DISTINCT),
        (metric(columns=()), DISTINCT),
        (metric(version=0), DISTINCT),
        (metric(columns=(Column("model", "", "none", "exact"),)), TAKEN),
        (metric(columns=(Column("nll_stderr", "", "none", "exact"),)), TAKEN),
    ],
    ids=["mutable", "repeated", "none", "version", "reserved", "stderr"],
)
def test_a_faulty_metric_is_caught(faulty: Metric, name: str) -> None:
    assert list(failed(check_metric(faulty))) == [name]
