"""Devices, and how much to compute at once: by measured memory on an accelerator, and less wherever memory runs out."""

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import torch

from vaebench.core.errors import UserError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed

T = TypeVar("T")
SHARE = 0.5  # of the free memory, for the draws that are decoded at once
FEW = 8  # draws whose memory is compared with that of one
_SAYS = ("can't allocate memory", "out of memory")  # torch on a CPU, and on accelerators but CUDA

_TRIM, _MMAP = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_KEPT, _LARGEST = 2**30, 2**25  # bytes; the C library takes no more for the second


@cache
def keep_freed() -> None:
    """From now on let glibc keep up to 1 GiB of freed memory for the next tensors, instead of giving it back at once.

    A tensor of a few MB otherwise costs more in pages to be mapped and zeroed than in arithmetic: 2 to 3 times the
    time of an elementwise chain. No effect where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(_MMAP, _LARGEST)
    mallopt(_TRIM, _KEPT)


def ran_out(error: Exception) -> bool:
    """Whether `error` is an allocation that failed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _SAYS)


def backing_off(compute: Callable[[int], T], cut: int, most: int) -> tuple[T, int]:
    """`compute(cut)` and its `cut`, which doubles for as long as memory runs out, until there is nothing left to halve.

    The error of the last attempt where `cut` has reached `most`, or where it is another than a failed allocation.
    """
    while True:
        try:
            return compute(cut), cut
        except (MemoryError, RuntimeError) as error:
            if cut >= most or not ran_out(error):
                raise
        cut *= 2  # outside the handler, whose traceback holds tensors
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def fitting(bytes_at: Callable[[int], int], budget: float, most: int) -> int:
    """How many draws fit `budget` bytes, from 1 to `most`: `bytes_at(draws)`, at the peak, grows by bytes each."""
    one, few = bytes_at(1), bytes_at(FEW)
    each = max(1.0, (few - one) / (FEW - 1))
    return int(min(most, max(1, 1 + (budget - one) // each)))


def rows(model: LatentVariableModel, device: torch.device, most: int) -> int:
    """How many draws `model.draw` scores at once in SHARE of the CUDA device's free memory, by measuring a few."""

    @torch.no_grad()
    def bytes_at(draws: int) -> int:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with keyed(0, torch.arange(1)):
            model.draw(x, draws)
        return torch.cuda.max_memory_allocated(device) - before

    with torch.no_grad(), keyed(0, torch.arange(1)):
        x = model.likelihood(model.prior(1).rsample(1)).sample()[0]
    bytes_at(1)  # what is prepared once
    return fitting(bytes_at, SHARE * torch.cuda.mem_get_info(device)[0], most)


def torch_device(name: str) -> torch.device:
    """The device `name`. Raises UserError if it cannot be used, or lacks double precision."""
    try:
        device = torch.device(name)
        torch.zeros(1, dtype=torch.float64, device=device).cpu()  # statistics are in double precision
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise UserError(f"device {name!r} cannot be used here ({reason}); use --device cpu") from error
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether products and convolutions in bfloat16 are instructions of `device`, and not made of others."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return any(bool(found.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
