"""A submission: what is in order passes; everything else is refused with its reason, and nothing in it is executed."""

import os
import pickle
import struct
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file
from submitted import WriteCard, one_fault, problems, recard

from vaebench.core import registry as plugins
from vaebench.core import remote
from vaebench.core.data import Source
from vaebench.core.errors import UserError
from vaebench.core.network import Network
from vaebench.models import card as cards
from vaebench.submission import folder as submission
from vaebench.submission.tree import MAX_CARD, MAX_WEIGHTS
from vaebench.training import loop as training

Changes = dict[str, str | None]
PAGE = b"<!DOCTYPE html><html><body>404</body></html>"


def test_nothing_is_wrong(mine: Path) -> None:
    assert problems(mine) == []
    (mine / "mine.log.jsonl").write_text("{}\n")  # which training leaves
    assert problems(mine) == []
    found, _ = submission.read(mine)
    assert found is not None
    assert (found.card.id, found.boards, found.carries_weights) == ("digits/mine", None, True)


def test_nothing_is_wrong_with_a_tree_as_a_pull_request_adds_it(mine: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "model_zoo").mkdir(parents=True)
    mine.rename(tree / "model_zoo" / "digits")
    kept = tree / "leaderboards" / "digits" / "mine" / "gallery"
    kept.mkdir(parents=True)
    for path in (kept / "samples.png", kept.parent.with_suffix(".parquet")):
        path.touch()
    assert problems(tree) == []
    for stray in ("README.md", "model_zoo/digits/other.safetensors", "model_zoo/mnist/mine.safetensors",
                  "leaderboards/digits.csv", "leaderboards/digits/vae.parquet",
                  "leaderboards/digits/mine/gallery/x.svg", "leaderboards/digits/mine/x.png",
                  ".github/workflows/x.yml"):  # fmt: skip
        path = tree / stray
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        one_fault(tree, stray, "does not belong here")
        path.unlink()
    (tree / "model_zoo" / "digits").rename(tree / "model_zoo" / "mnist")
    (_, fault), *_ = [problem for problem in problems(tree) if problem[0].endswith("toml")]
    assert "is for dataset 'digits', not 'mnist'" in fault


@pytest.mark.parametrize("name", ["weights.pt", "weights.PTH", "model.pkl", "data.npz", "model.ckpt"])
def test_a_file_that_may_be_a_pickle(name: str, mine: Path) -> None:
    (mine / name).write_bytes(b"x")
    one_fault(mine, name, "may be a pickle, which could run code")


@pytest.mark.parametrize(
    "name", ["run.py", "README.md", ".hidden", "a b", "other.safetensors", "mine.trajectory/index.json"]
)
def test_a_file_that_does_not_belong(name: str, mine: Path) -> None:
    (mine / name).parent.mkdir(exist_ok=True)
    (mine / name).write_bytes(b"x")
    one_fault(mine, name, "does not belong here")


@pytest.mark.parametrize("name", ["mine.toml", "mine.safetensors", "more", "folder"])
def test_symbolic_links_are_not_followed(name: str, mine: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if (mine / name).exists():
        (mine / name).rename(target)
    elif name == "folder":
        target.mkdir()
        (target / "inside").touch()
    (mine / name).symlink_to(target)
    one_fault(mine, name, "is a symbolic link; put the file itself in its place")


def test_what_is_no_file(mine: Path) -> None:
    (mine / "mine.safetensors").unlink()
    os.mkfifo(mine / "mine.safetensors")
    one_fault(mine, "mine.safetensors", "is not a regular file")


@pytest.mark.parametrize("file", ["/etc/passwd", "../mine.safetensors", "a/../mine.safetensors"])
def test_weights_elsewhere(file: str, mine: Path, write_card: WriteCard) -> None:
    recard(mine, write_card, weights__file=f"'{file}'")
    one_fault(mine, "mine.toml", "should be the name of a .safetensors file beside the card")


def test_weights_of_another_name(mine: Path, write_card: WriteCard) -> None:
    recard(mine, write_card, weights__file="'other.safetensors'")
    (mine / "mine.safetensors").rename(mine / "other.safetensors")
    told = dict(problems(mine))
    assert "call them mine.safetensors" in told["mine.toml"]
    assert "remove or rename it" in told["other.safetensors"]


def test_archives_are_not_unpacked(mine: Path, tmp_path: Path) -> None:
    archive = tmp_path / "submission.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../evil.toml", "x")
    with pytest.raises(UserError, match="is an archive; unpack it; give the folder that holds the card"):
        submission.read(archive)
    archive.rename(mine / "more.zip")
    one_fault(mine, "more.zip", "is an archive; nothing is unpacked")


def test_no_folder(mine: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is absent; give the folder"):
        submission.read(tmp_path / "none")
    with pytest.raises(UserError, match="is not a folder; give the folder"):
        submission.read(mine / "mine.toml")
    (tmp_path / "link").symlink_to(mine)
    with pytest.raises(UserError, match="is not a folder; give the folder"):
        submission.read(tmp_path / "link")


@pytest.mark.parametrize(("name", "limit"), [("mine.toml", MAX_CARD), ("mine.safetensors", MAX_WEIGHTS)])
def test_a_file_that_is_too_large(name: str, limit: int, mine: Path) -> None:
    os.truncate(mine / name, limit + 1)
    one_fault(mine, name, f"has {limit + 1} bytes, more than {limit}")


def test_a_sparse_file(mine: Path, write_card: WriteCard) -> None:
    """Its header is in order and its SHA-256 right, but its bytes are nowhere."""
    text = f'{{"a":{{"dtype":"U8","shape":[{2**24}],"data_offsets":[0,{2**24}]}}}}'.encode()
    path = mine / "mine.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + 2**24)
    recard(mine, write_card)
    one_fault(mine, "mine.safetensors", "is sparse")


def test_another_sha256(mine: Path) -> None:
    path = mine / "mine.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    one_fault(mine, "mine.toml", "but the card says")


def test_weights_that_are_absent_or_not_named(mine: Path, write_card: WriteCard) -> None:
    (mine / "mine.safetensors").unlink()
    one_fault(mine, "mine.toml", "mine.safetensors of card digits/mine are absent")
    write_card("mine", {}, mine)
    one_fault(mine, "mine.toml", "names no weights")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes, str], str]]:
    """`serve(content, kind)`: a URL of this machine at which `content` is."""
    servers = []
    monkeypatch.setattr(remote, "NETWORK", Network(trusted=frozenset({"127.0.0.1"})))

    def start(content: bytes, kind: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/mine.safetensors"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("kind", ["text/html", "application/octet-stream"])
def test_a_url_that_gives_a_page(
    kind: str, mine: Path, write_card: WriteCard, serve: Callable[[bytes, str], str]
) -> None:
    recard(mine, write_card, weights__url=f"'{serve(PAGE, kind)}'")
    (mine / "mine.safetensors").unlink()
    one_fault(mine, "mine.toml", "gives a web page, not weights")


def test_weights_behind_a_url_are_fetched_and_are_not_carried(
    mine: Path, write_card: WriteCard, serve: Callable[[bytes, str], str]
) -> None:
    url = serve((mine / "mine.safetensors").read_bytes(), "application/octet-stream")
    recard(mine, write_card, weights__url=f"'{url}'")
    one_fault(mine, "mine.safetensors", "is here and at the card's URL; remove one of them, so that it is clear which")
    (mine / "mine.safetensors").unlink()
    found, told = submission.read(mine)
    assert found is not None
    assert told == []
    assert not found.carries_weights
    assert submission.model_faults(found) == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.org/x",
        "http://example.org/x",
        "x",
        "http://localhost:1/x",
        "https://10.0.0.1/x",
    ],
)
def test_urls_that_are_not_safe(url: str, mine: Path, write_card: WriteCard) -> None:
    recard(mine, write_card, weights__url=f"'{url}'")
    (mine / "mine.safetensors").unlink()
    one_fault(mine, "mine.toml", "should be https://")


@pytest.mark.parametrize("count", [0, 2])
def test_cards_that_are_not_one(count: int, mine: Path) -> None:
    (mine / "mine.toml").rename(mine / "one.toml")
    (mine / "two.toml").write_bytes((mine / "one.toml").read_bytes())
    for name in ("one.toml", "two.toml")[count:]:
        (mine / name).unlink()
    assert ("", f"{count} cards; a submission is of one model: one .toml, and its .safetensors") in problems(mine)


def test_another_models_id(mine: Path, write_card: WriteCard) -> None:
    (mine / "mine.toml").unlink()
    (mine / "mine.safetensors").rename(mine / "vae.safetensors")
    recard(mine, write_card, "vae")
    one_fault(mine, "vae.toml", "the id digits/vae is another model's; choose a name that is free")


@pytest.mark.parametrize("name", ["vae", "mine"])
def test_weights_that_are_on_the_board(name: str, zoo_card: Path) -> None:
    for suffix in (".toml", ".safetensors"):
        zoo_card.with_suffix(suffix).rename(zoo_card.with_name(f"{name}{suffix}"))
    card = zoo_card.with_name(f"{name}.toml")
    card.write_text(card.read_text().replace("vae.safetensors", f"{name}.safetensors"))
    one_fault(card.parent, card.name, "these weights are on the board already, as digits/vae")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(value: float, mine: Path, write_card: WriteCard) -> None:
    tensors = load_file(mine / "mine.safetensors")
    next(iter(tensors.values())).view(-1)[0] = value
    save_file(tensors, mine / "mine.safetensors")
    recard(mine, write_card)
    one_fault(mine, "mine.toml", "NaN or infinity in")


def test_weights_of_another_architecture(mine: Path, write_card: WriteCard) -> None:
    recard(mine, write_card, model__latent="3")
    one_fault(mine, "mine.toml", "do not fit the card: ")


def test_a_card_that_claims_a_model_beyond_memory(mine: Path, write_card: WriteCard) -> None:
    recard(mine, write_card, model__hidden="[1000000, 1000000]")
    started = time.process_time()
    one_fault(mine, "mine.toml", "hidden = [1000000, 1000000] makes 1,000,065,000,001 parameters")
    assert time.process_time() - started < 5


def test_a_model_that_breaks_its_promises(mine: Path, write_card: WriteCard) -> None:
    tensors = load_file(mine / "mine.safetensors")
    save_file({name: tensor.fill_(1e30) for name, tensor in tensors.items()}, mine / "mine.safetensors")
    recard(mine, write_card)
    told = problems(mine)
    assert {name for name, _ in told} == {"mine.safetensors"}
    assert all(fault.startswith("breaks a promise: ") for _, fault in told)


def test_weights_of_another_recipe(tmp_path: Path, write_card: WriteCard) -> None:
    source = plugins.load("datasets", "digits")
    assert isinstance(source, Source)
    card, folder = cards.read(write_card(changes={"training.epochs": "1"})), tmp_path / "trained"
    training.train(card, source.load(tmp_path), folder, device=torch.device("cpu"), report=lambda *_: None)
    assert problems(folder) == []
    path = folder / "mine.toml"
    text = path.read_text()
    path.write_text(text.replace("batch_size = 64", "batch_size = 32"))
    one_fault(folder, "mine.toml", "these weights were trained by other tables; restore them, or leave out [training]")
    path.write_text(text.partition("[training]")[0] + "[weights]" + text.partition("[weights]")[2])
    assert problems(folder) == []


CONTENT: dict[str, tuple[bytes, str]] = {
    "html": (PAGE, "an HTML page (a download that failed?)"),
    "nothing": (b"", "too few for a header"),
    "a lying header": (struct.pack("<Q", 2**40) + b"{}", "its header claims"),
    "truncated": (save({"a": torch.zeros(9)})[:-1], "file not fully covered"),
    "no tensor": (struct.pack("<Q", 7) + b'{"a":0}', "expected struct TensorInfo"),
}


@pytest.mark.parametrize("kind", CONTENT)
def test_weights_that_are_something_else(kind: str, mine: Path, write_card: WriteCard) -> None:
    content, says = CONTENT[kind]
    (mine / "mine.safetensors").write_bytes(content)
    recard(mine, write_card)
    one_fault(mine, "mine.safetensors", says)
    recard(mine, write_card, weights__sha256=f"'{'0' * 64}'")
    assert [name for name, _ in problems(mine)] == ["mine.toml", "mine.safetensors"]


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> object:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_in_the_weights_is_not_executed(how: str, mine: Path, tmp_path: Path, write_card: WriteCard) -> None:
    content, path = {"a": Payload(tmp_path / "executed")}, mine / "mine.safetensors"
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    recard(mine, write_card)
    one_fault(mine, "mine.safetensors", "a pickle, which could run code and is never opened")
    assert not (tmp_path / "executed").exists()
    pickle.loads(pickle.dumps(content))  # noqa: S301 (ours: shows that the test could fail)
    assert (tmp_path / "executed").exists()


CARDS: dict[str, tuple[Changes, str]] = {
    "unknown key": ({"sumary": "'x'"}, "did you mean 'summary'?"),
    "unknown dataset": ({"dataset": "'digit'"}, "unknown dataset 'digit'; did you mean 'digits'?"),
    "no dataset": ({"dataset": None}, "names no dataset, and its folder 'submitted' is not one; add the key"),
    "dataset of a path": ({"dataset": "'../digits'"}, "unknown dataset '../digits'"),
    "unknown family": ({"family": "'flatt'"}, "unknown family 'flatt'; did you mean 'flat'?"),
    "classifier": ({"family": "'classifier'"}, "unknown family 'classifier'"),
    "unknown objective": ({"objective.name": "'elbow'"}, "did you mean 'elbo'?"),
    "unknown option": ({"model.latnet": "2"}, "did you mean 'latent'?"),
    "no full stop": ({"summary": "'A model'"}, "should be a sentence that ends in a full stop"),
    "escape": ({"summary": '"\\u001b[31mA model."'}, "has text that cannot be printed: '\\x1b[31mA model.'"),
    "backwards": ({"notes": '"\\u202eA model."'}, "has text that cannot be printed: '\\u202eA model.'"),
}


@pytest.mark.parametrize("fault", CARDS)
def test_cards_that_cannot_be_submitted(fault: str, mine: Path, write_card: WriteCard) -> None:
    changes, says = CARDS[fault]
    recard(mine, write_card, **changes)
    one_fault(mine, "mine.toml", says)


def test_plug_ins_from_outside_are_not_had_by_the_maintainers(
    mine: Path, write_card: WriteCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "_entry_points", lambda kind: {"mine": None})
    assert "mine" in plugins.names("adapters")
    recard(mine, write_card, family="'mine'")
    first = "is a plug-in from outside, and a submission brings no code: first open a pull request that adds its family"
    one_fault(mine, "mine.toml", first)


def test_all_that_is_wrong_is_told_at_once(mine: Path, write_card: WriteCard) -> None:
    recard(mine, write_card, summary="'A model'", family="'flatt'", weights__sha256=f"'{'0' * 64}'")
    (mine / "weights.pt").touch()
    (mine / "link").symlink_to(mine)
    assert sorted(name for name, _ in problems(mine)) == ["link", *2 * ["mine.toml"], "weights.pt"]


FUZZ = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=60
)


@FUZZ
@given(st.sampled_from(["mine.toml", "mine.safetensors"]), st.data())
def test_no_damage_gives_anything_but_a_list(mine: Path, name: str, data: st.DataObject) -> None:
    path = mine / name
    whole = path.read_bytes()
    start = data.draw(st.integers(0, min(len(whole), 2000)))
    stop = start + data.draw(st.integers(0, 8))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=8)) + whole[stop:])
    try:
        found, told = submission.read(mine)
        assert found is not None or told
        assert path.read_bytes() == whole or told or name == "mine.toml"
    finally:
        path.write_bytes(whole)
