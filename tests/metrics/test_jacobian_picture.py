"""The picture of the decoder's Jacobian: columns are derivatives, the largest first; latents in groups have none."""

import io
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vaebench.core.data import Batch, GroundTruth, Space
from vaebench.core.metric import Run, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.metrics.shared import jacobian_picture as pictures
from vaebench.metrics.shared.encoder import Encoder
from vaebench.metrics.shared.jacobian_picture import jacobian_columns, jacobian_picture
from vaebench.metrics.shared.prior import generation, representation
from vaebench.models.adapters.flat import Flat
from vaebench.models.adapters.flat import Options as FlatOptions
from vaebench.models.adapters.nvae import NVAE
from vaebench.models.adapters.nvae import Options as NvaeOptions

SPACE = Space((1, 4, 4), 17, "pmf")
BATCH = Batch(torch.tensor([[0, 3], [5, 1]]), None, torch.arange(2))


def render(factors: Tensor) -> Tensor:
    """Grey 4 x 4 images whose rows and columns brighten with the two factors."""
    steps = torch.arange(4)
    grey = factors[:, :1, None] * steps[:, None] + factors[:, 1:, None] * steps
    return (grey[:, None] % 17).to(torch.uint8)


TRUTH = GroundTruth(("a", "b"), (6, 6), render)


def flat(prior: str) -> LatentVariableModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        options = {"likelihood": "discretised-logistic", "hidden": (8,), "activation": "silu", "prior": prior}
        return Flat(SPACE, FlatOptions(4, **options)).eval()  # type: ignore[arg-type]


class Direct:
    """A run that does each pass at once."""

    def __init__(self) -> None:
        self.warned: list[str] = []

    def map(self, function: object, split: object) -> object:
        return function(BATCH, 0)  # type: ignore[operator]

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.mark.parametrize("prior", ["normal", "coupling"])
def test_columns_are_the_derivatives_of_the_mean_in_generation_space(prior: str) -> None:
    model = flat(prior).double()
    encoder = Encoder(model, TRUTH, binarise=False)
    found = jacobian_columns(BATCH, 0, encoder=encoder)
    x = render(BATCH.x)
    u = generation(model, model.embed(x))
    for latent in range(4):
        step = 1e-5 * torch.eye(4, dtype=u.dtype)[latent]
        ends = (model.likelihood(representation(model, u + sign * step)).mean[0] for sign in (1, -1))
        column = (next(ends) - next(ends)) / 2e-5
        assert torch.allclose(found["size"][:, latent], column.abs().flatten(1).sum(1), rtol=1e-3, atol=1e-6)
    assert found["columns"].shape == (2, 4, 1, 4, 4)
    most = (found["columns"].short() - 128).abs().flatten(1).amax(1)
    assert most.tolist() == pytest.approx([128, 128], abs=1)


def test_the_column_of_largest_mean_size_stands_first(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    real = pictures.png
    monkeypatch.setattr(pictures, "png", lambda t, bands, columns: titles.extend(columns) or real(t, bands, columns))
    encoder = Encoder(flat("normal"), TRUTH, binarise=False)
    content = jacobian_picture("title", encoder, BATCH.x, cast(Run, Direct()))
    size = jacobian_columns(BATCH, 0, encoder=encoder)["size"].mean(0)
    assert titles == ["image", *(f"[{i}]" for i in size.argsort(descending=True).tolist())]
    assert np.asarray(Image.open(io.BytesIO(cast(bytes, content)))).std() > 10


def test_latents_in_groups_have_no_such_picture() -> None:
    options = NvaeOptions(
        likelihood="categorical", channels=4, latent=2, scales=1, groups=2, pre_cells=1, post_cells=1, encoder_cells=1
    )
    model = NVAE(Space((1, 8, 8), 17, "pmf"), options)
    truth = GroundTruth(("a", "b"), (6, 6), lambda factors: torch.zeros(len(factors), 1, 8, 8, dtype=torch.uint8))
    run = Direct()
    with pytest.raises(UnavailableError):
        jacobian_columns(BATCH, 0, encoder=Encoder(model.eval(), truth, binarise=False))
    assert jacobian_picture("title", Encoder(model.eval(), truth, binarise=False), BATCH.x, cast(Run, run)) is None
    assert len(run.warned) == 1
    assert run.warned[0].startswith("no picture of the Jacobian: ")
