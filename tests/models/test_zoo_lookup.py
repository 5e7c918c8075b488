"""Where weights of the zoo are found that were not installed: the order, the remedies, and what is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from vaebench.core import files
from vaebench.core.errors import DataError, UserError
from vaebench.models import card as cards

Invoke = Callable[..., Result]
WriteCard = Callable[..., Path]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which vaebench is installed with all cards, but not the weights of the model "far" on digits."""
    package, source = tmp_path / "site" / "vaebench", cards.find("vae", "digits")
    assert source.path is not None
    (package / "_model_zoo" / "digits").mkdir(parents=True)
    text = source.path.read_text().replace("vae.safetensors", "far.safetensors")
    (package / "_model_zoo" / "digits" / "far.toml").write_text(text)
    (tmp_path / "far.safetensors").write_bytes(source.weights_path().read_bytes())
    monkeypatch.setattr(files, "_PACKAGE", package)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def laid(folder: Path, content: bytes) -> Path:
    path = folder / "digits" / "far.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_weights_that_are_not_installed_are_found_in_order(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (installed / "far.safetensors").read_bytes()
    with pytest.raises(DataError) as told:
        cards.find("far", "digits").weights_path()
    for remedy in ("digits/far.safetensors with --zoo or VAEBENCH_ZOO", "run in a clone", "vaebench train --model far"):
        assert remedy in str(told.value)
    clone = laid(installed / "model_zoo", content)
    assert cards.find("far", "digits").weights_path().resolve() == clone
    named = laid(installed / "named", content)
    monkeypatch.setenv("VAEBENCH_ZOO", str(installed / "named"))
    assert cards.find("far", "digits").weights_path() == named
    beside = laid(installed / "beside", content).rename(files.zoo() / "digits" / "far.safetensors")
    assert cards.find("far", "digits").weights_path() == beside


def test_weights_of_another_version_are_refused_where_they_are(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = laid(installed / "named", b"other")
    laid(installed / "model_zoo", (installed / "far.safetensors").read_bytes())
    monkeypatch.setenv("VAEBENCH_ZOO", str(installed / "named"))
    with pytest.raises(DataError, match=f"weights {re.escape(str(other))} have sha256 .* but the card says"):
        cards.find("far", "digits").weights_path()
    monkeypatch.setenv("VAEBENCH_ZOO", str(installed / "none"))
    with pytest.raises(UserError, match=r"VAEBENCH_ZOO = .*none is not a folder"):
        cards.find("far", "digits").weights_path()


def test_a_url_is_asked_last(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.zoo() / "digits" / "far.toml"
    path.write_text(path.read_text().replace("[weights]", '[weights]\nurl = "hf://owner/repo/far.safetensors"'))
    monkeypatch.setattr("vaebench.core.remote.obtain", lambda url, sha256, progress: Path("fetched"))
    assert cards.find("far", "digits").weights_path() == Path("fetched")
    clone = laid(installed / "model_zoo", (installed / "far.safetensors").read_bytes())
    assert cards.find("far", "digits").weights_path().resolve() == clone


def test_a_card_of_ones_own_has_its_weights_beside_it(installed: Path, write_card: WriteCard) -> None:
    laid(installed / "model_zoo", (installed / "far.safetensors").read_bytes())
    own = write_card("far", {"weights.sha256": f"'{files.sha256(installed / 'far.safetensors')}'"}, installed / "own")
    with pytest.raises(DataError, match=r"own/far\.safetensors of card digits/far are absent; train them"):
        cards.read(own).weights_path()


def test_the_option_is_for_one_command(installed: Path, vaebench: Invoke, refused: Callable[..., str]) -> None:
    far = ("--model", "far", "--dataset", "digits")
    refused(3, ("check", *far), "are not in this installation")
    refused(2, ("check", *far, "--zoo", installed / "none"), "'--zoo': Directory")
    assert json.loads(vaebench("ls", "models", "--json").stdout)[0]["weights"] == "elsewhere"
    laid(installed / "named", (installed / "far.safetensors").read_bytes())
    assert vaebench("check", *far, "--zoo", installed / "named").exit_code == 0
    shown = vaebench("ls", "models", "--zoo", installed / "named", "--json").stdout
    assert json.loads(shown)[0]["weights"] == "here"
    refused(3, ("check", *far), "are not in this installation")
