"""A board with ties, failures and curves, sent in by someone who means no good: markup in every text, odd files."""

import io
from pathlib import Path
from typing import Any

import board_rows
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from vaebench.boards.rows import Row
from vaebench.metrics.shared import image_grid

SCRIPT = "<script>document.title = 'hacked'</script>"
IMAGE = "\"'><img src=http://example.com/x.png onerror=alert(1)>"
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{SCRIPT}<rect width="9" height="9"/></svg>'
NLL = {"alpha": 80.0, "beta": 80.1, "gamma": 90.0}  # with standard errors of 0.1, alpha and beta tie
HERE: dict[str, Any] = {
    "model": "alpha",
    "weights_sha256": "ab" * 32,
    "dataset": "mnist",
    "data_fingerprint": "cd" * 32,
    "comparability": '{"levels": 2, "mass": "proper", "samples": 1000}',
    "stderr": 0.1,
    "torch": "2.6",
    "commit": "0" * 40,
    "dirty": False,
}
FAILED = {"status": "failed", "value": None, "stderr": None, "n": None, "reason": f"NaN {SCRIPT}"}


def row(**changes: Any) -> Row:
    """A row of nll with some fields changed."""
    return board_rows.row(**(HERE | changes))


def rows() -> list[Row]:
    """Three measured models and one that failed; curves whose axes hold markup and what is no formula."""
    found = []
    for i, (model, nll) in enumerate(NLL.items()):
        found.append(row(model=model, value=nll, verified="refuted" if model == "gamma" else "unverified"))
        found.append(row(model=model, column="elbo", value=-nll, better="higher", bound="lower"))
        curve = ((0.0, 1.0, 2.0), (0.0, 0.2 + i / 10, 1.0), f"tau $\\frac {IMAGE}", f"P < tau {SCRIPT}")
        found.append(row(model=model, metric="latent-gap", column="leaked", value=i / 10, unit="", curve=curve))
        found += [
            row(model=model, metric="regret", column=column, better=better, unit="", value=value + i / 100,
                stderr=0.001, facet=f'{{"score": "{score}", "set": "{name}"}}')
            for score in ("likelihood", "regret") for name in ("noise", "rotated")
            for column, better, value in (("auroc", "higher", 0.9), ("auprc", "higher", 0.8), ("fpr95", "lower", 0.2))
        ]  # fmt: skip
    found.append(row(model="delta", device=SCRIPT, **FAILED))
    protocol = f'{{"note": "{SCRIPT}"}}'
    found.append(row(model="beta", metric=f"own {IMAGE}", comparability=protocol, column="score & more", unit="<b>"))
    return found


def keep(root: Path) -> None:
    """Files beside alpha's rows: pictures, some damaged, some none, a link, and the scores of likelihood regret."""
    folder = root / "mnist" / "alpha" / "gallery"
    folder.mkdir(parents=True)
    images = torch.arange(64 * 28 * 28).view(64, 1, 28, 28).to(torch.uint8)
    samples = image_grid.png("samples", [[image_grid.Row("", (part,)) for part in images.split(8)]])
    (folder / "samples.png").write_bytes(samples)
    (folder / "reconstructions.png").write_bytes(samples[:-200])
    Image.new("L", (16, 16), 20).save(folder / "<b>bold.png")
    (folder / "page.png").write_text(f"<html>{SCRIPT}</html>")
    (folder / "drawing.svg").write_text(SVG)
    Image.new("L", (8, 8), 200).save(root / "secret.png")
    (folder / "link.png").symlink_to(root / "secret.png")
    (folder.parent / "regret").mkdir()
    scores = {"set": ["mnist", "mnist", SCRIPT, SCRIPT], "index": [0, 1, 0, 1], "regret": [0.1, 0.3, 2.0, 2.5]}
    pq.write_table(pa.table(scores), buffer := io.BytesIO())
    (folder.parent / "regret" / "scores.parquet").write_bytes(buffer.getvalue())


CARD = f"""
summary = "{SCRIPT}"
family = "flat"
notes = "{IMAGE.replace('"', chr(39))}"
[model]
latent = 2
likelihood = "{SCRIPT}"
"""
