"""Laws of the training loop: what it computes and what it keeps."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from training_runs import NoOptions, Stub, bits, bits_card, digits, digits_card, log, run, stop_at

from vaebench.core import registry as plugins
from vaebench.core.errors import UserError
from vaebench.core.model import LatentVariableModel
from vaebench.core.objective import Loss, Objective
from vaebench.models import card as cards
from vaebench.models import loading
from vaebench.models.card import Recipe
from vaebench.training import schedule, threads
from vaebench.training import state as checkpoint

Install = Callable[[type[Objective]], str]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make an objective class available under the name that is returned."""
    real = plugins.load

    def put(objective: type[Objective]) -> str:
        def load(kind: plugins.Kind, name: str) -> object:
            return (objective, NoOptions) if (kind, name) == ("objectives", "stub") else real(kind, name)

        monkeypatch.setattr(plugins, "load", load)
        return "stub"

    return put


# what is computed


def test_loss_falls_and_the_outputs_are_whole(tmp_path: Path) -> None:
    card = dataclasses.replace(digits_card(Recipe(epochs=4, batch_size=100, learning_rate=3e-3)), notes="a note")
    seen: list[tuple[int, int, str]] = []
    trained = run(card, digits(), tmp_path, lambda *said: seen.append(said))
    lines = log(tmp_path)
    assert lines[-1]["train"]["total"] < 0.9 * lines[0]["train"]["total"]  # type: ignore[index]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert [line["step"] for line in lines] == [15, 30, 45, 60]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.log.jsonl", "tiny.safetensors", "tiny.toml"]
    assert trained == cards.read(tmp_path / "tiny.toml", "digits")
    assert trained.training == card.training
    assert trained.notes == "a note"
    assert trained.model["activation"] == "relu"
    assert trained.objective == {"name": "elbo", "beta": 1.0, "samples": 1}
    assert trained.trained is not None
    assert trained.trained.best_epoch == 4
    assert trained.trained.validation_loss is None
    assert "core" in trained.trained.machine
    assert trained.trained.seconds > 0
    loading.load_weights(loading.build_model(trained, digits().space), trained.weights_path())
    assert seen[0][:2] == (0, 60)
    assert seen[-1][:2] == (60, 60)


def test_every_example_is_seen_once_an_epoch_in_a_new_order(tmp_path: Path, install: Install) -> None:
    seen: list[Tensor] = []
    values: list[float] = []

    class Watch(Stub):
        def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
            loss = super().forward(model, x, progress)
            seen.append(x)
            values.append(float(loss.total.detach()))
            return loss

    dataset = bits(40)
    run(bits_card(Recipe(epochs=2, batch_size=16), install(Watch)), dataset, tmp_path)
    assert [len(x) for x in seen] == [16, 16, 8, 16, 16, 8]
    one, two = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert not torch.equal(one, two)
    for epoch in (one, two):
        assert sorted(epoch.tolist()) == sorted(dataset.split("train").x.tolist())
    mean = sum(value * len(x) for value, x in zip(values[3:], seen[3:], strict=True)) / 40
    assert log(tmp_path)[1]["train"] == pytest.approx({"total": mean, "square": mean})


@pytest.mark.parametrize("optimiser", ["adam", "adamax"])
def test_steps_are_those_of_the_optimiser(
    optimiser: Literal["adam", "adamax"], tmp_path: Path, install: Install
) -> None:
    seen: list[Tensor] = []
    start: dict[str, Tensor] = {}

    class Watch(Stub):
        def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
            if not seen:
                start.update({name: value.clone() for name, value in model.state_dict().items()})
            seen.append(x)
            return super().forward(model, x, progress)

    recipe = Recipe(3, 10, 0.05, optimiser, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1)
    card = bits_card(recipe, install(Watch))
    run(card, bits(), tmp_path)
    model = loading.build_model(card, bits().space)
    model.load_state_dict(start)
    kind = {"adam": torch.optim.Adam, "adamax": torch.optim.Adamax}[optimiser]
    direct = kind(model.parameters(), lr=0.05, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1)
    for x in seen:
        direct.zero_grad()
        model.embed(x).square().sum(1).mean().backward()  # type: ignore[no-untyped-call]
        direct.step()
    for name, value in load_file(tmp_path / "tiny.safetensors").items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_order_is_a_permutation_of_seed_and_epoch() -> None:
    orders = [schedule.order(seed, epoch, 50) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(permutation.tolist()) == list(range(50)) for permutation in orders)
    assert len({tuple(permutation.tolist()) for permutation in orders}) == 3
    assert torch.equal(orders[0], schedule.order(0, 0, 50))


def test_learning_rate_law(tmp_path: Path) -> None:
    constant = Recipe(epochs=1, learning_rate=0.1)
    assert [schedule.learning_rate(constant, t, 8) for t in (0, 7)] == [0.1, 0.1]
    warm = dataclasses.replace(constant, warmup_steps=4)
    assert [schedule.learning_rate(warm, t, 8) for t in range(6)] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])
    both = dataclasses.replace(warm, schedule="cosine")
    for t in range(8):
        law = 0.1 * min(1, (t + 1) / 4) * 0.5 * (1 + math.cos(math.pi * t / 8))
        assert schedule.learning_rate(both, t, 8) == pytest.approx(law, rel=1e-12)
    run(bits_card(dataclasses.replace(both, epochs=2, batch_size=10)), bits(40), tmp_path)
    assert [line["learning_rate"] for line in log(tmp_path)] == [schedule.learning_rate(both, t, 8) for t in (3, 7)]


def test_ema_law(tmp_path: Path, install: Install) -> None:
    """The saved weights are a_T, with a_0 = p_0 and a_t = d a_(t-1) + (1 - d) p_t."""
    steps: list[dict[str, Tensor]] = []

    class Watch(Stub):
        def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
            steps.append({name: value.detach().clone() for name, value in model.named_parameters()})
            return super().forward(model, x, progress)

    recipe = Recipe(epochs=2, batch_size=10, learning_rate=0.05)
    run(bits_card(recipe, install(Watch)), bits(), tmp_path / "plain")
    trajectory = [*steps, load_file(tmp_path / "plain" / "tiny.safetensors")]
    run(bits_card(dataclasses.replace(recipe, ema=0.7), "stub"), bits(), tmp_path / "ema")
    average = trajectory[0]
    for weights in trajectory[1:]:
        average = {name: 0.7 * value + 0.3 * weights[name] for name, value in average.items()}
    saved = load_file(tmp_path / "ema" / "tiny.safetensors")
    assert len(trajectory) == 9
    assert saved.keys() == average.keys()
    for name, value in saved.items():
        torch.testing.assert_close(value, average[name], rtol=1e-5, atol=1e-6)


def test_flips_mirror_half_of_what_is_read(tmp_path: Path, install: Install) -> None:
    seen: list[Tensor] = []

    class Watch(Stub):
        def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
            if self.training:
                seen.append(x)
            return super().forward(model, x, progress)

    card = digits_card(Recipe(epochs=2, batch_size=300, validation=37, flip="horizontal"))
    plain = dataclasses.replace(card, training=Recipe(epochs=2, batch_size=300, validation=37))
    for made, folder in ((plain, "plain"), (card, "flip")):
        run(dataclasses.replace(made, objective={"name": install(Watch)}), digits(), tmp_path / folder)
    assert len(seen) == 20
    flips = []
    for still, read in zip(seen[:10], seen[10:], strict=True):  # the same images in the same order
        same, mirrored = (still == read).flatten(1).all(1), (still.flip(-1) == read).flatten(1).all(1)
        assert (same | mirrored).all()
        flips.append((mirrored & ~same).double())
    assert float(torch.cat(flips).mean()) == pytest.approx(0.5, abs=0.04)
    assert not torch.equal(flips[0], flips[5])


def test_what_is_not_an_image_is_not_flipped(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"flip = 'horizontal' transforms .*, but the data are integers of shape \[6\]"):
        run(bits_card(Recipe(epochs=1, batch_size=10, flip="horizontal")), bits(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_small_networks_train_on_one_thread() -> None:
    def network(width: int, *more: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Linear(width, width), *more)

    here = torch.get_num_threads()
    with threads.at_most(7):
        assert torch.get_num_threads() == min(7, here)
    assert torch.get_num_threads() == here
    torch.set_num_threads(3)
    try:
        assert threads.useful(network(500)) == 1
        assert threads.useful(network(2000)) == 3
        assert threads.useful(network(20, nn.Conv2d(1, 1, 1))) == 3
    finally:
        torch.set_num_threads(here)


def test_gradients_are_clipped(tmp_path: Path, install: Install) -> None:
    """A loss 1,000 times as large gives the same weights when its gradient is clipped to the same norm."""
    scale = 1.0

    class Scaled(Stub):
        def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
            loss = super().forward(model, x, progress)
            return Loss(scale * loss.total, loss.terms)

    recipe = Recipe(epochs=1, batch_size=10, clip_norm=1e-3, eps=1.0, learning_rate=1.0)
    run(bits_card(recipe, install(Scaled)), bits(), tmp_path / "one")
    scale = 1000.0
    run(bits_card(recipe, "stub"), bits(), tmp_path / "two")
    one, two = (load_file(tmp_path / name / "tiny.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-3, atol=1e-5)


# validation


def test_the_best_epoch_is_kept_not_the_last(tmp_path: Path, install: Install) -> None:
    script = torch.tensor([3.0, 1.0, 2.0, 5.0])

    class Scripted(Stub):
        """Validation losses from `script`; owns a parameter and a count, which must survive a resume."""

        count: Tensor

        def __init__(self, options: NoOptions) -> None:
            super().__init__(options)
            self.weight = nn.Parameter(torch.ones(()))
            self.register_buffer("count", torch.zeros((), dtype=torch.int64))

        def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
            loss = super().forward(model, x, progress)
            if self.training:
                return Loss(loss.total * self.weight.square(), loss.terms)
            self.count += 1
            return Loss(script[self.count - 1], {})

    recipe = Recipe(epochs=4, batch_size=16, validation=8)
    trained = run(bits_card(recipe, install(Scripted)), bits(), tmp_path / "four")
    assert trained.trained is not None
    assert (trained.trained.best_epoch, trained.trained.validation_loss) == (2, 1.0)
    assert [line["validation"] for line in log(tmp_path / "four")] == script.tolist()
    run(bits_card(dataclasses.replace(recipe, epochs=2), "stub"), bits(), tmp_path / "two")
    with pytest.raises(KeyboardInterrupt):
        run(bits_card(recipe, "stub"), bits(), tmp_path / "resumed", stop_at(7))
    run(bits_card(recipe, "stub"), bits(), tmp_path / "resumed")
    kept = load_file(tmp_path / "four" / "tiny.safetensors")
    whole, resumed = ([{**line, "seconds": 0} for line in log(tmp_path / name)] for name in ("four", "resumed"))
    assert whole == resumed
    for other in ("two", "resumed"):
        for name, value in load_file(tmp_path / other / "tiny.safetensors").items():
            assert torch.equal(value, kept[name]), (other, name)


def test_validation_sees_the_same_pixels_and_noise_every_epoch(tmp_path: Path, install: Install) -> None:
    seen: dict[bool, list[Tensor]] = {True: [], False: []}

    class Watch(Stub):
        def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
            seen[self.training].append(x)
            latent = model.prior(len(x)).rsample(1)[0]
            if not self.training:
                assert progress == 1.0
                assert not model.training
                seen[False].append(torch.cat([latent.flatten(), torch.rand(3)]))  # torch's own generator too
            return super().forward(model, x, progress)

    run(bits_card(Recipe(epochs=2, batch_size=32, validation=8), install(Watch)), bits(grey=True), tmp_path)
    assert len(seen[False]) == 4
    assert len(seen[True]) == 2
    assert torch.equal(seen[False][0], seen[False][2])
    assert torch.equal(seen[False][1], seen[False][3])
    assert int(seen[True][0].max()) == 1
    assert not torch.equal(*(x.sum(0) for x in seen[True]))


def test_splits() -> None:
    recipe = Recipe(epochs=1, batch_size=8, validation=10, seed=3)
    train, valid = schedule.splits(recipe, bits(40))
    assert valid is not None
    assert (len(train), len(valid)) == (30, 10)
    both = torch.cat([train.x, valid.x]).tolist()
    assert sorted(both) == sorted(bits(40).split("train").x.tolist())
    other = schedule.splits(dataclasses.replace(recipe, seed=4), bits(40))[1]
    assert other is not None
    assert not torch.equal(valid.x, other.x)
    official = bits(40, valid=7)
    assert schedule.splits(recipe, official) == (official.split("train"), official.split("valid"))
    assert schedule.splits(dataclasses.replace(recipe, validation=0), bits(40))[1] is None


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        (Recipe(epochs=1, batch_size=41), ["41", "40"]),
        (Recipe(epochs=1, batch_size=31, validation=10), ["31", "30"]),
        (Recipe(epochs=1, batch_size=1, validation=40), ["40"]),
    ],
)
def test_too_little_data_is_refused(recipe: Recipe, named: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        run(bits_card(recipe), bits(40), tmp_path)
    assert all(number in str(error.value) for number in named)
    assert "\n" not in str(error.value)


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch_size=8)
    with pytest.raises(UserError, match=r"no \[training\]"):
        run(dataclasses.replace(bits_card(recipe), training=None), bits(), tmp_path)
    with pytest.raises(UserError, match=r"\[objective\].*'beta'"):
        run(dataclasses.replace(bits_card(recipe), objective={"name": "elbo", "beat": 2.0}), bits(), tmp_path)
    with pytest.raises(UserError, match=r"\[objective\]: name should be one of"):
        run(dataclasses.replace(bits_card(recipe), objective={"beta": 2.0}), bits(), tmp_path)
    with pytest.raises(UserError, match="no split 'train'"):
        run(bits_card(recipe), dataclasses.replace(bits(), splits={"test": bits().split("train")}), tmp_path)


def test_global_generator_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    run(bits_card(Recipe(epochs=1, batch_size=16, validation=8)), bits(grey=True), tmp_path / "a")
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(KeyboardInterrupt):
        run(bits_card(Recipe(epochs=1, batch_size=16)), bits(grey=True), tmp_path / "b", stop_at(1))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(8)
    run(bits_card(Recipe(epochs=1, batch_size=16, validation=8)), bits(grey=True), tmp_path / "c")
    assert (tmp_path / "a/tiny.safetensors").read_bytes() == (tmp_path / "c/tiny.safetensors").read_bytes()


# numbers that are not finite


class Sick(Stub):
    """Turns NaN at the 5th training step, where `where` says."""

    where = "term"

    def __init__(self, options: NoOptions) -> None:
        super().__init__(options)
        self.steps = 0

    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        good = super().forward(model, x, progress)
        self.steps += self.training
        bad = good.total * math.nan
        if self.where == "validation":
            return good if self.training or self.steps < 4 else Loss(bad, {})
        if self.steps < 5 or not self.training:
            return good
        if self.where == "gradient":
            return Loss(good.total + (good.total - good.total.detach()).abs().sqrt(), good.terms)
        return Loss(bad, {**good.terms, "rate": bad} if self.where == "term" else good.terms)


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("term", r"the term 'rate' is not finite at step 5 \(epoch 3\)"),
        ("total", r"the total loss is not finite at step 5 \(epoch 3\)"),
        ("gradient", r"the gradient norm is not finite at step 5 \(epoch 3\)"),
        ("validation", r"validation loss is not finite at step 4 \(epoch 2\)"),
    ],
)
def test_a_loss_that_is_not_finite_stops_at_once(where: str, named: str, tmp_path: Path, install: Install) -> None:
    class Here(Sick):
        pass

    Here.where = where
    card = bits_card(Recipe(epochs=4, batch_size=16, validation=8), install(Here))
    with pytest.raises(UserError, match=named) as error:
        run(card, bits(), tmp_path)
    epochs = 1 if where == "validation" else 2
    assert f"the state after step {2 * epochs} is kept in" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "tiny.safetensors").exists()
    assert len(log(tmp_path)) == epochs
    resolved = checkpoint.resolve(card)
    state = checkpoint.load(checkpoint.Outputs(tmp_path, "tiny"), checkpoint.digest(resolved, bits()))
    assert state is not None
    assert state["epoch"] == epochs
    model = loading.build_model(card, bits().space)
    model.load_state_dict(state["best_weights"], strict=True)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values())


def test_a_folder_that_cannot_be_written_is_noticed_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        run(bits_card(Recipe(epochs=1, batch_size=16)), bits(), tmp_path / "file" / "out", stop_at(1))
