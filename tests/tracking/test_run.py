"""Runs: their names, and what is left of them after a crash or a full disk."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cphloc.errors import CphlocError, DataError, InputError, NotFoundError
from cphloc.recipe.recipe import load
from cphloc.tracking import record, run_folders
from cphloc.tracking.run import Place, Run


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return load(
        {
            "task": "segmentation",
            "dims": 2,
            "data": {"type": "phantom"},
            "name": "one",
            "model": {
                "backbone": {"type": "conv_encoder", "widths": [4, 8]},
                "heads": {"mask": {"type": "unet", "classes": {1: "mass"}}},
            },
        }
    )


def test_latest_is_the_last_of_many_runs_begun_in_one_second(recipe):
    for _ in range(20):
        begun = Run.create(recipe)
        assert Run.open("latest").id == begun.id


@pytest.mark.parametrize("back", [timedelta(hours=1), timedelta(days=400)])
def test_latest_is_the_run_begun_last_after_the_clock_was_set_back(recipe, monkeypatch, back):
    class Earlier(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - back

    Run.create(recipe)
    monkeypatch.setattr(run_folders, "datetime", Earlier)
    begun = [Run.create(recipe).id for _ in range(3)]
    assert begun == sorted(begun)
    assert Run.open("latest").id == begun[-1]


def test_a_run_from_the_end_of_the_calendar_is_neither_the_latest_nor_the_end_of_training(recipe):
    first = Run.create(recipe)
    first.folder.rename(first.folder.with_name("99991231-235959-999999"))
    second = Run.create(recipe)
    assert second.id < "9999"
    assert Run.open("latest").id == second.id


def test_latest_is_no_folder_that_was_renamed(recipe):
    first, second = Run.create(recipe), Run.create(recipe)
    first.folder.rename(first.folder.with_name("zz-kept"))
    assert Run.open("latest").id == second.id
    assert Run.create(recipe).id == Run.open("latest").id


def test_a_stated_folder_is_not_taken_twice(recipe, tmp_path):
    place = Place(folder=tmp_path / "own")
    Run.create(recipe, place)
    written = {path.name for path in (tmp_path / "own").iterdir()}
    with pytest.raises(InputError, match="own: exists already; resume the run in it, or give another folder"):
        Run.create(recipe, place)
    assert {path.name for path in (tmp_path / "own").iterdir()} == written
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(("own", ".own"))] == ["own"]


def test_a_bare_name_is_no_run_of_the_working_folder(recipe):
    Run.create(recipe).folder.rename("planted")
    with pytest.raises(NotFoundError, match="no run 'planted'"):
        Run.open("planted")
    assert Run.open("./planted").folder == Run.open(Path("planted")).folder


def _results_of_an_earlier_time(run):
    run = run.with_results({"val/dice": 0.5}, [{"case": "a", "dice": 0.5}])
    return run, {name: (run.folder / name).read_bytes() for name in ("metrics.json", "cases.csv")}


@pytest.mark.parametrize("nth", [1, 2])
def test_a_full_disk_at_each_file_of_results_leaves_it_as_it_was(recipe, monkeypatch, nth):
    run, before = _results_of_an_earlier_time(Run.create(recipe))
    rename, seen = Path.replace, []

    def full(self, target):
        seen.append(target)
        if len(seen) == nth:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(CphlocError, match="No space left on device"):
            run.with_results({"val/dice": 0.9}, [{"case": "a", "dice": 0.9}])
    assert (run.folder / "metrics.json").read_bytes() == before["metrics.json"]
    assert ((run.folder / "cases.csv").read_bytes() == before["cases.csv"]) == (nth == 1)
    assert Run.open(run.folder).metrics == {"val/dice": 0.5}
    assert not [path for path in run.folder.rglob(".*") if path.is_file()]


def test_metrics_are_written_last_as_they_mark_the_results_complete(recipe, monkeypatch):
    run = Run.create(recipe)

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("cphloc.tracking.run.write_cases", killed)
    with pytest.raises(KeyboardInterrupt):
        run.with_results({"val/dice": 0.9}, [])
    assert not (run.folder / "metrics.json").exists()


@pytest.mark.parametrize("text", ['{"val/dice": 0.', "", "[1]", "null", "\x00\x00"])
def test_torn_metrics_do_not_count_as_finished(recipe, text):
    run, _ = _results_of_an_earlier_time(Run.create(recipe))
    assert Run.open(run.folder).finished
    (run.folder / "metrics.json").write_text(text)
    assert not Run.open(run.folder).finished


def test_a_run_whose_end_is_not_logged_has_not_finished(recipe):
    run, _ = _results_of_an_earlier_time(Run.create(recipe))
    record.append(run.folder, {"event": "metrics", "step": 1, "time_ms": 1, "values": {}})
    assert not run.finished
    record.append(run.folder, {"event": "end", "status": "FAILED", "time_ms": 2})
    assert not run.finished
    record.append(run.folder, {"event": "end", "status": "FINISHED", "time_ms": 3})
    assert run.finished


@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", "{", "5"], ids=["deep", "list", "torn", "number"])
def test_records_of_a_run_that_are_no_mapping_are_one_line(tmp_path, text):
    from cphloc.tracking.run import _stored_metrics, read_record

    for name in ("facts.json", "metrics.json"):
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=r"facts\.json: not JSON"):
        read_record(tmp_path / "facts.json")
    assert _stored_metrics(tmp_path) == {}
