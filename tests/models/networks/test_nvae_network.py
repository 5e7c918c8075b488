"""Laws of NVAE's network: the published sizes, groups per scale, the flow's Jacobian, folding, readjustment."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev
from weekly import weekly

from vaebench.models.networks.nvae import Architecture, Network, soft_normal
from vaebench.models.networks.nvae_cells import ARCHS, PLACES, Conv, Inverted, operation
from vaebench.models.networks.nvae_evaluation import Readjust, fold, readjusted
from vaebench.models.networks.nvae_flow import FlowPair, Shift

PUBLISHED = {  # as published; then side, outputs and colours; then the counts of the release
    "mnist": (
        Architecture(channels=32, scales=2, groups=10, adaptive=True, blocks=2, pre_cells=3, post_cells=3),
        (1, 32, 1),
        (2016, 105, 214, 150, 33.36),
        {"dec_tower": 917, "enc_tower": 674, "post_process": 184, "pre_process": 144, "enc_sampler": 45,
         "dec_sampler": 42, "stem": 3, "enc0": 3, "image_conditional": 3, "prior_ftr0": 1},
    ),
    "cifar10": (
        Architecture(channels=128, scales=1, groups=30, flows=1),
        (3, 32, 100),
        (3838, 180, 364, 430, 130.85),
        {"dec_tower": 1830, "enc_tower": 1287, "post_process": 62, "pre_process": 52, "enc_sampler": 90,
         "dec_sampler": 87, "nf_cells": 420},
    ),
    "celeba64": (
        Architecture(channels=64, scales=3, groups=20, adaptive=True, flows=1),
        (3, 64, 100),
        (4596, 216, 436, 514, 153.28),
        {"dec_tower": 2209, "enc_tower": 1566, "post_process": 62, "pre_process": 52, "enc_sampler": 105,
         "dec_sampler": 102, "nf_cells": 490},
    ),
}  # fmt: skip


@cache
def published(name: str) -> Network:
    """The network without its weights."""
    with torch.device("meta"):
        return Network(PUBLISHED[name][0], *PUBLISHED[name][1])


@pytest.mark.parametrize("name", weekly(PUBLISHED, *(name for name in PUBLISHED if name != "celeba64")))
def test_published_configurations_have_the_releases_counts(name: str) -> None:
    _, _, (keys, aliases, norms, convs, millions), parts = PUBLISHED[name]
    network = published(name)
    state, modules = list(network.state_dict()), list(network.modules())
    plain = [m for m in modules if isinstance(m, nn.Conv2d) and not isinstance(m, Conv)]
    assert len(plain) == aliases  # the release saves each of these weights under a second name
    assert len(state) + aliases == keys
    assert sum(isinstance(m, nn.BatchNorm2d) for m in modules) == norms
    assert sum(isinstance(m, Conv) for m in modules) == convs
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    for part, count in parts.items():
        inside = [m for m in network.get_submodule(part).modules() if m in plain] if part != "prior_ftr0" else []
        assert sum(key.split(".")[0] == part for key in state) + len(inside) == count, part


def test_towers_have_the_releases_order() -> None:
    """Lengths of towers, and where they halve and double."""
    for name, lengths, downs, ups in (
        ("mnist", (45, 44), [30], [13]),
        ("cifar10", (89, 88), [], []),
        ("celeba64", (106, 105), [60, 91], [13, 44]),
    ):
        network = published(name)
        assert (len(network.enc_tower), len(network.dec_tower)) == lengths
        for tower, key, places in ((network.enc_tower, "skip.conv_1.bias", downs), (network.dec_tower, "skip.1", ups)):
            found = {int(k.split(".")[0]) for k in tower.state_dict() if key in k}
            assert sorted(found) == places
    mnist = published("mnist")
    assert tuple(mnist.prior_ftr0.shape) == (256, 4, 4)
    assert {int(k.split(".")[0]) for k in mnist.pre_process.state_dict() if "skip" in k} == {2, 5}
    assert {int(k.split(".")[0]) for k in mnist.post_process.state_dict() if "skip" in k} == {0, 3}


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({"scales": 5, "groups": 16, "adaptive": True, "min_groups": 4}, (16, 8, 4, 4, 4)),
        ({"scales": 3, "groups": 20, "adaptive": True}, (20, 10, 5)),
        ({"scales": 2, "groups": 10, "adaptive": True}, (10, 5)),
        ({"scales": 4, "groups": 3, "adaptive": True}, (3, 1, 1, 1)),
        ({"scales": 3, "groups": 2}, (2, 2, 2)),
    ],
)
def test_groups_per_scale(options: dict[str, Any], counts: tuple[int, ...]) -> None:
    assert Architecture(**options).groups_per_scale == counts


SMALL = Architecture(channels=4, scales=2, groups=2, latent=2, pre_cells=1, post_cells=1, encoder_cells=1,
                     decoder_cells=1)  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    **{arch: {"arch": arch} for arch in ARCHS},
    "unexcited": {"squeeze_excitation": False},
    "plain posterior": {"residual": False},
    "one flow": {"flows": 1},
    "two flows": {"flows": 2},
    "adaptive": {"groups": 3, "adaptive": True},
    "vanilla": {"scales": 1, "groups": 1},
    "other decoder": {"decoder_channels": 6},
    "own operations": {"ops": {"dec": ["res_bnswish", "mconv_e2k3g0"], "pre": ["res_elu"]}},
    "no cells": {"encoder_cells": 0, "decoder_cells": 0},
}


def stirred(network: Network) -> Network:
    """`network` with every parameter and statistic moved, so that none has a value under which a fault is unseen."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    return network


def made(variant: str) -> Network:
    torch.manual_seed(0)
    return stirred(Network(replace(SMALL, **VARIANTS[variant]), 3, 8, 5)).eval().double()


@torch.no_grad()
def outputs(network: Network) -> list[Tensor]:
    """Features, raw parameters and decoded output along one path of three draws for two images."""
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(2, 3, 8, 8, generator=generator, dtype=torch.float64) * 2 - 1
    features = network.features(x)
    state, found = network.start(2), list(features)
    for g, size in enumerate(network.sizes):
        found += [network.posterior(g, features[g], state), network.prior(g, state)]
        z = torch.randn(3, 2, 2, size, size, generator=generator, dtype=torch.float64)
        if network.bijections:
            z = network.bijections[g].forward(z)
        state = network.absorb(g, state, z)
    return [*found, network.decode(state)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_folding_changes_nothing(variant: str) -> None:
    network = made(variant)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    plain, found = outputs(network), outputs(fold(network, False))
    for a, b in zip(plain, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert not any(isinstance(m, nn.BatchNorm2d | Conv) for m in fold(network, False).modules())
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())
    assert plain[-1].shape == (3, 2, 5, 8, 8)
    assert float((plain[-1] - plain[-1].mean((0, 1))).abs().max()) > 1e-3  # draws and images make a difference


def test_a_fold_of_other_statistics_differs() -> None:
    network = made("res_mbconv")
    before = outputs(fold(network, False))[-1]
    with torch.no_grad():
        next(m for m in network.dec_tower.modules() if isinstance(m, nn.BatchNorm2d)).running_mean.add_(0.5)
    assert not torch.allclose(before, outputs(fold(network, False))[-1], rtol=1e-6, atol=1e-6)


def test_halves_are_close_and_scores_stay_single() -> None:
    network = made("one flow")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = outputs(fold(network, True))
    assert found[-1].dtype == torch.float32
    torch.testing.assert_close(found[-1].double(), outputs(network)[-1], rtol=0.1, atol=0.1)
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())


def test_fewer_steps_are_left() -> None:
    """Batch norms of a decoder cell all vanish, and an UP cell expands before it enlarges."""
    cells = [m for m in fold(made("res_mbconv"), False).dec_tower if type(m).__name__ == "FoldedCell"]
    kinds = {tuple(type(step).__name__ for step in cell.steps) for cell in cells}
    assert kinds == {
        ("Fixed", "SiLU", "Fixed", "SiLU", "Fixed"),
        ("Fixed", "SiLU", "Upsample", "Fixed", "SiLU", "Fixed"),
    }


def jacobian(function: Any, latent: int, size: int) -> Tensor:
    """d f(z) / d z in raster order with channels innermost, (D, D)."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(size, size, latent, generator=generator, dtype=torch.float64)

    def ordered(flat: Tensor) -> Tensor:
        y: Tensor = function(flat.view(size, size, latent).permute(2, 0, 1)[None])
        return y[0].permute(1, 2, 0).flatten()

    return jacrev(ordered)(z.flatten()).detach()


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_shift_is_strictly_triangular(mirrored: bool) -> None:
    torch.manual_seed(0)
    shift = Shift(3, mirrored).double()
    found = jacobian(shift.amount, 3, 4)
    if mirrored:  # pixels backwards, channels as they are
        order = torch.arange(48).view(16, 3).flip(0).flatten()
        found = found[order][:, order]
    assert float(found.abs().triu().max()) == 0
    below = found[torch.ones(48, 48).tril(-1).bool()]
    assert float((below != 0).double().mean()) > 0.4  # as much as a kernel of 3, then 5, can reach


def test_a_pair_keeps_volume_and_is_no_shear() -> None:
    torch.manual_seed(0)
    pair = FlowPair(3).double()
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.mul_(1.5)
    found = jacobian(pair, 3, 3)
    assert float(found.slogdet().logabsdet) == pytest.approx(0, abs=1e-9)
    assert float(found.triu(1).abs().max()) > 1e-3
    assert float(found.tril(-1).abs().max()) > 1e-3


@torch.no_grad()
def test_the_flow_is_inverted() -> None:
    torch.manual_seed(0)
    pair, z = FlowPair(4).double(), torch.randn(5, 4, 4, 4, dtype=torch.float64)
    for parameter in pair.parameters():
        parameter.mul_(2)
    y = pair(z)
    assert float((y - z).abs().max()) > 0.1
    torch.testing.assert_close(pair.inverse(y), z, rtol=1e-4, atol=1e-4)


def test_the_soft_normal_is_clamped() -> None:
    raw = torch.tensor([0.0, 1e4, -1e4, 2.0]).view(4, 1, 1)[:2]
    mean, log_variance = soft_normal(torch.cat([raw, torch.tensor([0.0, -1e4]).view(2, 1, 1)]))
    torch.testing.assert_close(mean.flatten(), torch.tensor([0.0, 5.0]))
    torch.testing.assert_close((0.5 * log_variance).exp().flatten(), torch.tensor([1.01, 0.01 + 2.718281828**-5]))
    warm = soft_normal(torch.zeros(2, 1, 1), 0.5)[1]
    assert float((0.5 * warm).exp()) == pytest.approx(0.505)


def test_weight_normalisation() -> None:
    torch.manual_seed(0)
    conv = Conv(3, 4, 3)
    norm = conv.effective_weight().flatten(1).norm(dim=1)
    torch.testing.assert_close(norm, conv.weight.flatten(1).norm(dim=1) + 1e-2, rtol=1e-4, atol=0)
    before = conv.effective_weight()
    with torch.no_grad():
        conv.weight.mul_(7)
    torch.testing.assert_close(conv.effective_weight(), before, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_readjusting_follows_the_priors_samples_and_leaves_the_network() -> None:
    network = made("res_mbconv")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = readjusted(network, Readjust(200, 8, 0.7))
    one, again, warm = (readjusted(network, Readjust(10, 8, t)).state_dict() for t in (0.7, 0.7, 1.0))
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())
    assert not any(module.training for module in found.modules())
    assert all(tensor.equal(again[name]) for name, tensor in one.items())
    moved = found.state_dict()
    changed = {name for name, tensor in moved.items() if not tensor.equal(before[name])}
    decoder = [n for n in before if "running" in n and n.startswith(("dec_tower", "post_process"))]
    assert changed == {*decoder, *(n.replace("running_mean", "num_batches_tracked") for n in decoder if "mean" in n)}
    assert not warm[decoder[-1]].equal(one[decoder[-1]])
    # with the new statistics, the prior's samples are normalised: mean 0, variance 1 before scale and shift
    first = next(m for m in found.dec_tower.modules() if isinstance(m, Inverted)).conv[0].bn
    seen: list[Tensor] = []
    handle = first.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    readjusted(found, Readjust(50, 8, 0.7))
    handle.remove()
    x = torch.cat(seen)
    torch.testing.assert_close(x.mean((0, 2, 3)), first.running_mean, rtol=0, atol=0.1)
    torch.testing.assert_close(x.var((0, 2, 3)), first.running_var, rtol=0.3, atol=0.02)


@pytest.mark.parametrize("name", ["", "res_swish", "mconv_e0k5g0", "mconv_e6k4g0", "mconv_e6k5g1", "conv_3x3"])
def test_unknown_operations_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not an operation of NVAE; name one like 'res_bnswish' or 'mconv_e6k5g0'"):
        operation(name, 4, 4, "normal")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 0}, "groups = 0 should be at least 1"),
        ({"flows": -1}, "flows = -1 should be at least 0"),
        ({"flows": 65}, "flows = 65 should be at most 64"),
        ({"scales": 10**9}, "scales = 1000000000 should be at most 16"),
        ({"groups": 10**7}, "groups = 10000000 should be at most 256"),
        ({"scales": 16, "groups": 256}, "scales, groups and cells make 16388 cells, which should be at most 2000"),
        ({"ops": {"dec": "res_elu"}}, "ops: dec = 'res_elu' should be a list of operations"),
        ({"ops": {"dec": []}}, r"ops: dec = \[\] should be a list"),
        ({"ops": {"decoder": ["res_elu"]}}, r"ops = \['decoder'\] should be of pre, enc, dec, post"),
    ],
)
def test_impossible_architectures_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture(**options)
    with pytest.raises(ValueError, match="2 halvings need images whose side is a multiple of 4, not 6"):
        Network(SMALL, 3, 6, 5)


def test_every_place_of_every_architecture_has_operations() -> None:
    assert all(set(table) == set(PLACES) for table in ARCHS.values())
    assert ARCHS["res_mbconv"] == {
        "pre": ("res_bnswish", "res_bnswish"),
        "enc": ("res_bnswish", "res_bnswish"),
        "dec": ("mconv_e6k5g0",),
        "post": ("mconv_e3k5g0",),
    }
