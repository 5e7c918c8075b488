"""Laws of the likelihoods: masses sum to 1, samples follow them, means are theirs, extremes stay finite."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal

from vaebench.distributions.likelihoods import LIKELIHOODS, DiscretisedLogisticMixture, Likelihood

Make = Callable[[Tensor, tuple[int, ...], int | None], Likelihood]
NVAE = partial(DiscretisedLogisticMixture, tail="nvae")
MAKE: dict[str, Make] = {**LIKELIHOODS, "nvae": NVAE}
DISCRETE = [
    ("bernoulli", 1, 2),
    ("categorical", 1, 17),
    ("categorical", 1, 256),
    ("discretised-logistic", 1, 17),
    ("discretised-logistic", 1, 256),
    ("discretised-logistic-mixture", 1, 32),
    ("discretised-logistic-mixture", 1, 256),
    ("discretised-logistic-mixture", 3, 2),
    ("discretised-logistic-mixture", 3, 5),
]
FAMILIES = [("gaussian", 1, None), ("fixed-gaussian", 1, None), ("continuous-bernoulli", 1, None), *DISCRETE]


def channels(family: str, colours: int, levels: int | None) -> int:
    return LIKELIHOODS["discretised-logistic-mixture" if family == "nvae" else family].channels((colours, 1, 1), levels)


def outputs(family: str, colours: int, levels: int | None, draws: int, batch: int, scale: float = 1.0) -> Tensor:
    """A decoder's outputs (S, B, channels, 1, 1), N(0, scale^2)."""
    generator = torch.Generator().manual_seed(len(family) + 7 * colours + (levels or 0))
    return scale * torch.randn(draws, batch, channels(family, colours, levels), 1, 1, generator=generator)


def points(colours: int, levels: int) -> Tensor:
    """Every x of one pixel: (levels^colours, colours, 1, 1)."""
    return torch.tensor(list(itertools.product(range(levels), repeat=colours)))[..., None, None]


def masses(family: str, colours: int, levels: int, raw: Tensor) -> Tensor:
    """p(x) of every x of one pixel under each draw of `raw` (S, 1, channels, 1, 1): (S, levels^colours)."""
    x = points(colours, levels)
    likelihood = MAKE[family](raw.expand(-1, len(x), -1, -1, -1), (colours, 1, 1), levels)
    return likelihood.log_prob(x).double().exp()


@pytest.mark.parametrize(("family", "colours", "levels"), [*DISCRETE, ("nvae", 1, 32), ("nvae", 3, 5)])
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_masses_sum_to_one(family: str, colours: int, levels: int, scale: float) -> None:
    total = masses(family, colours, levels, outputs(family, colours, levels, 20, 1, scale)).sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-4)


def test_nvae_tail_counts_the_highest_of_256_levels_twice() -> None:
    raw = outputs("nvae", 1, 256, 20, 1)
    found, strict = masses("nvae", 1, 256, raw), masses("discretised-logistic-mixture", 1, 256, raw)
    torch.testing.assert_close(found.sum(1), 1 + strict[:, 255], rtol=0, atol=1e-4)
    torch.testing.assert_close(found[:, 254], strict[:, 254] + strict[:, 255], rtol=0, atol=1e-5)
    assert float(strict[:, 255].max()) > 0.01
    torch.testing.assert_close(found[:, :254], strict[:, :254])


def test_nvaes_mean_mixes_before_it_chains() -> None:
    raw = outputs("nvae", 3, 256, 4, 2)
    weights, parts = raw[:, :, :10].softmax(2), raw[:, :, 10:].unflatten(2, (3, 3, 10))
    mean = [(weights * parts[:, :, colour, 0]).sum(2) for colour in range(3)]
    c = [(weights * parts[:, :, colour, 2].tanh()).sum(2) for colour in range(3)]
    red = mean[0].clamp(-1, 1)
    green = (mean[1] + c[0] * red).clamp(-1, 1)
    blue = (mean[2] + c[1] * red + c[2] * green).clamp(-1, 1)
    expected = (torch.stack([red, green, blue], 2) + 1) * 127.5
    released, proper = (MAKE[f](raw, (3, 1, 1), 256) for f in ("nvae", "discretised-logistic-mixture"))
    torch.testing.assert_close(released.mean, expected)
    assert float((released.mean - proper.mean).abs().max()) > 1
    assert (released.family, proper.family) == (f"{proper.family}-nvae", "discretised-logistic-mixture")


def test_the_tail_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="tail must be 'strict' or 'nvae', not 'fat'"):
        DiscretisedLogisticMixture(outputs("nvae", 1, 256, 1, 1), (1, 1, 1), 256, tail="fat")


@pytest.mark.parametrize(("family", "colours", "levels"), DISCRETE)
def test_samples_follow_the_masses(family: str, colours: int, levels: int) -> None:
    torch.manual_seed(0)
    raw, n = outputs(family, colours, levels, 1, 1, 1.0), 20_000
    x = MAKE[family](raw.expand(n, -1, -1, -1, -1), (colours, 1, 1), levels).sample()
    assert x.dtype == torch.uint8
    index = (x.view(n, colours).long() * levels ** torch.arange(colours - 1, -1, -1)).sum(1)
    seen, expected = (
        torch.bincount(index, minlength=levels**colours).double(),
        n * masses(family, colours, levels, raw)[0],
    )
    rare = expected < 5
    cells = [torch.cat([v[~rare], v[rare].sum()[None]]) for v in (seen, expected)]
    if cells[1][-1] < 5:  # the rare ones together are still too few to count
        cells = [torch.cat([v[:1] + v[-1], v[1:-1]]) for v in cells]
    cells[1] *= n / cells[1].sum()
    assert stats.chisquare(cells[0].numpy(), cells[1].numpy()).pvalue > 1e-4


@pytest.mark.parametrize(("family", "colours", "levels"), [c for c in DISCRETE if c[0] in ("bernoulli", "categorical")])
def test_mean_is_the_sum_of_x_p_x(family: str, colours: int, levels: int) -> None:
    raw = outputs(family, colours, levels, 20, 1, 2.0)
    expected = masses(family, colours, levels, raw) @ torch.arange(levels).double()
    found = MAKE[family](raw, (colours, 1, 1), levels).mean.view(20).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def narrow(colours: int) -> Tensor:
    """A mixture whose means stay inside [-1, 1] and whose scales are far below a level: (1, 1, channels, 1, 1)."""
    raw = outputs("discretised-logistic-mixture", colours, 256, 1, 1)
    parts = raw[:, :, 10:].unflatten(2, (colours, -1, 10))
    parts[:, :, :, 0] = 0.3 * parts[:, :, :, 0].tanh()
    parts[:, :, :, 1] = -7.0
    return raw


@pytest.mark.parametrize("colours", [1, 3])
def test_mixture_mean_is_that_of_its_samples(colours: int) -> None:
    torch.manual_seed(0)
    raw, n = narrow(colours), 50_000
    kind = MAKE["discretised-logistic-mixture"]
    x = kind(raw.expand(n, -1, -1, -1, -1), (colours, 1, 1), 256).sample().view(n, colours).double()
    mean = kind(raw, (colours, 1, 1), 256).mean.view(colours).double()
    allowance = 0.5 + 5 * x.std(0) / n**0.5  # half a level of rounding
    assert bool(((x.mean(0) - mean).abs() < allowance).all()), (x.mean(0), mean)


def test_single_logistic_mean_is_that_of_its_samples() -> None:
    torch.manual_seed(0)
    raw, n = torch.tensor([0.1, -3.0]).view(1, 1, 2, 1, 1), 20_000
    likelihood = LIKELIHOODS["discretised-logistic"](raw.expand(n, -1, -1, -1, -1), (1, 1, 1), 256)
    x = likelihood.sample().double()
    assert abs(float(x.mean() - likelihood.mean[0].double())) < 4 * float(x.std()) / n**0.5


def test_bernoulli_is_torchs() -> None:
    raw = outputs("bernoulli", 1, 2, 3, 4, 5.0)
    x = torch.tensor([0, 1, 1, 0]).view(4, 1, 1, 1)
    expected = Independent(Bernoulli(logits=raw), 3).log_prob(x.float())
    torch.testing.assert_close(LIKELIHOODS["bernoulli"](raw, (1, 1, 1), 2).log_prob(x), expected)


def test_gaussian_is_torchs() -> None:
    raw, x = outputs("gaussian", 1, None, 3, 4), torch.randn(4, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    mean, log_sigma = raw.chunk(2, dim=2)
    expected = Independent(Normal(mean, log_sigma.exp()), 3)
    found = LIKELIHOODS["gaussian"](raw, (1, 1, 1), None)
    torch.testing.assert_close(found.log_prob(x), expected.log_prob(x))
    assert found.mean.equal(mean)
    torch.manual_seed(0)
    z = (found.sample() - mean) / log_sigma.exp()
    torch.manual_seed(0)
    torch.testing.assert_close(z, torch.randn(3, 4, 1, 1, 1), rtol=1e-4, atol=1e-5)


def inputs(levels: int | None, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    if levels is None:
        return torch.randn(shape, generator=generator)
    return torch.randint(0, levels, shape, generator=generator).to(torch.uint8)


def test_fixed_gaussian_is_torchs() -> None:
    raw, x = outputs("fixed-gaussian", 1, None, 3, 4), torch.randn(4, 1, 1, 1)
    found = LIKELIHOODS["fixed-gaussian"](raw, (1, 1, 1), None)
    torch.testing.assert_close(found.log_prob(x), Independent(Normal(raw, 0.1), 3).log_prob(x))
    assert found.mean.equal(raw)
    torch.manual_seed(0)
    z = (found.sample() - raw) / 0.1
    torch.manual_seed(0)
    torch.testing.assert_close(z, torch.randn(3, 4, 1, 1, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "colours", "levels"), FAMILIES)
def test_an_x_for_every_draw_scores_like_an_x_for_all(family: str, colours: int, levels: int | None) -> None:
    shape = (colours, 2, 3)
    raw = torch.randn(4, 3, channels(family, colours, levels), 2, 3, generator=torch.Generator().manual_seed(0))
    likelihood, x = MAKE[family](raw, shape, levels), inputs(levels, 4, 3, *shape)
    own = likelihood.log_prob(x)
    assert own.shape == (4, 3)
    for draw in range(4):
        torch.testing.assert_close(likelihood.log_prob(x[draw])[draw], own[draw])


@pytest.mark.parametrize(("family", "colours", "levels"), FAMILIES)
def test_pixels_are_independent(family: str, colours: int, levels: int | None) -> None:
    raw = torch.randn(2, 3, channels(family, colours, levels), 2, 2, generator=torch.Generator().manual_seed(0))
    x = inputs(levels, 3, colours, 2, 2)
    parts = sum(
        MAKE[family](raw[..., i : i + 1, j : j + 1], (colours, 1, 1), levels).log_prob(x[..., i : i + 1, j : j + 1])
        for i in range(2)
        for j in range(2)
    )
    torch.testing.assert_close(MAKE[family](raw, (colours, 2, 2), levels).log_prob(x), parts)


@pytest.mark.parametrize("family", ["discretised-logistic", "discretised-logistic-mixture", "nvae"])
@pytest.mark.parametrize("log_scale", [-100.0, -7.0, 0.0, 10.0, 30.0, 61.0, 500.0])
@pytest.mark.parametrize("mean", [-1000.0, -1.0, 0.0, 1.0, 1000.0])
def test_extreme_logistics_have_finite_masses_and_gradients(family: str, log_scale: float, mean: float) -> None:
    width = 1 if family == "discretised-logistic" else 10
    blocks = [torch.zeros(width)] * (family != "discretised-logistic")
    raw = torch.cat([*blocks, torch.full((width,), mean), torch.full((width,), log_scale)])[None, None, :, None, None]
    raw = raw.expand(1, 256, -1, -1, -1).clone().requires_grad_()
    score = MAKE[family](raw, (1, 1, 1), 256).log_prob(points(1, 256))
    assert score.isfinite().all()
    (gradient,) = torch.autograd.grad(score.sum(), raw)
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    "size",
    [
        10.0,
        1e4,
        1e7,
    ],
)
def test_a_bin_keeps_its_width_far_from_the_mean(size: float) -> None:
    """A wide logistic is flat over a bin: for mean = scale = s >> 1, p = (2 / 255) / s * the logistic density at -1."""
    raw = torch.tensor([size, math.log(size)]).view(1, 1, 2, 1, 1)
    x = torch.full((1, 1, 1, 1), 128)
    found = LIKELIHOODS["discretised-logistic"](raw, (1, 1, 1), 256).log_prob(x)
    at = (1 / 255 - size) / size
    expected = math.log(2 / 255 / size) + at - 2 * math.log1p(math.exp(at))
    assert found.item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("log_scale", [50.0, 59.9, 60.1, 85.0, 120.0, 500.0])
def test_the_widest_logistics_keep_their_masses(log_scale: float) -> None:
    """Half the mass in each tail, and a quarter of the width in scales in a bin between them."""
    raw = torch.tensor([0.3, log_scale]).view(1, 1, 2, 1, 1).requires_grad_()
    x = torch.tensor([0, 1, 128, 255]).view(4, 1, 1, 1)
    score = LIKELIHOODS["discretised-logistic"](raw.expand(1, 4, -1, -1, -1), (1, 1, 1), 256).log_prob(x)[0]
    between = math.log(2 / 255 / 4) - log_scale
    torch.testing.assert_close(score, torch.tensor([-math.log(2), between, between, -math.log(2)]))
    (gradient,) = torch.autograd.grad(score[1], raw)
    assert gradient[0, 0, 1].item() == pytest.approx(-1)


@pytest.mark.parametrize("family", ["bernoulli", "categorical", "gaussian"])
@pytest.mark.parametrize("size", [1e-30, 1e4])
def test_extreme_outputs_have_finite_scores_and_gradients(family: str, size: float) -> None:
    levels = {"bernoulli": 2, "categorical": 17, "gaussian": None}[family]
    raw = (size * outputs(family, 1, levels, 2, 3).sign()).clamp(max=80 if levels is None else size).requires_grad_()
    score = MAKE[family](raw, (1, 1, 1), levels).log_prob(inputs(levels, 3, 1, 1, 1))
    assert score.isfinite().all()
    assert torch.autograd.grad(score.sum(), raw)[0].isfinite().all()


@pytest.mark.parametrize(("family", "colours", "levels"), FAMILIES)
def test_one_x_per_latent(family: str, colours: int, levels: int | None) -> None:
    likelihood = MAKE[family](outputs(family, colours, levels, 2, 3), (colours, 1, 1), levels)
    assert likelihood.sample().shape == likelihood.mean.shape == (2, 3, colours, 1, 1)
    with pytest.raises(ValueError, match="sample_shape must be empty"):
        likelihood.sample(torch.Size([2]))


@pytest.mark.parametrize(
    ("family", "shape", "levels", "remedy"),
    [
        ("bernoulli", (1, 4, 4), 17, "use 'continuous-bernoulli' on their dequantised twin"),
        ("continuous-bernoulli", (1, 4, 4), 17, "name their dequantised twin"),
        ("bernoulli", (2,), None, "needs 2 levels"),
        ("categorical", (2,), None, "use 'gaussian'"),
        ("discretised-logistic", (2,), None, "use 'gaussian'"),
        ("discretised-logistic-mixture", (2, 4, 4), 256, "1 or 3 colours"),
        ("discretised-logistic-mixture", (3,), 256, "1 or 3 colours"),
        ("discretised-logistic-mixture", (3, 4, 4), None, "needs integer images"),
        ("gaussian", (1, 4, 4), 256, "is a density, but the data has 256"),
        ("fixed-gaussian", (1, 4, 4), 256, "is a density, but the data has 256"),
    ],
)
def test_a_space_that_does_not_fit_is_refused(
    family: str, shape: tuple[int, ...], levels: int | None, remedy: str
) -> None:
    with pytest.raises(ValueError, match=remedy):
        LIKELIHOODS[family].channels(shape, levels)


def test_every_family_is_named_as_it_says() -> None:
    assert all(kind.family == name for name, kind in LIKELIHOODS.items())
