"""Files of compressed images: what `vaebench compress` writes and `decompress` reads.

A file is `MAGIC`, the length of a header, the header (JSON), the words of a stack, and the SHA-256 of all before it.
Bits come back as they went in only where networks compute the same numbers, so that the header names the weights, torch
and the processor, and the images' own SHA-256 says whether they did.
"""

import hashlib
import json
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from vaebench.core import files, npy
from vaebench.core.data import Space
from vaebench.core.errors import DataError, UserError, foreign
from vaebench.core.model import LatentVariableModel
from vaebench.functional import codes
from vaebench.functional.codes import Stack
from vaebench.functional.random import derive
from vaebench.metrics.shared.bits_back import BinsError, BitsBack, obstacle

MAGIC = b"vaebench code 1\n"
_DIGEST = 32
_MOST_HEADER = 65_536  # bytes
_MOST_IMAGES = 2**31


@final
@dataclass(frozen=True)
class Header:
    """What a file says of itself: the model, on what it ran, and the `count` images, of which `content` is the SHA-256.

    `initial` is how many words the stack began with, from `seed`.
    """

    dataset: str
    model: str
    weights: str
    torch: str
    processor: str
    bins: int
    count: int
    shape: tuple[int, ...]
    content: str
    seed: int
    began: int
    initial: int


@final
@dataclass(frozen=True)
class Compressed:
    """A file's content, and how its bits are spent: on images, on what the stack began with, on header and checksum."""

    content: bytes
    images: int
    initial: int

    @property
    def frame(self) -> int:
        """Bits that are neither."""
        return 8 * len(self.content) - self.images - self.initial


def processor() -> str:
    """The processor's kind, by which torch chooses how to add."""
    about = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", about.read_text(), re.MULTILINE) if about.is_file() else []
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{names[0].strip() if names else platform.machine()}, {capability}"


@contextmanager
def _alone() -> Iterator[None]:
    """Within the block, on one thread: products are added up in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def read_images(path: Path, space: Space) -> Tensor:
    """The images (N, *shape) uint8 of an .npy file, or its one image. Raises DataError if it holds anything else."""
    assert space.levels is not None
    try:
        files.check_plain(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    with foreign(lambda reason: DataError(f"{path} is not an .npy file of images: {reason}")):
        images = npy.read(path, mapped=True)
    if images.dtype != np.uint8:
        raise DataError(f"{path} holds {images.dtype}, and images are uint8 levels 0..{space.levels - 1}")
    if images.shape != space.shape and images.shape[1:] != space.shape:
        raise DataError(f"{path} has shape {images.shape}; this model's images are (N, {_listed(space.shape)})")
    x = torch.from_numpy(np.ascontiguousarray(images.reshape(-1, *space.shape)))
    if not len(x):
        raise DataError(f"{path} holds no image")
    try:
        space.check(x)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    return x


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _content(x: Tensor) -> str:
    return hashlib.sha256(x.numpy().tobytes()).hexdigest()


def compress(x: Tensor, model: LatentVariableModel, dataset: str, name: str, weights: str, bins: int) -> Compressed:
    """The file of images x (N, *shape) uint8, which was decoded again and compared.

    Raises UserError if the model is not a code, or a posterior lies between the bins; DataError if the images did not
    come back: nothing is then to be believed of this machine.
    """
    if (reason := obstacle(model)) is not None:
        raise UserError(f"{dataset}/{name}: {reason}")
    seed = derive("compress", _content(x))
    with _alone():
        code = BitsBack(model, bins)
        begin = codes.start(seed, code.enough())
        stack = Stack(begin.copy())
        try:
            added = code.push(x, stack)
        except BinsError as error:
            raise UserError(str(error)) from error
    spared = codes.untouched(stack)
    header = Header(
        dataset, name, weights, torch.__version__, processor(), bins, len(x), tuple(x.shape[1:]), _content(x), seed,
        len(begin), len(begin) - spared,
    )  # fmt: skip
    about = json.dumps(asdict(header), sort_keys=True).encode()
    body = MAGIC + len(about).to_bytes(4, "little") + about + stack.words[spared:].astype("<u4").tobytes()
    content = body + hashlib.sha256(body).digest()
    if not torch.equal(decompress(content, model, weights), x):
        raise DataError("the images came back otherwise; nothing was written")
    return Compressed(content, sum(added), codes.WORD * header.initial)


def read_header(content: bytes, what: str) -> tuple[Header, bytes]:
    """What the file `what` says of itself, and its words. Raises DataError if it is foreign, damaged or truncated."""
    if not content.startswith(MAGIC):
        raise DataError(f"{what} is not a file that vaebench compress has written")
    body, digest = content[:-_DIGEST], content[-_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        raise DataError(f"{what} is damaged or truncated: its checksum is not that of its content")
    size = int.from_bytes(body[len(MAGIC) : len(MAGIC) + 4], "little")
    start = len(MAGIC) + 4
    if size > min(_MOST_HEADER, len(body) - start):
        raise DataError(f"{what} has a header of {size} bytes, more than there are")
    try:
        found: dict[str, Any] = json.loads(body[start : start + size])
        header = Header(**{**found, "shape": tuple(found["shape"])})
        counts = (header.bins, header.count, header.seed, header.began, header.initial, *header.shape)
        texts = (header.dataset, header.model, header.weights, header.torch, header.processor, header.content)
        sound = all(type(count) is int and 0 <= count < 2**63 for count in counts) and all(
            isinstance(text, str) for text in texts
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{what} has a header that cannot be read: {error}") from error
    words = body[start + size :]
    if not sound or not 1 <= header.bins <= codes.MOST_BINS or not 1 <= header.count < _MOST_IMAGES or len(words) % 4:
        raise DataError(f"{what} has a header that cannot be: bins {header.bins}, {header.count} images")
    return header, words


def decompress(content: bytes, model: LatentVariableModel, weights: str, what: str = "the file") -> Tensor:
    """The images (N, *shape) uint8 of a file's content, exactly.

    Raises DataError if it is foreign, damaged, written with other weights or another shape of images, or if this
    machine computes other numbers than the one it was written on.
    """
    header, words = read_header(content, what)
    if header.weights != weights:
        raise DataError(
            f"{what} was written by {header.dataset}/{header.model} with weights {header.weights[:12]}, not "
            f"{weights[:12]}; name that model"
        )
    if header.shape != model.space.shape:
        raise DataError(f"{what} holds images of shape {header.shape}, not {model.space.shape}")
    with _alone():
        code = BitsBack(model, header.bins)
        most = code.enough()
        try:
            stack = Stack(np.frombuffer(words, dtype="<u4").astype(np.uint32))
            x = code.pop(header.count, stack)
            begin = codes.start(header.seed, most)
            whole = header.began == len(begin) and np.array_equal(stack.words, begin[len(begin) - header.initial :])
        except (EOFError, ValueError):
            whole = False
    if not whole or _content(x) != header.content:
        raise DataError(
            f"{what} was written with torch {header.torch} on {header.processor}, and does not come back with torch "
            f"{torch.__version__} on {processor()}: their arithmetic differs; use the former"
        )
    return x
