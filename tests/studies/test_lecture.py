"""Every study of the lecture is right, and runs: a walk over the folder, each in two steps on a few cases."""

from __future__ import annotations

import json

import pytest

from cphloc.cli import main
from cphloc.recipe.merge import shipped_recipes
from cphloc.studies.page import RESULTS, write_page
from cphloc.studies.run import study
from cphloc.studies.study import load, shipped_studies

STUDIES = shipped_studies()

QUICK = {
    "seeds": 1,
    "train.steps": 2,
    "train.batch": 4,
    "train.validate_every": 2,
    "data.cases": {"train": 6, "val": 4, "test": 5},
}
"""Enough of a training to run every measure."""


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_of_the_lecture_is_right_and_has_five_seeds(name):
    found = load(name)
    assert len(found.seeds) >= 5
    assert found.text.chapter
    assert found.text.setup
    assert found.text.verdict
    bounds = [one.above if one.below is None else one.below for one in found.text.verdict if one.compare]
    assert 0 not in bounds  # the bound of a difference is the smallest effect of interest
    assert {"above", "below"} & set(found.text.verdict[0].model_dump(exclude_none=True))


def test_studies_are_no_recipes_and_are_found_by_their_number():
    assert not set(STUDIES) & set(shipped_recipes())
    assert load("e00").name == "e00-shifted-object"
    assert {f"e{n:02d}" for n in [*range(17), 20]} <= {name.split("-")[0] for name in STUDIES}


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_of_the_lecture_runs_and_every_condition_finds_its_rows(name, work):
    base = load(name).text.base
    phantom = isinstance(base, dict) and base["data"]["type"] == "phantom"
    fitting = ("seeds", *(("train", "data") if phantom else ("train",) if base else ()))
    overrides = {key: value for key, value in QUICK.items() if key.split(".")[0] in fitting}
    grid = {key: values[:1] for key, values in load(name).text.grid.items()}
    results, _ = study(name, {**overrides, "grid": grid})
    rows = {row.name: row for row in results.rows}
    for condition in results.study.text.verdict:
        for row in condition.compare or [condition.row]:
            assert condition.metric in rows[row].values
    shown = {metric for row in results.rows for metric in row.values}
    assert shown == set(results.study.text.metrics)


def test_a_repetition_with_other_seeds_is_on_the_page(lecture, capsys):
    study(lecture / "e16-checkerboard.yaml", {"seeds": [5, 6, 7, 8, 9]}, out="studies/e16-checkerboard.repeat")
    write_page(lecture)
    text = (lecture / "README.md").read_text(encoding="utf-8")
    facts = json.loads((lecture / RESULTS / "e16-checkerboard.repeat.json").read_text(encoding="utf-8"))
    assert facts["seeds"] == [5, 6, 7, 8, 9]
    assert f"**Repeated with the seeds 5, 6, 7, 8, 9: {facts['verdict']}** (checkerboard: transposed" in text
    write_page(lecture, "nowhere")
    assert (lecture / "README.md").read_text(encoding="utf-8") == text


@pytest.fixture
def lecture(work):
    """A folder with two small studies, one of which has been run."""
    folder = work / "lecture"
    folder.mkdir()
    (folder / "e16-checkerboard.yaml").write_text(STUDIES["e16-checkerboard"].read_text(encoding="utf-8"))
    (folder / "e12-box-volume.yaml").write_text(STUDIES["e12-box-volume"].read_text(encoding="utf-8"))
    quick = folder / "e16-checkerboard.yaml"
    quick.write_text(
        quick.read_text(encoding="utf-8").replace("{type: checkerboard}", "{type: checkerboard, draws: 1}")
    )
    study(quick)
    return folder


def test_the_page_is_written_from_results_and_says_what_was_not_run(lecture, capsys):
    assert main(["study", "--page", str(lecture)]) == 0
    assert "2 studies, 1 with results" in capsys.readouterr().out
    text = (lecture / "README.md").read_text(encoding="utf-8")
    facts = json.loads((lecture / RESULTS / "e16-checkerboard.json").read_text(encoding="utf-8"))
    assert f"**Verdict: {facts['verdict']}** (5 seeds" in text
    assert "figures/e16-checkerboard.svg" in text
    assert (lecture / "figures" / "e16-checkerboard.svg").stat().st_size < 100_000
    assert text.index("e12-box-volume") < text.index("e16-checkerboard")
    assert "**Not measured under this protocol**" in text.split("### e12-box-volume")[1].split("###")[0]
    assert "cphloc study e16-checkerboard" in text
    changed = (lecture / "e16-checkerboard.yaml").read_text(encoding="utf-8").replace("draws: 1", "draws: 2")
    assert "draws: 2" in changed
    before = {path: path.read_bytes() for path in lecture.rglob("*") if path.is_file()}
    write_page(lecture, "nowhere")
    assert {path: path.read_bytes() for path in lecture.rglob("*") if path.is_file()} == before
    (lecture / "e16-checkerboard.yaml").write_text(changed, encoding="utf-8")
    assert write_page(lecture, "nowhere")[1] == {"studies": 2, "run": 0}


def test_the_shipped_page_is_that_of_the_shipped_results(work):
    folder = next(iter(STUDIES.values())).parent
    copied = work / "copy"
    copied.mkdir()
    for path in [*STUDIES.values(), *(folder / RESULTS).glob("*.json")]:
        target = copied / path.relative_to(folder)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    write_page(copied, "nowhere")
    assert (copied / "README.md").read_text(encoding="utf-8") == (folder / "README.md").read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in (folder / "figures").iterdir()) < 2_000_000
