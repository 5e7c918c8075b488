"""CR-VAE: the terms and the direction of the KL, chains of groups, and the maps of images."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from vaebench.core.data import Space
from vaebench.distributions import noise
from vaebench.distributions.gaussian import TopDownGaussian
from vaebench.functional.augment import affine
from vaebench.models.adapters.flat import Flat
from vaebench.models.adapters.flat import Options as FlatOptions
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

    def watch(self: consistency.Consistency, x: Tensor, space: Space) -> Tensor:
        seen.append(real(self, x, space))
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
        real(objective, x, model.space)
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
    moved = wrapped(transform=transform, flip="vertical").transform(x, space)
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
    space, x = Space((1, 8, 8), 2, "pmf"), pixels(1).expand(4000, 1, 8, 8)
    for transform, limits in (("affine-small", (15, 0.05, 0.9, 1.1)), ("affine-large", (30, 0.1, 0.75, 1.25))):
        for flip, column in (("none", None), ("horizontal", 0), ("vertical", 1)):
            wrapped(transform=transform, flip=flip).transform(x, space)
            degrees, shift, scale, signs = seen[-1]
            assert 0.99 * limits[0] < float(degrees.max()) <= limits[0]
            assert -limits[0] <= float(degrees.min()) < -0.99 * limits[0]
            assert 0.99 * limits[1] < float(shift.abs().max()) <= limits[1] + 1e-6
            assert limits[2] - 1e-6 <= float(scale.min()) < limits[2] + 0.01
            assert limits[3] - 0.01 < float(scale.max()) <= limits[3] + 1e-6
            for axis in (0, 1):
                expected = 0.5 if axis == column else 0.0
                assert float((signs[:, axis] < 0).float().mean()) == pytest.approx(expected, abs=0.04)


def test_a_keyed_transform_is_each_examples_own() -> None:
    space, x, objective = Space((1, 8, 8), 2, "pmf"), pixels(), wrapped()
    with noise.keyed(0, torch.arange(30)):
        whole = objective.transform(x, space)
    with noise.keyed(0, torch.arange(10, 30)):
        part = objective.transform(x[10:], space)
    assert torch.equal(whole[10:], part)
