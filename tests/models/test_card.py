"""Cards: what is written is read back; what is wrong is an error that names the key, the value and the remedy."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vaebench.core import files
from vaebench.core import tables as tables_
from vaebench.core.errors import DataError, UserError
from vaebench.models import card as cards
from vaebench.models import loading
from vaebench.models.card import Card, Recipe, Trained, Weights

WriteCard = Callable[..., Path]
FULL = Card(
    name="mine",
    dataset="digits",
    summary='Quotes " and \\ and é.',
    family="flat",
    model={"latent": 2, "hidden": [8, 4], "likelihood": "categorical"},
    objective={"name": "elbo", "beta": 2.0},
    training=Recipe(epochs=3, betas=(0.5, 0.9), ema=0.99, clip_norm=1.0, warmup_steps=7),
    weights=Weights("mine.safetensors", "0" * 64),
    trained=Trained(1.5, "a machine", 2, 3.25, "0.1.0", "2.6"),
    notes="Two\nlines.",
)
MINIMAL = Card(name="mine", dataset="digits", summary="s", family="flat", model={})


@pytest.mark.parametrize("card", [FULL, MINIMAL, *(dataclasses.replace(MINIMAL, **{n: getattr(FULL, n)}) for n in
    ("objective", "training", "weights", "trained", "notes"))])  # fmt: skip
def test_write_and_read_give_the_card_back(card: Card, tmp_path: Path) -> None:
    path = tmp_path / "any" / "mine.toml"
    cards.write(card, path)
    first = path.read_bytes()
    found = cards.read(path)
    assert found == card
    assert found.path == path
    cards.write(found, path)
    assert path.read_bytes() == first


def test_dataset_is_the_argument_else_the_key_else_the_folder(write_card: WriteCard, tmp_path: Path) -> None:
    keyless = write_card(changes={"dataset": None}, folder=tmp_path / "mnist")
    assert cards.read(keyless).dataset == "mnist"
    assert cards.read(keyless, "digits").dataset == "digits"
    assert cards.read(write_card(folder=tmp_path / "mnist")).dataset == "digits"


WRONG: list[tuple[dict[str, str | None], list[str]]] = [
    ({"sumary": "'x'"}, ["unknown key 'sumary'", "did you mean 'summary'?"]),
    ({"training.epoch": "3"}, ["[training]", "unknown key 'epoch'", "did you mean 'epochs'?"]),
    ({"weights.file": "'w.safetensors'", "weights.sha": "'x'"}, ["[weights]", "did you mean 'sha256'?"]),
    ({"summary": None}, ["missing summary"]),
    ({"family": None, "summary": None}, ["missing summary, family"]),
    ({"training.epochs": None}, ["[training]", "missing epochs"]),
    ({"weights.file": "'w.safetensors'"}, ["missing sha256"]),
    ({"summary": "3"}, ["summary = 3 should be str"]),
    ({"dataset": "3"}, ["dataset = 3 should be str"]),
    ({"notes": "['x']"}, ["notes = ['x'] should be str"]),
    ({"weights": "'w.safetensors'"}, ["weights = 'w.safetensors' should be a table"]),
    ({"objective": "'elbo'"}, ["objective = 'elbo' should be a table"]),
    ({"training.epochs": "2.0"}, ["epochs = 2.0 should be int"]),
    ({"training.epochs": "true"}, ["epochs = True should be int"]),
    ({"training.epochs": "-1"}, ["epochs = -1 should be at least 1"]),
    ({"training.epochs": "0"}, ["epochs = 0 should be at least 1"]),
    ({"training.epochs": "1000001"}, ["epochs = 1000001 should be at most 1000000"]),
    ({"training.batch_size": "1000001"}, ["batch_size = 1000001 should be at most 1000000"]),
    ({"training.warmup_steps": "1000000001"}, ["warmup_steps = 1000000001 should be at most"]),
    ({"training.batch_size": "0"}, ["batch_size = 0 should be at least 1"]),
    ({"training.warmup_steps": "-1"}, ["warmup_steps = -1 should be at least 0"]),
    ({"training.validation": "-1"}, ["validation = -1 should be at least 0"]),
    ({"training.seed": "-1"}, ["seed = -1 should be at least 0"]),
    ({"training.learning_rate": "0.0"}, ["learning_rate = 0.0 should be positive"]),
    ({"training.learning_rate": "nan"}, ["learning_rate = nan should be positive"]),
    ({"training.learning_rate": "inf"}, ["learning_rate = inf should be positive"]),
    ({"training.learning_rate": "true"}, ["learning_rate = True should be float"]),
    ({"training.optimiser": "'sgd'"}, ["optimiser = 'sgd' should be one of 'adam', 'adamax'"]),
    ({"training.betas": "[0.9]"}, ["betas = [0.9] should be two numbers in [0, 1)"]),
    ({"training.betas": "[0.9, 1.0]"}, ["betas = [0.9, 1.0] should be two numbers in [0, 1)"]),
    ({"training.betas": "[0.9, 'x']"}, ["betas = [0.9, 'x'] should be a list of float"]),
    ({"training.eps": "-1e-8"}, ["eps = -1e-08 should be at least 0"]),
    ({"training.weight_decay": "-1"}, ["weight_decay = -1 should be at least 0"]),
    ({"training.weight_decay": "nan"}, ["weight_decay = nan should be at least 0"]),
    ({"training.clip_norm": "0"}, ["clip_norm = 0 should be positive"]),
    ({"training.clip_norm": "'x'"}, ["clip_norm = 'x' should be float"]),
    ({"training.ema": "1.0"}, ["ema = 1.0 should lie in (0, 1)"]),
    *(
        ({"weights.file": f"'{file}'", "weights.sha256": f"'{'0' * 64}'"}, [f"file = '{file}'", "beside the card"])
        for file in ("../w.safetensors", "/etc/w.safetensors", "a/../../w.safetensors", "..", "w.pt", "")
    ),
    *(
        ({"weights.file": "'w.safetensors'", "weights.sha256": f"'{sha}'"}, [f"sha256 = '{sha}'", "64 lower-case hex"])
        for sha in ("", "0" * 63, "0" * 65, "G" * 64, "A" * 64)
    ),
    ({"name": "'x'"}, ["the key 'name' is given by the card's file name; remove it"]),
    ({"path": "'x'"}, ["the key 'path' is given by the card's file name; remove it"]),
]


@pytest.mark.parametrize(("changes", "says"), WRONG, ids=lambda x: "-".join(x) if isinstance(x, dict) else "")
def test_wrong_card_names_file_key_value_and_remedy(
    changes: dict[str, str | None], says: list[str], write_card: WriteCard
) -> None:
    path = write_card(changes=changes)
    with pytest.raises(UserError) as caught:
        cards.read(path)
    for text in (str(path), *says):
        assert text in str(caught.value)


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", b"<html>", b"a = 1\na = 2", b"a = " + b"1" * 5000,
    b"a = " + b"[" * 5000 + b"]" * 5000, b"\x00"])  # fmt: skip
def test_a_card_that_is_not_toml_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not TOML"):
        cards.read(path)


@pytest.mark.parametrize("name", ["Mine", "my model", "-x", ".x", "x.csv", "é"])
def test_a_card_whose_name_no_board_can_hold_is_refused_before_any_work(name: str, write_card: WriteCard) -> None:
    with pytest.raises(UserError, match="rename the file"):
        cards.read(write_card(name))


def test_absent_card_and_folder_are_data_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(DataError, match="cannot read card"):
            cards.read(path)


def test_find_suggests_the_nearest_model_or_where_it_is() -> None:
    with pytest.raises(UserError, match="unknown model 'vea'; did you mean 'vae'"):
        cards.find("vea", "digits")
    with pytest.raises(UserError, match=r"model 'vae' has no card on dataset 'notmnist'; it has one on: .*digits"):
        cards.find("vae", "notmnist")
    with pytest.raises(UserError, match="unknown model"):
        cards.find("../digits/vae", "digits")


def test_weights_are_checked_before_they_are_believed(zoo_card: Path) -> None:
    card = cards.read(zoo_card)
    assert files.sha256(card.weights_path()) == card.weights.sha256  # type: ignore[union-attr]
    weights = card.weights_path()
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(DataError, match="altered: restore both together"):
        card.weights_path()
    weights.unlink()
    with pytest.raises(DataError, match="absent; train them: vaebench train --card"):
        card.weights_path()


def test_weights_are_named_after_the_card_and_may_have_a_url(write_card: WriteCard) -> None:
    sha256, url = "0" * 64, "hf://owner/repo@main/a/w.safetensors"
    named = cards.read(write_card(changes={"weights.sha256": f"'{sha256}'"}))
    assert named.weights == Weights("mine.safetensors", sha256)
    with pytest.raises(DataError, match=r"mine\.safetensors of card digits/mine are absent"):
        named.weights_path()
    found = cards.read(write_card(changes={"weights.sha256": f"'{sha256}'", "weights.url": f"'{url}'"}))
    assert found.weights == Weights("mine.safetensors", sha256, url)
    with pytest.raises(UserError, match=r"\[weights\]: url = 'file:///w' should be https://"):
        cards.read(write_card(changes={"weights.sha256": f"'{sha256}'", "weights.url": "'file:///w'"}))
    with pytest.raises(UserError, match=r"\[weights\]: missing sha256"):
        cards.read(write_card(changes={"weights.url": f"'{url}'"}))


def test_card_without_weights_says_how_to_train_them(write_card: WriteCard) -> None:
    path = write_card()
    with pytest.raises(DataError, match="names no weights; train them: ") as caught:
        cards.read(path).weights_path()
    assert f"vaebench train --card {path} --out DIR" in str(caught.value)
    bare = dataclasses.replace(cards.find("vae", "digits"), weights=None)
    with pytest.raises(DataError, match="vaebench train --model vae --dataset digits --out DIR"):
        bare.weights_path()


@dataclass(frozen=True)
class Inner:
    count: int
    flag: bool = False


@dataclass(frozen=True)
class Options:
    text: str
    number: float = 1.0
    whole: int = 1
    names: tuple[str, ...] = ()
    choice: Literal["a", "b", 1] = "a"
    inner: Inner | None = None
    maybe: float | None = None
    table: tables_.Table = field(default_factory=dict)


KEYS = [f.name for f in dataclasses.fields(Options)] + ["count", "flag", "txet"]
LEAVES = st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.dates(), st.sampled_from("ab"))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), VALUES, max_size=5))
def test_build_gives_what_the_types_say_or_a_user_error(table: dict[str, Any]) -> None:
    try:
        built = tables_.build(Options, table, "here")
    except UserError as error:
        if str(error).startswith("here"):
            return
        raise
    assert isinstance(built.text, str)
    assert isinstance(built.number, int | float)
    assert not isinstance(built.number, bool)
    assert type(built.whole) is int
    assert isinstance(built.names, tuple)
    assert all(isinstance(name, str) for name in built.names)
    assert built.inner is None or type(built.inner.count) is int
    assert isinstance(built.table, dict)
    for key, value in table.items():
        assert key in KEYS
        if key not in ("names", "inner"):
            assert getattr(built, key) is value


FIELDS = [f.name for cls in (Card, Recipe, Weights, Trained) for f in dataclasses.fields(cls)]
TABLES = st.recursive(
    LEAVES | st.sampled_from(["flat", "digits", "adam", "w.safetensors", "0" * 64]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), TABLES, max_size=8), st.booleans())
def test_no_toml_gives_anything_but_a_card_or_a_user_error(tmp_path: Path, table: dict[str, Any], whole: bool) -> None:
    good = {"dataset": "digits", "summary": "s", "family": "flat", "model": {}}
    path = tmp_path / "mine.toml"
    text = tomli_w.dumps({**good, **table} if whole else table)
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        assert isinstance(cards.read(path), Card)
    except UserError as error:
        if str(path) not in str(error):
            raise


@given(st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_give_anything_but_a_user_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(UserError):
        cards.read(path)


WORDS = [b"\n", b"'", b"[", b"]]", b"{", b"=", b"nan", b"-1", b"1e999", b"2020-01-01", b'"""', b"weights.", b"\\u0000"]
DAMAGE = st.tuples(st.integers(0, 2000), st.integers(0, 9), st.binary(max_size=9) | st.sampled_from(WORDS))


@given(st.lists(DAMAGE, min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_damage_to_a_card_gives_anything_but_a_card_or_a_user_error(
    tmp_path: Path, damage: list[tuple[int, int, bytes]]
) -> None:
    path = tmp_path / "mine.toml"
    cards.write(FULL, path)
    content = path.read_bytes()
    for start, length, other in damage:
        place = start % len(content)
        content = content[:place] + other + content[place + length :] or b"\n"
    path.write_bytes(content)
    try:
        assert isinstance(cards.read(path), Card)
    except UserError as error:
        if str(path) not in str(error):
            raise


def test_weights_that_are_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(path := tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="is not a regular file"):
        loading.read_tensors(path)
