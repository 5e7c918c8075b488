"""Weights are checked before they are believed: what does not fit is named, and nothing in a file is executed."""

import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from vaebench.core.data import Space
from vaebench.core.errors import DataError, UserError
from vaebench.core.model import LatentVariableModel
from vaebench.models import card as cards
from vaebench.models import loading
from vaebench.models.adapters.flat import Flat, Options

Refused = Callable[..., str]
SPACE = Space((1, 8, 8), 17, "pmf")
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def model() -> LatentVariableModel:
    return Flat(SPACE, Options(latent=2, hidden=(8,), likelihood="categorical"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.safetensors"


def test_weights_that_fit_are_loaded_as_they_are(model: LatentVariableModel, path: Path) -> None:
    wanted = {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}
    save_file(wanted, path)
    loading.load_weights(model, path)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_another_precision_are_loaded(dtype: torch.dtype, model: LatentVariableModel, path: Path) -> None:
    save_file({name: tensor.to(dtype) for name, tensor in model.state_dict().items()}, path)
    loading.load_weights(model, path)
    assert all(tensor.dtype == torch.float32 for tensor in model.state_dict().values())


NAME = "encoder.2.weight"


def _spoilt(model: LatentVariableModel, spoil: Callable[[Tensors], object]) -> Tensors:
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    spoil(tensors)
    return tensors


def _fill(value: float) -> Callable[[Tensors], object]:
    return lambda tensors: tensors[NAME][0, 0].fill_(value)


UNFIT: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "missing": (lambda t: t.pop(NAME), f"missing {NAME}"),
    "extra": (lambda t: t.update(stray=torch.zeros(1)), "unknown stray"),
    "renamed": (lambda t: t.update(stray=t.pop(NAME)), f"missing {NAME}; unknown stray"),
    "misshapen": (lambda t: t.update({NAME: t[NAME].T.contiguous()}), f"{NAME} is [64, 8] instead of [8, 64]"),
    "flattened": (lambda t: t.update({NAME: t[NAME].flatten()}), f"{NAME} is [512] instead of [8, 64]"),
    "integer": (lambda t: t.update({NAME: t[NAME].long()}), f"{NAME} is integer instead of real"),
    "complex": (lambda t: t.update({NAME: t[NAME].to(torch.complex64)}), f"{NAME} is complex instead of real"),
    "nan": (_fill(float("nan")), f"NaN or infinity in {NAME}"),
    "infinite": (_fill(float("inf")), f"NaN or infinity in {NAME}"),
    "both infinities": (lambda t: t[NAME][0, :2].copy_(torch.tensor([1, -1]) * torch.inf), "NaN or infinity"),
    "many": (lambda t: t.update({f"stray{i}": torch.zeros(1) for i in range(9)}), "stray4 and 4 more"),
    "none": (lambda t: t.clear(), "missing"),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_weights_that_do_not_fit_name_the_tensor_and_change_nothing(
    fault: str, model: LatentVariableModel, path: Path
) -> None:
    spoil, says = UNFIT[fault]
    save_file(_spoilt(model, spoil), path)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(DataError) as caught:
        loading.load_weights(model, path)
    assert f"weights {path} do not fit the card: " in str(caught.value)
    assert says in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Payload:
    """Creates the file `victim` when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> object:
        return Path.touch, (self.victim,)


def _lying(size: int, content: bytes = b"{}") -> bytes:
    return struct.pack("<Q", size) + content


def _header(offsets: str, shape: str = "[2]", payload: bytes = b"\0" * 8) -> bytes:
    text = f'{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}'.encode()
    return struct.pack("<Q", len(text)) + text + payload


GOOD = save({"a": torch.zeros(100)})
FOREIGN = {
    "empty": b"",
    "short": b"\0" * 7,
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "html after spaces": b"\n\n  <html>" + b" " * 100,
    "cut in the header": GOOD[:20],
    "cut in the data": GOOD[:-1],
    "too long": GOOD + b"\0",
    "header beyond the file": _lying(10**6),
    "header beyond memory": _lying(2**63),
    "header of nothing": _lying(0, b""),
    "header not json": _lying(4, b"abcd"),
    "offsets beyond the data": _header("[0,800]", "[200]"),
    "offsets against the shape": _header("[0,8]", "[3]"),
    "offsets backwards": _header("[8,0]"),
    "shape beyond memory": _header("[0,8]", "[4611686018427387904,4]"),
    "shape negative": _header("[0,8]", "[-2]"),
    "random": bytes(range(256)) * 10,
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_not_safetensors_is_refused(kind: str, model: LatentVariableModel, path: Path) -> None:
    path.write_bytes(FOREIGN[kind])
    with pytest.raises(DataError, match="are not a safetensors file") as caught:
        loading.load_weights(model, path)
    assert str(path) in str(caught.value)
    assert ("an HTML page (a download that failed?)" in str(caught.value)) == kind.startswith("html")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(cut=st.integers(0, len(GOOD)), flip=st.integers(0, len(GOOD) * 8 - 1))
def test_no_damage_gives_anything_but_a_data_error(path: Path, cut: int, flip: int) -> None:
    content = bytearray(GOOD)
    content[flip // 8] ^= 1 << flip % 8
    path.write_bytes(content[:cut] if cut % 2 else content)
    try:
        loading.read_tensors(path)
    except DataError as error:
        if str(path) not in str(error):
            raise


@pytest.mark.parametrize("how", ["pickle", "torch", "torch-legacy"])
def test_a_pickle_is_never_executed(
    how: str, path: Path, tmp_path: Path, write_card: Callable[..., Path], refused: Refused
) -> None:
    victim = tmp_path / "executed"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Payload(victim)))
    else:
        torch.save({"a": Payload(victim)}, path, _use_new_zipfile_serialization=how == "torch")
    pickle_says = "a pickle, which could run code and is never opened; save the state dict with safetensors"
    refused(3, ("run", "--card", write_card(), "--checkpoint", path, "--leaderboards", tmp_path), path, pickle_says)
    assert not victim.exists()


def test_the_planted_payload_is_armed(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "executed")))  # noqa: S301 (ours: shows that the test above can fail)
    assert (tmp_path / "executed").exists()


def test_absent_weights_and_a_folder_are_refused(model: LatentVariableModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are absent"):
        loading.load_weights(model, tmp_path / "none.safetensors")
    with pytest.raises(DataError, match="but a folder"):
        loading.load_weights(model, tmp_path)


BAD_MODELS = {
    "unknown option": ({"model.latnet": "2"}, "unknown key 'latnet'; did you mean 'latent'?"),
    "missing option": ({"model.latent": None}, "missing latent"),
    "wrong type": ({"model.hidden": "8"}, "hidden = 8 should be a list of int"),
    "negative width": ({"model.latent": "-1"}, "latent = -1"),
    "no width": ({"model.hidden": "[]"}, "hidden = []"),
    "unknown likelihood": ({"model.likelihood": "'poisson'"}, "likelihood = 'poisson' should be one of 'bernoulli'"),
    "likelihood of other data": ({"model.likelihood": "'bernoulli'"}, "[model]"),
    "beyond memory": ({"model.latent": str(10**14)}, "[model]"),
    "beyond 64 bits": ({"model.latent": str(10**30)}, "a number that does not fit in 64 bits"),
    "beyond any width": ({"model.hidden": "[8, 1000001]"}, "hidden = 1000001 should be at most 1000000"),
    "leapfrog for ever": (
        {"family": "'hamiltonian'", "model.steps": str(10**6)},
        "steps = 1000000 should be at most 1000",
    ),
}


@pytest.mark.parametrize("fault", BAD_MODELS)
def test_options_that_do_not_fit_are_a_user_error(fault: str, write_card: Callable[..., Path]) -> None:
    changes, says = BAD_MODELS[fault]
    with pytest.raises(UserError) as caught:
        loading.build_model(cards.read(write_card(changes=changes)), SPACE)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_family_suggests_the_nearest(write_card: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="unknown adapter 'flt'; did you mean 'flat'"):
        loading.build_model(cards.read(write_card(changes={"family": "'flt'"})), SPACE)


def test_architecture_names_family_and_options_alone(write_card: Callable[..., Path]) -> None:
    def digest(**changes: str) -> str:
        table = {key.replace("__", "."): value for key, value in changes.items()}
        return loading.architecture(cards.read(write_card(changes=table)))

    assert digest() == digest(summary="'another'", training__epochs="9")
    assert len({digest(), digest(model__latent="3"), digest(model__hidden="[9]"), digest(family="'x'")}) == 4


def test_the_zoo_s_weights_fit_their_cards() -> None:
    for dataset, name in cards.ids():
        card = cards.find(name, dataset)
        if card.weights is not None and dataset == "digits":
            model = loading.build_model(card, SPACE)
            loading.load_weights(model, card.weights_path())
            assert load_file(card.weights_path()).keys() == model.state_dict().keys()
