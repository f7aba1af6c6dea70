"""Figures of studies: every row has a colour of its own, and every curve is in the legend."""

from __future__ import annotations

import re

import pytest

from cphloc.studies.figure import _colour, draw


def facts(rows, metrics):
    known = [
        {
            "row": name,
            "at": at,
            "metrics": {m: {"value": 0.5, "low": 0.4, "high": 0.6} for m in given},
            "values": {m: [0.4, 0.6] for m in given},
        }
        for name, at, given in rows
    ]
    return {"study": "s", "rows": known, "metrics": metrics}


@pytest.mark.parametrize("count", [1, 8, 9, 30, 200])
def test_no_two_rows_have_one_colour(count):
    names = [f"arm {n}" for n in range(count)]
    colours = [_colour(names, {"row": name}) for name in names]
    assert len(set(colours)) == count
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)


def test_a_curve_of_a_later_panel_is_in_the_legend(tmp_path):
    rows = [(name, at, given) for at in (1, 2) for name, given in (("first", ["auc"]), ("bound", ["floor"]))]
    draw(facts(rows, ["auc", "floor"]), tmp_path / "f.svg")
    text = (tmp_path / "f.svg").read_text(encoding="utf-8")
    assert [text.count(f">{name}<") for name in ("first", "bound")] == [1, 1]


def test_the_bars_of_a_study_without_a_grid_are_named_on_the_axis(tmp_path):
    draw(facts([("a", None, ["auc"]), ("b", None, ["floor"])], ["auc", "floor"]), tmp_path / "f.svg")
    text = (tmp_path / "f.svg").read_text(encoding="utf-8")
    assert [text.count(f">{name}<") for name in ("a", "b")] == [1, 1]
