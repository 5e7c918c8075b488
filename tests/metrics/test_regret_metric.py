"""Likelihood Regret: each image tuned for itself, exact answers, the release's scores, and what is left out."""

import copy
import csv
import dataclasses
import io
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from golden_files import GOLDEN, arrays, likelihood_regret_pair
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from vaebench.core.data import Batch, Dataset, Space, Split
from vaebench.core.metric import Measurement, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.functional import intervals
from vaebench.functional.random import derive
from vaebench.functional.separation import separation
from vaebench.metrics import regret
from vaebench.metrics.regret import SCORES, Regret, plain, regrets, tuned
from vaebench.metrics.shared.outliers import MADE, PAIRS, fitted, made
from vaebench.models.adapters.likelihood_regret import LikelihoodRegret, Options
from vaebench.models.formats.likelihood_regret import read
from vaebench.models.oracles import LinearGaussian, oracles

Zoo = Callable[[str], LatentVariableModel]
QUICK = Regret(images=12, samples=8, steps=3, learning_rate=1e-2, resamples=20)
DIGITS = Space((1, 8, 8), 17, "pmf")


def by_hand(model: LatentVariableModel, x: Tensor, example: int, seed: int, metric: Regret) -> dict[str, Tensor]:
    """The tuned parameters of one example, by torch's plain Adam on a copy of the model."""
    model = copy.deepcopy(model)
    own = dict(model.inference_parameters())
    optimiser = torch.optim.Adam(
        list(own.values()), metric.learning_rate, metric.betas, weight_decay=metric.weight_decay, foreach=False
    )
    for step in range(metric.steps):
        with keyed(seed, torch.tensor([example]), step):
            draws = model.draw(x[None], 1)
        loss = -draws.log_weight.sum()
        if analytic(model):
            q = model.posterior(x[None])
            kl = kl_divergence(Normal(q.mean, (0.5 * q.log_variance).exp()), Normal(0.0, 1.0)).sum()  # type: ignore[attr-defined]
            loss = kl - draws.log_likelihood.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {name: parameter.detach() for name, parameter in own.items()}


def analytic(model: LatentVariableModel) -> bool:
    return type(model).__name__ == "Flat" and getattr(model, "flow", None) is None


def batch(x: Tensor, first: int = 0) -> Batch:
    return Batch(x, None, torch.arange(first, first + len(x)))


@pytest.mark.parametrize("name", ["vae", "dpvae", "hvae", "iwae"])
def test_each_example_is_tuned_for_itself(name: str, zoo: Zoo, digits: Dataset) -> None:
    metric = dataclasses.replace(QUICK, steps=4, weight_decay=0.1)
    model, x = zoo(name), digits.split("test").x[:5]
    found = tuned(copy.deepcopy(model), batch(x, 3), 7, metric)
    assert found.keys() == {n for n, _ in model.inference_parameters()}
    moved = {n: not torch.allclose(v[0], dict(model.named_parameters())[n]) for n, v in found.items()}
    assert any(moved.values())
    for i in range(5):
        for key, value in by_hand(model, x[i], 3 + i, 7, metric).items():
            # a gradient that is mere rounding has either sign, and Adam steps its full length all the same
            assert float(torch.isclose(found[key][i], value, rtol=2e-3, atol=2e-5).double().mean()) > 0.9995, key
            assert float((found[key][i] - value).abs().max()) < 2 * metric.steps * metric.learning_rate
    assert not torch.allclose(*(next(iter(found.values()))[i] for i in (0, 1)), atol=1e-4)


def conv(latent: int = 3, width: int = 2) -> LikelihoodRegret:
    torch.manual_seed(0)
    return LikelihoodRegret(Space((1, 32, 32), 256, "pmf"), Options(latent, width)).eval()


def test_batch_norms_are_tuned_with_their_running_statistics() -> None:
    model = conv()
    x = torch.randint(0, 256, (3, 1, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    metric = dataclasses.replace(QUICK, learning_rate=1e-3)
    found = tuned(copy.deepcopy(model), batch(x), 0, metric)
    assert "encoder.main.input-BN.weight" in found
    for i in range(3):
        copied = copy.deepcopy(model)
        own = dict(copied.inference_parameters())
        optimiser = torch.optim.Adam(list(own.values()), 1e-3, weight_decay=metric.weight_decay)
        for step in range(metric.steps):
            with keyed(0, torch.tensor([i]), step):
                q = copied.posterior(x[i : i + 1])
                z = q.rsample(1)
            kl = kl_divergence(Normal(q.mean, (0.5 * q.log_variance).exp()), Normal(0.0, 1.0)).sum()
            optimiser.zero_grad()
            (kl - copied.likelihood(z).log_prob(x[i : i + 1]).sum()).backward()
            optimiser.step()
        for name, value in own.items():
            torch.testing.assert_close(found[name][i], value.detach(), rtol=1e-3, atol=3e-5)


@torch.no_grad()
def test_tuning_closes_the_exact_gap_of_each_example() -> None:
    """KL(q || p(z|x)) = nll - elbo of the flat oracle falls to under a quarter; p(x) is as it was."""
    oracle = oracles(count=6)[0]
    model, x = oracle.model, oracle.dataset.split("test").x
    assert isinstance(model, LinearGaussian)
    metric = Regret(steps=600, learning_rate=2e-3, weight_decay=0)
    found, own = tuned(copy.deepcopy(model), batch(x), 0, metric), copy.deepcopy(model)
    before = model.exact(x)
    for i in range(6):
        own.load_state_dict({**own.state_dict(), **{name: value[i] for name, value in found.items()}})
        after = own.exact(x[i : i + 1])
        assert float(after["nll"]) == float(before["nll"][i])
        gap = float(-after["elbo"] - after["nll"])
        assert 0 <= gap < 0.25 * float(-before["elbo"][i] - before["nll"][i])


@torch.no_grad()
def test_no_way_of_cutting_changes_a_value(zoo: Zoo, digits: Dataset) -> None:
    model, x = zoo("vae"), digits.split("test").x[:6]
    whole = regrets(batch(x), 0, model=model, own=5, metric=QUICK, rows=1000)
    for rows, size in ((3, 6), (1000, 1), (16, 4)):
        parts = [
            regrets(batch(x[i : i + size], i), 9, model=model, own=5, metric=QUICK, rows=rows)
            for i in range(0, 6, size)
        ]
        for name, value in whole.items():
            torch.testing.assert_close(torch.cat([part[name] for part in parts]), value, rtol=0, atol=2e-3)
    assert not torch.allclose(
        regrets(batch(x), 0, model=model, own=6, metric=QUICK, rows=99)["before"], whole["before"]
    )


@torch.no_grad()
def test_no_steps_no_regret(zoo: Zoo, digits: Dataset) -> None:
    """Before and after see the same noise."""
    still = dataclasses.replace(QUICK, steps=0)
    found = regrets(batch(digits.split("test").x[:4]), 0, model=zoo("vae"), own=0, metric=still, rows=64)
    torch.testing.assert_close(found["after"], found["before"])


# OOD sets

NAMES = {name for names in PAIRS.values() for name in names}


def test_the_names_of_pairs() -> None:
    assert set(MADE) < NAMES
    assert all(name not in names for name, names in PAIRS.items())


def test_made_sets_lie_in_the_space_and_are_always_the_same(digits: Dataset) -> None:
    x = digits.split("test").x[:300]
    sets = {name: made(name, x, DIGITS, 300) for name in MADE if name not in ("tipped", "ball")}
    for name, images in sets.items():
        DIGITS.check(images)
        assert images.shape == x.shape
        assert torch.equal(images, made(name, x, DIGITS, 300))
        assert torch.equal(images[:7], made(name, x[:7], DIGITS, 7))
    assert torch.equal(sets["inverted"].int(), 16 - x.int())
    assert torch.equal(sets["rotated"][:, 0], torch.from_numpy(np.rot90(x[:, 0].numpy(), axes=(1, 2)).copy()))
    assert bool((sets["constant"] == sets["constant"][:, :, :1, :1]).all())
    assert len(sets["constant"][:, 0, 0, 0].unique()) == 17
    counts = torch.bincount(sets["noise"].flatten(), minlength=17)
    expected = 300 * 64 / 17
    assert float((counts - expected).square().sum() / expected) < 45  # chi squared, 16 degrees of freedom
    colour = made("constant", x, Space((3, 4, 4), 256, "pmf"), 50)
    assert bool((colour == colour[:, :, :1, :1]).all())
    assert not torch.equal(colour[:, 0], colour[:, 1])


def test_made_clouds_lie_in_the_unit_ball_and_are_always_the_same() -> None:
    space = Space((64, 3), None, "density")
    x = torch.randn(20, 500, 3, generator=torch.Generator().manual_seed(0))
    ball, tipped = (made(name, x, space, 20) for name in ("ball", "tipped"))
    assert ball.shape == tipped.shape == x.shape
    torch.testing.assert_close(ball[:7], made("ball", x[:7], space, 7))
    radius = (ball.norm(dim=-1) / 0.8).flatten().sort().values
    assert float(radius.max()) <= 1 + 1e-6
    gap = (radius**3 - (torch.arange(10_000) + 0.5) / 10_000).abs().max()  # the cube of a radius is uniform
    assert float(gap) < 1.63 / 100  # Kolmogorov and Smirnov at 1%
    assert float(ball.mean((0, 1)).abs().max()) < 5 * 0.8 / (5 * 10_000) ** 0.5
    torch.testing.assert_close(tipped.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(tipped[..., 0], x[..., 1])


def test_images_are_fitted() -> None:
    grey = Space((1, 28, 28), 256, "pmf")
    x = torch.randint(0, 256, (3, 1, 28, 28)).to(torch.uint8)
    assert torch.equal(fitted(x, grey, grey), x)
    flat = fitted(torch.full((2, 1, 28, 28), 255, dtype=torch.uint8), grey, DIGITS)
    assert torch.equal(flat, torch.full((2, 1, 8, 8), 16, dtype=torch.uint8))
    up = fitted(torch.tensor([[[[0, 16], [16, 0]]]], dtype=torch.uint8), Space((1, 2, 2), 17, "pmf"), grey)
    assert (up.shape, int(up[0, 0, 0, 0]), int(up[0, 0, 0, -1])) == ((1, 1, 28, 28), 0, 255)
    wide = fitted(x, grey, Space((1, 14, 28), 256, "pmf"))
    assert wide.shape == (3, 1, 14, 28)
    with pytest.raises(ValueError, match="cannot be made into"):
        fitted(x, grey, Space((3, 28, 28), 256, "pmf"))


# the metric


class Fake:
    """Resources that hold these datasets and models."""

    def __init__(self, datasets: dict[str, Dataset] | None = None, model: LatentVariableModel | None = None) -> None:
        self.datasets, self.background = datasets or {}, model
        self.asked: list[str] = []

    def dataset(self, name: str) -> Dataset:
        if name not in self.datasets:
            raise UnavailableError(f"dataset {name!r} is not here")
        return self.datasets[name]

    def model(self, name: str) -> LatentVariableModel:
        self.asked.append(name)
        if self.background is None:
            raise UnavailableError(f"unknown model {name!r}")
        return self.background


class Heard:
    """A progress that remembers warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def begin(self, metric: str, place: int, metrics: int) -> None: ...
    def tell(self, text: str) -> None: ...
    def start(self, metric: str, blocks: int) -> None: ...
    def advance(self, blocks: int) -> None: ...
    def failed(self, metric: str, error: Exception) -> None: ...
    def fetch(self, done: int, total: int | None, name: str) -> None: ...
    def warn(self, text: str) -> None:
        self.warnings.append(text)


Found = tuple[dict[str, Measurement], dict[str, bytes], list[str]]


def measured(model: LatentVariableModel, dataset: Dataset, resources: Any, metric: Regret = QUICK, **how: Any) -> Found:
    kept: dict[str, bytes] = {}

    def keep(_: str, name: str, content: bytes) -> None:
        kept[name] = content

    entry, heard = of_model(model, dataset, "net"), Heard()
    run = MetricRun(entry, "regret", metric, Settings(**how), heard, resources, keep)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = {"_".join((m.column, *m.facet.values())): m for m in metric.measure(model, dataset, run)}
    assert all(set(m.facet) == {"score", "set"} for name, m in found.items() if name != "regret")
    assert all(m.low is not None and m.low < m.high for name, m in found.items() if name != "regret" and m.high)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert not model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    return found, kept, heard.warnings


def columns(names: tuple[str, ...], scores: tuple[str, ...]) -> set[str]:
    return {f"{m}_{s}_{n}" for m in ("auroc", "auprc", "fpr95") for s in scores for n in names} | {"regret"}


def test_every_column_of_digits_and_every_score_kept(zoo: Zoo, digits: Dataset) -> None:
    resources = Fake(model=zoo("iwae"))
    found, kept, warnings = measured(zoo("vae"), digits, resources)
    assert found.keys() == columns(PAIRS["digits"], SCORES)
    assert (resources.asked, warnings) == (["net-background"], [])
    assert {found[name].n for name in found if name != "regret"} == {24}
    table = pq.read_table(io.BytesIO(kept["scores.parquet"])).to_pydict()
    assert table["set"] == [name for name in ("digits", *PAIRS["digits"]) for _ in range(12)]
    assert table["index"] == 4 * list(range(12))
    values = {name: torch.tensor(column, dtype=torch.float64) for name, column in table.items() if name != "set"}
    torch.testing.assert_close(values["regret"], values["nll_before"] - values["nll_after"])
    torch.testing.assert_close(values["complexity"], values["nll_before"] / np.log(2) - values["bits"])
    torch.testing.assert_close(values["ratio"], values["nll_before"] - values["nll_background"])
    assert found["regret"].value == pytest.approx(float(values["regret"][:12].mean()), abs=1e-5)
    for score in SCORES:
        for i, name in enumerate(PAIRS["digits"], 1):
            part = values[score][12 * i : 12 * i + 12]
            expected = separation(values[score][:12], part, 20, derive("regret", name))
            assert found[f"auroc_{score}_{name}"].value == expected.auroc.value
            assert found[f"auprc_{score}_{name}"].stderr == expected.auprc.stderr
            assert found[f"fpr95_{score}_{name}"].value == expected.fpr95.value
            area = found[f"auroc_{score}_{name}"]
            assert (area.low, area.high) == intervals.newcombe(area.value, 12, 12)
    with torch.no_grad():
        other = plain(batch(digits.split("test").x[:12]), 0, model=zoo("iwae"), own=0, samples=8, rows=4000)["nll"]
    assert float(values["nll_background"][:12].mean()) == pytest.approx(float(other.mean()), abs=2)


def test_values_do_not_depend_on_how_a_run_is_cut(zoo: Zoo, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    _, one, _ = measured(zoo("vae"), digits, Fake())
    monkeypatch.setattr("vaebench.evaluation.run.BLOCK", 5)
    monkeypatch.setattr(regret, "_FLOATS", 1)
    _, cut, _ = measured(zoo("vae"), digits, Fake(), max_draws=3, in_flight=3)
    tables = [pq.read_table(io.BytesIO(kept["scores.parquet"])).to_pydict() for kept in (one, cut)]
    for name in ("nll_before", "nll_after", "regret"):
        assert tables[0][name] == pytest.approx(tables[1][name], abs=2e-3)


def test_what_is_not_at_hand_is_left_out_and_said(zoo: Zoo, digits: Dataset) -> None:
    grey = dataclasses.replace(digits, name="svhn")  # whose only OOD set is cifar10
    with pytest.raises(UnavailableError, match="none of cifar10 is at hand to compare svhn with"):
        measured(zoo("vae"), grey, Fake())
    split = Split("test", digits.split("test").x.flip(0))
    there = Dataset("x", DIGITS, {"test": split}, "f" * 64)
    found, _, warnings = measured(zoo("vae"), dataclasses.replace(digits, name="cifar10"), Fake({"svhn": there}))
    assert found.keys() == columns(("svhn", "constant", "noise"), SCORES[:3])
    assert warnings == [
        "regret: no likelihood ratio: unknown model 'net-background'",
        "regret: celeba64 is left out: dataset 'celeba64' is not here",
    ]
    full, _, _ = measured(zoo("vae"), dataclasses.replace(digits, name="cifar10"), Fake(dict.fromkeys(NAMES, there)))
    assert all(full[name] == measurement for name, measurement in found.items())  # whatever else is at hand


def test_what_can_never_be_measured_has_a_reason(zoo: Zoo, digits: Dataset) -> None:
    assert QUICK.unsupported(zoo("vae"), digits) is None
    assert "no OOD sets are pinned for mnist; there are for fashion-mnist" in str(
        QUICK.unsupported(zoo("vae"), dataclasses.replace(digits, name="mnist"))
    )
    assert Regret(split="valid").unsupported(zoo("vae"), digits) == "digits has no split 'valid'"


@pytest.mark.parametrize(("field", "value"), [("images", 1), ("samples", 0), ("steps", -1), ("resamples", 1)])
def test_counts_are_large_enough(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field} = {value} should be at least"):
        Regret(**{field: value})  # type: ignore[arg-type]


def test_a_regret_that_is_not_finite_fails(zoo: Zoo, digits: Dataset) -> None:
    with pytest.raises(ValueError, match="finite"):
        measured(zoo("vae"), digits, Fake(), dataclasses.replace(QUICK, learning_rate=1e38))


# the release

SPREAD = {"fashion": (2.40, 1.93, 3.39), "mnist": (6.50, 3.48, 6.80)}  # nats, of one score: the golden README
KINDS = ("nll_before_nats", "nll_after_nats", "regret_nats")


@pytest.fixture
def release(tmp_path: Path) -> LikelihoodRegret:
    found = read(*likelihood_regret_pair(tmp_path))
    network = LikelihoodRegret(found.space, Options(**found.model))
    network.load_state_dict(found.state)
    return network.eval()


def published() -> dict[tuple[str, int], list[list[float]]]:
    """The release's scores by set and index: NLL before and after, regret; one to four seeds an image."""
    scores = defaultdict(list)
    for name in ("scores", "repeats"):
        with (GOLDEN / f"likelihood_regret_{name}.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                scores[row["set"], int(row["index"])].append([float(row[kind]) for kind in KINDS])
    return scores


@torch.no_grad()
def ours(model: LikelihoodRegret, name: str, images: list[int], metric: Regret) -> Tensor:
    """(N, 3) as `KINDS`, of the images at these rows of images.npz (test images 2k)."""
    x = torch.from_numpy(arrays("likelihood_regret_images")[f"{name}_even"][images])[:, None]
    found = regrets(batch(x), 0, model=model, own=derive(name), metric=metric, rows=8)
    return torch.stack([found["before"], found["after"], found["before"] - found["after"]], 1)


def errors(name: str, found: Tensor, images: list[int]) -> Tensor:
    """Ours less the mean of the release's, in standard deviations of that difference: (N, 3)."""
    scores = published()
    rows = []
    for one, k in zip(found.tolist(), images, strict=True):
        runs = scores[name, 2 * k]
        deviation = [spread * (1 + 1 / len(runs)) ** 0.5 for spread in SPREAD[name]]
        rows.append([(a - mean(b)) / s for a, b, s in zip(one, zip(*runs, strict=True), deviation, strict=True)])
    return torch.tensor(rows)


@pytest.mark.slow
def test_an_image_has_the_releases_scores(release: LikelihoodRegret) -> None:
    assert float(errors("mnist", ours(release, "mnist", [2], Regret()), [2]).abs().max()) < 4


def test_without_tuning_the_release_is_missed(release: LikelihoodRegret) -> None:
    assert float(errors("mnist", ours(release, "mnist", [2], Regret(steps=0, samples=200)), [2])[0, 2]) < -5


@pytest.mark.slow
def test_all_images_have_the_releases_scores(release: LikelihoodRegret) -> None:
    """NLLs within Monte-Carlo error, regrets correlated above 0.95, equal AUROC: 40 images, about two minutes."""
    images, scores = list(range(20)), published()
    found = {name: ours(release, name, images, Regret()) for name in SPREAD}
    theirs = {name: torch.tensor([scores[name, 2 * k][0] for k in images]).double() for name in SPREAD}
    for name in SPREAD:
        difference = found[name] - theirs[name]
        stderr = difference.std(0) / 20**0.5
        assert bool((difference.mean(0).abs() < 3.5 * stderr).all()), (name, difference.mean(0), stderr)
    regrets = [torch.cat([values[name][:, 2] for name in SPREAD]) for values in (found, theirs)]
    assert float(np.corrcoef(*(r.numpy() for r in regrets))[0, 1]) > 0.95
    areas = [separation(r[:20], r[20:], 1000, 0).auroc for r in regrets]
    assert areas[0].low <= areas[1].value <= areas[0].high
    assert abs(areas[0].value - areas[1].value) < areas[0].stderr
