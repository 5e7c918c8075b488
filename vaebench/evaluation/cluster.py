"""Blocks computed by the workers of a Dask cluster: the extra `vaebench[cluster]`.

A cluster is trusted as this process is: objects go to it and come back pickled. That of one machine is reached with a
certificate alone; whose scheduler `--cluster` names is the user's business. What is read from a file, a checkpoint
among them, has been read and checked before, here, and never as a pickle.
"""

import hashlib
import logging
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from vaebench import __version__
from vaebench.core.content import raw
from vaebench.core.data import Split
from vaebench.core.errors import UserError
from vaebench.evaluation.executor import Finished, LostError, Pass, Values
from vaebench.evaluation.provenance import code

try:
    import dask
    from dask.tokenize import normalize_token, tokenize
    from distributed import Client, Future, LocalCluster, Security, WorkerPlugin, as_completed
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError
except ImportError as error:
    raise UserError(f"a cluster needs Dask ({error}); pip install 'vaebench[cluster]'") from error

TIMEOUT = 30  # seconds to wait for the scheduler, and then for a first worker
ATTEMPTS = 5  # at a pass whose model or data were lost with the last worker that held them
KEPT = "finished blocks are kept, and the same command goes on"
PLAIN = (bool, int, float, str, type(None))


def here() -> dict[str, str]:
    """What must be the same on every worker."""
    version = f"{__version__} ({code()})"
    return {"vaebench": version, "torch": torch.__version__, "Python": platform.python_version().rpartition(".")[0]}


def differences(found: dict[str, str], wanted: dict[str, str]) -> str:
    """What `found` has instead of what is `wanted`; empty where they are equal."""
    pairs = ((what, found.get(what), value) for what, value in wanted.items())
    return ", ".join(f"{what} {other} instead of {value}" for what, other, value in pairs if other != value)


def _admitted(wanted: dict[str, str]) -> "Admission":
    if differs := differences(here(), wanted):
        raise UserError(f"this worker has {differs}; install the same as the client's")
    return Admission()


@final
class Admission(WorkerPlugin):
    """Sent to every worker that joins later. One that is not as the client is cannot read it, and ends."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _admitted, (here(),)


@final
@dataclass(frozen=True)
class Part:
    """What a task is told by its content alone. Pickled as a whole, by torch, which Dask itself would not do."""

    value: Any


@normalize_token.register(Tensor)  # type: ignore[untyped-decorator]
def _tensor_content(tensor: Tensor) -> tuple[object, ...]:
    about = (type(tensor).__name__, str(tensor.dtype), str(tensor.device), tuple(tensor.shape), tensor.requires_grad)
    return (*about, hashlib.sha256(raw(tensor)).hexdigest())


@normalize_token.register(nn.Module)  # type: ignore[untyped-decorator]
def _module_content(module: nn.Module) -> tuple[object, ...]:
    return normalize_token(type(module)), normalize_token(vars(module))


def _block(
    block: range,
    function: Any,
    arguments: list[Any],
    named: dict[str, Any],
    split: list[Any],
    rest: tuple[Any, ...],
) -> tuple[Values, int]:
    """The task: what `Pass` gives for a block, on a worker."""

    def value(part: Any) -> Any:
        return part.value if isinstance(part, Part) else part

    whole = partial(value(function), *map(value, arguments), **{name: value(part) for name, part in named.items()})
    work = Pass(whole, Split(*map(value, split)), *rest)
    return work(block, work.cut)


@final
class Cluster:
    """`execution.Executor` of the workers of `client`. A model or split reaches each of them once, by its content."""

    def __init__(self, client: Client, address: str) -> None:
        self._client, self._address = client, address
        self._sent: dict[str, Future[Part]] = {}

    def __call__(self, work: Pass, blocks: Sequence[range], finished: Finished) -> None:
        left = set(blocks)
        for _ in range(ATTEMPTS):
            if self._client.status != "running":
                raise LostError(f"the scheduler at {self._address} is lost; {KEPT}")
            try:
                return self._attempt(work, left, finished)
            except (FutureCancelledError, CommClosedError):
                self._sent.clear()  # what is sent is sent again
        raise RuntimeError(f"all workers were lost {ATTEMPTS} times in one pass")

    def _attempt(self, work: Pass, left: set[range], finished: Finished) -> None:
        """Compute the blocks that are `left`, and take each from there as it ends."""
        tasks = self._submit(work, sorted(left, key=lambda block: block.start)) if left else {}
        for task in as_completed(list(tasks), loop=self._client.loop):
            block = tasks.pop(task)
            values, cut = task.result()
            task.release()
            left.remove(block)
            finished(block, values, cut)

    def _submit(self, work: Pass, blocks: list[range]) -> "dict[Future[tuple[Values, int]], range]":
        whole = work.function if isinstance(work.function, partial) else partial(work.function)
        split = work.split
        tasks = self._client.map(
            _block,
            blocks,
            function=self._part(whole.func),
            arguments=[self._part(value) for value in whole.args],
            named={name: self._part(value) for name, value in whole.keywords.items()},
            split=[split.name, self._part(split.x), self._part(split.y), split.reading, split.place],
            rest=work[2:],
            pure=False,
        )
        return dict(zip(tasks, blocks, strict=True))

    def _part(self, value: Any) -> Any:
        if isinstance(value, PLAIN):
            return value
        key = f"vaebench-{tokenize(value)}"
        if key not in self._sent:
            part = Part(value.clone() if isinstance(value, Tensor) else value)  # a view would bring all it is of
            try:
                self._sent.update(self._client.scatter({key: part}, broadcast=True))
            except TimeoutError as error:
                raise LostError(f"{self._address} has no worker any more; {KEPT}") from error
        return self._sent[key]


@contextmanager
def connect(address: str, security: Security | None = None) -> Iterator[Cluster]:
    """The cluster of the scheduler at `address`, by the certificates of `security`, else those that Dask is configured
    with.

    Raises UserError if there is none, if it has no worker, or if one is not as this process is.
    """
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it would log is raised here
    try:
        client = Client(address, timeout=TIMEOUT, set_as_default=False, security=security)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error) or f"no answer in {TIMEOUT} s"
        raise UserError(f"no scheduler at {address} ({reason}); start one with: dask scheduler") from error
    with client:
        wanted = here()
        for worker, found in client.run(here, on_error="return").items():
            if isinstance(found, OSError):  # it has died meanwhile, and is not a worker any more
                continue
            if differs := str(found) if isinstance(found, Exception) else differences(found, wanted):
                raise UserError(f"worker {worker} has {differs}; install there what is here")
        client.register_plugin(Admission(), name="vaebench")
        try:
            client.wait_for_workers(1, timeout=TIMEOUT)
        except TimeoutError as error:
            raise UserError(
                f"{address} has no worker as this process is; start one with: dask worker {address}, and see its log"
            ) from error
        with _copies_kept(client):
            yield Cluster(client, address)


@contextmanager
def _copies_kept(client: Client) -> Iterator[None]:
    """Within the block, the scheduler leaves the copies that workers hold between two passes where they are."""
    managed = client.amm.running()
    client.amm.stop()
    try:
        yield
    finally:
        if managed and client.status == "running":
            client.amm.start()


@contextmanager
def local(workers: int) -> Iterator[Cluster]:
    """A cluster of `workers` processes of this machine, which share torch's threads between them.

    They and this process know one another by a certificate that is made here and is in no file: whoever has none, as
    another user of this machine, is refused. Raises UserError if none can be made.
    """
    try:
        security = Security.temporary()
    except ImportError as error:
        raise UserError(f"workers of one machine need TLS ({error}); pip install 'vaebench[cluster]'") from error
    share = str(max(1, torch.get_num_threads() // workers))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), share)
    with (
        dask.config.set({"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",  # None would be 8787, which may be taken
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
            env=threads,
            security=security,
        ) as started,
        connect(started.scheduler_address, security) as cluster,
    ):
        yield cluster
