"""What runs in every run of the tests, and what where slow tests run besides."""

from collections.abc import Iterable
from typing import Any

import pytest


def weekly(cases: Iterable[Any], *daily: Any) -> list[Any]:
    """`cases` as parameters of a test, a tuple (not one of names) as several: all but those `daily` are marked slow.

    Raises AssertionError if one of those is not a case.
    """
    cases = list(cases)
    assert all(each in cases for each in daily), daily
    values = [(each, each if type(each) is tuple else (each,)) for each in cases]
    return [pytest.param(*value, marks=() if each in daily else pytest.mark.slow) for each, value in values]
