from __future__ import annotations

import json

import pytest

from cphloc.cli import main
from cphloc.errors import InputError
from cphloc.metrics.screening import OperatingPoint
from cphloc.metrics.screening_impact import deployments, draw_deployments, programme

TODAY = programme(screened=1000, cancers=6, recalled=100, biopsied=20, found=5)


def by_name(ai: OperatingPoint) -> dict:
    return {way.name.partition(":")[0] + str(number): way for number, way in enumerate(deployments(TODAY, ai))}


def test_today_is_the_lecture_table() -> None:
    counts = TODAY.true_positive, TODAY.false_positive, TODAY.false_negative, TODAY.true_negative
    assert counts == (5, 95, 1, 899)
    assert TODAY.specificity == pytest.approx(0.904427, abs=1e-6)


def test_a_perfect_model_saves_every_benign_biopsy_and_finds_the_missed_cancer() -> None:
    found = by_name(OperatingPoint(1.0, 1.0))
    assert found["triage1"].funnel.biopsied == pytest.approx(5)
    assert found["second reader2"].funnel.true_positive == pytest.approx(6)
    assert found["biopsy guidance5"].funnel.biopsied == pytest.approx(5)


def test_a_model_that_flags_everybody_changes_nothing_as_triage() -> None:
    triage = by_name(OperatingPoint(1.0, 0.0))["triage1"]
    assert triage.funnel.recalled == pytest.approx(TODAY.recalled)
    assert triage.funnel.biopsied == pytest.approx(TODAY.biopsied)
    assert triage.reads == pytest.approx(1000)


def test_counts_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="7 found is impossible"):
        programme(1000, 6, 100, 20, 7)


def test_the_figure_is_drawn(tmp_path) -> None:
    found = deployments(TODAY, OperatingPoint(0.8, 0.9))
    figure = draw_deployments(found, {found[1].name: (2, 4)}, tmp_path / "ways.png")
    assert [axes.get_title() for axes in figure.axes] == [
        "recalled", "biopsied", "cancers found by biopsy", "human reads",
    ]  # fmt: skip
    spans = [[s[:, 0].tolist() for lines in axes.collections for s in lines.get_segments()] for axes in figure.axes]
    assert [bool(of_axes) for of_axes in spans] == [False, False, True, False]  # only of the cancers found
    assert spans[2][:2] == [[5, 5], [2, 4]]
    assert all(axes.yaxis_inverted() for axes in figure.axes), "the first deployment is at the top of every panel"
    assert (tmp_path / "ways.png").stat().st_size > 10_000


def test_the_command_answers_for_a_stated_model(capsys) -> None:
    assert main(["screen", "--sensitivity", "0.8", "--json"]) == 0
    found = {way["name"].partition(",")[0]: way for way in json.loads(capsys.readouterr().out)["ways"]}
    either = found["second reader: recalled if either is positive"]
    assert either["true_positive"] / 6 == pytest.approx(1 - 0.2 / 6)  # 1 - (1 - 5/6)(1 - 0.8)
    assert either["needs_location"]


def test_a_picture_of_an_unknown_kind_is_refused_before_anything_is_predicted(capsys) -> None:
    assert main(["screen", "no-such-entry", "--out", "effects.xyz"]) == 2
    assert "effects.xyz: pictures are drawn as .png, .pdf or .svg" in capsys.readouterr().err


def test_the_command_wants_a_model(capsys) -> None:
    assert main(["screen"]) == 2
    assert "name an entry or run, or state --sensitivity" in capsys.readouterr().err


def test_a_model_without_labels_is_refused(capsys) -> None:
    assert main(["screen", "unet3d-hippocampus"]) == 2
    assert "image labels" in capsys.readouterr().err
