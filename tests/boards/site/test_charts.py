"""Charts: equal bytes, the reader's ink, text that is never markup or a formula, numbers of any size."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hostile import row

from vaebench.boards.rows import Row
from vaebench.boards.site import charts, sheets
from vaebench.boards.site.artefacts import Figure

TINY, HUGE = 5e-324, 1.7e308


def curve(y: tuple[float, ...] = (0.0, 1.0), x_name: str = "tau", y_name: str = "P", **changes: object) -> Row:
    return row(curve=(tuple(float(i) for i in range(len(y))), y, x_name, y_name), **changes)


def of_line(*rows: Row) -> list[Figure]:
    (sheet,) = sheets.of_rows(rows)
    (line,) = sheet.lines
    return charts.of_line(line)


def elements(figure: Figure, name: str) -> list[ElementTree.Element]:
    assert figure.content is not None
    return list(ElementTree.fromstring(figure.content).iter(f"{{http://www.w3.org/2000/svg}}{name}"))


def texts(figure: Figure) -> list[str]:
    return ["".join(element.itertext()) for element in elements(figure, "text")]


def points(figure: Figure) -> list[list[float]]:
    """The x, y, x, y, ... of each line that is drawn in a colour."""
    drawn = [found.get("d") or "" for found in elements(figure, "path") if found.get("stroke") in charts.COLOURS]
    return [[float(number) for number in re.findall(r"[-\d.]+", path)] for path in drawn]


def test_equal_curves_are_equal_bytes_and_others_are_not() -> None:
    first, again, other = (of_line(curve(y)) for y in ((0.0, 1.0), (0.0, 1.0), (0.0, 2.0)))
    assert first == again
    assert first[0].address != other[0].address


def test_ink_is_the_reader_s() -> None:
    (figure,) = of_line(curve())
    assert figure.content is not None
    assert b"prefers-color-scheme:dark" in figure.content
    assert {found.get("fill") for found in elements(figure, "text")} == {None}  # of the picture's
    assert all(found.get("stroke") in ("currentColor", *charts.COLOURS) for found in elements(figure, "path"))


def test_a_curve_goes_where_its_values_are() -> None:
    (figure,) = of_line(curve((0.0, 10.0, 5.0)))
    ((x0, y0, x1, y1, x2, y2),) = points(figure)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 - y2) == pytest.approx(y2 - y1, abs=0.2)  # up is less
    ticks = {text: float(found.get("y") or 0) - 4 for found in elements(figure, "text") if (text := found.text)}
    assert ticks["10"] == pytest.approx(y1, abs=0.2)
    assert ticks["0"] == pytest.approx(y0, abs=0.2)


def test_text_is_neither_markup_nor_formula() -> None:
    name = "$\\frac{</text><script>1</script> \u6f22"
    (figure,) = of_line(curve(x_name=name, y_name=name))
    assert texts(figure).count(name) == 2


@pytest.mark.parametrize("y", [(), (1.0,), (0.0, 0.0), (TINY, 0.0), (HUGE, -HUGE), (HUGE, HUGE), (1.0, 1.0 + 1e-16)])
def test_curves_of_any_size(y: tuple[float, ...]) -> None:
    (figure,) = of_line(curve(y))
    assert texts(figure)


@pytest.mark.parametrize("values", [(1.0,), (0.0, 0.0), (TINY, 0.0), (HUGE, -HUGE), (HUGE, HUGE), (1.0, 1.0 + 1e-16)])
def test_histograms_of_any_size(values: tuple[float, ...]) -> None:
    (figure,) = charts.histograms({"regret": {"digits": np.array(values)}}, "digits")
    assert "likelihood regret (nats)" in texts(figure)


def test_a_line_s_curves_of_one_unit_share_axes_while_there_are_colours() -> None:
    rows = [curve(column=f"c{i:02}") for i in range(10)] + [curve(column="other", unit="bits"), row(column="plain")]
    assert [figure.legend for figure in of_line(*rows)] == [
        ("other",), tuple(f"c{i:02}" for i in range(8)), ("c08", "c09"),
    ]  # fmt: skip


def test_a_sheet_has_every_model_s_curve_and_names_seeds_where_they_differ() -> None:
    rows = [curve(seed=0), curve(seed=1, value=99.0), curve(model="beta", value=50.0), row(model="plain", value=0.0)]
    (sheet,) = sheets.of_rows(rows)
    (figure,) = charts.of_sheet(sheet)
    assert figure.caption == "The nll of each model by tau."
    assert figure.legend == ("beta", "alpha, seed 0", "alpha, seed 1")


def test_few_far_values_squash_no_histogram() -> None:
    near = np.linspace(0, 100, 900)
    (figure,) = charts.histograms({"regret": {"digits": near, "aside": np.full(90, 1e6)}}, "digits")
    ticks = [float(text) for text in texts(figure) if text.replace(".", "").lstrip("-").isdigit()]
    assert max(ticks) < 1000
    assert "1000000" not in texts(figure)


def test_the_dataset_s_own_images_come_first() -> None:
    scores = {"regret": {"aside": np.zeros(3), "digits": np.ones(3)}, "ratio": {"digits": np.ones(3)}}
    assert [figure.legend for figure in charts.histograms(scores, "digits")] == [("digits", "aside"), ("digits",)]
