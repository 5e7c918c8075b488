"""A picture of the decoder's Jacobian: what each latent coordinate changes, near a few images."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from vaebench.core.data import Batch, Split, eight_bit
from vaebench.core.metric import Run, UnavailableError
from vaebench.distributions.noise import keyed
from vaebench.functional.jacobian import latent_jacobian
from vaebench.metrics.shared.encoder import Encoder
from vaebench.metrics.shared.image_grid import Row, png
from vaebench.metrics.shared.prior import generation, representation

ACROSS = 10  # columns of the Jacobian that are shown


def jacobian_columns(batch: Batch, seed: int, *, encoder: Encoder) -> Mapping[str, Tensor]:
    """Images of the factors x (B, F), and d E[x|u] / d u_l at their codes, as 8-bit images (B, L, C, H, W).

    u is generation space. For each example the largest size of any pixel of any column becomes 255 or 0, no change 128;
    `size` (B, L) is the sum of a column's sizes, in pixel values. Raises UnavailableError if latents are not one
    vector.
    """
    model = encoder.model
    x = encoder.images(batch.x[:, None].cpu(), batch.example.cpu(), seed)[:, 0].to(batch.x.device)
    with keyed(seed, batch.example):
        u = generation(model, model.embed(x)).to(batch.x.device)

        def mean(at: Tensor) -> Tensor:
            return model.likelihood(representation(model, at)).mean[0]

        columns = latent_jacobian(mean, u).transpose(0, 1)  # (B, L, C, H, W)
    most = columns.abs().flatten(1).amax(1).clamp_min(torch.finfo(columns.dtype).tiny)
    shade = (127.5 + 127.5 * columns / most[:, None, None, None, None]).round().to(torch.uint8)
    return {"image": eight_bit(x, model.space), "columns": shade, "size": columns.abs().flatten(2).sum(2)}


def jacobian_picture(title: str, encoder: Encoder, centres: Tensor, run: Run) -> bytes | None:
    """A PNG: a row for each of `centres` (M, F), its image and the columns of the Jacobian there, the largest first.

    The columns are ordered by their mean size over all rows. None, with a warning, where latents are not one vector.
    """
    try:
        seen = run.map(partial(jacobian_columns, encoder=encoder), Split("Jacobian", centres))
    except UnavailableError as error:
        run.warn(f"no picture of the Jacobian: {error}")
        return None
    order = seen["size"].double().mean(0).argsort(descending=True, stable=True)[:ACROSS]
    pairs = zip(seen["image"], seen["columns"], strict=True)
    rows = [Row("", (image[None], columns[order])) for image, columns in pairs]
    return png(title, [rows], ["image", *(f"[{i}]" for i in order.tolist())])
