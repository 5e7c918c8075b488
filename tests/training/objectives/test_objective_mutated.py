"""The background model's objective: which pixels are replaced, by what, and what is refused."""

import pytest
import torch
from torch import Tensor

from vaebench.core.data import Space
from vaebench.core.errors import UserError
from vaebench.distributions import noise
from vaebench.models.adapters.flat import Flat
from vaebench.models.adapters.flat import Options as FlatOptions
from vaebench.models.oracles import oracles
from vaebench.training.objectives import elbo, mutated

SPACE = Space((1, 8, 8), 17, "pmf")


def objective(rate: float = 0.2) -> mutated.Mutated:
    return mutated.Mutated(mutated.Options(rate=rate), elbo.Elbo(elbo.Options(beta=2.0)))


def images(level: int, count: int = 2000) -> Tensor:
    return torch.full((count, 1, 8, 8), level, dtype=torch.uint8)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.7, 1.0])
def test_so_many_pixels_become_uniform(rate: float) -> None:
    found = objective(rate).mutate(images(3), SPACE)
    SPACE.check(found)
    assert found.dtype == torch.uint8
    total = found.numel()
    shares = torch.bincount(found.flatten(), minlength=17).double() / total
    expected = torch.full((17,), rate / 17, dtype=torch.float64)
    expected[3] += 1 - rate
    error = (expected * (1 - expected) / total).sqrt()
    assert bool(((shares - expected).abs() <= 4.5 * error + 1e-12).all())


def test_each_pixel_is_drawn_for_itself() -> None:
    found = objective(0.5).mutate(images(0), SPACE)
    changed = (found != 0).double()
    spread = changed.flatten(1).mean(1).var()
    rate = 0.5 * 16 / 17
    assert float(spread) == pytest.approx(rate * (1 - rate) / 64, rel=0.15)


def test_the_loss_is_the_bases_on_mutated_images() -> None:
    model, x, wrapped = Flat(SPACE, FlatOptions(3, (12,), "categorical")), images(5, 20), objective(0.3)
    with noise.keyed(1, torch.arange(20)):
        loss = wrapped(model, x, 1.0)
    with noise.keyed(1, torch.arange(20)):  # the same calls in the same order
        expected = wrapped.base(model, wrapped.mutate(x, SPACE), 1.0)
    with noise.keyed(1, torch.arange(20)):
        wrapped.mutate(x, SPACE)
        untouched = wrapped.base(model, x, 1.0)
    assert torch.equal(loss.total, expected.total)
    assert not torch.equal(loss.total, untouched.total)


def test_real_numbers_have_no_levels() -> None:
    with pytest.raises(UserError, match="replaces levels, but the data are real numbers"):
        objective().mutate(torch.zeros(3, 6), oracles(count=3)[0].model.space)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rate": 1.2}, "rate = 1.2 must lie in \\[0, 1\\]"), ({"base": {"name": "mutated"}}, "cannot wrap itself")],
)
def test_options_that_do_not_fit(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mutated.Options(**options)  # type: ignore[arg-type]
