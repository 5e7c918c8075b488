"""What a leaderboard row may hold."""

import dataclasses
import math
from typing import Any

import pytest
from board_rows import BASE, FAILED, row

from vaebench.boards import store as board
from vaebench.boards.rows import Row
from vaebench.core.errors import UserError


def test_schema_is_the_row() -> None:
    assert board.SCHEMA.names == [field.name for field in dataclasses.fields(Row)] == list(BASE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": math.nan},
        {"value": -math.inf},
        {"stderr": math.nan},
        {"stderr": -1.0},
        {"value": None},
        {"value": "84.5"},
        {"n": None},
        {"n": 3.0},
        {"n": True},
        {"n": -1},
        {"seed": 2**63},
        {"seed": None},
        {"weights_sha256": None},
        {"status": "failed", "reason": "x"},
        {"status": "skipped", "value": None, "stderr": None, "reason": None},
        {"status": "OK"},
        {"better": "up"},
        {"bound": "both"},
        {"origin": "guessed"},
        {"verified": "yes"},
        {"origin": "published"},
        {"parameters": '{"b": 1, "a": 2}'},
        {"parameters": '{"a":1}'},
        {"parameters": '{"a": NaN}'},
        {"comparability": "[]"},
        {"comparability": "k=100"},
        {"created": "2026-01-31T12:00:00"},
        {"created": "yesterday"},
        {"curve": ((1.0,), (1.0, 2.0), "x", "y")},
        {"curve": ((1.0,), (math.nan,), "x", "y")},
        {"column": "seed"},
        {"column": "nll_stderr"},
        {"split": ""},
        {"metric": "a\nb"},
        {"source": "\ud800"},
        *({"model": name} for name in ("../x", "a/b", "", ".a", "A", "a\n", "a\0", "..", "x.csv", "-x", "é")),
        {"dataset": "../../etc"},
    ],
    ids=repr,
)
def test_row_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="|".join(wrong) + "|is missing from|has no value"):
        row(**wrong)


@pytest.mark.parametrize("depth", [1_500, 4_900, 5_000])
def test_a_deep_or_long_text_is_one_short_line(depth: int) -> None:
    with pytest.raises(ValueError, match="parameters") as refused:
        row(parameters='{"a": ' + "[" * depth + "]" * depth + "}")
    assert len(str(refused.value)) < 400


def test_row_from_mapping_names_keys() -> None:
    assert board.row(BASE) == row()
    with pytest.raises(UserError, match=r"unknown column 'valeu'; did you mean 'value'"):
        board.row(BASE | {"valeu": 1.0})
    with pytest.raises(UserError, match=r"lacks value"):
        board.row({name: value for name, value in BASE.items() if name != "value"})


def test_row_is_plain() -> None:
    found = row(value=-0.0, n=3, created="2026-01-31T13:00:00.9+01:00", stderr=1)
    assert math.copysign(1, found.value or 0.0) == 1
    assert type(found.stderr) is float
    assert found.created == BASE["created"]
    assert row(**(FAILED | {"reason": "a\n  b\x00\ud800 é"})).reason == "a b\\x00\\ud800 é"
