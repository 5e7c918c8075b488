"""Where a connection may go: to public addresses alone, whatever names and redirects say; and how long it may take."""

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from vaebench.core import network, remote
from vaebench.core.errors import DataError
from vaebench.core.network import Network, is_public

CONTENT = b"weights" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1",
    "192.0.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "fd00::1", "fe80::1", "fe80::1%eth0", "ff02::1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
    "2002:7f00:1::", "2001::1", "no address", "",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808"]


def test_which_addresses_are_public() -> None:
    assert [address for address in (*PRIVATE, *PUBLIC) if is_public(address)] == PUBLIC


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The addresses that somebody has tried to connect to; none is reached."""
    tried: list[object] = []

    def connect(address: tuple[str, int], *_: object) -> socket.socket:
        tried.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", connect)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tried


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_of_a_private_address_is_refused_before_a_connection(
    address: str, connections: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "NETWORK", Network(lambda host, port: [PUBLIC[0], address]))
    with pytest.raises(DataError, match=r"weights\.example is .*, which is of this machine or of a private"):
        remote.obtain("https://weights.example/w", SHA256)
    assert connections == []


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0"])
def test_other_spellings_of_this_machine(host: str, connections: list[object]) -> None:
    """By the system's own resolver."""
    with pytest.raises(DataError):
        remote.obtain(f"https://{host}/w", SHA256)
    assert connections == []


def test_the_connection_goes_to_the_address_that_was_judged(
    connections: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that changes between two looks has no second look."""
    answers = iter([PUBLIC, PRIVATE])
    monkeypatch.setattr(remote, "NETWORK", Network(lambda host, port: next(answers)))
    with pytest.raises(DataError, match="Connection refused"):
        remote.obtain("https://weights.example:8443/w", SHA256)
    assert connections == [(address, 8443) for address in PUBLIC]


class Server:
    """Serves one answer to each connection, by `answer(connection)`."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self._listening, self._answer = socket.create_server(("127.0.0.1", 0)), answer
        self.port, self.over = self._listening.getsockname()[1], threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._one, args=(self._listening.accept()[0],), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(4096)
            self._answer(connection)

    def close(self) -> None:
        self.over.set()
        self._listening.close()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[socket.socket], None]], Server]]:
    monkeypatch.setenv("no_proxy", "*")
    servers: list[Server] = []

    def start(answer: Callable[[socket.socket], None]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    "to", ["http://127.0.0.1:{port}/w", "https://inside.example:{port}/w", "https://[::1]:{port}/w"]
)
def test_a_redirect_to_a_private_address_is_not_followed(
    to: str, serve: Callable[[Callable[[socket.socket], None]], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first server is trusted by its name; what it leads to is judged anew."""
    reached = list[str]()
    inside = serve(lambda connection: reached.append("inside"))
    target = to.format(port=inside.port)
    head = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
    outside = serve(lambda connection: connection.sendall(head))
    real = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda address, *rest: real(("127.0.0.1", address[1]), *rest))
    monkeypatch.setattr(remote, "NETWORK", Network(lambda host, port: ["127.0.0.1"], frozenset({"outside.example"})))
    with pytest.raises(DataError, match=r"it redirects to .* not https of a public address|inside\.example is 127"):
        remote.obtain(f"http://outside.example:{outside.port}/w", SHA256)
    time.sleep(0.1)
    assert reached == []


def drip(connection: socket.socket, head: bytes, content: bytes) -> None:
    connection.sendall(head)
    for byte in content:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n"
DRIPS: dict[str, tuple[bytes, bytes]] = {
    "body": (HEAD, CONTENT),
    "head": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
    "status": (b"HTTP/1.1 200 ", b"x" * 1000),
    "length of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 1000),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
}


@pytest.mark.parametrize("where", DRIPS)
def test_a_server_of_few_bytes_a_second_is_given_up(
    where: str, serve: Callable[[Callable[[socket.socket], None]], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "WINDOW", 0.5)
    monkeypatch.setattr(remote, "NETWORK", Network(trusted=frozenset({"127.0.0.1"})))
    server = serve(lambda connection: drip(connection, *DRIPS[where]))
    started = time.monotonic()
    with pytest.raises(DataError, match=r"less than 300000 bytes came in 0.5 s; try again"):
        remote.obtain(f"http://127.0.0.1:{server.port}/w", SHA256)
    assert time.monotonic() - started < 5


def test_a_handshake_that_never_ends_is_given_up(
    serve: Callable[[Callable[[socket.socket], None]], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of TLS that comes byte by byte."""
    monkeypatch.setattr(network, "WINDOW", 0.5)
    monkeypatch.setattr(remote, "NETWORK", Network(trusted=frozenset({"127.0.0.1"})))
    server = serve(lambda connection: drip(connection, bytes([22, 3, 3, 64, 0, 2, 0, 63, 252]), bytes(1000)))
    with pytest.raises(DataError, match=r"less than 300000 bytes came in 0.5 s|handshake") as told:
        remote.obtain(f"https://127.0.0.1:{server.port}/w", SHA256)
    assert "\n" not in str(told.value)


def test_a_transfer_has_an_end(
    serve: Callable[[Callable[[socket.socket], None]], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fast as it is, it does not stop."""
    monkeypatch.setattr(network, "WINDOW", 0.2)
    monkeypatch.setattr(network, "TOTAL", 0.5)
    monkeypatch.setattr(remote, "NETWORK", Network(trusted=frozenset({"127.0.0.1"})))

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(bytes(2**16))
            time.sleep(0.005)

    server = serve(answer)
    with pytest.raises(DataError, match=r"it takes longer than .* hours"):
        remote.obtain(f"http://127.0.0.1:{server.port}/w", SHA256)
