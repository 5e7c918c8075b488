"""Nobody but the run itself reaches the cluster of `--workers`: neither another user nor another certificate."""

import os
import re
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from click.testing import Result
from distributed import LocalCluster
from distributed.security import Security

from vaebench.core.errors import UserError
from vaebench.evaluation import cluster

STRANGER = """
    import asyncio, logging, os, sys
    from distributed import Client
    from distributed.security import Security
    import distributed.comm.tcp

    logging.disable(logging.CRITICAL)
    open_address, closed_address, process = sys.argv[1:]
    foreign = Security.temporary()


    def code(address, security):
        try:
            with Client(address, timeout=8, security=security, set_as_default=False) as client:
                return client.run_on_scheduler(os.getpid)
        except Exception as error:
            return f"{type(error).__name__}"


    code(open_address, None), code(closed_address, foreign)  # imports all it needs, while it may still read them
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    print(code(open_address, None))
    for address, security in (
        (closed_address.replace("tls:", "tcp:"), None),
        (closed_address, foreign),
    ):
        print(code(address, security))
"""


@pytest.fixture(scope="module")
def protected() -> Iterator[tuple[str, LocalCluster]]:
    """The address of a local cluster while it is used, and Dask's own object."""
    made: list[LocalCluster] = []
    real = cluster.LocalCluster

    def make(*args: object, **options: object) -> LocalCluster:
        made.append(real(*args, **options))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "LocalCluster", make)
        with cluster.local(1):
            yield made[0].scheduler_address, made[0]


@pytest.mark.processes
def test_another_user_runs_no_code(protected: tuple[str, LocalCluster]) -> None:
    """The same client, by the same user id, does run code on a scheduler without TLS."""
    address, _ = protected
    assert re.fullmatch(r"tls://127\.0\.0\.1:\d+", address)
    with LocalCluster(
        n_workers=0, processes=False, dashboard_address="127.0.0.1:0", host="127.0.0.1", protocol="tcp"
    ) as unprotected:
        command = [sys.executable, "-c", textwrap.dedent(STRANGER), unprotected.scheduler_address, address, "x"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    ran, *refused = done.stdout.split()
    assert ran == str(os.getpid()), done
    assert len(refused) == 2
    assert {each.removeprefix("Fatal") for each in refused} <= {"CommClosedError", "OSError", "TimeoutError"}, refused


def test_nothing_is_told_by_http(protected: tuple[str, LocalCluster]) -> None:
    _, started = protected
    ports = {started.scheduler.http_server.port} if started.scheduler.http_server is not None else set()
    for port in ports:
        for page in ("info/main/workers.html", "json/counts.json", "metrics", "api/v1/retire_workers"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10)


def test_without_certificates_there_are_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: object) -> Security:
        raise ImportError("Using `Security.temporary` requires `cryptography`")

    monkeypatch.setattr(cluster.Security, "temporary", none)
    with (
        pytest.raises(UserError, match=r"need TLS .*cryptography.*; pip install 'vaebench\[cluster\]'"),
        cluster.local(1),
    ):
        pass


@pytest.mark.processes
@pytest.mark.parametrize("error", [OSError("Timed out"), cluster.CommClosedError("in <TLS>: Stream is closed")])
def test_a_worker_that_dies_while_it_is_asked_is_no_other_version(
    error: OSError, protected: tuple[str, LocalCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, started = protected
    real = cluster.Client.run

    def run(self: object, function: object, **options: object) -> dict[str, object]:
        return {**real(self, function, **options), "tls://127.0.0.1:1": error}

    monkeypatch.setattr(cluster.Client, "run", run)
    with cluster.connect(address, started.security):
        pass


@pytest.mark.processes
def test_the_help_says_what_a_cluster_is_trusted_with(vaebench: Callable[..., Result]) -> None:
    told = " ".join(vaebench("run", "--help").output.split())
    assert "It is trusted: who reaches it can run code on its workers, and here." in told
