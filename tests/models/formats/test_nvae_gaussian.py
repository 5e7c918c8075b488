"""NVAE's release with a Gaussian decoder: a file through `vaebench import`, held against plain arithmetic on its names.

The forward pass below is written from the release's names and figures alone, one call of torch a line.
"""

import argparse
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from torch import Tensor
from torch.nn import functional as F

from vaebench.core import registry as plugins
from vaebench.core.data import Source, Split
from vaebench.core.errors import UserError
from vaebench.distributions import noise
from vaebench.distributions.coarse import reduced_to
from vaebench.evaluation.api import evaluate
from vaebench.metrics.likelihood import Likelihood
from vaebench.models import card as cards
from vaebench.models.adapters.nvae import NVAE
from vaebench.models.loading import build_model, load_weights
from vaebench.models.networks.nvae import Architecture, Network

Invoke = Callable[..., Result]
State = Mapping[str, Tensor]
LATENT, SIDES = 2, {"celeba_64": 64, "cifar10": 32}


def checkpoint(dataset: str, bits: int, seed: int = 0) -> dict[str, Any]:
    """What the release saves for two scales of one group, with statistics and biases that are not those of a start."""
    torch.manual_seed(seed)
    shape = Architecture(channels=4, scales=2, groups=1, latent=LATENT, pre_cells=1, post_cells=1, encoder_cells=1,
                         decoder_cells=1)  # fmt: skip
    state = OrderedDict(Network(shape, 3, SIDES[dataset], 6).state_dict())
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point():
            tensor.add_(0.1 * torch.randn_like(tensor))
    for name in [name for name in state if ".conv." in name and name.endswith("weight") and state[name].ndim == 4]:
        if f"{name.removesuffix('weight')}log_weight_norm" not in state:
            state[f"{name}_normalized"] = state[name]
    args = argparse.Namespace(
        dataset=dataset, num_channels_enc=4, num_channels_dec=4, num_preprocess_blocks=1, num_postprocess_blocks=1,
        num_preprocess_cells=1, num_postprocess_cells=1, num_cell_per_cond_enc=1, num_cell_per_cond_dec=1,
        num_latent_scales=2, num_groups_per_scale=1, num_latent_per_group=LATENT, ada_groups=False,
        min_groups_per_scale=1, num_nf=0, num_x_bits=bits, num_mixture_dec=1, use_se=True, res_dist=True,
        arch_instance="res_mbconv",
    )  # fmt: skip
    return {"epoch": 90, "state_dict": state, "global_step": 1, "args": args}


def conv(s: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    w = s[f"{name}.weight"]
    norm = w.square().sum((1, 2, 3), keepdim=True).sqrt() + 1e-5
    w = s[f"{name}.log_weight_norm"].exp() * w / norm
    return F.conv2d(x, w, s.get(f"{name}.bias"), stride, w.shape[-1] // 2)


def norm(s: State, name: str, x: Tensor) -> Tensor:
    keys = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(s[f"{name}.{key}"] for key in keys), eps=1e-5)


def excited(s: State, name: str, x: Tensor) -> Tensor:
    hidden = F.relu(F.linear(x.mean((2, 3)), s[f"{name}.se.se.0.weight"], s[f"{name}.se.se.0.bias"]))
    gate = F.linear(hidden, s[f"{name}.se.se.2.weight"], s[f"{name}.se.se.2.bias"]).sigmoid()
    return x * gate[:, :, None, None]


def encoder_cell(s: State, name: str, x: Tensor, down: bool = False) -> Tensor:
    y = conv(s, f"{name}._ops.0.conv_0", F.silu(norm(s, f"{name}._ops.0.bn_act", x)), 2 if down else 1)
    y = conv(s, f"{name}._ops.1.conv_0", F.silu(norm(s, f"{name}._ops.1.bn_act", y)))
    if down:
        a = F.silu(x)
        corners = (a, a[:, :, 1:, 1:], a[:, :, :, 1:], a[:, :, 1:, :])
        x = torch.cat([conv(s, f"{name}.skip.conv_{i}", each, 2) for i, each in enumerate(corners, 1)], 1)
    return x + 0.1 * excited(s, name, y)


def decoder_cell(s: State, name: str, x: Tensor, up: bool = False) -> Tensor:
    y, first, at = x, int(up), f"{name}._ops.0.conv"
    if up:
        y = F.interpolate(y, scale_factor=2, mode="nearest")
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        x = conv(s, f"{name}.skip.1", x)
    y = F.conv2d(norm(s, f"{at}.{first}.bn", y), s[f"{at}.{first + 1}.conv.0.weight"])
    y = F.silu(norm(s, f"{at}.{first + 1}.conv.1", y))
    w = s[f"{at}.{first + 2}.conv.0.weight"]
    y = F.silu(norm(s, f"{at}.{first + 2}.conv.1", F.conv2d(y, w, padding=2, groups=len(w))))
    y = norm(s, f"{at}.{first + 4}.bn", F.conv2d(y, s[f"{at}.{first + 3}.weight"]))
    return x + 0.1 * excited(s, name, y)


def normal(raw: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_scale = (5 * torch.tanh(raw / 5)).chunk(2, 1)
    return mean, log_scale.exp() + 0.01


def log_normal(z: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    return (-0.5 * ((z - mean) / sigma) ** 2 - sigma.log() - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)


def kl(q: tuple[Tensor, Tensor], p: tuple[Tensor, Tensor]) -> Tensor:
    ratio = (q[1] / p[1]) ** 2
    return 0.5 * (((q[0] - p[0]) / p[1]) ** 2 + ratio - 1 - ratio.log()).flatten(1).sum(1)


def plain(s: State, x: Tensor, eps: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """x (B, 3, H, W) in [-1, 1] as the network sees it; `eps` make z of its two groups."""
    a = encoder_cell(s, "pre_process.0", conv(s, "stem", x), down=True)
    a = met = encoder_cell(s, "enc_tower.0", a)  # 1 is the combiner of the second group
    a = encoder_cell(s, "enc_tower.2", a, down=True)
    a = encoder_cell(s, "enc_tower.3", a)
    top = F.elu(conv(s, "enc0.1", F.elu(a)))
    q0 = normal(conv(s, "enc_sampler.0", top))
    p0 = normal(torch.zeros(len(x), 2 * LATENT, *top.shape[2:]))
    z0 = q0[0] + q0[1] * eps[0]
    state = s["prior_ftr0"].expand(len(x), -1, -1, -1)
    state = conv(s, "dec_tower.0.conv", torch.cat([state, z0], 1))
    state = decoder_cell(s, "dec_tower.1", state, up=True)
    state = decoder_cell(s, "dec_tower.2", state)
    raw_p = conv(s, "dec_sampler.0.1", F.elu(state))
    raw_q = conv(s, "enc_sampler.1", met + conv(s, "enc_tower.1.conv", state))
    p1, q1 = normal(raw_p), normal(raw_p + raw_q)
    z1 = q1[0] + q1[1] * eps[1]
    state = conv(s, "dec_tower.3.conv", torch.cat([state, z1], 1))
    logits = conv(s, "image_conditional.1", F.elu(decoder_cell(s, "post_process.0", state, up=True)))
    rates = torch.stack([kl(q0, p0), kl(q1, p1)], 1)
    log_x = log_normal(x, *normal(logits))
    log_q = log_normal(z0, *q0) + log_normal(z1, *q1)
    log_p = log_normal(z0, *p0) + log_normal(z1, *p1)
    return {"logits": logits, "kl": rates, "nelbo": rates.sum(1) - log_x, "weights": log_x + log_p - log_q}


def stored(side: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 3, side, side), generator=generator, dtype=torch.uint8)


def seen(levels: Tensor, bits: int) -> Tensor:
    """As the release reads and reduces 8-bit images, on [-1, 1]."""
    unit = levels.float() / 255
    if bits < 8:
        unit = torch.floor(unit * 255 / 2 ** (8 - bits)) / (2**bits - 1)
    return 2 * unit - 1


def imported(folder: Path, vaebench: Invoke, content: dict[str, Any]) -> cards.Card:
    torch.save(content, folder / "checkpoint.pt")
    result = vaebench("import", "nvae", folder / "checkpoint.pt", "--out", folder / "out")
    assert result.exit_code == 0, result.output
    return cards.read(folder / "out" / "nvae.toml")


@pytest.mark.parametrize("gradients", [False, True], ids=["folded", "plain"])
@pytest.mark.parametrize(("dataset", "bits"), [("celeba_64", 8), ("celeba_64", 5), ("cifar10", 8), ("cifar10", 3)])
def test_a_file_is_the_release(
    dataset: str, bits: int, gradients: bool, tmp_path: Path, vaebench: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = checkpoint(dataset, bits)
    card = imported(tmp_path, vaebench, content)
    source = plugins.load("datasets", card.dataset)
    assert isinstance(source, Source)
    assert source.name == {"celeba_64": "celeba64-centred", "cifar10": "cifar10-centred"}[dataset]
    model = build_model(card, source.space).eval()
    assert isinstance(model, NVAE)
    load_weights(model, card.weights_path())
    split = next(iter(source_like(source, stored(SIDES[dataset])).values()))
    x = split.take(torch.arange(3)).x
    eps = [torch.randn(3, LATENT, side, side) for side in model.network.sizes]
    given = iter([each[None] for each in eps] * 2)
    monkeypatch.setattr(noise, "standard_normal", lambda shape, like: next(given))
    wanted = plain(content["state_dict"], seen(stored(SIDES[dataset]), bits), (eps[0], eps[1]))
    with torch.set_grad_enabled(gradients):
        draws, rates = model.draw_groups(x, 1)
        raw = model.likelihood(draws.latents).raw[0]
    mean, sigma = normal(wanted["logits"])
    near = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(raw.detach(), torch.cat([mean, sigma.log()], 1), **near)
    torch.testing.assert_close(rates[:, 0].T.detach(), wanted["kl"], **near)
    nelbo = (rates.sum(0) - draws.log_likelihood)[0].detach()
    torch.testing.assert_close(nelbo, wanted["nelbo"], **near)
    torch.testing.assert_close(draws.log_weight[0].detach(), wanted["weights"], **near)
    again = model.likelihood(draws.latents).log_prob(reduced_to(x, bits) if bits < 8 else x)
    torch.testing.assert_close(again, draws.log_likelihood)  # what is reduced stays so


def source_like(source: Source, x: Tensor) -> Mapping[str, Split]:
    """The images `x` as a split of `source` reads them."""
    import dataclasses

    from vaebench.core.readings import Centred

    Centred().check(x, source.space)
    return {"valid": dataclasses.replace(Split("valid", x), reading=Centred())}


def test_bits_a_dimension_are_the_releases(tmp_path: Path, vaebench: Invoke) -> None:
    """By the metric: the mean of log weights over draws is -nll, in a class of its own; 5 bits differ from 8."""
    from vaebench.core.data import Dataset

    found = {}
    for bits in (5, 8):
        (tmp_path / str(bits)).mkdir()
        card = imported(tmp_path / str(bits), vaebench, checkpoint("cifar10", bits))
        source = plugins.load("datasets", card.dataset)
        assert isinstance(source, Source)
        model = build_model(card, source.space).eval()
        load_weights(model, card.weights_path())
        data = Dataset(card.dataset, source.space, {"test": source_like(source, stored(32))["valid"]}, "0" * 64)
        results = evaluate(model, data, {"likelihood": Likelihood(samples=5)})
        assert results["bpd"].value == pytest.approx(results["nll"].value / (3072 * math.log(2)), rel=1e-12)
        found[bits] = results["bpd"].value
        rows = {row.column: row.comparability for row in results.rows}
        assert "Centred()" in rows["bpd"]
        assert ("gaussian-5-bit" in rows["bpd"]) == (bits == 5)
    assert abs(found[5] - found[8]) > 1e-3


@pytest.mark.parametrize("bits", range(1, 9))
def test_reducing_is_the_releases_and_happens_once(bits: int) -> None:
    levels = torch.arange(256).view(1, 1, 16, 16)
    x = levels.float() * (2 / 255) - 1
    once = reduced_to(x, bits)
    torch.testing.assert_close(once, seen(levels, bits), rtol=0, atol=1e-6)
    assert torch.equal(reduced_to(once, bits), once)
    assert len(once.unique()) == 2**bits


def test_bits_that_do_not_fit_are_refused() -> None:
    celeba = plugins.load("datasets", "celeba64")
    assert isinstance(celeba, Source)
    card = cards.Card("n", "celeba64", "", "nvae", {"likelihood": "categorical", "bits": 5})
    with pytest.raises(UserError, match="bits = 5 are of the likelihood 'gaussian' alone; levels are the dataset's"):
        build_model(card, celeba.space)
    moons = cards.Card("n", "two-moons", "", "nvae", {"likelihood": "gaussian", "bits": 5})
    with pytest.raises(UserError, match="NVAE needs square images"):
        build_model(moons, plugins.load("datasets", "two-moons").space)  # type: ignore[attr-defined]
