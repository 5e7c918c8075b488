"""Images of a known format and size: looked at before they are opened, and their header before they are decoded."""

from pathlib import Path
from typing import Literal

from PIL import Image

from vaebench.core.errors import foreign
from vaebench.datasets._files import damaged, size_of

MOST = 2**20
"""Bytes of a file; a face has some 10,000, a drawing 200."""


def decoded(
    name: str, root: Path, file: str, form: Literal["JPEG", "PNG"], size: tuple[int, int], mode: Literal["L", "RGB"]
) -> Image.Image:
    """The image in `file`, in `mode`. ValueError unless it is a whole `form` of `size`: width, height.

    The format is named, for Pillow would otherwise choose by content: it hands PostScript to an interpreter.
    """
    size_of(name, root, file, MOST)
    with (
        foreign(lambda reason: damaged(name, root, file, f"is not a whole {form} file ({reason})")),
        Image.open(root / file, formats=(form,)) as image,
    ):
        found = image.size
        if found == size:
            return image.convert(mode)
    raise damaged(name, root, file, f"is {found[0]}x{found[1]}, not {size[0]}x{size[1]}")
