"""Connections to servers that strangers name: to public addresses alone, and given up where too little comes.

Imports no torch. A name is resolved once, its addresses are judged, and the connection goes to one of those: a name
cannot change its address in between. Where the user's environment names a proxy, the proxy resolves names.
"""

import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPMessage, HTTPResponse, HTTPSConnection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from types import TracebackType
from typing import IO, Any, final
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from vaebench.core.errors import DataError

LONGEST = 8192  # characters of a URL; servers sign theirs at length
WINDOW, LEAST = 30.0, 300_000  # a connection that gives fewer bytes in so many seconds is given up
TOTAL = 6 * 3600.0  # seconds of one transfer
_NAT64 = IPv6Network("64:ff9b::/96")


def lookup(host: str, port: int) -> list[str]:
    """The IP addresses of `host`, as the system knows them. Raises OSError if there are none."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def is_public(address: str) -> bool:
    """Whether `address` is an IP address of the internet: none of this machine, a private network or a link, nor one
    that leads to such by being translated.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inner = None
    if isinstance(found, IPv6Address):
        inner = IPv4Address(int(found) % 2**32) if found in _NAT64 else found.ipv4_mapped or found.sixtofour
    return found.is_global and not found.is_multicast and (inner is None or is_public(str(inner)))


@dataclass(frozen=True)
class Network:
    """How names become addresses; hosts that are `trusted` may have private ones, and speak plain HTTP."""

    lookup: Callable[[str, int], list[str]] = lookup
    trusted: frozenset[str] = frozenset()

    def admits(self, url: str) -> bool:
        """Whether `url` is https of a host that may be public, or of one that is trusted; with no password in it."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            return False
        plain = len(url) <= LONGEST and "@" not in parts.netloc and re.fullmatch("[!-~]+", url) is not None
        if host in self.trusted:
            return plain and parts.scheme in ("http", "https")
        return plain and parts.scheme == "https" and _may_be_public(host)

    def only(self, url: str) -> "Network":
        """This network for what begins at `url`: another site cannot lead to hosts that are trusted."""
        return Network(self.lookup, self.trusted & {urlsplit(url).hostname or ""})


def _may_be_public(host: str) -> bool:
    if host.rstrip(".").rpartition(".")[2] in ("", "internal", "local", "localhost"):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True  # a name: its addresses are judged when it is resolved
    return is_public(host)


@final
class Line:
    """The connections of one transfer through `network`. Ends them where less than `LEAST` bytes come in a `WINDOW`,
    answers and their heads included, or all takes longer than `TOTAL`; then says why in `fault`. A context manager.
    """

    def __init__(self, network: Network) -> None:
        self.came, self.fault = 0, ""
        self._network, self._ends = network, list[socket.socket]()
        self._over, self._until = threading.Event(), time.monotonic() + TOTAL
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Line":
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._watch.join()
        for end in self._ends:
            end.close()

    def opener(self) -> OpenerDirector:
        """What opens URLs on this line."""
        return build_opener(_Plain(self), _Secure(self), _Redirects(self._network))

    def connect(
        self, address: tuple[str, int], timeout: float, source: tuple[str, int] | None = None, *, direct: bool
    ) -> socket.socket:
        """A connection to `address`: where `direct` is true, only a public one. Raises DataError if there is none."""
        host, port = address
        found = [host]
        if direct and host not in self._network.trusted:
            found = self._network.lookup(host, port)
            if odd := [each for each in found if not is_public(each)]:
                raise DataError(
                    f"{host} is {odd[0]}, which is of this machine or of a private network; nothing is fetched"
                )
        last = OSError(f"{host} has no address")
        for each in found:
            try:
                end = socket.create_connection((each, port), timeout, source)
            except OSError as error:
                last = error
            else:
                self._ends.append(end.dup())  # a connection stays reachable when TLS takes its socket over
                return end
        raise last

    def _look(self) -> None:
        before = 0
        while not self._over.wait(WINDOW):
            if time.monotonic() > self._until:
                self.fault = f"it takes longer than {TOTAL / 3600:g} hours"
            elif self.came - before < LEAST:
                self.fault = f"less than {LEAST} bytes came in {WINDOW:g} s"
            before = self.came
            if self.fault:
                for end in self._ends:
                    with suppress(OSError):  # it has ended by itself
                        end.shutdown(socket.SHUT_RDWR)
                return


class _PlainConnection(HTTPConnection):
    _create_connection: Callable[..., socket.socket]

    def __init__(self, host: str, *, line: Line, direct: bool, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._create_connection = partial(line.connect, direct=direct)


class _SecureConnection(HTTPSConnection):
    _create_connection: Callable[..., socket.socket]

    def __init__(self, host: str, *, line: Line, direct: bool, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._create_connection = partial(line.connect, direct=direct)


def _is_direct(request: Request) -> bool:
    """Whether no proxy stands between."""
    return request.host == urlsplit(request.full_url).netloc


@final
class _Plain(HTTPHandler):
    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def http_open(self, req: Request) -> HTTPResponse:
        kind: Any = partial(_PlainConnection, line=self._line, direct=_is_direct(req))
        return self.do_open(kind, req)


@final
class _Secure(HTTPSHandler):
    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def https_open(self, req: Request) -> HTTPResponse:
        kind: Any = partial(_SecureConnection, line=self._line, direct=_is_direct(req))
        return self.do_open(kind, req)


@final
class _Redirects(HTTPRedirectHandler):
    """Follows where the network admits; hands a token to no other server."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if not self._network.admits(newurl):
            fp.close()
            raise URLError(f"it redirects to {newurl[:200]}, which is not https of a public address")
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get("Authorization")
        if following is not None and token is not None and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            following.add_unredirected_header("Authorization", token)
        return following
