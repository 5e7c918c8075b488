"""Checkpoints of NVAE's release: golden values, defaults of older files, aliases, and everything that is refused."""

import argparse
import copy
import json
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden_files
import numpy as np
import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file
from torch import Tensor

from vaebench.core import files
from vaebench.core.data import Space
from vaebench.core.errors import DataError, UserError
from vaebench.distributions import noise
from vaebench.distributions.gaussian import walk
from vaebench.models import card as cards
from vaebench.models.adapters.nvae import NVAE
from vaebench.models.formats import Imported, convert
from vaebench.models.formats.nvae import Options, plugin
from vaebench.models.loading import build_model, load_weights
from vaebench.models.networks.nvae import Architecture, Network

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "nvae"
COLOUR, BINARY = Space((3, 32, 32), 256, "pmf"), Space((1, 28, 28), 2, "pmf")
ARGS = {
    "dataset": "cifar10", "num_channels_enc": 4, "num_channels_dec": 4, "num_preprocess_blocks": 1,
    "num_postprocess_blocks": 1, "num_preprocess_cells": 1, "num_postprocess_cells": 1, "num_cell_per_cond_enc": 1,
    "num_cell_per_cond_dec": 1, "num_latent_scales": 2, "num_groups_per_scale": 1, "num_latent_per_group": 2,
    "ada_groups": False, "min_groups_per_scale": 1, "num_nf": 0, "num_x_bits": 8, "num_mixture_dec": 10,
    "use_se": True, "res_dist": True, "arch_instance": "res_mbconv", "epochs": 400,
}  # fmt: skip
RES = ["res_bnswish", "res_bnswish"]
LISTED: dict[str, list[str]] = {
    **{f"{kind}_{place}": RES for kind in ("normal", "down") for place in ("pre", "enc")},
    **{f"{kind}_dec": ["mconv_e6k5g0"] for kind in ("normal", "up")},
    **{f"{kind}_post": ["mconv_e3k5g0"] for kind in ("normal", "up")},
    "ar_nn": [""],
}


def network(**options: Any) -> Network:
    torch.manual_seed(0)
    small: dict[str, Any] = {"channels": 4, "scales": 2, "groups": 1, "latent": 2, "pre_cells": 1, "post_cells": 1,
                             "encoder_cells": 1, "decoder_cells": 1}  # fmt: skip
    return Network(Architecture(**{**small, **options}), 3, 32, 100)


def checkpoint(**changes: Any) -> dict[str, Any]:
    """What the release saves: with aliases, an optimiser state, numpy numbers, and args; `changes` to args."""
    state = OrderedDict(network().state_dict())
    for key in [key for key in state if ".conv." in key and key.endswith("weight") and state[key].ndim == 4]:
        if f"{key.removesuffix('weight')}log_weight_norm" not in state:
            state[f"{key}_normalized"] = state[key]
    args = {k: v for k, v in {**ARGS, **changes}.items() if v is not None}
    return {
        "epoch": 400, "state_dict": state, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}},
        "scheduler": {"base_lrs": [np.float64(0.01)], "last_epoch": np.int64(399)}, "global_step": 1000,
        "grad_scalar": {"scale": 1024.0}, "args": argparse.Namespace(**args), "arch_instance": LISTED,
    }  # fmt: skip


def saved(content: Any, folder: Path) -> Path:
    path = folder / "checkpoint.pt"
    torch.save(content, path)
    return path


def read(path: Path) -> Imported:
    return plugin.read(path, Options())


def test_a_checkpoint_becomes_a_card_and_weights(tmp_path: Path, vaebench: Callable[..., Result]) -> None:
    content = checkpoint()
    path = saved(content, tmp_path)
    result = vaebench("import", "nvae", path, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    card = cards.read(tmp_path / "out" / "nvae.toml")
    assert card.weights is not None
    assert (card.id, card.family, shown["sha256"]) == ("cifar10/nvae", "nvae", card.weights.sha256)
    assert files.sha256(path) in card.notes
    assert "args.dataset = cifar10, epoch 400" in card.notes
    stored = load_file(card.weights_path())
    assert {
        key.removeprefix("network."): value for key, value in stored.items()
    }.keys() == network().state_dict().keys()
    model = build_model(card, COLOUR)
    load_weights(model, card.weights_path())
    for name, tensor in network().state_dict().items():
        assert tensor.equal(model.state_dict()[f"network.{name}"])
    again = vaebench("import", "nvae", path, "--out", tmp_path / "out")
    assert again.exit_code == 0, again.output
    other = convert(plugin, [path], Options("nvae"), name="open", out=tmp_path / "out")
    assert (card.model["tail"], other.model["tail"]) == ("strict", "nvae")


def test_older_files_have_defaults(tmp_path: Path) -> None:
    absent = dict.fromkeys(("ada_groups", "min_groups_per_scale", "num_mixture_dec", "num_nf", "num_x_bits"))
    content = checkpoint(**absent)
    for key in [key for key in content["state_dict"] if key.endswith("_normalized")]:
        del content["state_dict"][key]  # early files have no aliases
    old, new = read(saved(content, tmp_path)), read(saved(checkpoint(), tmp_path))
    assert old.model == new.model
    assert old.space == new.space == COLOUR
    assert all(old.state[key].equal(value) for key, value in new.state.items())
    with pytest.raises(DataError, match="args lacks res_dist"):
        read(saved(checkpoint(res_dist=None), tmp_path))


@pytest.mark.parametrize("bits", [1, 5, 8])
def test_bits_are_levels(bits: int, tmp_path: Path) -> None:
    path = saved(checkpoint(num_x_bits=bits), tmp_path)
    assert read(path).space == Space((3, 32, 32), 2**bits, "pmf")
    if bits == 5:
        with pytest.raises(UserError, match="levels = 32, but 'cifar10' has examples"):
            convert(plugin, [path], name="n", out=tmp_path)


def test_a_files_own_operations_go_before_the_table(tmp_path: Path) -> None:
    content = checkpoint()
    assert "ops" not in read(saved(content, tmp_path)).model
    content["arch_instance"] = {**LISTED, "normal_dec": ["mconv_e3k3g0"], "up_dec": ["mconv_e3k3g0"]}
    content["state_dict"] = network(ops={"dec": ["mconv_e3k3g0"]}).state_dict()
    assert read(saved(content, tmp_path)).model["ops"] == {"dec": ["mconv_e3k3g0"]}
    content["arch_instance"] = {**LISTED, "up_dec": ["mconv_e3k3g0"]}
    with pytest.raises(DataError, match="2 kinds of cells at 'dec'"):
        read(saved(content, tmp_path))


def _without(state: dict[str, Tensor]) -> None:
    del state["enc_sampler.1.log_weight_norm"]


def _with(state: dict[str, Tensor]) -> None:
    state["enc_sampler.7.bias"] = torch.zeros(4)


def _bent(state: dict[str, Tensor]) -> None:
    state["stem.weight"] = state["stem.weight"][:, :, :2]


def _sick(state: dict[str, Tensor]) -> None:
    state["stem.bias"] = state["stem.bias"] / 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without, r"missing enc_sampler\.1\.log_weight_norm"),
        (_with, r"unknown enc_sampler\.7\.bias"),
        (_bent, r"stem\.weight is \[4, 3, 2, 3\] instead of \[4, 3, 3, 3\]"),
        (_sick, r"NaN or infinity in stem\.bias"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    spoil: Callable[[dict[str, Tensor]], None], message: str, tmp_path: Path
) -> None:
    content = checkpoint()
    spoil(content["state_dict"])
    with pytest.raises(DataError, match=rf"does not fit: {message}$"):
        read(saved(content, tmp_path))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"dataset": "lsun"}, "args.dataset = 'lsun' should be one of mnist"),
        ({"num_groups_per_scale": "1"}, "args.num_groups_per_scale = '1' should be int"),
        ({"num_groups_per_scale": 0}, "args do not make a network: groups = 0"),
        ({"num_groups_per_scale": 2}, "does not fit: "),
        ({"use_se": 1}, "args.use_se = 1 should be bool"),
        ({"num_mixture_dec": 5}, "num_mixture_dec = 5 should be 10"),
        ({"num_mixture_dec": 1}, "image_conditional.1.weight is"),
        ({"arch_instance": "res_conv"}, "args.arch_instance = 'res_conv' should be one of res_mbconv"),
        ({"num_postprocess_blocks": 2}, "num_postprocess_blocks = 2 should equal num_preprocess_blocks"),
        ({"num_nf": 1}, "does not fit: missing nf_cells"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(args: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read(saved(checkpoint(**args), tmp_path))
    assert message in str(error.value)


def test_other_contents_are_refused(tmp_path: Path) -> None:
    for content in ({"state_dict": {}}, [1], network().state_dict()):
        with pytest.raises(DataError, match="is not a checkpoint of NVAE: it lacks 'state_dict' or 'args'"):
            read(saved(content, tmp_path))
    content = {**checkpoint(), "args": {"dataset": "cifar10"}}
    with pytest.raises(DataError, match="args lacks dataset"):
        read(saved(content, tmp_path))


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["args", "optimizer", "inside args", "state_dict"])
def test_a_malicious_file_is_refused_and_not_run(place: str, refused: Callable[..., str], tmp_path: Path) -> None:
    trap, content = Trap(tmp_path / "sprung"), checkpoint()
    if place == "inside args":
        content["args"].save = trap
    elif place == "state_dict":
        content["state_dict"]["stem.bias"] = trap
    else:
        content[place] = trap
    path = saved(content, tmp_path)
    refused(3, ("import", "nvae", path, "--out", tmp_path / "out"), path, "more than tensors, which could run code")
    assert not trap.path.exists()
    assert not (tmp_path / "out").exists()
    pickle.loads(pickle.dumps(trap))  # noqa: S301 (the trap is real)
    assert trap.path.exists()


def test_unknown_images_need_a_dataset(refused: Callable[..., str], tmp_path: Path) -> None:
    path = saved(checkpoint(dataset="imagenet_32"), tmp_path)
    refused(2, ("import", "nvae", path, "--out", tmp_path / "o"), "name one of examples of shape (3, 32, 32)")
    refused(2, ("import", "nvae", path, "--out", tmp_path / "o", "--dataset", "digits"), "but 'digits' has examples")
    card = convert(plugin, [path], name="n", dataset="cifar10", out=tmp_path / "o")
    assert card.dataset == "cifar10"


# the release's own forward pass


def near(found: Tensor, expected: np.ndarray[Any, Any]) -> None:
    wanted = torch.from_numpy(expected).double()
    torch.testing.assert_close(found.detach().double(), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("gradients", [False, True], ids=["folded", "plain"])
def test_golden_values_of_a_mixture_with_flows(
    gradients: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits are those of every fifth row and column. The case has the release's tail."""
    path = tmp_path / "checkpoint.pt"
    expected = golden_files.nvae_checkpoint(path)
    hold(path, COLOUR, expected, gradients, (..., slice(1, None, 5), slice(3, None, 5)), tmp_path, monkeypatch)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden/nvae is not beside the checkout")
@pytest.mark.parametrize("gradients", [False, True], ids=["folded", "plain"])
@pytest.mark.parametrize(("name", "dataset"), [("mnist", "mnist"), ("cifar10_flow", "cifar10")])
def test_golden_values_of_whole_files(
    name: str, dataset: str, gradients: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, space = dict(np.load(GOLDEN / f"{name}.npz")), {"cifar10": COLOUR, "mnist": BINARY}[dataset]
    expected["x"] = (expected["x"] * (space.levels - 1)).round()  # type: ignore[operator]
    hold(GOLDEN / f"{name}.pt", space, expected, gradients, (...,), tmp_path, monkeypatch)


def hold(
    path: Path, space: Space, expected: dict[str, Any], gradients: bool, kept: tuple[Any, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The model of the checkpoint gives these values where every draw is its mean; `kept` says which logits."""
    card = convert(plugin, [path], Options("nvae"), name="n", out=tmp_path)
    model = build_model(card, space).eval()
    assert isinstance(model, NVAE)
    load_weights(model, card.weights_path())
    pad = model.options.padding
    inner = (..., slice(pad, 32 - pad), slice(pad, 32 - pad))
    x = torch.from_numpy(expected["x"])[inner].to(torch.uint8)
    monkeypatch.setattr(noise, "standard_normal", lambda shape, like: torch.zeros(shape, dtype=like.dtype))
    with torch.set_grad_enabled(gradients):
        draws, rates = model.draw_groups(x, 1)
        likelihood = model.likelihood(draws.latents)
        network = model._live()
        q, p = model.posterior(x), model.prior(3)
        logits = network.decode(walk(q, p, [torch.zeros_like(z) for z in draws.latents]).state)
        prior = model.prior(2).rsample(1)
        state = network.start(2)
        for g, z in enumerate(prior):
            state = network.absorb(g, state, z)
        prior_logits = network.decode(state)
    kl = rates[:, 0].T
    nelbo = kl.sum(1) - draws.log_likelihood[0]
    near(logits[0][kept], expected["logits"])
    near(kl, expected["kl_per_group"])
    near(draws.log_posterior[0], expected["log_q"])
    near(draws.log_prior[0], expected["log_p"])
    near(-draws.log_likelihood[0], expected["recon_loss"])
    near(nelbo, expected["nelbo"])
    near(draws.log_weight[0], expected["log_iw"])
    near(nelbo / (math.log(2) * space.dims), expected["bpd"])
    near(likelihood.mean[0] / (space.levels - 1), expected["decoder_mean"][inner])  # type: ignore[operator]
    near(prior_logits[0][kept], expected["prior_logits"])
    again = copy.deepcopy(model)
    with torch.no_grad():
        again.network.enc_sampler[0].bias.add_(0.1)
        assert not torch.allclose(again.draw_groups(x, 1)[1], rates, rtol=1e-4)  # the comparison can fail


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_what_wrappers_put_before_names_is_taken_off(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    content = checkpoint()
    wanted = read(saved(content, tmp_path / "plain")).state
    content["state_dict"] = OrderedDict((prefix + name, tensor) for name, tensor in content["state_dict"].items())
    found = read(saved(content, tmp_path)).state
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
