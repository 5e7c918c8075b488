"""Spans of time as people write them, and what a run may take of it. Imports no torch."""

import re
import time
from dataclasses import dataclass
from typing import final

from vaebench.core.errors import UserError

UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "": 1.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(min|[dhms]|)")
LONGEST = 1e9  # seconds


def seconds(text: str) -> float:
    """The seconds of "10m", "1h30m", "90s", "90". Raises UserError for what is none of these, or nothing."""
    parts = _PART.findall(text)
    found = sum(float(number) * UNITS[unit] for number, unit in parts)
    if "".join(a + b for a, b in parts) != re.sub(r"\s", "", text) or not 0 < found <= LONGEST:
        raise UserError(f"a budget of {text!r} should be a time above zero, such as 90s, 10m or 1h30m")
    return found


def told(span: float) -> str:
    """`span` seconds by their largest unit: "0.02 s", "12 s", "4 min", "3 h", "2 d"."""
    for unit, size, least in (("d", 86400, 2 * 86400), ("h", 3600, 2 * 3600), ("min", 60, 100)):
        if span >= least:
            return f"{span / size:,.0f} {unit}"
    return f"{span:.0f} s" if span >= 1.5 else f"{max(span, 0.001):.1g} s"


@final
@dataclass(frozen=True)
class Budget:
    """The time until `end`, by `time.monotonic`."""

    end: float

    @classmethod
    def of(cls, span: float) -> "Budget":
        """`span` seconds from now."""
        return cls(time.monotonic() + span)

    @property
    def left(self) -> float:
        """Seconds: below zero where it is over."""
        return self.end - time.monotonic()

    def share(self, parts: int) -> "Budget":
        """One of so many equal `parts` of what is left."""
        return Budget.of(self.left / parts)
