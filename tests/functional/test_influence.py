"""TracIn's parts: closed forms, laws in standard errors, and the official release's own gradients and influences."""

import numpy as np
import pytest
import torch
from golden_files import arrays
from torch import Tensor, nn
from torch.func import functional_call

from vaebench.functional import influence


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


# gradients


def squared_error(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (parameters["weight"] @ x + parameters["bias"] - y).square()


def test_gradients_of_a_linear_model_are_the_residual_times_the_input() -> None:
    x, y, parameters = normal(7, 3), normal(7, seed=1), {"weight": normal(3, seed=2), "bias": normal(seed=3)}
    found = influence.gradients(squared_error, parameters, x, y)
    residual = x @ parameters["weight"] + parameters["bias"] - y
    inputs = torch.cat([x, torch.ones(7, 1, dtype=x.dtype)], 1)
    torch.testing.assert_close(found, residual[:, None] * inputs)
    products = torch.outer(residual, residual) * (inputs @ inputs.T)  # the influence matrix in closed form
    torch.testing.assert_close(found @ found.T, products)
    other = influence.gradients(squared_error, dict(reversed(parameters.items())), x, y)
    torch.testing.assert_close(other, found[:, [3, 0, 1, 2]])  # in the order of the parameters


def test_an_example_does_not_see_the_others() -> None:
    x, y, parameters = normal(7, 3), normal(7, seed=1), {"weight": normal(3, seed=2), "bias": normal(seed=3)}
    whole = influence.gradients(squared_error, parameters, x, y)
    for cut in (1, 3):
        parts = [
            influence.gradients(squared_error, parameters, *p) for p in zip(x.split(cut), y.split(cut), strict=True)
        ]
        torch.testing.assert_close(torch.cat(parts), whole)


# projection


def test_sketched_products_are_unbiased_with_the_variance_of_the_law() -> None:
    a, b, size, seeds = normal(40), normal(40, seed=1) + 0.5 * normal(40), 8, 4000
    pairs = torch.stack([influence.sketch(torch.stack([a, b]), size, seed) for seed in range(seeds)])
    products = (pairs[:, 0] * pairs[:, 1]).sum(1)
    exact = float(a @ b)
    assert abs(float(products.mean()) - exact) < 4 * float(products.std()) / seeds**0.5
    law = float((a @ a) * (b @ b) + (a @ b) ** 2 - 2 * (a * b).square().sum()) / size
    fourth = float((products - products.mean()).pow(4).mean())
    assert abs(float(products.var()) - law) < 4 * ((fourth - law**2) / seeds) ** 0.5
    assert abs(float(products.mean()) - 1.5 * exact) > 4 * float(products.std()) / seeds**0.5  # this can fail


def test_a_sketch_is_linear_and_of_its_seed_alone() -> None:
    x = normal(5, 300)
    found = influence.sketch(x, 16, 1)
    assert found.shape == (5, 16)
    torch.testing.assert_close(influence.sketch(x[2:3], 16, 1), found[2:3])
    torch.testing.assert_close(influence.sketch(2 * x[:1] - x[1:2], 16, 1), 2 * found[:1] - found[1:2])
    assert not torch.allclose(influence.sketch(x, 16, 2), found)


# detection


def brute(score: Tensor, foreign: Tensor) -> float:
    """The mean over i of the part of the foreign among the first i."""
    found = foreign[score.argsort(descending=True)].double().cumsum(0) / foreign.sum()
    return float(found.mean())


def test_the_area_is_the_mean_of_the_curve() -> None:
    score, foreign = normal(50), torch.rand(50, generator=generator(1)) < 0.2
    area, _ = influence.detection_area(score, foreign)
    assert area == pytest.approx(brute(score, foreign), rel=1e-12)
    inspected, found = influence.detection_curve(score, foreign, points=50)
    assert sum(found[1:]) / 50 == pytest.approx(area, rel=1e-12)
    assert (inspected[0], found[0], inspected[-1], found[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert found == sorted(found)


def test_the_area_at_its_poles() -> None:
    foreign = torch.arange(100) < 10
    best, error = influence.detection_area(-torch.arange(100.0), foreign)
    assert (best, error) == (pytest.approx(1 - 9 / 200), 0.0)
    worst, _ = influence.detection_area(torch.arange(100.0), foreign)
    assert worst == pytest.approx(11 / 200)
    tied, _ = influence.detection_area(torch.zeros(100), foreign)
    assert tied == pytest.approx(0.5 + 1 / 200)  # the expectation over orders
    assert influence.detection_area(torch.arange(3.0), torch.tensor([True, False, False]))[1] is None
    for none in (torch.zeros(100, dtype=torch.bool), torch.ones(100, dtype=torch.bool)):
        with pytest.raises(ValueError, match="no cleaning curve"):
            influence.detection_area(torch.zeros(100), none)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_areas_error_is_its_spread(shift: float) -> None:
    foreign, found = torch.arange(120) < 20, []
    for seed in range(400):
        found.append(influence.detection_area(normal(120, seed=seed) + shift * foreign, foreign))
    areas, errors = (torch.tensor(values, dtype=torch.float64) for values in zip(*found, strict=True))
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(areas.std()), rel=0.12)
    if shift == 0:
        assert abs(float(areas.mean()) - (0.5 + 1 / 240)) < 4 * float(areas.std()) / 20


def test_top_agreement() -> None:
    labels = torch.tensor([0, 0, 1, 1, -1])
    products = torch.tensor([[5.0, 1.0], [4.0, 2.0], [3.0, 5.0], [2.0, -4.0], [1.0, 4.0]])
    assert influence.top_agreement(products, labels, torch.tensor([0, 1]), 2).tolist() == [1.0, 0.5]
    assert influence.top_agreement(-products, labels, torch.tensor([0, 1]), 2).tolist() == [0.0, 0.5]
    assert influence.top_agreement(products, labels, torch.tensor([0, 1]), 5).tolist() == [0.4, 0.4]


def test_squared_correlation_and_its_error() -> None:
    x = normal(30)
    y = x + normal(30, seed=1)
    r2, stderr = influence.squared_correlation(x, y)
    assert r2 == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, rel=1e-10)
    left_out = torch.tensor(
        [influence.squared_correlation(*(torch.cat([v[:i], v[i + 1 :]]) for v in (x, y)))[0] for i in range(30)]
    )
    assert stderr == pytest.approx(float((29 / 30 * (left_out - left_out.mean()).square().sum()).sqrt()), rel=1e-6)
    assert influence.squared_correlation(x + 1e6, 3 - 2 * x)[0] == pytest.approx(1)
    with pytest.raises(ValueError, match="constant"):
        influence.squared_correlation(x, torch.ones(30))
    spread = [
        influence.squared_correlation(normal(200, seed=s), normal(200, seed=s) + normal(200, seed=s + 999))
        for s in range(200)
    ]
    values, errors = (torch.tensor(v, dtype=torch.float64) for v in zip(*spread, strict=True))
    assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.2)


# the official release


def test_gradients_equal_the_official_ones() -> None:
    """The decoder's last four layers, from the values that reach them: squared norms of each weight's gradient."""
    golden = arrays("tracin")
    x, hidden = torch.from_numpy(golden["images"]).float() / 255, torch.from_numpy(golden["hidden"])
    up = [nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in ((64, 64), (64, 32), (32, 32), (32, 3))]
    net = nn.Sequential(*[layer for conv in up for layer in (nn.ReLU(), conv)])
    names = [(f"{2 * i + 1}.{part}", f"{2 * i + 5}.{part}") for i in range(4) for part in ("weight", "bias")]
    net.load_state_dict({name: torch.from_numpy(golden[theirs]) for name, theirs in names})
    parameters = {name: value.detach() for name, value in net.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor, hidden: Tensor) -> Tensor:
        image = functional_call(net, parameters, (hidden,)).sigmoid()
        return (image - x).square().sum() / 3 / x.numel()

    errors = torch.stack([loss(parameters, *pair) for pair in zip(x, hidden, strict=True)]) * 3 * x[0].numel()
    assert errors.numpy() == pytest.approx(golden["sum_squared_error"], rel=1e-5)
    gradient = influence.gradients(loss, parameters, x, hidden).double()
    sizes = torch.tensor([p.numel() for p in parameters.values()]).cumsum(0).tolist()
    each = torch.stack([part.square().sum(1) for part in gradient.tensor_split(sizes[:-1], 1)], 1)
    assert each.numpy() == pytest.approx(golden["grad_sqnorm"], rel=1e-4)
    assert each.roll(1, 0).numpy() != pytest.approx(golden["grad_sqnorm"], rel=1e-2)


def test_influences_equal_the_official_ones() -> None:
    """Products of gradients by learning rate, batch and the steps since the checkpoint before."""
    golden, total, before = arrays("tracin"), np.zeros((16, 16)), 0
    for step in (500000, 1500000):
        products = golden[f"grad_dot_float64_{step}"]
        total += influence.checkpoint_weight(3e-4, step - before, 64, 16) * products
        before = step
    size = np.sqrt(total.diagonal())
    official = golden["tracin_influence_two_checkpoints"]
    assert float((abs(total - official) / np.outer(size, size)).max()) < 2e-5
    assert total.diagonal() == pytest.approx(golden["tracin_self_influence_two_checkpoints"], rel=2e-5)
    last = influence.checkpoint_weight(3e-4, 1500000, 64, 16) * products.diagonal()
    assert last == pytest.approx(golden["tracin_self_influence_last_checkpoint_only"], rel=2e-5)
