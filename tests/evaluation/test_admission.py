"""No model is measured whose likelihood cannot be right: refused, or marked; asked once for what it is made of."""

import dataclasses
import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import vaebench as public
from vaebench.boards import store as board
from vaebench.core import checks, files, normaliser, registry
from vaebench.core.data import Dataset, Space, Split
from vaebench.core.errors import UserError
from vaebench.core.model import Latents, LatentVariableModel
from vaebench.core.registry import load_dataset
from vaebench.distributions.likelihoods import DiscretisedLogistic, Likelihood
from vaebench.evaluation import admission
from vaebench.evaluation.admission import admit
from vaebench.evaluation.entry import Entry, of_card, of_model
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.run import Settings
from vaebench.metrics.likelihood import Likelihood as LikelihoodMetric
from vaebench.models import card as cards
from vaebench.models import loading
from vaebench.models.adapters import flat
from vaebench.models.adapters.flat import Flat, Options

SPACE = Space((1, 4, 4), 256, "pmf")
Invoke = Callable[..., Result]


class Told(Silent):  # type: ignore[misc]
    """A progress that remembers what it is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def density(self: DiscretisedLogistic, x: Tensor) -> Tensor:
    """The logistic density where the mass should be."""
    assert self.levels is not None
    mean, log_scale = self._parameters()
    u = (x.float() * (2 / (self.levels - 1)) - 1 - mean) * (-log_scale).exp()
    return (-u - log_scale - 2 * nn.functional.softplus(-u)).flatten(2).sum(-1)


def edges_dropped(self: DiscretisedLogistic, x: Tensor) -> Tensor:
    """Outermost bins without their tails."""
    assert self.levels is not None
    mean, log_scale = self._parameters()
    centred, half = x.float() * (2 / (self.levels - 1)) - 1, 1 / (self.levels - 1)
    high, low = (torch.sigmoid((centred + side - mean) * (-log_scale).exp()) for side in (half, -half))
    return (high - low).clamp(min=1e-20).log().flatten(2).sum(-1)


@pytest.fixture
def model() -> Flat:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Flat(SPACE, Options(latent=2, hidden=(8,), likelihood="discretised-logistic")).eval()


@pytest.fixture
def dataset() -> Dataset:
    x = torch.randint(0, 256, (20, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Dataset("small", SPACE, {"test": Split("test", x)}, "f" * 64)


METRIC = {"likelihood": LikelihoodMetric(samples=4)}


@pytest.mark.parametrize(("fault", "says"), [(density, "masses sum to|above 1"), (edges_dropped, "masses sum to 0")])
def test_an_improper_likelihood_is_refused_and_marked_where_nothing_is_asked(
    fault: Any, says: str, model: Flat, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert public.evaluate(model, dataset, METRIC).rows[0].status == "ok"
    monkeypatch.setattr(DiscretisedLogistic, "log_prob", fault)
    with pytest.raises(UserError, match=says) as caught:
        public.evaluate(model, dataset, METRIC)
    assert checks.PROPER in str(caught.value)
    assert "--unchecked" in str(caught.value)
    assert "\n" not in str(caught.value)
    rows = public.evaluate(model, dataset, METRIC, unchecked=True).rows
    assert all("unchecked" in row.marks for row in rows)
    assert {row.status for row in rows} == {"ok"}


def test_a_mass_above_one_in_a_draw_fails_the_row(
    model: Flat, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing was asked before."""
    monkeypatch.setattr(DiscretisedLogistic, "log_prob", lambda self, x: torch.full(self.batch_shape, 0.25))
    (row,) = public.evaluate(model, dataset, METRIC, unchecked=True).rows
    assert (row.status, row.value) == ("failed", None)
    assert row.reason == (
        "ValueError: log p(x|z) is 0.25 in a draw, but no mass is above 1: it is a density, or does not sum to 1"
    )


def test_more_bits_than_levels_have_are_remarked(model: Flat, dataset: Dataset) -> None:
    with torch.no_grad():
        next(iter(reversed(list(model.decoder.parameters())))).sub_(20.0)  # sure of what is not there
    told = Told()
    found = public.evaluate(model, dataset, METRIC, progress=told)
    bpd = next(row for row in found.rows if row.column == "bpd")
    assert bpd.value is not None
    assert bpd.value > 8
    assert "worse than uniform" in bpd.marks
    assert [text for text in told.warnings if "is more than the 8 of guessing at random" in text]
    assert all("worse than uniform" not in row.marks for row in found.rows if row.column != "bpd")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Has an element for each time that the checks ran."""
    calls: list[None] = []

    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(None)
        return checks.check_model(*arguments, **named)

    monkeypatch.setattr(admission, "check_model", counted)
    return calls


@pytest.mark.parametrize("name", ["nvae", "dpvae"])
def test_a_model_as_it_is_loaded_keeps_its_statistics(name: str, tmp_path: Path) -> None:
    """Networks are in training mode when they are made, where every pass moves the statistics of batch norm."""
    from vaebench.evaluation.journal import Journal

    card = cards.find(name, "digits")
    weights, dataset = card.weights_path(), public.load_dataset("digits")
    wanted = load_file(weights)
    for journal in (None, Journal(tmp_path / "journal"), Journal(tmp_path / "journal")):
        entry = of_card(card, weights, dataset)
        admit(entry, Settings(journal=journal), Silent())
        assert not entry.model.training
        found = entry.model.state_dict()
        assert all(torch.equal(found[key], tensor.to(found[key].dtype)) for key, tensor in wanted.items())


def test_a_model_in_training_mode_gives_the_values_of_one_in_evaluation_mode() -> None:
    model, metric = public.load_model("nvae", "digits"), {"likelihood": LikelihoodMetric(samples=2)}

    def values(model: LatentVariableModel) -> list[float | None]:
        rows = public.evaluate(model, "digits", metrics=metric).rows
        return [row.value for row in rows]

    found = values(model.eval())
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert values(model.train()) == found
    assert model.training
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_it_is_asked_once_for_what_a_model_is_made_of(
    model: Flat, dataset: Dataset, asked: list[None], tmp_path: Path
) -> None:
    from vaebench.evaluation.journal import Journal

    settings = Settings(journal=Journal(tmp_path / "journal"))

    def ask(model: Flat, **changes: Any) -> None:
        assert admit(of_model(model, dataset, "m"), dataclasses.replace(settings, **changes), Silent()) == ()

    ask(model)
    ask(model)
    assert len(asked) == 1
    other = Flat(SPACE, Options(latent=2, hidden=(8,), likelihood="discretised-logistic", activation="silu"))
    other.load_state_dict(model.state_dict())
    ask(other)
    assert len(asked) == 2  # the same weights in another network
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    ask(model)
    ask(model, journal=None)
    assert len(asked) == 4
    ask(model, journal=None)
    assert len(asked) == 5  # what is to leave no trace leaves none
    for path in (files.cache() / "checks").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    ask(model)
    assert len(asked) == 6


def test_what_is_not_decided_is_told_and_goes_on(
    model: Flat, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Likelihood, *_: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(DiscretisedLogistic, "alone", refuse)
    monkeypatch.setattr(normaliser, "_vectors", refuse)
    told = Told()
    assert admit(of_model(model, dataset, "m"), Settings(), told) == ()
    (warning,) = told.warnings
    assert warning.startswith("not decided: m on small: ")
    assert "whether p(x|z) is proper" in warning


def test_the_command_line_refuses_before_it_measures(
    quick: tuple[object, ...], vaebench: Invoke, boards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def likelihood(self: Flat, latents: Latents) -> Likelihood:
        found = real(self, latents)
        scored = found.log_prob
        found.log_prob = lambda x: scored(x) - 3.0  # type: ignore[method-assign]
        return found

    real = flat.Flat.likelihood
    monkeypatch.setattr(flat.Flat, "likelihood", likelihood)
    refused = vaebench(*quick, "--fresh")
    assert refused.exit_code == 2
    assert refused.stdout == ""
    line = refused.stderr.splitlines()[-1]
    assert line.startswith("vaebench: vae on digits: p(x|z) is a mass")
    assert "--unchecked" in line
    assert not board.read(boards, "digits")
    marked = vaebench(*quick, "--fresh", "--unchecked")
    assert marked.exit_code == 0
    assert all(row.marks[-1] == "unchecked" for row in board.read(boards, "digits"))


ODD = """
import math
from vaebench.distributions.likelihoods import Categorical
from vaebench.models.adapters.flat import Flat, Options

class Odd(Categorical):
    def log_prob(self, x):
        return super().log_prob(x) + OFF

class Own(Flat):
    def likelihood(self, latents):
        found = super().likelihood(latents)
        found.__class__ = Odd
        return found
"""


def test_a_likelihood_that_is_mended_is_asked_again(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaebench.evaluation.journal import Journal

    monkeypatch.syspath_prepend(str(tmp_path))
    settings = Settings(journal=Journal(tmp_path / "journal"))

    def written(off: str) -> Entry:
        (tmp_path / "own_family.py").write_text(ODD.replace("OFF", off))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, "own_family", raising=False)
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            own = importlib.import_module("own_family").Own
            return of_model(own(SPACE, Options(latent=2, hidden=(8,), likelihood="categorical")), dataset, "m")

    with pytest.raises(UserError, match="sum to"):
        admit(written("math.log(2)"), settings, Silent())
    assert admit(written("0.0"), settings, Silent()) == ()
    with pytest.raises(UserError, match="sum to"):
        admit(written("math.log(3)"), settings, Silent())


def test_an_adapter_from_outside_is_asked_by_the_command_line(
    tmp_path: Path, vaebench: Invoke, boards: Path, write_card: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by entry point, whose p(x|z) is twice too large: refused, and measured with a mark where nothing is asked."""
    (tmp_path / "outside.py").write_text(ODD.replace("OFF", "math.log(2)") + "\nplugin = (Own, Options)\n")
    about = tmp_path / "outside-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[vaebench.adapters]\noutside = outside:plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_entry_points", registry._entry_points.__wrapped__)
    card = write_card("mine", {"family": "'outside'"})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = loading.build_model(cards.read(card), load_dataset("digits", None).space)
    save_file(model.state_dict(), weights := card.with_suffix(".safetensors"))
    own = ("--card", card, "--weights", weights)
    run = ("run", *own, "--metric", "likelihood", "--set", "likelihood.samples=2", "--leaderboards", boards)
    refused = vaebench(*run)
    assert refused.exit_code == 2
    assert "sums to 1" in (line := refused.stderr.splitlines()[-1])
    assert "2 instead of 1" in line or "sum to" in line
    assert not boards.exists()
    assert vaebench(*run, "--unchecked").exit_code == 0
    assert {mark for row in board.read(boards, "digits") for mark in row.marks} >= {"unchecked"}
    shown = vaebench("check", *own)
    assert shown.exit_code == 1
    assert "FAILED" in shown.stdout
