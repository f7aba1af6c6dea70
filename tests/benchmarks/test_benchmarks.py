import json
import multiprocessing
import os
import sys

import pytest
from benchmarks import __main__ as running
from benchmarks import measure as measuring
from benchmarks import page
from benchmarks.__main__ import _remember, main
from benchmarks.measure import Comparison, Contender, apart, measure, times_less


def spinning(turns, done):
    def job():
        done.append(turns)
        return sum(range(turns)) and "done"

    return lambda: job


def absent():
    import no_such_package  # noqa: F401


def test_contenders_take_turns_and_the_slower_one_has_the_larger_ratio():
    done = []
    peer = Contender("peer", spinning(8_000_000, done))
    comparison = Comparison("count", Contender("cphloc", spinning(2_000_000, done)), [peer], times_less(2), str.__eq__)
    result = measure(comparison, rounds=3)
    order = [turns for before, turns in zip([None, *done], done, strict=False) if turns != before]
    assert order == [2_000_000, 8_000_000] * 3, "one warm-up, then there, back, and there again"
    assert 2 < result.ratio("peer") < 12
    assert result.reached
    assert result.outputs == {"peer": "same"}


def counting():
    return lambda: sum(range(3_000_000)) and os.getpid()


def unimportable():
    raise ImportError(name="no_such_package")


def test_a_job_apart_is_done_and_timed_in_a_process_of_its_own():
    peer = Contender("peer", apart(counting))
    comparison = Comparison("count", Contender("cphloc", counting), [peer], same=lambda ours, theirs: ours != theirs)
    result = measure(comparison, rounds=3)
    assert result.outputs == {"peer": "same"}, "another process"
    assert 0.3 < result.ratio("peer") < 3
    assert multiprocessing.active_children() == []


def test_a_peer_apart_that_is_not_installed_is_named():
    peer = Contender("peer", apart(unimportable))
    result = measure(Comparison("count", Contender("cphloc", counting), [peer]), rounds=1)
    assert result.missing == {"peer": "no_such_package"}


def test_a_peer_that_is_not_installed_is_named_and_decides_no_goal():
    comparison = Comparison("count", Contender("cphloc", spinning(10, [])), [Contender("peer", absent)], times_less(2))
    result = measure(comparison, rounds=1)
    assert result.missing == {"peer": "no_such_package"}
    assert result.reached is None


def test_the_topic_of_models_is_measured_and_written(tmp_path, monkeypatch):
    for package in ("monai", "segmentation_models_pytorch"):
        for name in [n for n in sys.modules if n.split(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    main(["model", "--busy", "--rounds", "1", "--out", str(tmp_path)])
    facts = json.loads((tmp_path / "results.json").read_text())
    _, by_hand, others = facts["topics"]["model"]
    assert by_hand["outputs"] == {"the same by hand": "same"}
    assert others["missing"]["MONAI UNet"].startswith("monai")
    written = (tmp_path / "RESULTS.md").read_text()
    assert "**cphloc**" in written
    assert "not installed: `monai" in written
    (line,) = (tmp_path / "history.jsonl").read_text().splitlines()
    ratios = json.loads(line)["ratios"]
    assert ratios["model: recipe (read) to 3-D U-Net of 4 levels"] > 0


def test_nothing_is_measured_beside_other_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.__main__.busy_share", lambda seconds: 0.5)
    with pytest.raises(SystemExit, match="other processes take 50% of a core"):
        main(["model", "--out", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_the_share_of_others_is_what_the_system_counts(tmp_path, monkeypatch):
    lines = iter(["cpu 100 0 0 50 0 0 0 0 0 0", "cpu 110 5 5 90 0 0 0 0 0 0"])
    counted = type("Stat", (), {"is_file": lambda self: True, "read_text": lambda self: next(lines)})()
    clock, ticks = iter([0.0, 10.0]), os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(measuring, "STAT", counted)
    monkeypatch.setattr(measuring, "cpu_seconds", lambda: 0.0)
    monkeypatch.setattr(measuring.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(measuring.time, "monotonic", lambda: next(clock))
    assert measuring.busy_share(10) == pytest.approx(20 / ticks / 10)


def test_a_ratio_that_falls_by_a_tenth_is_printed(tmp_path, capsys):
    _remember({"a": 0.89, "b": 0.95, "c": 1.0}, {"a": 1.0, "b": 1.0}, tmp_path)
    assert capsys.readouterr().out == "FELL: a: 1.00 to 0.89 times\n"


def counted(monkeypatch, done, broken=()):
    """Replace the topics by ones that note that they were measured."""

    class Topic:
        def __init__(self, name):
            self.name = name

        def comparisons(self, full):
            def job():
                if self.name in broken:
                    raise OSError("no such tool")
                return done.append(self.name) or sum(range(10_000))

            return [Comparison(self.name, Contender("cphloc", lambda: job))]

    monkeypatch.setattr(running.importlib, "import_module", lambda name, package: Topic(name.strip(".")))


def test_a_run_that_was_interrupted_goes_on_with_the_topics_that_it_had_left(tmp_path, monkeypatch):
    done, busy = [], iter([0.0, 0.5])
    counted(monkeypatch, done)
    monkeypatch.setattr(running, "busy_share", lambda seconds: next(busy))
    with pytest.raises(SystemExit, match="other processes take 50% of a core"):
        main(["model", "data", "--rounds", "1", "--out", str(tmp_path)])
    assert set(done) == {"model"}
    assert "Not finished: data" in (tmp_path / "RESULTS.md").read_text()
    done.clear()
    again = ["model", "data", "--rounds", "1", "--busy", "--out", str(tmp_path)]
    assert main(again) == 0
    assert set(done) == {"data"}
    assert set(json.loads((tmp_path / "results.json").read_text())["topics"]) == {"model", "data"}
    assert "Not finished" not in (tmp_path / "RESULTS.md").read_text()
    done.clear()
    main(again)
    assert set(done) == {"model", "data"}, "a run that has ended is not gone on with"


def test_no_topic_is_begun_when_the_time_is_over_and_anew_forgets_what_was_left(tmp_path, monkeypatch):
    done = []
    counted(monkeypatch, done)
    words = ["model", "data", "--rounds", "1", "--busy", "--out", str(tmp_path)]
    monkeypatch.setattr(running, "MOST_SECONDS", 0.0)
    clock = iter([0.0, 0.0])
    real = running.time.monotonic
    monkeypatch.setattr(running.time, "monotonic", lambda: next(clock, real()))
    with pytest.raises(SystemExit, match="run again for data"):
        main(words)
    monkeypatch.setattr(running, "MOST_SECONDS", 1e9)
    done.clear()
    assert main([*words, "--anew"]) == 0
    assert set(done) == {"model", "data"}


def test_a_job_that_fails_is_named_and_stops_no_other(tmp_path, monkeypatch):
    done = []
    counted(monkeypatch, done, broken=["model"])
    assert main(["model", "data", "--rounds", "1", "--busy", "--out", str(tmp_path)]) == 1
    assert set(done) == {"data"}
    assert "- model: model: OSError: no such tool" in (tmp_path / "RESULTS.md").read_text()


def test_a_goal_that_is_missed_says_why():
    assert page._verdict(True, "x") == "reached"
    assert page._verdict(None, "x") == "not measured"
    assert page._verdict(False, "no such job") == "**missed**"
    start, why = next(iter(page.EXPLAINED.items()))
    assert page._verdict(False, f"{start} more") == f"missed: {why}"
