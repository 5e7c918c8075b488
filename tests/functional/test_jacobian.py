"""The decoder's Jacobian: the authors' small decoders, and autograd one output at a time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vaebench.functional.jacobian import jacobian_penalty, latent_jacobian

HERE = Path(__file__).parents[1] / "golden"
Decode = Callable[[Tensor], Tensor]


def load(path: Path) -> dict[str, Tensor]:
    with np.load(path) as file:
        return {name.removeprefix("weight."): torch.from_numpy(np.array(file[name])).double() for name in file}


def decoder(case: str, w: dict[str, Tensor]) -> Decode:
    """The stored decoder, z (..., L) -> (..., C, H, W)."""

    def mlp(z: Tensor) -> Tensor:
        hidden = F.linear(z, w["fc1.weight"], w["fc1.bias"]).tanh()
        image: Tensor = F.linear(hidden, w["fc2.weight"], w["fc2.bias"]).sigmoid().unflatten(-1, (3, 8, 8))
        return image

    def conv(z: Tensor) -> Tensor:
        h = F.linear(z, w["gen_fcs.0.weight"], w["gen_fcs.0.bias"]).relu().unflatten(-1, (8, 4, 4))
        h = F.conv_transpose2d(h, w["gen_convs.0.weight"], w["gen_convs.0.bias"], 2, padding=1).relu()
        return F.conv_transpose2d(h, w["gen_convs.1.weight"], w["gen_convs.1.bias"], 2, padding=1).sigmoid()

    return mlp if case == "mlp" else conv


@pytest.mark.parametrize("case", ["mlp", "conv"])
def test_penalties_equal_the_published_codes_exact_ones(case: str) -> None:
    g = load(HERE / f"jl1_jacobian_{case}.npz")
    found = latent_jacobian(decoder(case, g), g["z"])
    torch.testing.assert_close(found[:, :2], g["jacobian_exact"], atol=1e-7, rtol=1e-5)
    one, two = (float(jacobian_penalty(found, len(g["z"]), power)) for power in (1, 2))
    assert one == pytest.approx(float(g["penalty_exact_autograd_float64"]), rel=1e-12)
    assert two == pytest.approx(float(g["l2_penalty_exact_autograd_float64"]), rel=1e-12)
    assert one == pytest.approx(float(g["penalty_finite_difference_float64"]), rel=1e-5)
    for fault in (one * len(g["z"]), one / found[0, 0].numel(), two):
        assert fault != pytest.approx(float(g["penalty_exact_autograd_float64"]), rel=1e-3)


@pytest.mark.parametrize("case", ["mlp", "conv"])
def test_the_penaltys_gradient_by_every_weight_equals_the_published(case: str) -> None:
    g = load(HERE / f"jl1_jacobian_{case}.npz")
    weights = {n: g[n].clone().requires_grad_() for n in g if n.endswith(("weight", "bias")) and "grad" not in n}
    found = latent_jacobian(decoder(case, weights), g["z"])
    jacobian_penalty(found, len(g["z"])).backward()
    for name, weight in weights.items():
        expected = g[f"penalty_grad_finite_difference_float64.{name}"]  # a step of 1e-3: kinks and curvature remain
        gradient = torch.zeros_like(expected) if weight.grad is None else weight.grad
        torch.testing.assert_close(gradient, expected, atol=1e-2 * float(expected.abs().max() + 1e-3), rtol=1e-2)


def test_equals_autograd_one_output_at_a_time() -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    z = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)

    def decode(at: Tensor) -> Tensor:
        return (at.square() @ w.T).tanh()

    found = latent_jacobian(decode, z)
    assert found.shape == (3, 2, 4, 5)
    whole = torch.autograd.functional.jacobian(decode, z)
    for s in range(2):
        for b in range(4):
            torch.testing.assert_close(found[:, s, b], whole[s, b, :, s, b].T)
