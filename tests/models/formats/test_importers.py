"""Laws of importers: what a plug-in from outside must give, and the command that is made of it."""

import textwrap
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file

from vaebench.core import registry as plugins
from vaebench.core.errors import UserError
from vaebench.models import card as cards
from vaebench.models import formats

Invoke = Callable[..., Result]
PLUGIN = '''
    """Numbers, a line each, as the first bias of a small model."""

    from dataclasses import dataclass, field
    from pathlib import Path

    import torch

    from vaebench.core.data import Space
    from vaebench.models.formats import Imported, Importer

    SPACE = Space((1, 8, 8), 17, "pmf")
    MODEL = {"latent": 2, "hidden": [8], "likelihood": "categorical"}


    @dataclass(frozen=True)
    class Options:
        scale: float = field(metadata={"help": "What each number is multiplied by."})
        mask_file: Path | None = None
        negate: bool = False


    def read(numbers, options):
        from vaebench.models.adapters.flat import plugin

        torch.manual_seed(0)
        state = plugin[0](SPACE, plugin[1](latent=2, hidden=(8,), likelihood="categorical")).state_dict()
        bias = torch.tensor([float(line) for line in numbers.read_text().split()]) * options.scale
        first = next(name for name in state if name.endswith("bias"))
        state[first] = -bias if options.negate else bias
        return Imported("flat", MODEL, state, SPACE, "Numbers.", f"mask {options.mask_file}", {dataset})


    plugin = Importer(("numbers.txt",), read, Options)
    other = 3
'''


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The importers "numbers" (of digits), "unplaced" (of no dataset) and "wrong" (an int)."""
    names = [f"planted_{kind}_{tmp_path.name}".replace("-", "_") for kind in ("numbers", "unplaced")]
    for name, dataset in zip(names, ('"digits"', "None"), strict=True):
        text = textwrap.dedent(PLUGIN).replace("{dataset}", dataset)
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    found = {"numbers": f"{names[0]}:plugin", "unplaced": f"{names[1]}:plugin", "wrong": f"{names[0]}:other"}
    points = {name: EntryPoint(name, value, "vaebench.importers") for name, value in found.items()}
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_entry_points", lambda kind: points if kind == "importers" else {})


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.txt"
    path.write_text("\n".join(map(str, range(8))))
    return path


@pytest.mark.parametrize("name", plugins.shipped("importers"))
def test_every_importer_names_its_files_and_has_a_command(name: str, vaebench: Invoke) -> None:
    importer = formats.load(name)
    shown = vaebench("import", name, "--help").stdout
    assert importer.files
    assert all(file in shown for file in importer.files)


def test_importers_are_listed(outside: None, vaebench: Invoke) -> None:
    for arguments in (("ls", "importers"), ("import", "--help")):
        shown = vaebench(*arguments).stdout
        assert all(name in shown for name in ("nvae", "likelihood-regret", "numbers"))
    assert "Numbers, a line each" in vaebench("ls", "importers").stdout


def test_fields_are_options(outside: None, vaebench: Invoke, numbers: Path, tmp_path: Path) -> None:
    shown = vaebench("import", "numbers", "--help").stdout
    assert "What each number is multiplied by.  [required]" in shown
    given: list[Any] = ["--scale", "2", "--negate", "--mask-file", "m.txt", "--name", "mine", "--out", tmp_path / "out"]
    assert vaebench("import", "numbers", numbers, *given).exit_code == 0
    card = cards.read(tmp_path / "out" / "mine.toml")
    assert (card.id, card.notes) == ("digits/mine", "mask m.txt")
    stored = load_file(card.weights_path()).values()
    assert any(tensor.shape == (8,) and tensor.equal(-2 * torch.arange(8.0)) for tensor in stored)


def test_the_card_is_named_after_its_importer(outside: None, vaebench: Invoke, numbers: Path, tmp_path: Path) -> None:
    assert vaebench("import", "numbers", numbers, "--scale", "1", "--out", tmp_path / "out").exit_code == 0
    assert cards.read(tmp_path / "out" / "numbers.toml").id == "digits/numbers"


def test_what_does_not_fit_is_one_line(
    outside: None, refused: Callable[..., str], numbers: Path, tmp_path: Path
) -> None:
    end = (numbers, "--scale", "1", "--out", tmp_path / "out")
    refused(2, ("import", "numbers", numbers, "--out", tmp_path / "out"), "Missing option '--scale'")
    refused(2, ("import", "unplaced", *end), "name one of examples of shape (1, 8, 8) with levels = 17 with --dataset")
    refused(2, ("import", "numbers", *end, "--dataset", "mnist"), "but 'mnist' has examples of shape (1, 28, 28)")
    refused(2, ("import", "wrong", numbers), "plug-in 'wrong' is a int")
    numbers.write_text("1 2 3")
    refused(3, ("import", "numbers", *end), numbers, "does not fit: ", "is [3] instead of [8]")
    assert not (tmp_path / "out").exists()


def test_python_has_the_same_call(outside: None, numbers: Path, tmp_path: Path) -> None:
    importer = formats.load("numbers")
    assert importer.options is not None
    card = formats.convert(importer, [numbers], importer.options(scale=1.0), name="n", out=tmp_path / "out")
    assert card.dataset == "digits"
    with pytest.raises(UserError, match="unknown importer 'number'; did you mean 'numbers'"):
        formats.load("number")
