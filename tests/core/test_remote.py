"""Remote weights: fetched once and whole, from servers that break off, stall, lie, redirect and refuse."""

import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request

import pytest
from click.testing import Result
from filelock import FileLock

from vaebench.core import files, network, remote
from vaebench.core.errors import DataError, UserError
from vaebench.core.network import Network
from vaebench.models import card as cards

CONTENT = bytes(range(256)) * 4000  # a megabyte
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


class Handler(BaseHTTPRequestHandler):
    """The path's first part says how it answers; `Site` remembers what was asked and sent."""

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        site: Any = self.server
        self.sent, name = 0, self.path.strip("/").partition("/")[0]
        site.asked.append((self.path, self.headers["Range"], self.headers["Authorization"]))
        try:
            getattr(self, f"give_{name}")(site.content)
        finally:
            site.sent.append(self.sent)

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, content: bytes) -> None:
        self.wfile.write(content)
        self.wfile.flush()
        self.sent += len(content)

    def start(self, content: bytes) -> bytes:
        """The head of an answer to a request that may be for a range, and what is to be sent after it."""
        first = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if first >= len(content):
            self.head(416, Content_Length=0)
            return b""
        whole = self.headers["Range"] is None
        ranged = {} if whole else {"Content_Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
        self.head(200 if whole else 206, Content_Length=len(content) - first, **ranged)
        return content[first:]

    def give_ranges(self, content: bytes) -> None:
        self.body(self.start(content))

    def give_plain(self, content: bytes) -> None:
        self.head(200, Content_Length=len(content))
        self.body(content)

    def give_slow(self, content: bytes) -> None:
        rest = self.start(content)
        self.body(rest[: len(rest) // 2])
        time.sleep(0.5)
        self.body(rest[len(rest) // 2 :])

    def give_truncated(self, content: bytes) -> None:
        rest = self.start(content)
        self.body(rest[: len(rest) // 2])

    def give_stalled(self, content: bytes) -> None:
        self.give_truncated(content)
        self.server.over.wait()  # type: ignore[attr-defined]

    def give_nothing(self, content: bytes) -> None:
        self.server.over.wait()  # type: ignore[attr-defined]

    def give_less(self, content: bytes) -> None:
        self.head(200, Content_Length=len(content) - 10)
        self.body(content)

    def give_unmeasured(self, content: bytes) -> None:
        self.head(200)
        self.body(content)

    def give_page(self, content: bytes) -> None:
        self.head(200, Content_Type="application/octet-stream")
        self.body(b"\n<!DOCTYPE html><p>Sign in")

    def give_typed(self, content: bytes) -> None:
        self.head(200, Content_Type="text/html; charset=utf-8")
        self.body(b"Sign in")

    def give_status(self, content: bytes) -> None:
        self.head(int(self.path.split("/")[2]), Content_Length=0)

    def give_garbage(self, content: bytes) -> None:
        self.body(b"\x1b[31mSSH-2.0\r\n")

    def give_to(self, content: bytes) -> None:
        self.head(302, Location=self.path.removeprefix("/to/"), Content_Length=0)

    def give_owner(self, content: bytes) -> None:
        """As the Hub: a renamed repository, whose files lie on another server."""
        if "/old/" in self.path:
            self.head(307, Location=self.path.replace("/old/", "/repo/"), Content_Length=0)
        elif self.headers["Authorization"] == "Bearer hf_secret":
            self.head(302, Location=f"{self.server.elsewhere}/ranges/w", Content_Length=0)  # type: ignore[attr-defined]
        else:
            self.head(401, Content_Length=0)


class Site(ThreadingHTTPServer):
    def __init__(self, content: bytes = CONTENT) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.over, self.elsewhere = content, threading.Event(), ""
        self.asked = list[tuple[str, str | None, str | None]]()
        self.sent = list[int]()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up, as those here do."""

    def close(self) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()
        self._thread.join()


@pytest.fixture
def open_site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Site]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(remote, "NETWORK", Network(trusted=frozenset({"127.0.0.1"})))
    sites: list[Site] = []

    def start(content: bytes = CONTENT) -> Site:
        sites.append(Site(content))
        return sites[-1]

    yield start
    for site in sites:
        site.close()


@pytest.fixture
def site(open_site: Callable[..., Site]) -> Site:
    return open_site()


def part() -> Path:
    return remote.kept(SHA256).with_name(f"{SHA256}.part")


def refusal(site: Site, path: str) -> str:
    """The one line that `path` is refused with; nothing is then taken for weights."""
    with pytest.raises(DataError) as caught:
        remote.obtain(f"{site.url}/{path}", SHA256)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert f"{site.url}/{path}" in str(caught.value)
    assert not remote.kept(SHA256).exists()
    return str(caught.value)


@pytest.mark.parametrize("how", ["ranges", "plain", "unmeasured", "slow"])
def test_fetched_once_with_progress(how: str, site: Site) -> None:
    told: list[tuple[int, int | None, str]] = []
    path = remote.obtain(f"{site.url}/{how}/w.safetensors", SHA256, progress=lambda *now: told.append(now))
    assert path.read_bytes() == CONTENT
    assert path == remote.kept(SHA256)
    total = None if how == "unmeasured" else len(CONTENT)
    assert told[-1] == (len(CONTENT), total, "w.safetensors")
    assert [done for done, *_ in told] == sorted({done for done, *_ in told})
    site.close()
    assert remote.obtain(f"{site.url}/{how}/w.safetensors", SHA256) == path
    assert len(site.asked) == 1
    assert {p.name for p in path.parent.iterdir()} == {SHA256, f"{SHA256}.lock"}


@pytest.mark.parametrize(
    ("how", "says"),
    [("truncated", f"broke off after {HALF} of {2 * HALF}"), ("stalled", "nothing came for 1 s")],
)
def test_the_rest_alone_is_fetched_after_a_break(
    how: str, says: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "TIMEOUT", 1.0)
    assert says in refusal(site, f"{how}/w")
    assert part().read_bytes() == CONTENT[:HALF]
    assert remote.obtain(f"{site.url}/ranges/w", SHA256).read_bytes() == CONTENT
    assert [asked[1] for asked in site.asked] == [None, f"bytes={HALF}-"]
    assert site.sent[-1] == len(CONTENT) - HALF
    assert not part().exists()


def test_breaks_in_a_row_add_up(site: Site) -> None:
    sizes = []
    for _ in range(4):
        refusal(site, "truncated/w")
        sizes.append(part().stat().st_size)
    assert sizes == [len(CONTENT) * n // 16 for n in (8, 12, 14, 15)]
    assert remote.obtain(f"{site.url}/ranges/w", SHA256).read_bytes() == CONTENT
    assert sum(site.sent) == len(CONTENT)


def test_a_server_without_ranges_starts_again(site: Site) -> None:
    refusal(site, "truncated/w")
    assert remote.obtain(f"{site.url}/plain/w", SHA256).read_bytes() == CONTENT
    assert site.sent == [HALF, len(CONTENT)]


@pytest.mark.parametrize(
    ("left", "requests"),
    [(b"other" * 100, 2), (CONTENT + b"more", 2), (CONTENT[:-1] + b"x", 2), (CONTENT, 1), (b"", 1)],
    ids=["foreign", "longer", "altered", "whole", "empty"],
)
def test_a_part_that_is_not_of_the_file_does_no_harm(left: bytes, requests: int, site: Site) -> None:
    part().parent.mkdir(parents=True)
    part().write_bytes(left)
    assert remote.obtain(f"{site.url}/ranges/w", SHA256).read_bytes() == CONTENT
    assert len(site.asked) == requests


def test_altered_weights_in_the_cache_are_fetched_again(site: Site) -> None:
    path = remote.obtain(f"{site.url}/ranges/w", SHA256)
    path.write_bytes(b"altered")
    assert remote.obtain(f"{site.url}/ranges/w", SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("page/w", "a web page, not weights; name the address of the file itself"),
        ("typed/w", "a web page, not weights"),
        ("nothing/w", "nothing came for 0.5 s; try again"),
        ("status/404/w", "HTTP 404 Not Found; check the address"),
        ("status/403/w", "HTTP 403 Forbidden; check the address, and that you may read it"),
        ("status/500/w", "HTTP 500 Internal Server Error; try again later"),
        ("status/416/w", "HTTP 416"),
        ("status/799/w", "HTTP 799; try again later"),
        ("garbage/w", "the answer is not HTTP (BadStatusLine)"),
        ("to/http://example.org/w", "it redirects to http://example.org/w, which is not https of a public address"),
        ("to/file:///etc/passwd", "HTTP 302 Found; check the address"),
        ("to/to/to/to", "it redirects to "),
    ],
)
def test_refusals_are_one_line_and_spoil_no_part(
    path: str, says: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "nothing" in path:
        monkeypatch.setattr(remote, "TIMEOUT", 0.5)
    part().parent.mkdir(parents=True)
    assert says in refusal(site, path)
    part().write_bytes(CONTENT[:HALF])
    if "416" not in path:
        assert says in refusal(site, path)
        assert part().read_bytes() == CONTENT[:HALF]


@pytest.mark.parametrize("how", ["ranges", "less"])
def test_wrong_content_says_both_hashes(how: str, open_site: Callable[..., Site]) -> None:
    content = b"other weights" if how == "ranges" else CONTENT
    found = hashlib.sha256(content if how == "ranges" else content[:-10]).hexdigest()
    assert f"has sha256 {found}, not {SHA256}" in refusal(open_site(content), f"{how}/w")
    assert not part().exists()


@pytest.mark.parametrize("how", ["ranges", "unmeasured"])
def test_too_large_a_file_is_not_fetched(how: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LIMIT", 1000)
    monkeypatch.setattr(remote, "CHUNK", 100)
    assert "is larger than 1e-06 GB" in refusal(site, f"{how}/w")
    assert not part().exists()


def test_redirects_on_this_machine_and_nowhere_less_safe(site: Site) -> None:
    assert remote.obtain(f"{site.url}/to/{site.url}/ranges/w", SHA256).read_bytes() == CONTENT
    for url in ("http://127.0.0.1/w", "http://example.org/w", "ftp://example.org/w", "https://a@b/w"):
        with pytest.raises(URLError, match="not https"):
            network._Redirects(remote.NETWORK.only("https://example.org/")).redirect_request(
                Request("https://example.org/"), io.BytesIO(), 302, "", HTTPMessage(), url
            )


def test_without_a_network(site: Site) -> None:
    site.close()
    assert "Connection refused; try again" in refusal(site, "ranges/w")


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "http://example.org/w", "http://127.0.0.1.example.org/w", "ftp://localhost/w", "data:,x",
     "w", "https://", "https:///w", "https://a:b@example.org/w", "https://[x/w", "https://example.org:x/w",
     "https://example.org/\x1b[31m", "https://example.org/a b", "https://exämple.org/w", "hf://owner/repo", "hf://repo/w/",
     "hf://owner/repo/\n", "", "http://localhost:8000/w", "https://localhost/w", "https://127.0.0.1/w", "https://[::1]/w",
     "https://10.0.0.1/w", "https://192.168.1.1/w", "https://169.254.169.254/w", "https://0.0.0.0/w", "https://[fd00::1]/w",
     "https://a.localhost/w", "https://metadata.google.internal/w", "https://100.64.0.1/w", "https://[::ffff:10.0.0.1]/w"],
)  # fmt: skip
def test_addresses_that_are_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="should be https://"):
        remote.check_url(url)
    with pytest.raises(UserError, match="should be https://"):
        remote.obtain(url, SHA256)
    assert not files.cache().joinpath("weights").exists()


def test_addresses_that_are_taken() -> None:
    for url in (
        "https://example.org:8443/a/w?download=1",
        "https://8.8.8.8/w",
        "hf://owner/repo@v1.0/a/w.safetensors",
    ):
        remote.check_url(url)


def test_a_cache_that_cannot_be_written_to(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VAEBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot keep weights in .*: Not a directory; set VAEBENCH_CACHE"):
        remote.obtain(f"{site.url}/ranges/w", SHA256)


# --- several processes, and the Hub -----------------------------------------------------------------------------------


def fetching(url: str, **environment: str) -> subprocess.Popen[str]:
    local = "remote.NETWORK = remote.Network(trusted=frozenset({'127.0.0.1'}))"
    code = f"from vaebench.core import remote; {local}; print(remote.obtain({url!r}, {SHA256!r}))"
    command, pipe = [sys.executable, "-W", "error", "-c", code], subprocess.PIPE
    return subprocess.Popen(command, env={**os.environ, **environment}, stdout=pipe, stderr=pipe, text=True)


def test_of_two_processes_one_fetches(site: Site) -> None:
    workers = [fetching(f"{site.url}/slow/w") for _ in range(2)]
    assert [worker.communicate(timeout=60) for worker in workers] == [(f"{remote.kept(SHA256)}\n", "")] * 2
    assert site.sent == [len(CONTENT)]


def test_who_waits_sees_how_far_the_other_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WAIT", 0.05)
    part().parent.mkdir(parents=True)
    part().write_bytes(CONTENT[:HALF])
    other, told = FileLock(f"{remote.kept(SHA256)}.lock", thread_local=False), list[tuple[int, int | None, str]]()

    def progress(*now: Any) -> None:
        told.append(now)
        other.release()

    other.acquire()
    assert remote.obtain(f"{site.url}/ranges/w", SHA256, progress=progress).read_bytes() == CONTENT
    assert told[0] == (HALF, None, "w")
    assert told[-1] == (len(CONTENT), len(CONTENT), "w")


def test_a_killed_process_leaves_what_came_and_no_lock(site: Site) -> None:
    with fetching(f"{site.url}/stalled/w") as worker:
        until = time.monotonic() + 30
        while not (part().exists() and part().stat().st_size == HALF):
            assert time.monotonic() < until
            time.sleep(0.01)
        worker.send_signal(signal.SIGKILL)
    assert remote.obtain(f"{site.url}/ranges/w", SHA256).read_bytes() == CONTENT
    assert site.sent[-1] == len(CONTENT) - HALF


def test_the_hub_by_its_own_client_with_the_users_token(open_site: Callable[..., Site], tmp_path: Path) -> None:
    hub, storage = open_site(), open_site()
    hub.elsewhere = storage.url
    url, local = "hf://owner/old@v2/sub/w.safetensors", {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    output, errors = fetching(url, **local, HF_TOKEN="hf_wrong").communicate(timeout=60)
    assert output == ""
    assert f"{url} cannot be fetched: HTTP 401 Unauthorized; check the address, and that you may read it" in errors
    output, errors = fetching(url, **local, HF_TOKEN="hf_secret").communicate(timeout=60)
    assert (output, errors) == (f"{remote.kept(SHA256)}\n", "")
    paths = [f"/owner/{repo}/resolve/v2/sub/w.safetensors" for repo in ("old", "repo")]
    assert hub.asked[-2:] == [(path, None, "Bearer hf_secret") for path in paths]
    assert storage.asked == [("/ranges/w", None, None)]
    output, errors = fetching("hf://owner/x/w", HF_ENDPOINT="http://example.org").communicate(timeout=60)
    assert output == f"{remote.kept(SHA256)}\n"  # by its hash alone


def test_the_hub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"hf://a--b/c/w names no repository of the Hub: .*'a--b/c'"):
        remote.obtain("hf://a--b/c/w", SHA256)
    monkeypatch.setattr("huggingface_hub.hf_hub_url", lambda repo, file, revision: "http://example.org/w")
    with pytest.raises(UserError, match=r"leads to http://example.org/w, which is not https; set HF_ENDPOINT"):
        remote.obtain("hf://owner/repo/w", SHA256)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=re.escape("needs the package huggingface_hub; pip install 'vaebench[hf]'")):
        remote.obtain("hf://owner/repo/w", SHA256)


# --- cards ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def remote_card(zoo_card: Path, open_site: Callable[..., Site]) -> Callable[[str], tuple[Path, Site]]:
    """`remote_card(how)`: the zoo's vae on digits with its weights behind a URL only, and the site that has them."""

    def make(how: str) -> tuple[Path, Site]:
        weights = zoo_card.with_suffix(".safetensors")
        site = open_site(weights.read_bytes())
        text, found = re.subn(r"(?m)^file = .*$", f'url = "{site.url}/{how}/w"', zoo_card.read_text(encoding="utf-8"))
        assert found == 1
        zoo_card.write_text(text, encoding="utf-8")
        weights.unlink()
        return zoo_card, site

    return make


def test_a_card_with_a_url_evaluates(
    remote_card: Callable[[str], tuple[Path, Site]], vaebench: Callable[..., Result], boards: Path
) -> None:
    path, site = remote_card("ranges")
    subject = ("--card", path, "--leaderboards", boards)
    quick = ("--preset", "quick", "--metric", "likelihood", "--set", "likelihood.samples=10")
    run = vaebench("run", *subject, *quick)
    assert run.exit_code == 0, run.output
    assert len(site.asked) == 1
    site.close()  # what follows has them from the cache
    for command in ("reproduce", "verify"):
        again = vaebench(command, "vae", "digits", *subject)
        assert again.exit_code == 0, again.output
    assert vaebench("check", "--card", path).exit_code == 0
    card = cards.read(path)
    assert card.weights is not None
    cards.write(card, path)
    assert cards.read(path) == card
    local = path.with_suffix(".safetensors")  # beside the card, it comes before the URL
    local.write_bytes(card.weights_path().read_bytes())
    assert card.weights_path() == local
    local.write_bytes(b"altered")
    with pytest.raises(DataError, match="restore both together"):
        card.weights_path()


@pytest.mark.parametrize(
    ("how", "says"), [("status/404", "HTTP 404"), ("page", "web page"), ("truncated", "broke off")]
)
def test_a_card_whose_weights_do_not_come_is_one_line(
    how: str, says: str, remote_card: Callable[[str], tuple[Path, Site]], refused: Callable[..., str], boards: Path
) -> None:
    path, _ = remote_card(how)
    refused(3, ("run", "--card", path, "--leaderboards", boards), says)
    refused(3, ("check", "--card", path), says)
    assert not boards.exists()


def test_a_card_with_an_address_that_is_not_safe(remote_card: Callable[[str], tuple[Path, Site]], refused: Any) -> None:
    path, site = remote_card("ranges")
    path.write_text(path.read_text(encoding="utf-8").replace(site.url, "http://example.org"), encoding="utf-8")
    refused(2, ("run", "--card", path), f"card {path} [weights]: url = 'http://example.org", "should be https://")
