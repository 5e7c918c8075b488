"""The length of an image as lossless codecs write it: how complex it is, whatever a model says."""

import io
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

CODECS: dict[str, dict[str, Any]] = {"PNG": {"compress_level": 9}, "JPEG2000": {"irreversible": False}}


def encode(image: NDArray[np.uint8], codec: str) -> bytes:
    """The file of one image (H, W) or (H, W, 3), without loss."""
    Image.fromarray(image).save(buffer := io.BytesIO(), codec, **CODECS[codec])
    return buffer.getvalue()


def compressed_bits(x: Tensor) -> Tensor:
    """L(x), bits: 8 times the length of the shorter file, PNG at level 9 or lossless JPEG 2000. (N,) float64.

    x (N, C, H, W), integers 0..255 and one colour or three, ValueError otherwise. Headers count: of an 8x8 image most
    of the file is header, the same for every image.
    Source: Serra et al. 2020 (arXiv 1909.11480), section 3, without FLIF.
    """
    if x.is_floating_point() or x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"codecs take integer images of 1 or 3 colours, not {x.dtype} of shape {list(x.shape)}")
    images = x.movedim(1, -1).cpu().numpy()
    if images.size and (images.min() < 0 or images.max() > 255):
        raise ValueError(f"codecs take levels 0..255, not {images.min()}..{images.max()}")
    images = images.astype(np.uint8).squeeze(-1) if x.shape[1] == 1 else images.astype(np.uint8)
    return torch.tensor([8.0 * min(len(encode(i, codec)) for codec in CODECS) for i in images], dtype=torch.float64)


def input_complexity(nll: Tensor, bits: Tensor) -> Tensor:
    """S(x) = -log2 p(x) - L(x), bits: `nll` = -log p(x) in nats, `bits` = L(x). Higher means OOD.

    Source: Serra et al. 2020, section 3.
    """
    return nll / math.log(2) - bits
