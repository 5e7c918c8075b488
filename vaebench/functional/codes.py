"""Entropy coding of symbols with given masses, and Gaussians on bins of equal prior mass. Needs `constriction`.

Source: Townsend, Bird & Barber 2019 (BB-ANS, arXiv 1901.04866), section 2.5, for the bins.
"""

import importlib
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from vaebench.functional import random

WORD = 32  # bits
MOST_BINS = 16  # as a power of two: frequencies have 24 bits
_SPARE = 4  # words that the coder's own state can reach below what it has taken


def library() -> Any:
    """The module `constriction.stream`. Raises ImportError if it is not installed."""
    return importlib.import_module("constriction").stream


@final
class Stack:
    """Asymmetric numeral systems over 32-bit words: what is pushed last is popped first, and a pop undoes a push.

    Popping with masses that nothing was pushed with takes bits off the stack, as many as the symbol's information:
    pushing the same symbols with the same masses gives them back. Frequencies have 24 bits, and none is 0.
    """

    def __init__(self, words: "np.ndarray[Any, np.dtype[np.uint32]]") -> None:
        stream = library()
        self._coder = stream.stack.AnsCoder(words)
        self._masses, self._uniform = stream.model.Categorical(perfect=False), stream.model.Uniform
        self.fewest = self.bits
        """Bits that were on the stack when it was lowest"""

    @property
    def bits(self) -> int:
        """How many bits are on the stack."""
        return int(self._coder.num_valid_bits())

    @property
    def words(self) -> "np.ndarray[Any, np.dtype[np.uint32]]":
        """The whole stack."""
        found: np.ndarray[Any, np.dtype[np.uint32]] = self._coder.get_compressed()
        return found

    def push(self, symbols: Tensor, masses: Tensor) -> None:
        """Push `symbols` (N,), each by its own `masses` (N, n), which need not sum to 1."""
        self._coder.encode_reverse(_whole(symbols), self._masses, _real(masses))

    def pop(self, masses: Tensor) -> Tensor:
        """The symbols (N,) int64 that were pushed by `masses` (N, n). Raises EOFError if the stack is empty."""
        return self._taken(self._coder.decode(self._masses, _real(masses)))

    def push_uniform(self, symbols: Tensor, size: int) -> None:
        """Push `symbols` (N,), each of 0..size-1 with the same mass."""
        self._coder.encode_reverse(_whole(symbols), self._uniform(size))

    def pop_uniform(self, count: int, size: int) -> Tensor:
        """`count` symbols that `push_uniform` has pushed. Raises EOFError if the stack is empty."""
        return self._taken(self._coder.decode(self._uniform(size), count))

    def _taken(self, symbols: "np.ndarray[Any, np.dtype[np.int32]]") -> Tensor:
        self.fewest = min(self.fewest, self.bits)
        if self.fewest < 2 * WORD:
            raise EOFError("the stack has run out of bits")
        return torch.from_numpy(symbols.astype(np.int64))


def _whole(symbols: Tensor) -> "np.ndarray[Any, np.dtype[np.int32]]":
    return symbols.cpu().numpy().astype(np.int32)


def _real(masses: Tensor) -> "np.ndarray[Any, np.dtype[np.float64]]":
    return np.ascontiguousarray(masses.double().cpu().numpy())


def start(seed: int, bits: int) -> "np.ndarray[Any, np.dtype[np.uint32]]":
    """At least `bits` random bits to begin a stack with: words, the last of which is not 0."""
    count = bits // WORD + 2 * _SPARE
    words = random.mix(random.keys(seed, torch.arange(count)))
    found = (words.numpy() & 0xFFFFFFFF).astype(np.uint32)
    found[-1] |= np.uint32(1 << 31)
    return found


def untouched(stack: Stack) -> int:
    """How many of the lowest words of `stack` were never reached, and can be left away."""
    return max(0, stack.fewest // WORD - _SPARE)


def centres(bins: int) -> Tensor:
    """The median of each of 2**`bins` bins of equal standard normal mass, (2**bins,) float64."""
    count = 2**bins
    found: Tensor = torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)
    return found


def normal_masses(mean: Tensor, scale: Tensor, bins: int) -> Tensor:
    """The mass of each N(mean, scale^2) in 2**`bins` bins of equal standard normal mass: (N,) to (N, 2**bins)."""
    count = 2**bins
    edges = torch.special.ndtri(torch.arange(count + 1, dtype=torch.float64) / count)
    below: Tensor = torch.special.ndtr((edges - mean.double()[:, None]) / scale.double()[:, None])
    return below.diff(dim=1)


def coarse(mean: Tensor, scale: Tensor, bins: int) -> Tensor:
    """Which N(mean, scale^2) lie between bins: over 3 scales from the middle of the bin that holds the mean, (N,)."""
    count = 2**bins
    mean = mean.double()
    place = (torch.special.ndtr(mean) * count).long().clamp(0, count - 1)
    return (centres(bins)[place] - mean).abs() > 3 * scale.double()


def enough(mean: Tensor, scale: Tensor) -> int | None:
    """The least number of bins, as a power of two, of which none of N(mean, scale^2) is `coarse`; None beyond 16."""
    return next((bins for bins in range(1, MOST_BINS + 1) if not bool(coarse(mean, scale, bins).any())), None)
