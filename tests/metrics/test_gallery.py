"""The gallery's pictures show what they say: draws, ranking, lines in generation space; and they are the same again."""

import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from typing import final

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vaebench.core.data import Binarised, Dataset, Space, Split
from vaebench.core.metric import Measurement
from vaebench.core.model import FactoredModel, LatentDistribution, Latents, LatentVariableModel
from vaebench.distributions.coupling import CouplingFlow, DecoupledPrior
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.likelihoods import DiscretisedLogistic, Likelihood
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.metrics import gallery
from vaebench.metrics.gallery import Gallery
from vaebench.metrics.shared.image_grid import SIDE, Row, png
from vaebench.models.adapters.flat import Flat, Options

Measure = Callable[..., dict[str, Measurement]]
Zoo = Callable[[str], LatentVariableModel]
Pages = dict[str, list[list[Row]]]
SMALL = Gallery(samples=16, candidates=200, images=10, dimensions=3)
EVERY = {f"{name}.png" for name in ("samples", "low-posterior", "reconstructions", "interpolations", "traversals")}


def picture(content: bytes) -> Tensor:
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize("side", [4, 8, 28, 32, 64, 96])
def test_every_image_is_in_the_grid_where_it_belongs_in_exact_squares(side: int) -> None:
    """Each image has a colour that no letter or edge has: it fills one square, in reading order."""
    colours = torch.tensor([[200, 10, 7 * i] for i in range(12)], dtype=torch.uint8)
    x = colours[:, :, None, None].expand(12, 3, side, side)
    bands = [[Row("one", (x[:1], x[1:3])), Row("", (x[3:4], x[4:6]))], [Row("two", (x[6:7], x[7:9]))]]
    page = picture(png("title", [*bands, [Row("", (x[9:10], x[10:]))]], ["a", "b", "c"]))
    length, corners = side * max(1, round(SIDE / side)), []
    for colour in colours:
        found = (page == colour[:, None, None]).all(0).nonzero()
        corners.append(found.amin(0))
        assert len(found) == length**2
        assert (found.amax(0) - found.amin(0)).tolist() == [length - 1] * 2
    down, across = torch.stack(corners).view(4, 3, 2).unbind(2)
    assert (down == down[:, :1]).all()
    assert (across == across[:1]).all()
    (within, between, _), (first, second) = down[:, 0].diff().tolist(), across[0].diff().tolist()
    assert length < within < between
    assert length < second < first  # blocks and bands are further apart than their images
    assert abs(length - SIDE) < min(side, SIDE) or side > SIDE


def test_grey_levels_are_kept() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    page, factor = picture(png("", [[Row("", (ramp,))]])), round(SIDE / 16)
    top, left = ((page[0] != 255).nonzero().amin(0) + 1).tolist()  # within the frame
    inside = page[:, top : top + factor * 16, left : left + factor * 16]
    assert inside.equal(ramp[0].repeat_interleave(factor, 1).repeat_interleave(factor, 2).expand(3, -1, -1))


@final
class Plain(FactoredModel):
    """Pixels show z: CENTRE + GAIN z, of 2 latent dimensions and 1 x 1 x 2 images; q(z|x) nearly is what x shows."""

    centre, gain = 128.0, 20.0

    def __init__(self, flow: CouplingFlow | None = None) -> None:
        super().__init__(Space((1, 1, 2), 256, "pmf"))
        self.flow = flow
        self.origin = nn.Parameter(torch.zeros(2))

    def prior(self, batch: int, temperature: float = 1.0) -> LatentDistribution:
        if self.flow is not None:
            return DecoupledPrior(self.flow, batch, temperature)
        zero = self.origin.expand(batch, 2)
        return DiagonalGaussian(zero, zero + 2 * torch.tensor(temperature).log())

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        z = (x.flatten(1).float() - self.centre) / self.gain
        return DiagonalGaussian(z + self.origin, torch.full_like(z, -9.0))

    def likelihood(self, latents: Latents) -> Likelihood:
        mean = ((self.centre + self.gain * latents[0]) * (2 / 255) - 1)[..., None, None, :]
        return DiscretisedLogistic(torch.cat([mean, torch.full_like(mean, -7.0)], 2), self.space.shape, 256)

    def embed(self, x: Tensor) -> Tensor:
        return self.posterior(x).mean

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield "origin", self.origin

    def pixels(self, z: Tensor) -> Tensor:
        return (self.centre + self.gain * z).clamp(0, 255)


def plain(mean: float = 0.0) -> Dataset:
    z = mean + torch.randn(600, 2, generator=torch.Generator().manual_seed(0))
    x = Plain().pixels(z).round().to(torch.uint8).view(-1, 1, 1, 2)
    return Dataset("plain", Space((1, 1, 2), 256, "pmf"), {"train": Split("train", x), "test": Split("test", x)}, "")


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Pages:
    """What each picture was made of, by the part of its title behind the colon."""
    found: Pages = {}

    def record(title: str, bands: Sequence[Sequence[Row]], columns: Sequence[str] = ()) -> bytes:
        found[title.partition(": ")[2]] = [list(band) for band in bands]
        return png(title, bands, columns)

    monkeypatch.setattr(gallery, "png", record)
    return found


def page(pages: Pages, begins: str) -> list[list[Row]]:
    (found,) = (bands for title, bands in pages.items() if title.startswith(begins))
    return found


def images(bands: list[list[Row]]) -> Tensor:
    return torch.cat([block for band in bands for row in band for block in row.blocks]).double()


def bent() -> CouplingFlow:
    torch.manual_seed(0)
    flow = CouplingFlow(2)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(1.5)
    return flow


def test_low_posterior_samples_are_those_that_the_posterior_leaves(measure: Measure, pages: Pages) -> None:
    """q(z) is about (2, 2): of 200 draws of N(0, I), the lowest 16 are those furthest from there, furthest first."""
    measure(dataclasses.replace(SMALL, decode="mean"), Plain(), plain(2.0))
    low, usual = (images(page(pages, title)).flatten(1) for title in ("of 200 prior samples", "prior samples"))
    distance = ((low - Plain.centre) / Plain.gain - 2).norm(dim=1)
    assert len(low) == len(usual) == 16
    assert low.mean() < usual.mean() - 15
    assert distance.min() > 3.5
    assert distance[:8].mean() > distance[8:].mean()


def test_reconstructions_are_below_their_images(measure: Measure, pages: Pages) -> None:
    measure(dataclasses.replace(SMALL, decode="mean"), Plain(), plain())
    bands = page(pages, "test images and reconstructions")
    assert [[row.label for row in band] for band in bands] == [["image", "model"]] * 2
    for image, made in bands:
        (seen,), (shown,) = image.blocks, made.blocks
        assert (seen.int() - shown.int()).abs().max() <= 1
    assert len(images(bands)) == 20
    assert len(images(bands).unique(dim=0)) > 5


@pytest.mark.parametrize("flow", [None, bent()], ids=["normal", "decoupled"])
def test_interpolations_are_straight_in_generation_space(
    flow: CouplingFlow | None, measure: Measure, pages: Pages
) -> None:
    model, data = Plain(flow), plain()
    measure(SMALL, model, data)
    (rows,) = page(pages, "between test images, straight in " + ("z" if flow is None else "u"))
    assert len(rows) == 5
    bend = 0.0
    for row in rows:
        first, line, last = (block.double().flatten(1) for block in row.blocks)
        ends = (torch.cat([first, last]).float() - Plain.centre) / Plain.gain
        weights = torch.linspace(0, 1, len(line))[:, None]
        straight = ends[0] + weights * (ends[1] - ends[0])
        z = straight
        if flow is not None:
            u = flow(ends)[0]
            z = flow.inverse(u[0] + weights * (u[1] - u[0])).detach()
        assert (line - model.pixels(z)).abs().max() < 2
        bend = max(bend, float((model.pixels(z) - model.pixels(straight)).abs().max()))
    assert bend > 5 or flow is None


@pytest.mark.parametrize("flow", [None, bent()], ids=["normal", "decoupled"])
def test_a_traversal_moves_one_coordinate_of_generation_space(
    flow: CouplingFlow | None, measure: Measure, pages: Pages
) -> None:
    model, name = Plain(flow), "z" if flow is None else "u"
    measure(SMALL, model, plain())
    (rows,) = page(pages, f"one coordinate of {name} at a time, largest change first")
    assert {row.label for row in rows} == {f"{name}[0]", f"{name}[1]"}
    z = [(row.blocks[0].float().flatten(1) - Plain.centre) / Plain.gain for row in rows]
    for row, path in zip(rows, z, strict=True):
        u = path if flow is None else flow(path)[0].detach()
        moved = int(row.label[2])
        assert torch.allclose(u[:, moved], torch.linspace(-2.5, 2.5, 9), atol=0.2)
        assert (u[:, 1 - moved] - u[:1, 1 - moved]).abs().max() < 0.2
    change = [path.var(0).sum() for path in z]
    assert change[0] >= change[1] or flow is None
    measure(dataclasses.replace(SMALL, dimensions=1), model, plain())
    (rows,) = page(pages, f"one coordinate of {name} at a time, largest change first")
    assert len(rows) == 1


@pytest.mark.parametrize("name", ["vae", "dpvae"])
def test_pictures_are_the_same_again_and_others_under_another_seed(
    name: str, measure: Measure, kept: dict[str, bytes], zoo: Zoo, digits: Dataset
) -> None:
    found = []
    for seed in (0, 0, 1):
        assert measure(SMALL, zoo(name), digits, seed)["pictures"] == Measurement("pictures", 5, None, 10)
        assert set(kept) == EVERY
        found.append(dict(kept))
    assert found[0] == found[1]
    assert all(found[0][file] != found[2][file] for file in EVERY)


@pytest.mark.parametrize(
    ("name", "absent", "reason"),
    [
        ("nvae", {"interpolations", "traversals"}, "needs one vector of latents; this model has 3 groups"),
        ("hvae", {"low-posterior"}, "needs a diagonal Gaussian q(z|x); this model's is a HamiltonianGaussian"),
    ],
)
def test_what_a_model_has_not_is_left_out_with_a_word(
    name: str, absent: set[str], reason: str, zoo: Zoo, digits: Dataset
) -> None:
    kept, said = set[str](), list[str]()

    class Progress:
        def begin(self, metric: str, place: int, metrics: int) -> None: ...
        def tell(self, text: str) -> None: ...
        def start(self, metric: str, blocks: int) -> None: ...
        def advance(self, blocks: int) -> None: ...
        def failed(self, metric: str, error: Exception) -> None: ...
        def fetch(self, done: int, total: int | None, name: str) -> None: ...
        def warn(self, text: str) -> None:
            said.append(text)

    def keep(_: str, file: str, content: bytes) -> None:
        kept.add(file)

    model = zoo(name)
    run = MetricRun(of_model(model, digits, name), "gallery", SMALL, Settings(), Progress(), keep=keep)
    (found,) = SMALL.measure(model, digits, run)
    assert kept == EVERY - {f"{picture}.png" for picture in absent}
    assert found.value == len(kept)
    assert sorted(said) == [f"gallery: no {picture}: {reason}" for picture in sorted(absent)]


def test_of_one_image_all_is_shown_but_what_lies_between_two(
    measure: Measure, zoo: Zoo, digits: Dataset, kept: dict[str, bytes]
) -> None:
    one = {"train": digits.split("train"), "test": digits.split("test").part(torch.arange(1), "test")}
    (found,) = measure(SMALL, zoo("vae"), Dataset("digits", digits.space, one, "")).values()
    assert set(kept) == EVERY - {"interpolations.png"}
    assert found.value == len(kept)


@pytest.mark.parametrize(
    ("space", "likelihood", "binarise"),
    [
        (Space((3, 32, 32), 256, "pmf"), "discretised-logistic-mixture", False),
        (Space((3, 8, 8), 5, "pmf"), "categorical", False),
        (Space((1, 64, 64), 2, "pmf"), "bernoulli", True),
        (Space((1, 28, 28), 256, "pmf"), "discretised-logistic", False),
    ],
)
def test_colours_sizes_and_binarised_images_are_all_shown(
    space: Space, likelihood: str, binarise: bool, measure: Measure, kept: dict[str, bytes]
) -> None:
    torch.manual_seed(0)
    model = Flat(space, Options(3, (8,), likelihood))  # type: ignore[arg-type]
    levels = 256 if binarise else space.levels
    x = torch.randint(0, levels, (20, *space.shape), dtype=torch.uint8)  # type: ignore[arg-type]
    dataset = Dataset(
        "any", space, {name: Split(name, x, None, Binarised() if binarise else None) for name in ("train", "test")}, ""
    )
    measure(SMALL, model, dataset)
    assert set(kept) == EVERY
    for content in kept.values():
        channels = picture(content).double()
        coloured = float((channels.amax(0) - channels.amin(0)).max())
        assert (coloured > 0) == (space.shape[0] == 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 1}, "samples = 1 should be at least 2"),
        ({"candidates": 63}, "candidates = 63 should be at least 64"),
        ({"images": 1}, "images = 1 should be at least 2"),
        ({"dimensions": 0}, "dimensions = 0 should be at least 1"),
        ({"temperature": 0.0}, r"temperature = 0\.0 should be positive"),
    ],
)
def test_parameters_are_checked(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Gallery(**change)  # type: ignore[arg-type]


def test_only_images_are_shown() -> None:
    vectors = Dataset("vectors", Space((2,), None, "density"), {"train": Split("train", torch.zeros(1, 2))}, "")
    assert Gallery(split="train").unsupported(Plain(), vectors) == (
        "vectors does not hold images of 1 or 3 channels of integers"
    )
    assert Gallery().unsupported(Plain(), vectors) == "vectors has no split 'test'"
    assert Gallery().unsupported(Plain(), plain()) is None
