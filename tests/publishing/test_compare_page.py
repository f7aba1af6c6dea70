"""The page of `cphloc compare --html`: its figures against the values of the cases, and its pictures."""

from __future__ import annotations

import base64
import io
import re

import pytest

from cphloc.cli import main
from cphloc.publishing.compare import Source
from cphloc.publishing.compare_page import points_of

FIRST, LAST = (0.8, 0.7, 0.9), (0.9, 0.9, 0.7)


def figures(html):
    """The circles and rectangles of the first two drawings, as numbers with their texts."""
    scatter, bars = re.findall(r"<svg.*?</svg>", html, re.DOTALL)[:2]
    dots = re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="4"><title>(.*?)</title>', scatter)
    bars = re.findall(r'y="([\d.]+)" width="[\d.]+" height="([\d.]+)"><title>(.*?)</title>', bars)
    return [(float(x), float(y), text) for x, y, text in dots], [(float(y), float(h), text) for y, h, text in bars]


@pytest.fixture
def runs(train_run):
    return train_run(dice=FIRST, name="first"), train_run(dice=LAST, name="<b>last")


@pytest.fixture
def html(runs, tmp_path, capsys):
    path = tmp_path / "c.html"
    assert main(["compare", *(str(run.folder) for run in runs), "--html", str(path)]) == 0
    assert f"written to {path}" in capsys.readouterr().out
    return path.read_text()


def test_dots_and_bars_stand_at_the_values_of_the_cases(html):
    dots, bars = figures(html)
    assert len(dots) == len(bars) == 3
    scale = (dots[1][0] - dots[0][0]) / (FIRST[1] - FIRST[0])
    for (x, y, text), first, last in zip(dots, FIRST, LAST, strict=True):
        assert x - dots[0][0] == pytest.approx(scale * (first - FIRST[0]), abs=0.05)
        assert dots[0][1] - y == pytest.approx(scale * (last - LAST[0]), abs=0.05), "upwards, on the same scale"
        assert f"first {first:.3f}, &lt;b&gt;last {last:.3f}, difference {last - first:+.3f}" in text
    differences = sorted(last - first for first, last in zip(FIRST, LAST, strict=True))
    assert [float(text.rpartition(" ")[2]) for *_, text in bars] == pytest.approx(differences)
    heights = [height for _, height, _ in bars]
    assert heights == pytest.approx([abs(d) * heights[1] / abs(differences[1]) for d in differences], abs=0.05)
    assert bars[0][0] == pytest.approx(bars[1][0] + bars[1][1], abs=0.05), "a loss hangs below zero"


def test_worst_median_and_best_case_are_drawn_as_both_predict_them(html):
    from PIL import Image

    assert re.findall(r"<h3>(worst|median|best): ", html) == ["worst", "median", "best"]
    pictures = [base64.b64decode(text) for text in re.findall(r'src="data:image/png;base64,([^"]+)"', html)]
    assert len(pictures) == 6
    assert all(Image.open(io.BytesIO(picture)).width > 100 for picture in pictures)
    assert "<b>" not in html
    assert "unsafe" not in html.partition("</head>")[0]


def test_cases_without_data_leave_a_note_instead_of_pictures(runs, tmp_path, monkeypatch):
    from cphloc.errors import DataError

    def missing(*_):
        msg = "no data here; cphloc data fetch"
        raise DataError(msg)

    monkeypatch.setattr("cphloc.publishing.compare_page._opened", missing)
    path = tmp_path / "c.html"
    assert main(["compare", *(str(run.folder) for run in runs), "--html", str(path)]) == 0
    html = path.read_text()
    assert "need the test cases on this machine: no data here; cphloc data fetch" in html
    assert len(figures(html)[0]) == 3


def test_signed_errors_are_compared_by_their_distance_from_zero():
    first = Source("a", {}, {"x": {"case": "x", "volume_error": "-0.3"}, "y": {"case": "y", "volume_error": "0.1"}})
    last = Source("b", {}, {"x": {"case": "x", "volume_error": "0.2"}, "y": {"case": "y"}})
    (point,) = points_of("volume_error", first, last)
    assert (point.case, point.first, point.last) == ("x", 0.3, 0.2)
