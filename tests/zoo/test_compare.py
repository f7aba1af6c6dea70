from __future__ import annotations

import math

import pytest

from cphloc.errors import InputError, NotFoundError
from cphloc.zoo.compare import compare


def test_runs_and_entries_stand_side_by_side_with_their_paired_difference(train_run, published, monkeypatch):
    run = train_run(dice=(0.9, 0.8, 1.0), name="better")
    monkeypatch.setenv("CPHLOC_ZOO", str(published.parent.parent))
    for entry in ("tiny", str(published)):
        sources, [line] = compare([entry, run.folder])
        assert [source.name for source in sources] == ["tiny@1.0.0", "better"]
        assert line.metric == "dice"
        assert [round(value["value"], 3) for value in line.values] == [0.8, 0.9]
        assert math.isclose(line.difference.value, 0.1)
        assert line.difference.n == 3


def test_a_metric_that_one_of_them_lacks_is_left_open(train_run):
    first, last = train_run(name="first"), train_run(name="last")
    facts = last.json("evaluation-test.json")
    facts["metrics"]["ap50"] = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 3}
    last.write("evaluation-test.json", facts)
    lines = {line.metric: line for line in compare([first.folder, last.folder])[1]}
    assert lines["ap50"].values[0] is None
    assert lines["ap50"].difference is None


def test_what_cannot_be_compared_is_one_clear_error(train_run):
    run = train_run()
    with pytest.raises(InputError, match="needs two"):
        compare([run.folder])
    with pytest.raises(NotFoundError, match=r"neither a run .* nor an entry"):
        compare([run.folder, "nobody"])
    (run.folder / "evaluation-test.csv").unlink()
    with pytest.raises(InputError, match="was not evaluated"):
        compare([run.folder, run.folder])
