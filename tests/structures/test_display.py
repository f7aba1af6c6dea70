"""How objects present themselves: as text of few lines, as HTML, and as a table in a terminal."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from rich.console import Console

from cphloc.structures.display import MAX_LINES, MAX_WIDTH, Display, Displayed, chart_html, image_html, with_interval


class Shown(Displayed):
    def __init__(self, rows):
        self.rows = rows

    def _display(self):
        return Display("Title", self.rows, lambda: "<svg></svg>")


class Tags(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_a_text_has_at_most_ten_lines_of_limited_width_and_states_what_is_left_out():
    lines = repr(Shown([(f"label {i}", "word " * 60) for i in range(30)])).splitlines()
    assert len(lines) == MAX_LINES
    assert max(map(len, lines)) <= MAX_WIDTH
    assert "and 22 more" in lines[-1]


def test_rows_without_a_value_and_line_breaks_in_values_are_left_out():
    assert repr(Shown([("a", ""), ("b", "one\ntwo")])) == "Title\n  b  one two"


def test_a_name_with_markup_stays_text_in_notebooks_and_terminals():
    shown = Shown([("<b>bold</b>", "<script>alert(1)</script> [red]x[/red]")])
    page = Tags(shown._repr_html_())
    assert "script" not in page.tags
    assert "<script>alert(1)</script> [red]x[/red]" in page.text
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(shown)
    assert "<script>alert(1)</script> [red]x[/red]" in console.export_text()


def test_a_page_shows_all_rows_and_the_picture():
    page = Tags(Shown([(f"row {i}", "value") for i in range(30)])._repr_html_())
    assert page.tags.count("tr") == 30
    assert "svg" in page.tags


def test_a_chart_draws_shares_with_their_intervals_and_the_baseline():
    metrics = {
        "dice": {"value": 0.5, "low": 0.25, "high": 0.75},
        "hd95_mm": {"value": 4.0, "low": 3.0, "high": 5.0},
        "auc": {"value": None, "low": None, "high": None},
    }
    page = chart_html(metrics, {"dice": {"value": 0.0, "low": None, "high": None}})
    assert 'd="M255.0 12H405.0"' in page  # 0.25 and 0.75 of the 300 pixels that begin at 180
    assert 'cx="330.0"' in page
    assert 'cx="180.0"' in page
    assert "hd95" not in page
    assert "auc" not in page
    assert chart_html({}, {}) == ""


def test_a_picture_that_does_not_exist_is_left_out(tmp_path):
    assert image_html(tmp_path / "none.png", "x") == ""
    (tmp_path / "a.png").write_bytes(b"png")
    assert 'alt="&quot;a&quot;"' in image_html(tmp_path / "a.png", '"a"')


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({"value": None, "low": None, "high": None}, "-"),
        ({"value": 0.5, "low": None, "high": None}, "0.500"),
        ({"value": 0.5, "low": 0.4, "high": 0.6}, "0.500 [0.400, 0.600]"),
    ],
)
def test_a_metric_is_shown_with_its_interval(found, text):
    assert with_interval(found) == text
