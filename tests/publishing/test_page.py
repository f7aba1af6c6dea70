from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from cphloc.publishing.page import html_of, zoo_page


class Checked(HTMLParser):
    """Reads a page strictly: every element closed in order; notes texts and links."""

    VOID = ("meta", "img", "input", "link", "br")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text, self.links = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("href", "src")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html):
    page = Checked()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


@pytest.fixture
def zoo(tmp_path, put_entry, entry_facts):
    folder = put_entry(tmp_path, "unet3d-ct", "1.0.0")
    facts = entry_facts("unet3d-ct", "1.1.0")
    files = {**facts["files"], "pictures/worst.png": {"sha256": "0" * 64, "bytes": 3}}
    put_entry(tmp_path, "unet3d-ct", "1.1.0", files=files, limits=["<script>alert('x')</script> & co."])
    (folder.parent / "1.1.0" / "pictures").mkdir()
    (folder.parent / "1.1.0" / "pictures" / "worst.png").write_bytes(b"png")
    return tmp_path


def test_the_page_shows_every_version_with_its_numbers_and_card(zoo):
    page = read(zoo_page(zoo).read_text())
    text = " ".join(page.text)
    for shown in ("unet3d-ct@1.0.0", "unet3d-ct@1.1.0", "[0.750, 0.850]", "7.500 [7.450, 7.550]", "CC BY 3.0"):
        assert shown in text
    assert page.tags.count("details") == 2


def test_a_row_holds_its_metrics_and_nothing_for_those_it_lacks(zoo, put_entry, entry_facts):
    facts = entry_facts("attention3d-ct", "1.0.0")
    del facts["evaluation"]["metrics"]["hd95_mm"]
    put_entry(zoo, "attention3d-ct", "1.0.0", evaluation=facts["evaluation"])
    empty = '<td class="number" data-value=""></td>'
    rows = {row.split('"')[1]: row for row in re.findall(r"<tr data-entry=.*?</tr>", zoo_page(zoo).read_text())}
    small = '<br><span class="small">'
    dice = f'<td class="number" data-value="0.8"><span class="good">0.800</span>{small}[0.750, 0.850]</span></td>'
    hd95 = f'<td class="number" data-value="7.5"><span>7.500</span>{small}[7.450, 7.550]</span></td>'
    assert len(rows) == 3
    for name, row in rows.items():
        assert dice in row
        assert (hd95 in row, empty in row) == ("unet3d" in name, "attention3d" in name)


def test_a_page_elsewhere_links_to_the_pictures_of_the_zoo(zoo):
    for path, base in ((zoo.parent / f"{zoo.name}.html", zoo.name), (zoo / "docs" / "all.html", "..")):
        assert f"{base}/unet3d-ct/1.1.0/pictures/worst.png" in read(zoo_page(zoo, path).read_text()).links


def test_links_lead_to_what_is_there_and_to_no_other_site(zoo):
    html = zoo_page(zoo).read_text()
    page = read(html)
    for link in page.links:
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in html
        elif not link.startswith(("https://doi.org/", "data:,")):
            assert (zoo / link).is_file() or link.endswith("cases.csv")
    assert "unet3d-ct/1.1.0/pictures/worst.png" in page.links
    assert page.tags.count("link") == 1, "the empty icon, which keeps browsers from asking for one"
    assert "iframe" not in page.tags


def test_what_people_wrote_cannot_become_code(zoo):
    page = read(zoo_page(zoo).read_text())
    assert page.tags.count("script") == 1
    assert any("<script>alert('x')</script> & co." in text for text in page.text)


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("## Data", "<h3>Data</h3>"),
        ("- a\n- b", "<ul><li>a</li><li>b</li></ul>"),
        ("| a | b |\n| --- | --- |\n| 1\\|2 | 3 |", "<tr><td>1|2</td><td>3</td></tr>"),
        ("```sh\nls <x>\n```", "<pre><code>ls &lt;x&gt;</code></pre>"),
        ("![worst](pictures/worst.png)", 'src="unet/1.0.0/pictures/worst.png"'),
        ("[here](javascript:alert(1))", 'href="unet/1.0.0/javascript:alert(1"'),
        ("**bold** `code`", "<p><strong>bold</strong> <code>code</code></p>"),
    ],
)
def test_markdown_of_cards_becomes_html(markdown, html):
    assert html in html_of(markdown, "unet/1.0.0/")
