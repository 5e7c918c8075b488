"""The recipe for Slurm in docs/cluster.md, on a Slurm of one node: Debian's packages slurm-wlm and munge, and root."""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import Result

from vaebench.boards import store

pytest.importorskip("dask_jobqueue")
PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
DAEMONS = ("munged", "slurmctld", "slurmd")
PATH = os.environ["PATH"] + ":/usr/sbin"
MISSING = [name for name in DAEMONS if shutil.which(name, path=PATH) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed: apt install slurm-wlm munge"),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmd runs as root"),
]
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def wait(until: Callable[[], object], what: str, seconds: float = 60) -> object:
    """What `until` gives, once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := until():
            return found
        time.sleep(0.5)
    raise AssertionError(f"waited {seconds} s for {what}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A controller and a node, for the length of a test; the folder of their logs."""
    folder, host, started = tmp_path / "slurm", socket.gethostname().partition(".")[0], []
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o600)
    file = folder / "slurm.conf"
    file.write_text(CONFIGURATION.format(folder=folder, host=host, controller=free_port(), node=free_port()))
    monkeypatch.setenv("SLURM_CONF", str(file))
    monkeypatch.setenv("PATH", PATH)
    version = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
    (folder / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/{version}\nIgnoreSystemd=yes\n" if version == "v2" else
                                        f"CgroupPlugin=cgroup/{version}\n")  # fmt: skip

    def start(*command: str) -> None:
        with (folder / f"{command[0]}.log").open("wb") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))

    def told(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    try:
        names = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munge.log"}
        files = [f"--{name}={folder / there}" for name, there in {**names, "seed-file": "munge.seed"}.items()]
        start("munged", "--foreground", "--force", *files)
        wait((folder / "munge.socket").exists, "munged")
        start("slurmctld", "-D")
        wait(lambda: told("sinfo", "--noheader"), "slurmctld")
        start("slurmd", "-D", "-N", host)
        wait(lambda: "idle" in told("sinfo", "--noheader", "--format=%t"), "slurmd")
        yield folder
        told("scancel", "--user=root")
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)


def recipe() -> str:
    """The page's script, with one job of two processes in the place of many of eight."""
    found = re.search(r'```python title="slurm.py"\n(.*?)```', PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    text = found[1]
    for much, little in (("cores=8, processes=8", "cores=2, processes=2"), ('"32GB"', '"3GB"'), ("jobs=10", "jobs=1")):
        assert much in text
        text = text.replace(much, little)
    return text


def test_the_recipe_gives_the_values_of_one_process(
    slurm: Path, tmp_path: Path, vaebench: Callable[..., Result], quick: tuple[object, ...]
) -> None:
    (tmp_path / "slurm.py").write_text(recipe(), encoding="utf-8")
    with (tmp_path / "address").open("wb") as address:
        cluster = subprocess.Popen([sys.executable, "slurm.py"], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=address)
    try:
        found = wait(lambda: re.search(r"tcp://\S+", (tmp_path / "address").read_text()), "the scheduler's address")
        assert isinstance(found, re.Match)
        rows = []
        for name, more in (("alone", ()), ("cluster", ("--cluster", found[0]))):
            result = vaebench(*quick[:-1], tmp_path / name, "--fresh", *more)
            assert result.exit_code == 0, result.output
            rows.append({row.column: row.value for row in store.read(tmp_path / name, "digits")})
        assert rows[0] == rows[1]
        assert len(rows[0]) > 5
    finally:
        cluster.send_signal(signal.SIGINT)
        cluster.wait(60)
    queue = partial(subprocess.run, ("squeue", "--noheader"), capture_output=True, check=True)
    wait(lambda: not queue().stdout, "its jobs to end")
