"""How numbers are written."""

from collections.abc import Mapping
from typing import Any

from vaebench.boards.classes import protocol
from vaebench.boards.rows import Row

PLACES = 12  # before or behind the point at most, else a number is written with an exponent


def number(value: float, stderr: float | None, low: float | None = None, high: float | None = None) -> str:
    """A value with its standard error, both to two digits of the error: "96.83 ± 0.45"; whole numbers in full.

    Where that error is 0 and the 95% interval is not, the interval: "1 [0.643, 1]".
    """
    if stderr is None:
        return f"{value:.0f}" if value.is_integer() and abs(value) < 10**PLACES else f"{value:.6g}"
    if stderr == 0:
        wide = low is not None and high is not None and low < high
        return f"{value:.6g} [{low:.3g}, {high:.3g}]" if wide else f"{value:.6g} ± 0"
    digits = max(0, 1 - int(f"{stderr:.1e}".partition("e")[2]))
    nothing = stderr < min(1e-3, 1e-6 * abs(value))  # as of a count that hardly can be another
    if nothing or digits > PLACES or max(abs(value), stderr) >= 10**PLACES:
        return f"{value:.6g} ± {stderr:.1e}"
    return f"{value:z.{digits}f} ± {stderr:.{digits}f}"


def cell(row: Row) -> str:
    """A row's value with its standard error and marks, or its status: "96.83 ± 0.45 (bound loose)"."""
    if row.value is None:
        return row.status
    told = [*row.marks, *(["refuted"] if row.verified == "refuted" else [])]
    return number(row.value, row.stderr, row.low, row.high) + (f" ({', '.join(told)})" if told else "")


def rounded(row: Row) -> tuple[float | int | None, float | None]:
    """A row's value and standard error, both to two digits of the error, as `number` writes them; a count is an int."""
    if row.value is None:
        return None, None
    value, _, stderr = number(row.value, row.stderr).partition(" ± ")
    count = not stderr and value.removeprefix("-").isdigit()
    return int(value) if count else float(value), float(stderr) if stderr else None


def fields(said: Mapping[str, Any]) -> str:
    """What is said by field: "samples 1000, split test"."""
    return ", ".join(f"{name} {value}" for name, value in sorted(said.items()) if value is not None)


def protocol_of(row: Row) -> str:
    """How a row's value was measured: "likelihood v1: samples 1000, split test"."""
    return f"{row.metric} v{row.metric_version}: {fields(protocol(row))}"


def safe(value: str | float) -> str:
    """A cell of a CSV: a number as Python reads it back; text that a spreadsheet would run behind an apostrophe."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(tuple("'=+-@\uff1d\uff0b\uff0d\uff20")) else value
    return repr(value)
