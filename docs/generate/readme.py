"""Write the table of entries into the README: ``python docs/generate/readme.py``; a test compares."""

from __future__ import annotations

from pathlib import Path

from entry_pages import entry_table

README = Path(__file__).parent.parent.parent / "README.md"
BEGIN, END = "<!-- entries: python docs/generate/readme.py -->", "<!-- end of entries -->"


def with_entries(text: str) -> str:
    """Return the README with the present table of entries between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{entry_table('zoo/{name}/{version}/card.md')}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_entries(README.read_text(encoding="utf-8")), encoding="utf-8")
