"""Citations: the papers that a text names, as "Burda et al. 2016", in BibTeX. Imports no torch."""

import re
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("references.bib")
_NAMED = re.compile(
    r"(?<![\w-])(?!JPEG|[a-z]?Xiv)([A-Z][\w-]*[a-z])"
    r"(?: et al\.|(?:, [A-Z][\w-]+)*,? & [A-Z][\w-]+)?,? \(?((?:19|20)\d\d)\b"
)
_ENTRY = re.compile(r"^@\w+\{([^,]+),\n.*?^\}$", re.MULTILINE | re.DOTALL)


@cache
def references() -> dict[str, str]:
    """BibTeX of every known paper, by key: the first author's family name and the year, as "burda2016"."""
    return {found[1]: found[0] for found in _ENTRY.finditer(FILE.read_text(encoding="utf-8"))}


def keys(text: str) -> list[str]:
    """The keys of the papers that `text` names, known or not, each once and in the order of the text."""
    found = _NAMED.finditer(" ".join(text.split()))
    return list(dict.fromkeys(f"{name.lower()}{year}" for name, year in (each.groups() for each in found)))


def bibtex(text: str) -> list[str]:
    """BibTeX of the papers that `text` names and that are known, in the order of the text."""
    return [references()[key] for key in keys(text) if key in references()]
