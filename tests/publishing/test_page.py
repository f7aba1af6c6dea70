from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from cphloc.publishing.page import zoo_page


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


def test_the_policy_of_the_page_allows_its_own_script_and_style_and_nothing_else(zoo):
    html = zoo_page(zoo).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*)</{tag}>", html, re.DOTALL)[1]
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'" in policy
    assert not re.search(r"\son\w+=|style=", re.sub(r"(?s)<(script|style)>.*?</\1>", "", html))


HOSTILE = (
    'Research. ![x [y](z) ]( src=x onerror=location="javascript:document.title=%27XSS%27;void%200" )',
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "[a](javascript:alert(1)) [b](jav&#x61;script:alert(1)) <javascript:alert(1)> [c](//evil) [d](\\\\evil)",
    "[a]: javascript:alert(1)\n\n[a]",
    "![a](http://evil/track.png) ![b](//evil/b.png) ![c](../../id_rsa)",
    "`</code><script>alert(1)</script>`",
    "|a|\n|-|\n|<svg onload=alert(1)>|",
    '[a](https://x" onmouseover=alert(1))',
)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_an_entry_becomes_an_attribute_a_script_or_a_request(tmp_path, put_entry, entry_facts, text):
    facts = entry_facts("evil", "1.0.0")
    data = {**facts["data"], **dict.fromkeys(("name", "licence", "citation"), text)}
    texts = dict.fromkeys(("summary", "intended_use", "changelog", "task"), text) | {"classes": {1: text}}
    put_entry(tmp_path, "evil", "1.0.0", limits=[text], modality=[text], channels=[text], data=data, **texts)
    attributes = []

    class Attributes(HTMLParser):
        def handle_starttag(self, tag, attrs):
            attributes.extend((tag, key, value or "") for key, value in attrs)

    html = zoo_page(tmp_path).read_text()
    Attributes().feed(html)
    assert html.count("<script>") == 1
    assert "<svg" not in html
    for tag, key, value in attributes:
        assert not key.startswith("on")
        if key in ("src", "href"):
            assert value.startswith(("#", "evil/1.0.0/", "https://", "data:,")), (tag, key, value)
            assert tag != "img" or value.startswith("evil/1.0.0/")


def test_the_page_shows_what_a_prediction_applies_with_its_gain(tmp_path, put_entry):
    kept = {"option": "largest", "value": "one component", "of": "tumour", "metric": "dice", "gain": 0.0125, "n": 20}
    left = {"option": "tta", "value": "8 views", "metric": "dice", "gain": 0.001, "n": 20, "kept": False, "why": "no"}
    chosen = {"options": {"largest": ["tumour"]}, "trials": [kept | {"kept": True, "why": "gains"}, left]}
    put_entry(tmp_path, "unet3d-ct", "1.0.0", options=chosen)
    put_entry(tmp_path, "unet3d-ct", "0.9.0", thresholds={"mask": 0.35, "split": "val"})
    html = zoo_page(tmp_path).read_text()
    read(html)
    rows = dict(re.findall(r'<tr data-entry="([^"]+)".*?<td class="small">(.*?)</td></tr>', html))
    assert rows == {
        "entry-unet3d-ct-1-0-0": "largest (tumour) one component: dice +0.013",
        "entry-unet3d-ct-0-9-0": "thresholds mask 0.35",
    }
