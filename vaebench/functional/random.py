"""Keyed random numbers: a value is a function of its key alone, never of the order in which values are asked for.

The generator is SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators",
figures 13 and 15) used by counter: stream `key` yields mix(key + i * GAMMA) for i = 1, 2, .... One key per
(seed, example, draw, call) makes every draw of an example independent of its batch, of the chunk of draws it was
computed in, and of the device.
"""

import hashlib
import math

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """The 64-bit pattern `value` as torch's signed integer."""
    return value - (1 << 64) if value >= 1 << 63 else value


GAMMA = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def derive(*parts: object) -> int:
    """A non-negative 63-bit seed from `parts`, by SHA-256 of their representations.

    Equal parts give equal seeds on every machine; any change gives an unrelated one.
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical (not arithmetic) right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser: a bijection on 64-bit integers whose output bits all depend on all input bits.

    Source: Steele, Lea & Flood 2014, figure 15 (variant 13 of Stafford's mixers). Shape and dtype (int64) as given.
    """
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def keys(seed: int, *coordinates: Tensor) -> Tensor:
    """int64 keys, one for each point of the broadcast `coordinates` (int64), all depending on `seed`.

    key_0 = seed, key_j = mix(key_{j-1} + (c_j + 1) GAMMA): each coordinate picks a word of the stream before it.
    """
    key: Tensor | int = seed
    for coordinate in coordinates:
        key = mix(coordinate * GAMMA + (key + GAMMA if isinstance(key, Tensor) else _signed((key + GAMMA) % (1 << 64))))
    assert isinstance(key, Tensor)
    return key


def _words(key: Tensor, count: int) -> Tensor:
    """The first `count` 64-bit words of each key's stream: (*key.shape, count) int64."""
    counter = torch.arange(1, count + 1, dtype=torch.int64, device=key.device) * GAMMA
    return mix(key[..., None] + counter)


def uniform(key: Tensor, event: tuple[int, ...]) -> Tensor:
    """Uniform draws on the open interval (0, 1), float32, shape (*key.shape, *event)."""
    words = _words(key, math.prod(event))
    # 23 bits and a half are exact in float32: the extremes are 2**-24 and 1 - 2**-24
    return ((_shift(words, 41).float() + 0.5) * 2.0**-23).reshape(*key.shape, *event)


def normal(key: Tensor, event: tuple[int, ...]) -> Tensor:
    """Standard normal draws, float32, shape (*key.shape, *event), by Box and Muller (1958).

    Each 64-bit word gives two normals: r = sqrt(-2 log u) with 32-bit u, angle 2 pi v with 32-bit v.
    """
    size = math.prod(event)
    words = _words(key, (size + 1) // 2)
    radius = (_shift(words, 32).float() + 0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    angle = (words & 0xFFFFFFFF).float().mul_(2.0 * math.pi * 2.0**-32)
    pairs = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)
    return pairs[..., :size].reshape(*key.shape, *event)
