"""What is read from beside the rows."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import keep

from vaebench.boards.site import artefacts
from vaebench.core.errors import DataError
from vaebench.metrics import regret
from vaebench.models import card

ZOO = Path(__file__).parents[3] / "model_zoo"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keep(tmp_path)
    return tmp_path / "mnist" / "alpha"


def test_pictures_are_named_by_their_content(folder: Path) -> None:
    (found,) = artefacts.pictures(folder).values()
    whole = [figure for figure in found if not figure.fault]
    assert [figure.caption for figure in whole] == [
        "The picture gallery/<b>bold.png that was kept.", "The picture gallery/drawing.svg that was kept.",
        artefacts.CAPTIONS["samples"],
    ]  # fmt: skip
    files = dict(file for figure in found for file in figure.files())
    assert set(files.values()) == {(folder / "gallery" / name).read_bytes() for name in ("<b>bold.png", "samples.png")}
    assert all(name.removeprefix("pictures/").removesuffix(".png").isalnum() for name in files)


def test_a_damaged_picture_is_one_line_and_no_figure(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (found,) = artefacts.pictures(folder).values()
    faults = [figure.fault for figure in found if figure.fault]
    assert faults[0] == "gallery/page.png is damaged and not shown: it is not a PNG."
    assert faults[1].startswith("gallery/reconstructions.png is damaged and not shown: image file is truncated")
    assert len(faults) == 2
    assert not any(list(figure.files()) for figure in found if figure.fault)
    assert [record.getMessage().count("\n") for record in caplog.records] == [0, 0]
    assert "run gallery again" in caplog.records[0].getMessage()


@pytest.mark.parametrize("cut", [40, 60, 300])
def test_any_cut_of_a_picture_is_damage(folder: Path, cut: int) -> None:
    content = (folder / "gallery" / "samples.png").read_bytes()
    assert artefacts.damage(content) == ""
    assert artefacts.damage(content[:-cut])
    assert artefacts.damage(content[:cut])


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(folder)
    assert artefacts.pictures(tmp_path / "model") == {}
    assert artefacts.scores(tmp_path / "model") == {}
    (folder / "also").symlink_to(folder / "gallery")
    assert set(artefacts.pictures(folder)) == {"gallery"}


def test_no_folder_is_no_pictures(tmp_path: Path) -> None:
    assert artefacts.pictures(tmp_path / "none") == {}
    assert artefacts.scores(tmp_path / "none") == {}


def test_scores_are_parted_by_set(folder: Path) -> None:
    found = artefacts.scores(folder)
    assert list(found) == ["regret"]
    assert [values.tolist() for values in found["regret"].values()] == [[0.1, 0.3], [2.0, 2.5]]


def test_the_scores_are_those_of_the_metric() -> None:
    assert tuple(artefacts.SCORES) == regret.SCORES


@pytest.mark.parametrize(
    "table",
    [{"index": [0]}, {"set": ["a"], "regret": ["high"]}, {"set": ["a"], "regret": [np.nan]}, {"set": [], "regret": []}],
    ids=["no set", "text", "not finite", "empty"],
)
def test_damaged_scores_are_one_error(folder: Path, table: dict[str, list[object]]) -> None:
    pq.write_table(pa.table(table), buffer := io.BytesIO())
    for content in (buffer.getvalue(), b"PAR1", b""):
        (folder / "regret" / "scores.parquet").write_bytes(content)
        with pytest.raises(DataError, match=r"cannot read .*scores\.parquet.*run regret again"):
            artefacts.scores(folder)


def test_facts_are_the_whole_card() -> None:
    read = card.read(ZOO / "digits" / "dpvae.toml")
    found = dict(artefacts.facts(read))
    assert found["family"] == read.family
    assert {key: found[f"model.{key}"] for key in read.model} == dict(read.model)
    assert read.training is not None
    assert read.weights is not None
    assert found["training.epochs"] == read.training.epochs
    assert found["weights.sha256"] == read.weights.sha256
    assert not {"name", "dataset", "summary", "notes", "path", "training.ema"} & set(found)
