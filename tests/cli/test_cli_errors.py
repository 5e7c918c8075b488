"""Bad input: one line that names the thing, the value and the remedy, a documented exit code, and nothing lost."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from vaebench.boards import store as board
from vaebench.cli.main import main as cli
from vaebench.core import files
from vaebench.evaluation.journal import Journal
from vaebench.models import card as cards

Refused = Callable[..., str]
Invoke = Callable[..., Result]
WriteCard = Callable[..., Path]
Args = tuple[object, ...]

MISTAKES: dict[str, tuple[Args, list[str]]] = {
    "model": (("run", "--model", "vea", "--dataset", "digits"), ["unknown model 'vea'", "did you mean 'vae'?"]),
    "model elsewhere": (
        ("run", "--model", "vae", "--dataset", "notmnist"),
        ["model 'vae' has no card on dataset 'notmnist'", "it has one on: celeba64, digits,"],
    ),
    "dataset": (("run", "--model", "vae", "--dataset", "digit"), ["unknown dataset 'digit'", "'digits'?"]),
    "no dataset": (("run", "--model", "vae"), ["--model vae needs --dataset", "digits"]),
    "metric": (
        ("run", "--model", "vae", "--dataset", "digits", "--metric", "likelyhood"),
        ["unknown metric 'likelyhood'", "did you mean 'likelihood'?"],
    ),
    "preset": (("run", "--model", "vae", "--preset", "quik"), ["--preset", "'quik'", "'quick'"]),
    "neither": (("run",), ["--model NAME", "--card FILE.toml"]),
    "both": (("run", "--model", "vae", "--card", "x.toml"), ["give one of --model NAME", "--card FILE.toml"]),
    "seed": (("run", "--seed", "-1"), ["--seed", "-1"]),
    "draws at once": (("run", "--max-draws", "0"), ["--max-draws", "0"]),
    "in flight": (("run", "--in-flight", "x"), ["--in-flight", "'x'"]),
    "dtype": (("run", "--dtype", "float16"), ["--dtype", "'float16'", "'float32'"]),
    "option": (("run", "--modle", "vae"), ["No such option", "--modle", "--model"]),
    "option of all": (("--nonsense", "ls", "models"), ["No such option", "--nonsense", "see vaebench --help"]),
    "verb": (("rum",), ["No such command", "'rum'", "see vaebench --help"]),
    "sub-verb": (("board", "shwo"), ["No such command", "'shwo'", "see vaebench board --help"]),
    "argument": (("ls",), ["Missing argument", "models", "see vaebench ls --help"]),
    "too many": (("ls", "models", "more"), ["more", "see vaebench ls --help"]),
    "kind": (("ls", "modles"), ["'modles'", "'models'"]),
    "board of none": (("board", "show", "cifar11"), ["unknown dataset 'cifar11'", "'cifar10'"]),
    "board path": (("board", "csv", "../x"), ["'../x'"]),
    "data": (("data", "get", "mnit"), ["unknown dataset 'mnit'", "did you mean 'mnist'?"]),
    "cache kind": (("cache", "clear", "jurnal"), ["'jurnal'", "'journal'"]),
    "cache limit": (("cache", "clear", "--limit", "3X"), ["'3X'", "500MB", "see vaebench cache clear --help"]),
    "train out": (("train", "--model", "vae", "--dataset", "digits"), ["Missing option", "--out"]),
    "train epochs": (("train", "--epochs", "0", "--out", "x"), ["--epochs", "0"]),
    "train model": (("train", "--model", "vea", "--dataset", "digits", "--out", "x"), ["did you mean 'vae'?"]),
    "check metric": (
        ("check", "--model", "vae", "--dataset", "digits", "--metric", "likelyhood"),
        ["unknown metric 'likelyhood'"],
    ),
    "selftest device": (("selftest", "--device", "nonsense"), ["device 'nonsense'", "use --device cpu"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_exit_2(
    mistake: str, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args, says = MISTAKES[mistake]
    refused(2, args, *says)
    assert list(tmp_path.iterdir()) == []


SETTINGS = {
    "likelihood.sample=5": ["unknown key 'sample'", "did you mean 'samples'?"],
    "likelihood.samples=-1": ["samples = -1 should be at least 1"],
    "likelihood.samples=1.5": ["samples = 1.5 should be int"],
    "likelihood.samples=many": ["samples = 'many' should be int"],
    "likelihood.samples=NaN": ["samples = nan should be int"],
    "likelihood.samples=[1]": ["samples = [1] should be int"],
    "likelihood.split=tets": ["unknown split 'tets'", "did you mean 'test'?"],
    "likelihood.split=tets[::10]": ["unknown split 'tets[::10]'"],
    "likelihood.split=test[::0]": ["unknown split 'test[::0]'"],
    "likelihood.split=3": ["split = 3 should be str"],
    'likelihood.split=""': ["unknown split ''"],
    "likelihood.samples": ["should be METRIC.FIELD=VALUE"],
    "likelihood.samples=": ["should be METRIC.FIELD=VALUE"],
    "likelihood=5": ["should be METRIC.FIELD=VALUE"],
    "likelyhood.samples=5": ["METRIC one of likelihood"],
    "": ["should be METRIC.FIELD=VALUE"],
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_wrong_setting_is_one_line(setting: str, quick: Args, refused: Refused, boards: Path) -> None:
    refused(2, (*quick, "--set", setting), "--set", *SETTINGS[setting])
    assert not boards.exists()


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "cuda:x", "meta", "xla", ""])
def test_a_device_that_does_not_exist_is_one_line(device: str, quick: Args, refused: Refused, boards: Path) -> None:
    line = refused(2, (*quick, "--device", device), f"device {device!r} cannot be used here", "use --device cpu")
    assert len(line) < 400
    assert not boards.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_an_accelerator_that_is_not_here_is_one_line(quick: Args, refused: Refused) -> None:
    refused(2, (*quick, "--device", "cuda"), "device 'cuda' cannot be used here", "use --device cpu")


CARDS: dict[str, tuple[dict[str, str | None], int, list[str]]] = {
    "unknown key": ({"summry": "'x'"}, 2, ["unknown key 'summry'", "did you mean 'summary'?"]),
    "wrong type": ({"model.latent": "'two'"}, 2, ["latent = 'two' should be int"]),
    "missing key": ({"family": None}, 2, ["missing family"]),
    "negative epochs": ({"training.epochs": "-3"}, 2, ["epochs = -3 should be at least 1"]),
    "unknown family": ({"family": "'flatt'"}, 2, ["unknown adapter 'flatt'", "did you mean 'flat'?"]),
    "unknown dataset": ({"dataset": "'digit'"}, 2, ["unknown dataset 'digit'", "did you mean 'digits'?"]),
    "no weights": ({}, 3, ["names no weights", "vaebench train"]),
    "other folder": (
        {"weights.file": "'../w.safetensors'", "weights.sha256": f"'{'0' * 64}'"},
        2,
        ["'../w.safetensors'", "beside the card"],
    ),
    "absent weights": (
        {"weights.file": "'w.safetensors'", "weights.sha256": f"'{'0' * 64}'"},
        3,
        ["w.safetensors", "are absent", "train them"],
    ),
}


@pytest.mark.parametrize("fault", CARDS)
def test_a_wrong_card_is_one_line(fault: str, write_card: WriteCard, refused: Refused, boards: Path) -> None:
    changes, code, says = CARDS[fault]
    path = write_card(changes=changes)
    command = ("run", "--card", path, "--leaderboards", boards)
    if fault in ("unknown family", "unknown dataset", "wrong type"):
        command = ("check", "--card", path)  # before weights are asked for
    refused(code, command, *says)
    assert not boards.exists()


def test_a_card_that_is_absent_or_not_toml_is_one_line(tmp_path: Path, refused: Refused) -> None:
    refused(3, ("run", "--card", tmp_path / "none.toml"), "cannot read card", "none.toml")
    refused(3, ("run", "--card", tmp_path), "cannot read card")
    (tmp_path / "page.toml").write_text("<html>\n", encoding="utf-8")
    refused(2, ("run", "--card", tmp_path / "page.toml"), "page.toml is not TOML")


def test_a_card_for_another_dataset_is_one_line(write_card: WriteCard, refused: Refused) -> None:
    refused(2, ("run", "--card", write_card(), "--dataset", "mnist"), "for dataset 'digits', not 'mnist'")


def test_a_card_without_a_recipe_cannot_be_trained(write_card: WriteCard, refused: Refused, tmp_path: Path) -> None:
    bare = {"training.epochs": None, "training.batch_size": None, "training.validation": None}
    refused(2, ("train", "--card", write_card(changes=bare), "--out", tmp_path / "out"), "[training]", "epochs = N")
    assert not (tmp_path / "out").exists()


def test_altered_weights_are_one_line(zoo_card: Path, refused: Refused) -> None:
    weights = zoo_card.with_suffix(".safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    sha256 = cards.read(zoo_card).weights.sha256  # type: ignore[union-attr]
    refused(3, ("run", "--card", zoo_card), weights, sha256, files.sha256(weights), "restore both together")


def _checkpoint(zoo_card: Path, content: bytes | None = None, **changes: torch.Tensor) -> Path:
    path = zoo_card.parent / "mine.safetensors"
    if content is not None:
        path.write_bytes(content)
    else:
        save_file({**load_file(zoo_card.with_suffix(".safetensors")), **changes}, path)
    return path


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a safetensors file"),
        (b"<!DOCTYPE html><html></html>", "an HTML page (a download that failed?)"),
        (b"\x80\x04K\x01.", "a pickle, which could run code and is never opened"),
        (b"\xff" * 8 + b"{}", "not a safetensors file"),
    ],
)
def test_a_foreign_checkpoint_is_one_line(
    content: bytes, says: str, zoo_card: Path, refused: Refused, boards: Path
) -> None:
    path = _checkpoint(zoo_card, content)
    refused(3, ("run", "--card", zoo_card, "--checkpoint", path, "--leaderboards", boards), path, says)
    assert not boards.exists()


def test_a_checkpoint_that_does_not_fit_is_one_line(zoo_card: Path, refused: Refused, tmp_path: Path) -> None:
    run = ("run", "--card", zoo_card, "--leaderboards", tmp_path / "boards", "--checkpoint")
    name = sorted(load_file(zoo_card.with_suffix(".safetensors")))[0]
    refused(3, (*run, _checkpoint(zoo_card, stray=torch.zeros(1))), "unknown stray")
    refused(3, (*run, _checkpoint(zoo_card, **{name: torch.zeros(1, 2)})), f"{name} is [1, 2] instead of [")
    refused(3, (*run, zoo_card.parent / "none.safetensors"), "none.safetensors", "absent")
    refused(3, (*run, zoo_card.parent), "a folder")
    old = load_file(zoo_card.with_suffix(".safetensors"))[name]
    refused(3, (*run, _checkpoint(zoo_card, **{name: torch.full_like(old, torch.nan)})), f"NaN or infinity in {name}")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mirror is a port of this machine that nothing listens on."""
    import torchvision.datasets as sets

    for layout in (sets.MNIST, sets.FashionMNIST):
        monkeypatch.setattr(layout, "mirrors", ["http://127.0.0.1:9/"])


@pytest.mark.usefixtures("offline")
def test_a_dataset_that_cannot_be_downloaded_is_one_line(tmp_path: Path, zoo_card: Path, refused: Refused) -> None:
    line = refused(3, ("data", "get", "mnist", "--data", tmp_path / "data"), "mnist could not be downloaded", "by hand")
    assert str(tmp_path / "data") in line
    refused(
        3, ("train", "--model", "vae", "--dataset", "mnist", "--data", tmp_path, "--out", tmp_path / "out"), "mnist"
    )
    assert not (tmp_path / "out").exists()


IMAGES, LABELS = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x1c\0\0\0\x1c", b"\0\0\x08\x01\0\0\0\x02"
DAMAGED = {
    "truncated": (IMAGES + b"\0" * 1567, LABELS + b"\0\0", "holds 1567 bytes, not the 1568"),
    "empty": (b"", LABELS + b"\0\0", "is not an IDX file"),
    "page": (b"<html>" * 20, LABELS + b"\0\0", "is not an IDX file"),
    "labels lost": (IMAGES + b"\0" * 1568, LABELS + b"\0", "holds 1 bytes"),
    "foreign": (IMAGES + b"\0" * 1568, LABELS + b"\0\0", "truncated, altered or another dataset's"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_dataset_is_one_line_with_the_remedy(
    kind: str, tmp_path: Path, write_card: WriteCard, refused: Refused
) -> None:
    images, labels, says = DAMAGED[kind]
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    card = write_card(changes={"dataset": "'mnist'", "model.likelihood": "'bernoulli'"})
    weights = tmp_path / "w.safetensors"
    save_file({}, weights)
    run = (
        "run",
        "--card",
        card,
        "--checkpoint",
        weights,
        "--data",
        tmp_path / "data",
        "--leaderboards",
        tmp_path / "b",
    )
    refused(3, run, says, f"vaebench data get mnist --data {tmp_path / 'data'}")
    assert not (tmp_path / "b").exists()


@pytest.fixture
def board_bytes(quick: Args, vaebench: Invoke, boards: Path) -> Callable[[], dict[str, bytes]]:
    """What the files of the leaderboards hold, once a first run has written rows."""

    def read() -> dict[str, bytes]:
        return {str(path.relative_to(boards)): path.read_bytes() for path in boards.rglob("*") if path.is_file()}

    assert vaebench(*quick).exit_code == 0
    assert [name for name in sorted(read()) if "values-" not in name] == ["digits.csv", "digits/vae.parquet"]
    return read


def test_a_leaderboard_below_a_file_is_told_before_any_work(
    quick: Args, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "put", lambda *_: pytest.fail("computed"))
    (tmp_path / "file").touch()
    line = refused(2, (*quick, "--leaderboards", tmp_path / "file" / "boards"), tmp_path / "file", "another folder")
    assert "is not a folder" in line


def test_a_read_only_leaderboard_is_told_before_any_work(
    quick: Args, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "put", lambda *_: pytest.fail("computed"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    refused(2, quick, "cannot write in", f"no permission on {tmp_path}", "another folder")


def _fails_on(monkeypatch: pytest.MonkeyPatch, call: str, suffix: str, code: int) -> None:
    """os.replace of a file that ends in `suffix`, or any os.fsync, raises."""
    real: Callable[..., None] = getattr(os, call)

    def fail(*args: object, **options: object) -> None:
        if call == "fsync" or str(args[-1]).endswith(suffix):
            raise OSError(code, os.strerror(code))
        real(*args, **options)

    monkeypatch.setattr(os, call, fail)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_board_that_cannot_be_written_is_one_line_and_keeps_its_rows(
    suffix: str, code: int, quick: Args, vaebench: Invoke, boards: Path,
    board_bytes: Callable[[], dict[str, bytes]],
) -> None:  # fmt: skip
    (boards / "digits.csv").write_text("of another time\n")
    before, more = board_bytes(), (*quick, "--seed", 1)
    with pytest.MonkeyPatch.context() as patch:
        _fails_on(patch, "replace", suffix, code)
        result = vaebench(*more)
    assert (result.exit_code, result.stdout) == (2, "")
    ahead, line = result.stderr.splitlines()
    assert ahead.startswith("likelihood: 360 images")
    assert line.startswith("vaebench: cannot write")
    assert line.endswith(f"{os.strerror(code)}; free space or choose another folder")
    after = board_bytes()
    assert after.keys() == before.keys()
    if suffix == ".parquet":
        assert after == before
    assert {row.seed for row in board.read(boards, "digits")} == ({0} if suffix == ".parquet" else {0, 1})
    assert vaebench(*more).exit_code == 0
    assert {row.seed for row in board.read(boards, "digits")} == {0, 1}


def test_a_full_disk_while_the_journal_is_written_is_a_warning(
    quick: Args, vaebench: Invoke, boards: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _fails_on(patch, "replace", ".block", errno.ENOSPC)
        result = vaebench(*quick)
    assert result.exit_code == 0
    _, warning, written = result.stderr.splitlines()
    assert os.strerror(errno.ENOSPC) in warning
    assert "the run goes on without resume" in warning
    assert "written to" in written
    found = board.read(boards, "digits")
    assert vaebench(*quick, "--fresh", "--leaderboards", tmp_path / "other").exit_code == 0
    assert [r.value for r in board.read(tmp_path / "other", "digits")] == [r.value for r in found]


def test_a_disk_that_is_full_everywhere_ends_in_one_line_and_half_a_file_nowhere(
    quick: Args, vaebench: Invoke, board_bytes: Callable[[], dict[str, bytes]]
) -> None:
    before = board_bytes()
    with pytest.MonkeyPatch.context() as patch:
        _fails_on(patch, "fsync", "", errno.ENOSPC)
        result = vaebench(*quick, "--seed", 1)
    assert result.exit_code == 2
    assert "vaebench: cannot write" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert board_bytes() == before


@pytest.mark.parametrize("content", [b"", b"PAR1", b"<html>", None])
def test_a_damaged_board_is_told_before_any_work_and_left_alone(
    content: bytes | None, quick: Args, refused: Refused, vaebench: Invoke, boards: Path,
    board_bytes: Callable[[], dict[str, bytes]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = boards / "digits" / "vae.parquet"
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    spoilt = board_bytes()
    monkeypatch.setattr(Journal, "put", lambda *_: pytest.fail("computed"))
    for command in ((*quick, "--seed", 1), ("board", "show", "digits", "--leaderboards", boards)):
        refused(3, command, path, "restore it, or delete it and run again")
    assert board_bytes() == spoilt
    monkeypatch.undo()
    path.unlink()
    assert vaebench(*quick).exit_code == 0


def test_an_unwritable_out_folder_is_one_line(write_card: WriteCard, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(2, ("train", "--card", write_card(), "--out", tmp_path / "file" / "out"), "cannot write", "another folder")


def test_a_diverging_training_is_one_line(write_card: WriteCard, refused: Refused, tmp_path: Path) -> None:
    card = write_card(changes={"training.learning_rate": "1e30"})
    refused(2, ("train", "--card", card, "--out", tmp_path / "out"), "is not finite", "lower learning_rate")


def test_weights_of_another_run_are_never_overwritten(
    write_card: WriteCard, refused: Refused, vaebench: Invoke, tmp_path: Path
) -> None:
    train = ("train", "--card", write_card(), "--out", tmp_path / "out")
    assert vaebench(*train).exit_code == 0
    before = (tmp_path / "out" / "mine.safetensors").read_bytes()
    refused(2, (*train, "--seed", 1), "mine.safetensors", "use another --out, or remove the file")
    assert (tmp_path / "out" / "mine.safetensors").read_bytes() == before


def test_a_metric_that_raises_is_a_failed_row_exit_1_and_costs_nothing_else(
    quick: Args, plant: Callable[..., None], vaebench: Invoke, boards: Path
) -> None:
    plant("aaa-raises", "raise RuntimeError('boom')")
    plant("nan", "yield Measurement('two', float('nan'), None, 360)")
    plant("zzz-skipped", unsupported="return 'not for this model'")
    others = (part for name in ("aaa-raises", "nan", "zzz-skipped") for part in ("--metric", name))
    result = vaebench(*quick, *others)
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[1] == "aaa-raises failed: RuntimeError: boom"
    assert "failed: RuntimeError: boom" in result.stdout
    rows = board.read(boards, "digits")
    assert {(row.metric, row.status) for row in rows} == {
        ("aaa-raises", "failed"), ("likelihood", "ok"), ("nan", "failed"), ("zzz-skipped", "skipped")
    }  # fmt: skip
    reasons = {row.metric: row.reason for row in rows}
    assert reasons["aaa-raises"] == "RuntimeError: boom"
    assert "two is nan" in str(reasons["nan"])
    assert reasons["zzz-skipped"] == "not for this model"
    assert all((row.value is None) == (row.status != "ok") for row in rows)


def test_a_skipped_metric_alone_is_no_failure(boards: Path, plant: Callable[..., None], vaebench: Invoke) -> None:
    plant("skipped", unsupported="return 'not for this model'")
    args = ("run", "--model", "vae", "--dataset", "digits", "--metric", "skipped", "--leaderboards", boards)
    assert vaebench(*args).exit_code == 0
    assert {row.status for row in board.read(boards, "digits")} == {"skipped"}


def _fails(*_: object, **__: object) -> NoReturn:
    raise ZeroDivisionError


def test_a_later_failure_does_not_take_the_place_of_a_finished_row(
    quick: Args, vaebench: Invoke, boards: Path, board_bytes: Callable[[], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    before = board_bytes()
    monkeypatch.setattr("vaebench.metrics.likelihood.score", _fails)
    result = vaebench(*quick, "--fresh")
    assert result.exit_code == 1
    assert "ZeroDivisionError" in result.stderr
    assert board_bytes() == before


@pytest.mark.parametrize("debug", [False, True])
def test_a_fault_is_one_line_and_exit_70_with_a_traceback_only_when_debugging(
    debug: bool, vaebench: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault() -> list[str]:
        raise RuntimeError("a\nfault")

    monkeypatch.setattr("vaebench.models.card.ids", fault)
    result = vaebench(*(["--debug"] if debug else []), "ls", "models")
    assert result.exit_code == 70
    lines = result.stderr.splitlines()
    assert lines[-1] == "vaebench: fault in vaebench: RuntimeError: a fault; run with --debug and report it"
    assert (len(lines) > 1, "Traceback" in result.stderr) == (debug, debug)


def test_debug_shows_where_a_mistake_was_found(vaebench: Invoke) -> None:
    result = vaebench("--debug", "run", "--model", "vea", "--dataset", "digits")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("vaebench: unknown model 'vea'")


def test_every_exit_code_is_documented() -> None:
    told = CliRunner().invoke(cli, ["--help"]).stdout
    for code in ("0 ", "1 ", "2 ", "3 ", "70", "130"):
        assert f"\n    {code}" in told
