"""How numbers are written."""

from vaebench.boards.rows import Row

PLACES = 12  # before or behind the point at most, else a number is written with an exponent


def number(value: float, stderr: float | None, low: float | None = None, high: float | None = None) -> str:
    """A value with its standard error, both to two digits of the error: "96.83 ± 0.45"; whole numbers in full.

    Where that error is 0 and the 95% interval is not, the interval: "1 [0.643, 1]".
    """
    if stderr is None:
        return f"{value:.6g}"
    if stderr == 0:
        wide = low is not None and high is not None and low < high
        return f"{value:.6g} [{low:.3g}, {high:.3g}]" if wide else f"{value:.6g} ± 0"
    digits = max(0, 1 - int(f"{stderr:.1e}".partition("e")[2]))
    if digits > PLACES or max(abs(value), stderr) >= 10**PLACES:
        return f"{value:.6g} ± {stderr:.1e}"
    return f"{value:z.{digits}f} ± {stderr:.{digits}f}"


def cell(row: Row) -> str:
    """A row's value with its standard error and marks, or its status: "96.83 ± 0.45 (bound loose)"."""
    if row.value is None:
        return row.status
    told = [*row.marks, *(["refuted"] if row.verified == "refuted" else [])]
    return number(row.value, row.stderr, row.low, row.high) + (f" ({', '.join(told)})" if told else "")
