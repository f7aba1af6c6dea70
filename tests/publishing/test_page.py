from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from entry_fixtures import pinned

from cphloc.publishing.page import zoo_page
from cphloc.publishing.thumbnail import first_panel, thumbnail
from cphloc.zoo.index import index_zoo


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


def pages(path):
    """The page of the zoo, and those of its versions by file name."""
    return path.read_text(), {p.stem: p.read_text() for p in (path.parent / f"{path.stem}-pages").glob("*.html")}


def test_the_page_has_a_row_and_a_page_for_every_version(zoo):
    html, versions = pages(zoo_page(zoo))
    page = read(html)
    assert sorted(versions) == ["unet3d-ct-1.0.0", "unet3d-ct-1.1.0"]
    assert re.findall(r'<tr data-entry="([^"]+)"[^>]*?( data-older)?( hidden)?>', html) == [
        ("unet3d-ct@1.1.0", "", ""),
        ("unet3d-ct@1.0.0", " data-older", " hidden"),
    ]
    for shown in ("unet3d-ct@1.0.0", "unet3d-ct@1.1.0", "[0.750, 0.850]", "CC BY 3.0"):
        assert shown in " ".join(page.text)
    for version in versions.values():
        text = " ".join(read(version).text)
        assert "7.500 [7.450, 7.550]" in text
        assert "Intended use" in text
    assert 'There is a newer version: <a href="unet3d-ct-1.1.0.html">' in versions["unet3d-ct-1.0.0"]
    assert "newer" not in versions["unet3d-ct-1.1.0"]


def test_a_row_shows_headline_baseline_and_paired_difference(zoo, put_entry, entry_facts):
    facts = entry_facts("attention3d-ct", "1.0.0")
    gain = {"value": 0.3, "low": 0.2, "high": 0.4, "n": 8, "p_value": 0.01}
    put_entry(zoo, "attention3d-ct", "1.0.0", baseline=facts["baseline"] | {"paired": {"dice": gain}})
    rows = {row.split('"')[1]: row for row in re.findall(r"<tr data-entry=.*?</tr>", zoo_page(zoo).read_text(), re.S)}

    def numbers(name):
        cells = re.findall(r'<td class="number" data-value="([^"]*)">(.*?)</td>', rows[name])
        return [(value, " ".join(re.sub("<[^>]*>", "", text).split())) for value, text in cells[:3]]

    baseline = facts["baseline"]["metrics"]["dice"]["value"]
    value, other, difference = numbers("attention3d-ct@1.0.0")
    assert value == ("0.8", "0.800 better than the baseline [0.750, 0.850]")
    assert other[0] == str(baseline)
    assert difference == ("0.3", "+0.300 [0.200, 0.400]")
    assert numbers("unet3d-ct@1.1.0")[2] == ("", "not stored")


def test_a_difference_that_was_not_stored_is_that_of_the_table_of_cases(tmp_path, put_entry, entry_facts):
    columns = "case,patient,dice,dice_baseline\n"
    table = columns + "a,p,0.9,0.5\nb,p,0.8,0.6\nc,q,0.7,0.7\nd,r,0.6,0.3\ne,s,0.6,\n"
    files = entry_facts("unet3d-ct", "1.0.0")["files"] | {"cases.csv": pinned(table.encode())}
    folder = put_entry(tmp_path, "unet3d-ct", "1.0.0", files=files)
    (folder / "cases.csv").write_text(table)

    def shown():
        cells = re.findall(r'<td class="number" data-value="([^"]*)">', zoo_page(tmp_path).read_text())
        return cells[2]

    assert float(shown()) == pytest.approx((0.4 + 0.2 + 0.0 + 0.3) / 4)
    (folder / "cases.csv").write_text(table.replace("0.9", "0.8"))
    assert shown() == "", "another table than the one that was published"


def test_a_superseded_version_is_marked_on_both_pages(tmp_path, put_entry):
    put_entry(tmp_path, "unet3d-ct", "1.0.0")
    put_entry(tmp_path, "sarcoma", "1.0.0", supersedes=["unet3d-ct@1.0.0"])
    index_zoo(tmp_path)
    html, versions = pages(zoo_page(tmp_path))
    row = re.search(r'<tr data-entry="unet3d-ct@1.0.0".*?</tr>', html, re.S)[0]
    assert "data-older hidden" in row
    assert 'Superseded by <a href="index-pages/sarcoma-1.0.0.html">sarcoma@1.0.0</a>' in row
    assert 'Superseded by <a href="sarcoma-1.0.0.html">sarcoma@1.0.0</a>' in versions["unet3d-ct-1.0.0"]
    assert html.count("Superseded") == 1
    assert "Superseded" not in versions["sarcoma-1.0.0"]


@pytest.mark.parametrize(("path", "base"), [("../out/all.html", "../.."), ("docs/all.html", "../.."), (None, "..")])
def test_pages_elsewhere_link_to_the_pictures_of_the_zoo(tmp_path, put_entry, entry_facts, path, base):
    folder = tmp_path / "zoo"
    facts = entry_facts("unet3d-ct", "1.0.0")
    put_entry(
        folder, "unet3d-ct", "1.0.0", files={**facts["files"], "pictures/worst.png": {"sha256": "0" * 64, "bytes": 3}}
    )
    written = zoo_page(folder, path and folder / path)
    (version,) = pages(written)[1].values()
    found = next(link for link in read(version).links if link.endswith("worst.png"))
    place = written.parent / f"{written.stem}-pages" / found
    assert place.resolve() == (folder / "unet3d-ct" / "1.0.0" / "pictures" / "worst.png").resolve()
    assert found.startswith(base)


def test_links_lead_to_what_is_there_and_to_no_other_site(zoo):
    path = zoo_page(zoo)
    for place, html in ((zoo, path.read_text()), *((zoo / "index-pages", v) for v in pages(path)[1].values())):
        page = read(html)
        for link in page.links:
            if not link.startswith(("https://doi.org/", "data:")):
                assert (place / link).is_file() or link.endswith("cases.csv")
        assert page.tags.count("link") == 1, "the empty icon, which keeps browsers from asking for one"
        assert "iframe" not in page.tags


def test_what_people_wrote_cannot_become_code(zoo):
    html, versions = pages(zoo_page(zoo))
    assert read(html).tags.count("script") == 1
    page = read(versions["unet3d-ct-1.1.0"])
    assert "script" not in page.tags
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

    html, versions = pages(zoo_page(tmp_path))
    assert html.count("<script>") == 1
    for each in (html, *versions.values()):
        Attributes().feed(each)
        assert "<svg" not in each
    ours = ("../evil/1.0.0/", "../index.html", "index-pages/evil-1.0.0.html", "https://", "data:,")
    for tag, key, value in attributes:
        assert not key.startswith("on")
        if key in ("src", "href"):
            assert value.startswith(ours), (tag, key, value)
            assert tag != "img" or value.startswith("../evil/1.0.0/")


def test_the_page_shows_what_a_prediction_applies_with_its_gain(tmp_path, put_entry):
    kept = {"option": "largest", "value": "one component", "of": "tumour", "metric": "dice", "gain": 0.0125, "n": 20}
    left = {"option": "tta", "value": "8 views", "metric": "dice", "gain": 0.001, "n": 20, "kept": False, "why": "no"}
    chosen = {"options": {"largest": ["tumour"]}, "trials": [kept | {"kept": True, "why": "gains"}, left]}
    put_entry(tmp_path, "unet3d-ct", "1.0.0", options=chosen)
    put_entry(tmp_path, "unet3d-ct", "0.9.0", thresholds={"mask": 0.35, "split": "val"})
    versions = pages(zoo_page(tmp_path))[1]
    applied = {name: re.findall("<li>(.*)</li>", html.partition("Applied in a")[2]) for name, html in versions.items()}
    assert applied == {
        "unet3d-ct-1.0.0": ["largest (tumour) one component: dice +0.013"],
        "unet3d-ct-0.9.0": ["thresholds mask 0.35"],
    }


@pytest.mark.parametrize("extra", [0, 40])
def test_the_picture_of_a_row_is_one_panel_of_the_picture_of_the_entry(extra):
    grey = np.full((120 + extra, 300), 255)
    grey[extra + 10 : extra + 100, 5:105] = 200
    grey[extra + 10 : extra + 100, 150:280] = 90  # a second panel, inside a frame of its own
    for left, right in ((5, 104), (150, 279)):
        grey[[extra + 10, extra + 99], left : right + 1] = 0
        grey[extra + 10 : extra + 100, [left, right]] = 0
    grey[:5, 120:200] = 0  # a title
    assert first_panel(grey) == (6, extra + 11, 104, extra + 99)
    assert first_panel(np.full((20, 30), 255)) == (0, 0, 30, 20)


def test_a_file_that_is_no_picture_leaves_its_row_without_one(tmp_path):
    (tmp_path / "a.png").write_bytes(b"png")
    assert thumbnail(tmp_path / "a.png") == thumbnail(tmp_path / "missing.png") == ""
