"""A page of the site, parsed."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """The elements of a page with their attributes, its cells by row, and its text."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.texts: list[tuple[str, str]] = []
        self.open: list[tuple[str, int]] = []
        self.inside = False
        self.feed(content.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append((tag, len(self.text)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside &= tag not in ("td", "th")
        start = next((start for name, start in reversed(self.open) if name == tag), 0)
        self.texts.append((tag, self.text[start:]))

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.inside:
            self.rows[-1][-1] += data

    def lines(self, heading: str) -> dict[str, list[str]]:
        """The first cell of each line to all of them, over the tables that have a column so called; blanks made one."""
        found: dict[str, list[str]] = {}
        inside = False
        for row in ([" ".join(cell.split()) for cell in row] for row in self.rows):
            if row[0] in ("model", "column", "dataset"):
                inside = any(cell.startswith(heading) for cell in row)
            elif inside:
                found.setdefault(row[0], row)
        return found

    def insides(self, tag: str) -> list[str]:
        """The text inside each element of a tag."""
        return [text.strip() for found, text in self.texts if found == tag]

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attributes in self.elements for key, value in attributes.items() if key == name]
