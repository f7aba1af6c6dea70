import json
import sys

from benchmarks.__main__ import main
from benchmarks.measure import Comparison, Contender, measure, times_less


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
    main(["model", "--rounds", "1", "--out", str(tmp_path)])
    facts = json.loads((tmp_path / "results.json").read_text())
    _, by_hand, others = facts["topics"]["model"]
    assert by_hand["outputs"] == {"the same by hand": "same"}
    assert others["missing"]["MONAI UNet"].startswith("monai")
    page = (tmp_path / "RESULTS.md").read_text()
    assert "**cphloc**" in page
    assert "not installed: `monai" in page
