"""Figures of studies: every row has a colour of its own, and every curve is in the legend."""

from __future__ import annotations

import re

import pytest

from cphloc.studies.figure import _against, _colour, draw


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


LADDER = {"labels": (3, 0.1), "boxes": (6, 0.5), "few masks": (9, 0.7), "all masks": (30, 0.8)}


def ladder_facts():
    """Results of four rungs, in minutes and with values that are known."""
    rows = [
        {
            "row": name,
            "at": None,
            "metrics": {m: {"value": value, "low": value - 0.05, "high": value + 0.05} for m in ("dice", "ap50", "auc")}
            | {
                f"minutes{end}": {"value": at, "low": at, "high": at}
                for end, at in (("", cost), ("_low", cost / 2), ("_high", cost * 2))
            },
        }
        for name, (cost, value) in LADDER.items()
    ]
    metrics = ["dice", "ap50", "auc", "minutes", "minutes_low", "minutes_high"]
    return {"study": "ladder", "against": "minutes", "rows": rows, "metrics": metrics}


def test_metrics_are_drawn_over_a_cost_with_both_intervals():
    figure = _against(ladder_facts(), "minutes")
    assert [axes.get_title() for axes in figure.axes] == ["dice", "ap50", "auc"]
    for axes in figure.axes:
        assert axes.get_xscale() == "log"
        assert axes.get_xlabel() == "minutes"
        points = {line.get_label(): tuple(line.get_xydata()[0]) for line in axes.get_lines()}
        assert points == LADDER
        spans = sorted(tuple(end for point in path for end in point) for path in map(ends, axes.collections))
        assert (3, 0.1 - 0.05, 3, 0.1 + 0.05) in [pytest.approx(span) for span in spans]
        assert (1.5, 0.1, 6, 0.1) in [pytest.approx(span) for span in spans]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(LADDER)


def ends(lines):
    """Both ends of a drawn line."""
    return lines.get_segments()[0].tolist()


def test_a_row_without_the_metric_or_the_cost_is_left_out(tmp_path):
    facts = ladder_facts()
    facts["rows"][0]["metrics"]["dice"] = {"value": None, "low": None, "high": None}
    del facts["rows"][1]["metrics"]["minutes"]
    draw(facts, tmp_path / "f.svg")
    text = (tmp_path / "f.svg").read_text(encoding="utf-8")
    assert [text.count(f">{name}<") for name in LADDER] == [1, 0, 1, 1]
