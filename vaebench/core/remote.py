"""Weights that lie elsewhere: fetched once, resumed where a transfer broke off, believed by their SHA-256 alone.

Imports no torch. What is fetched lies in the cache under its SHA-256: cards that name the same weights share them, and
of two processes one fetches while the other waits.
"""

import http.client
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request

from filelock import FileLock, Timeout

from vaebench import __version__
from vaebench.core import files
from vaebench.core.errors import DataError, UserError
from vaebench.core.network import Line, Network

LIMIT = 20 * 10**9  # bytes; of a file that is larger, nothing is fetched
LONGEST_URL = 2000  # characters in a card
TIMEOUT = 20.0  # seconds to connect, and without a byte
WAIT = 0.5  # seconds between two looks at what another process fetches
CHUNK = 2**20  # bytes
Fetching = Callable[[int, int | None, str], None]
"""Told how many bytes are here, of how many where that is known, and of what."""
_HUB = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w.-]+))?/([!-~]+)", re.ASCII)
NETWORK = Network()


def check_url(url: str) -> None:
    """ValueError unless `url` is https://… of a host that may be public, or hf://owner/repo[@revision]/file."""
    if len(url) > LONGEST_URL:
        raise ValueError(f"url has {len(url)} characters, more than {LONGEST_URL}")
    if not (_HUB.fullmatch(url) or NETWORK.admits(url)):
        raise ValueError(f"url = {url!r} should be https://… of a public address, or hf://owner/repo/file")


def kept(sha256: str) -> Path:
    """Where the cache keeps the weights with this SHA-256; they need not be there."""
    return files.cache() / "weights" / sha256


def obtain(url: str, sha256: str, *, progress: Fetching | None = None) -> Path:
    """The file at `url` that has this SHA-256: the one in the cache, else fetched into it.

    What came before a transfer broke off is kept, and the next call fetches the rest. Raises DataError if there is no
    network, or the server refuses, stalls, breaks off, or gives another file; UserError for a `url` that `check_url`
    refuses, or a cache that cannot be written to.
    """
    try:
        check_url(url)
    except ValueError as error:
        raise UserError(str(error)) from error
    path = kept(sha256)
    if _holds(path, sha256):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path, progress, _name(url)):
            if not _holds(path, sha256):
                _fetch(url, sha256, path, progress)
    except OSError as error:
        raise UserError(f"cannot keep weights in {path.parent}: {error.strerror}; set VAEBENCH_CACHE") from error
    return path


@contextmanager
def _alone(path: Path, progress: Fetching | None, name: str) -> Iterator[None]:
    """Waits for a process that is fetching `path`, and tells how far it is."""
    lock = FileLock(f"{path}.lock")
    while not lock.is_locked:
        try:
            lock.acquire(timeout=WAIT)
        except Timeout:
            if progress is not None:
                with suppress(FileNotFoundError):  # not begun, or just done
                    progress(_part(path).stat().st_size, None, name)
    try:
        yield
    finally:
        lock.release()


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def _holds(path: Path, sha256: str) -> bool:
    return path.is_file() and files.sha256(path) == sha256


def _fetch(url: str, sha256: str, path: Path, progress: Fetching | None) -> None:
    """Fetch `path`. A part that does not lead to `sha256` is given up for a whole file, before the server is blamed."""
    part = _part(path)
    for resume in (True, False):
        resumed = _transfer(url, part, progress, resume)
        if (found := files.sha256(part)) == sha256:
            files.move(part, path)
            return
        if not resumed:
            break
    part.unlink()
    raise DataError(f"the file at {url} has sha256 {found}, not {sha256}: it, or what names it, was altered")


def _transfer(url: str, part: Path, progress: Fetching | None, resume: bool) -> bool:
    """Write to `part` what `url` gives, on from its end where `resume` is true and the server can; whether it did."""
    have = part.stat().st_size if resume and part.exists() else 0
    address, token, network = _resolve(url)
    with Line(network.only(address)) as line:
        answer = _request(url, address, token, have, line)
        if answer is None:
            return True
        return _receive(url, answer, part, have, line, progress)


def _receive(url: str, answer: HTTPResponse, part: Path, have: int, line: Line, progress: Fetching | None) -> bool:
    with answer:
        have = have if answer.status == http.client.PARTIAL_CONTENT else 0
        total = None if answer.length is None else have + answer.length
        with _told(url, line):
            page = answer.peek(64).lstrip().lower().startswith((b"<!doctype html", b"<html"))
        if page or answer.headers.get_content_type() == "text/html":
            raise DataError(f"{url} gives a web page, not weights; name the address of the file itself")
        done = have
        with part.open("ab" if have else "wb") as file:
            while total is None or done < total:
                if max(done, total or 0) > LIMIT:
                    part.unlink()
                    raise DataError(f"the file at {url} is larger than {LIMIT / 1e9:g} GB; fetch it by hand")
                with _told(url, line):
                    chunk = answer.read1(CHUNK)
                if not chunk:
                    break
                file.write(chunk)
                done += len(chunk)
                line.came += len(chunk)
                if progress is not None:
                    progress(done, total, _name(url))
            file.flush()
            os.fsync(file.fileno())
    if line.fault:
        raise DataError(f"{url} cannot be fetched: {line.fault}; try again: what came is kept")
    if total is not None and done < total:
        raise DataError(f"{url} broke off after {done} of {total} bytes; try again: what came is kept")
    return have > 0


def _request(url: str, address: str, token: str | None, have: int, line: Line) -> HTTPResponse | None:
    """The server's answer with the file from byte `have` on; None where the file is not longer than that."""
    request = Request(address, headers={"User-Agent": f"vaebench/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    if token is not None:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    with _told(url, line):
        try:
            answer: HTTPResponse = line.opener().open(request, timeout=TIMEOUT)
            return answer
        except HTTPError as error:
            error.close()
            if have and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return None
            raise


def _resolve(url: str) -> tuple[str, str | None, Network]:
    """The address behind `url`; where it is of Hugging Face's Hub, the token of the user who is logged in; and the
    network to fetch it by, where a server that the user has set as the Hub is trusted.
    """
    found = _HUB.fullmatch(url)
    if found is None:
        return url, None, NETWORK
    try:
        import huggingface_hub  # optional, and half a second
    except ImportError as error:
        raise UserError(f"{url} needs the package huggingface_hub; pip install 'vaebench[hf]'") from error
    repo, revision, file = found.groups()
    try:
        address = huggingface_hub.hf_hub_url(repo, file, revision=revision)
    except ValueError as error:
        raise UserError(f"{url} names no repository of the Hub: {error}") from error
    own = urlsplit(os.environ.get("HF_ENDPOINT", "")).hostname
    network = Network(NETWORK.lookup, NETWORK.trusted | ({own} if own else set()))
    if not network.admits(address):
        raise UserError(f"{url} leads to {address}, which is not https; set HF_ENDPOINT to another server")
    return address, huggingface_hub.get_token(), network


@contextmanager
def _told(url: str, line: Line) -> Iterator[None]:
    """Turns what goes wrong with a connection into one line."""
    try:
        yield
    except HTTPError as error:
        remedy = "try again later" if error.code >= 500 else "check the address, and that you may read it"
        status = f"{error.code} {http.client.responses.get(error.code, '')}".rstrip()
        raise DataError(f"{url} cannot be fetched: HTTP {status}; {remedy}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if line.fault:
            reason = line.fault
        elif isinstance(reason, TimeoutError):
            reason = f"nothing came for {TIMEOUT:g} s"
        elif isinstance(reason, http.client.HTTPException) and not isinstance(reason, OSError):
            reason = f"the answer is not HTTP ({type(reason).__name__})"
        raise DataError(f"{url} cannot be fetched: {reason}; try again: what came is kept") from error
