"""CR-VAE: the terms and the direction of the KL, chains of groups, and the maps of images."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence
from training_runs import digits, run

from vaebench.core.data import Binarised, Space, Split, Subsampled
from vaebench.core.errors import UserError
from vaebench.distributions import noise
from vaebench.distributions.gaussian import TopDownGaussian
from vaebench.functional.augment import affine
from vaebench.models.adapters.flat import Flat
from vaebench.models.adapters.flat import Options as FlatOptions
from vaebench.models.adapters.points import Options as PointsOptions
from vaebench.models.adapters.points import Points
from vaebench.models.card import Card, Recipe
from vaebench.training.objectives import consistency, elbo


def binary(prior: Any = "normal") -> Flat:
    return Flat(Space((1, 8, 8), 2, "pmf"), FlatOptions(3, (12,), "bernoulli", prior=prior))


def wrapped(**options: Any) -> consistency.Consistency:
    return consistency.Consistency(consistency.Options(**options), elbo.Elbo(elbo.Options(beta=2.0)))


def pixels(count: int = 30, levels: int = 2) -> Tensor:
    return torch.randint(0, levels, (count, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def kl_is_torchs(value: Tensor, model: Flat, moved: Tensor, x: Tensor) -> None:
    q, p = model.posterior(moved), model.posterior(x)
    normals = [Independent(Normal(d.mean, (0.5 * d.log_variance).exp()), 1) for d in (q, p)]
    torch.testing.assert_close(value, kl_divergence(*normals).mean(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("prior", ["normal", "coupling"])
def test_consistency_adds_the_augmented_bound_and_the_kl(prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = binary(prior), pixels()
    seen: list[Tensor] = []
    real = consistency.Consistency.transform

    def watch(self: consistency.Consistency, stored: Split, space: Space) -> Tensor:
        seen.append(real(self, stored, space))
        return seen[-1]

    monkeypatch.setattr(consistency.Consistency, "transform", watch)
    objective = wrapped(strength=0.7, augmented=0.4, transform="affine-large")
    with noise.keyed(4, torch.arange(30)):
        loss = objective(model, x, 1.0)
    (moved,) = seen
    t = loss.terms
    kl_is_torchs(t["consistency"], model, moved, x)
    torch.testing.assert_close(
        loss.total, t["distortion"] + 2 * t["rate"] + 0.4 * t["augmented"] + 0.7 * t["consistency"]
    )
    with noise.keyed(4, torch.arange(30)):  # the same calls in the same order
        real(objective, Split("x", x), model.space)
        first, second = (objective.base(model, images, 1.0).total for images in (x, moved))
    torch.testing.assert_close(t["augmented"], second)
    torch.testing.assert_close(loss.total, first + 0.4 * second + 0.7 * t["consistency"])
    with pytest.raises(AssertionError):
        kl_is_torchs(t["consistency"], model, x, moved)  # the direction
    with pytest.raises(AssertionError):
        kl_is_torchs(t["consistency"] / 3, model, moved, x)  # a mean over latents


def chain(slope: float, log_variance: float, batch: int = 6) -> TopDownGaussian:
    """z1 ~ N(slope, v I), z2 ~ N(slope z1, v I), two numbers each."""

    def first(_: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return torch.full((1, batch, 2), slope), torch.full((1, batch, 2), log_variance)

    def second(above: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return slope * above[0], torch.full_like(above[0], log_variance)

    return TopDownGaussian((first, second))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_chains_divergence_meets_sampling(swapped: bool) -> None:
    q, p = chain(0.8, -1.0), chain(-0.5, 0.3)
    found = torch.stack([q.kl(p) for _ in range(300)]).double()
    assert found.shape == (300, 6)
    one, two = (p, q) if swapped else (q, p)
    z = one.rsample(4000)
    drawn = (one.log_prob(z) - two.log_prob(z)).mean(1).double()
    means = found.mean(1)
    error = (means.var() / len(means) + drawn.var() / len(drawn)) ** 0.5
    assert means.std() > 0
    assert (abs(float(means.mean() - drawn.mean())) < 4.5 * float(error)) != swapped


@pytest.mark.parametrize("transform", ["affine-small", "affine-large"])
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_transformed_images_stay_in_the_space(levels: int, transform: str) -> None:
    space, x = Space((1, 8, 8), levels, "pmf"), pixels(200, levels)
    colour = "none" if levels == 2 else "colour"
    moved = wrapped(transform=transform, flip="vertical", colour=colour).transform(Split("x", x), space)
    space.check(moved)
    assert moved.dtype == x.dtype
    assert moved.shape == x.shape
    assert not torch.equal(moved, x)
    assert float(moved.float().mean()) == pytest.approx(float(x.float().mean()), rel=0.2)


def test_ranges_of_the_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor, ...]] = []
    real: Callable[..., Tensor] = affine

    def watch(x: Tensor, *parameters: Tensor) -> Tensor:
        seen.append(parameters)
        return real(x, *parameters)

    monkeypatch.setattr("vaebench.core.augmentation.affine", watch)
    space, x = Space((1, 20, 40), 2, "pmf"), torch.zeros(4000, 1, 20, 40, dtype=torch.uint8)
    for transform, limits in (("affine-small", (15, 0.05, 0.9, 1.1)), ("affine-large", (30, 0.1, 0.75, 1.25))):
        for flip, column in (("none", None), ("horizontal", 0), ("vertical", 1)):
            wrapped(transform=transform, flip=flip).transform(Split("x", x), space)
            degrees, shift, scale, signs = seen[-1]
            assert 0.99 * limits[0] < float(degrees.max()) <= limits[0]
            assert -limits[0] <= float(degrees.min()) < -0.99 * limits[0]
            pixels_ = shift * torch.tensor([40.0, 20.0])  # across, down
            torch.testing.assert_close(pixels_, pixels_.round())
            for axis, side in ((0, 40), (1, 20)):
                assert float(pixels_[:, axis].max()) == pytest.approx(limits[1] * side)
                assert float(pixels_[:, axis].min()) == pytest.approx(-limits[1] * side)
            assert limits[2] - 1e-6 <= float(scale.min()) < limits[2] + 0.01
            assert limits[3] - 0.01 < float(scale.max()) <= limits[3] + 1e-6
            for axis in (0, 1):
                expected = 0.5 if axis == column else 0.0
                assert float((signs[:, axis] < 0).float().mean()) == pytest.approx(expected, abs=0.04)


def test_a_keyed_transform_is_each_examples_own() -> None:
    space, x, objective = Space((1, 8, 8), 2, "pmf"), pixels(), wrapped()
    with noise.keyed(0, torch.arange(30)):
        whole = objective.transform(Split("x", x), space)
    with noise.keyed(0, torch.arange(10, 30)):
        part = objective.transform(Split("x", x[10:]), space)
    assert torch.equal(whole[10:], part)


# what is moved, and when


def test_images_are_moved_before_they_are_binarised() -> None:
    """Grey 128 stays a coin toss after the move: of the same pixel, apart for x and t(x)."""
    x = torch.full((500, 1, 8, 8), 128, dtype=torch.uint8)
    x[:, :, :, 4:] = 255
    stored, space = Split("x", x, reading=Binarised()), Space((1, 8, 8), 2, "pmf")
    moved = wrapped(flip="horizontal").transform(stored, space)
    assert set(moved.unique().tolist()) == {0, 1}
    one, two = (moved[:, 0, 3:5, side] for side in (slice(2, 4), slice(4, 6)))  # away from the frame
    sure = torch.maximum(one.flatten(1).float().mean(1), two.flatten(1).float().mean(1))
    assert float(sure.mean()) > 0.9
    assert float(torch.minimum(one.flatten(1).float().mean(1), two.flatten(1).float().mean(1)).mean()) < 0.6


def test_a_colour_jitter_keeps_to_levels_and_moves_colours() -> None:
    x = torch.randint(0, 256, (50, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    space, seen = Space((3, 8, 8), 256, "pmf"), []
    for colour in ("none", "colour"):
        with noise.keyed(1, torch.arange(50)):
            seen.append(wrapped(colour=colour).transform(Split("x", x), space))
    assert seen[1].dtype == torch.uint8
    assert set(seen[0].unique().tolist()) <= set(x.unique().tolist())
    gap = (seen[0].float() - seen[1].float()).abs().mean()
    assert 10 < float(gap) < 80


# cost and statistics


class Counting(nn.Module):
    """A network with batch norm that counts its passes and the images in them."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner, self.norm, self.images = inner, nn.BatchNorm1d(width, momentum=None), list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        self.images.append(x)
        found: Tensor = self.norm(self.inner(x))
        return found


def counted() -> tuple[Flat, Counting]:
    model = binary()
    counting = Counting(model.encoder, 6)
    model.encoder = counting  # type: ignore[assignment]
    return model.train(), counting


@pytest.mark.parametrize("augmented", [1.0, 0.0])
def test_each_image_passes_the_encoder_once_and_statistics_are_of_still_ones(augmented: float) -> None:
    model, counting = counted()
    alone, other = counted()
    other.load_state_dict(counting.state_dict())
    loss = wrapped(strength=0.5, augmented=augmented)(model, pixels(), 1.0)
    assert len(counting.images) == 2
    assert torch.equal(counting.images[0], pixels())
    assert not torch.equal(counting.images[1], pixels())
    elbo.Elbo(elbo.Options())(alone, pixels(), 1.0)
    assert int(counting.norm.num_batches_tracked or 0) == 1
    assert counting.norm.track_running_stats
    for name, value in other.norm.state_dict().items():
        torch.testing.assert_close(counting.norm.state_dict()[name], value)
    loss.total.backward()
    assert float(loss.terms["consistency"].detach()) > 0
    assert all(p.grad is not None and bool(p.grad.any()) for p in counting.parameters() if p is not counting.norm.bias)


def test_remembering_changes_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model, objective, found = binary("coupling"), wrapped(strength=0.7), []
    for remember in (True, False):
        if not remember:
            monkeypatch.setattr(consistency, "once", lambda *x: nullcontext())
        model.zero_grad()
        with noise.keyed(4, torch.arange(30)):
            loss = objective(model, pixels(), 1.0)
        loss.total.backward()
        found.append([loss.total.detach(), *(p.grad for p in model.parameters())])
    torch.testing.assert_close(found[0], found[1])


def test_without_weights_it_is_the_base_to_the_bit(tmp_path: Path) -> None:
    """Trained weights, not only a loss: no noise is taken for moves that nothing weighs."""
    found = []
    for name, objective in {
        "base": {"name": "elbo"},
        "zero": {"name": "consistency", "strength": 0.0, "augmented": 0.0},
        "move": {"name": "consistency", "strength": 0.0},
    }.items():
        model = {"latent": 2, "hidden": [8], "likelihood": "discretised-logistic"}
        card = Card("tiny", "digits", "s", "flat", model, objective, training=Recipe(2, 300, validation=200))
        run(card, digits(), tmp_path / name)
        found.append(load_file(tmp_path / name / "tiny.safetensors"))
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    assert not all(torch.equal(found[0][key], found[2][key]) for key in found[0])


@pytest.mark.parametrize("options", [{"strength": -0.1}, {"augmented": -1.0}, {"strength": float("nan")}])
def test_weights_are_at_least_0(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="should be at least 0"):
        consistency.Options(**options)


def test_of_clouds_it_adds_the_bound_and_the_kl_of_the_transformed_cloud() -> None:
    torch.manual_seed(0)
    space = Space((16, 3), None, "density")
    model = Points(space, PointsOptions(latent=3, point=(8,), hidden=(8,), components=4))
    stored = Split("train", torch.rand(10, 24, 3) - 0.5, None, Subsampled(16))
    with noise.keyed(4, torch.arange(10)):
        loss = wrapped(strength=0.7, augmented=0.4, transform="rigid-large").loss(model, stored, 1.0)
    t = loss.terms
    wanted = t["distortion"] + 2 * t["rate"] + 0.4 * t["augmented"] + 0.7 * t["consistency"]
    torch.testing.assert_close(loss.total, wanted)
    assert float(t["consistency"].detach()) > 0
    with pytest.raises(UserError, match=r"cannot transform clouds of 16 points .* use one of rigid-small, rigid-large"):
        wrapped(transform="affine-small").prepare(model, 10)
    with pytest.raises(UserError, match=r"by transform = 'rigid-small', which is for clouds of points"):
        wrapped(transform="rigid-small").prepare(binary(), 10)
