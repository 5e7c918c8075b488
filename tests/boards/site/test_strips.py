"""Thumbnails: the first row of a grid as gallery draws it, of any size; nothing of any other picture."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from weekly import weekly

from vaebench.boards.site import strips
from vaebench.metrics.shared import image_grid

SIDES = [(8, 8), (28, 28), (32, 32), (64, 64), (24, 48)]


def grid(images: torch.Tensor) -> bytes:
    rows = [image_grid.Row("", (part,)) for part in images.split(8)]
    return image_grid.png("a title that is long: prior samples (decoder means)", [rows])


@pytest.mark.parametrize(("height", "across"), weekly(SIDES, SIDES[0], SIDES[-1]))
@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_images_are_cut_out_whole(height: int, across: int, channels: int) -> None:
    images = torch.randint(0, 256, (64, channels, height, across), dtype=torch.uint8, generator=torch.manual_seed(1))
    strip = strips.cut(grid(images))
    assert strip is not None
    with Image.open(io.BytesIO(strip)) as image:
        shown = np.asarray(image.convert("RGB"))
    width = round(strips.SIDE * across / height)
    assert shown.shape == (strips.SIDE, 8 * (width + strips.GAP) - strips.GAP, 3)
    for i in range(8):
        cell = shown[:, i * (width + strips.GAP) :][:, :width]
        means = cell.reshape(-1, 3).mean(0), images[i].double().flatten(1).mean(1).expand(3).numpy()
        assert means[0] == pytest.approx(means[1], abs=4)


@pytest.mark.parametrize("run", [1, 3, 6, 20])
def test_grey_in_the_letters_of_a_title_is_not_a_frame(run: int) -> None:
    with Image.open(io.BytesIO(grid(torch.zeros(64, 1, 28, 28, dtype=torch.uint8)))) as image:
        page = image.convert("RGB")
    for left in range(10, 200, run + 2):
        ImageDraw.Draw(page).line([(left, 6), (left + run - 1, 6)], fill=strips.EDGE)
    page.save(content := io.BytesIO(), format="PNG")
    strip = strips.cut(content.getvalue())
    assert strip is not None
    with Image.open(io.BytesIO(strip)) as image:
        assert image.size == (8 * (strips.SIDE + strips.GAP) - strips.GAP, strips.SIDE)


def test_white_and_grey_images_are_told_from_paper_and_frames() -> None:
    for value in (0, 150, 255):
        strip = strips.cut(grid(torch.full((16, 1, 28, 28), value, dtype=torch.uint8)))
        assert strip is not None
        with Image.open(io.BytesIO(strip)) as image:
            assert image.size == (8 * 60 - 4, 56)
            assert image.getpixel((20, 20)) == (value, value, value, 255)


def test_fewer_than_a_row_are_all() -> None:
    strip = strips.cut(grid(torch.zeros((3, 1, 28, 28), dtype=torch.uint8)))
    assert strip is not None
    with Image.open(io.BytesIO(strip)) as image:
        assert image.size == (3 * 60 - 4, 56)


@pytest.mark.parametrize("colour", [0, 128, 150, 255])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (90, 40)])
def test_a_picture_without_frames_is_no_strip(colour: int, size: tuple[int, int]) -> None:
    Image.new("L", size, colour).save(buffer := io.BytesIO(), format="PNG")
    found = strips.cut(buffer.getvalue())
    assert found is None or (colour == 150 and size == (90, 40))  # a frame's colour, all over


def test_what_is_damaged_or_absent_or_a_link_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "mnist" / "vae" / "gallery"
    folder.mkdir(parents=True)
    assert strips.of_model(folder.parent) is None
    content = grid(torch.zeros((8, 1, 28, 28), dtype=torch.uint8))
    (folder / "samples.png").write_bytes(content)
    found = strips.of_model(folder.parent)
    assert found is not None
    assert found.caption == "Samples of vae on mnist."
    (folder / "samples.png").write_bytes(content[:-30])
    assert strips.of_model(folder.parent) is None
    (folder / "samples.png").unlink()
    (tmp_path / "other.png").write_bytes(content)
    (folder / "samples.png").symlink_to(tmp_path / "other.png")
    assert strips.of_model(folder.parent) is None
