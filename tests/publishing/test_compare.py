from __future__ import annotations

import math

import pytest

from cphloc.errors import InputError, NotFoundError
from cphloc.publishing.compare import compare


def test_runs_and_entries_stand_side_by_side_with_their_paired_difference(train_run, published, monkeypatch):
    run = train_run(dice=(0.9, 0.8, 1.0), name="better")
    monkeypatch.setenv("CPHLOC_ZOO", str(published.parent.parent))
    for entry in ("tiny", str(published)):
        sources, lines = compare([entry, run.folder])
        line = lines[0]
        assert [source.name for source in sources] == ["tiny@1.0.0", "better"]
        assert line.metric == "test/dice"
        assert [round(value["value"], 3) for value in line.values] == [0.8, 0.9]
        assert math.isclose(line.difference.value, 0.1)
        assert line.difference.n == 3
        costs = {"speed/ms_per_case", "size/peak_ram_mb"}
        assert {"test/dice", "test/dice/mass", *costs} <= {line.metric for line in lines}
        assert [value["value"] for value in lines[-1].values if value] == [300.0, 300.0]


def test_a_metric_that_one_of_them_lacks_is_left_open(train_run):
    first, last = train_run(name="first"), train_run(name="last")
    facts = last.json("evaluation-test.json")
    facts["metrics"]["ap50"] = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 3}
    last.write("evaluation-test.json", facts)
    lines = {line.metric: line for line in compare([first.folder, last.folder])[1]}
    assert lines["test/ap50"].values[0] is None
    assert lines["test/ap50"].difference is None


def test_what_cannot_be_compared_is_one_clear_error(train_run):
    run = train_run()
    with pytest.raises(InputError, match="needs two"):
        compare([run.folder])
    with pytest.raises(NotFoundError, match="no run or entry"):
        compare([run.folder, "nobody"])
    (run.folder / "evaluation-test.csv").unlink()
    with pytest.raises(InputError, match="was not evaluated"):
        compare([run.folder, run.folder])


def test_a_run_that_is_not_the_evaluated_one_any_more_is_refused(train_run):
    first, last = train_run(name="first"), train_run(name="last")
    last.edit("evaluation-test.json", "weights_sha256", value="0" * 64)
    with pytest.raises(InputError, match="evaluated with other weights than it holds now"):
        compare([first.folder, last.folder])
    first.edit("facts.json", "recipe_file_sha256", value="0" * 64)
    with pytest.raises(InputError, match="the recipe was edited after the training"):
        compare([first.folder, first.folder])


def test_surface_dice_of_other_tolerances_has_no_difference(train_run, capsys):
    from cphloc.cli import main

    runs = [train_run(name="first"), train_run(name="last")]
    for run in runs:
        run.edit("evaluation-test.json", "metrics", "nsd", value=run.json("evaluation-test.json")["metrics"]["dice"])
        rows = run.folder / "evaluation-test.csv"
        head, *cases = rows.read_text().split()
        rows.write_text("\n".join([f"{head},nsd", *(f"{case},0.5" for case in cases)]) + "\n")
    folders = [str(run.folder) for run in runs]
    assert {line.metric: line for line in compare(folders)[1]}["test/nsd"].difference is not None
    assert main(["compare", *folders]) == 0
    assert "tolerances" not in capsys.readouterr().out
    recipe = runs[0].folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("nsd_tolerance_mm: {}", "nsd_tolerance_mm: {mass: 3}"))
    lines = {line.metric: line for line in compare(folders)[1]}
    assert lines["test/nsd"].difference is None
    assert lines["test/dice"].difference is not None
    assert main(["compare", *folders]) == 0
    assert "nsd was measured with other tolerances (mass); no difference" in capsys.readouterr().out


def test_the_names_are_those_of_the_summary_runs(published, monkeypatch):
    """One vocabulary: what the command lists is what MLflow shows of the entry, intervals aside."""
    from cphloc.metrics.bootstrap import Interval
    from cphloc.metrics.summary import tracking_metrics
    from cphloc.publishing.compare import load_source

    found = load_source(published).metrics
    tested = {n.removeprefix("test/"): m for n, m in found.items() if n.startswith("test/")}
    logged = tracking_metrics({n: Interval(m["value"], m["low"], m["high"], m["n"]) for n, m in tested.items()})
    assert {n for n in found if n.startswith("test/")} == {n for n in logged if "_ci_" not in n}
    assert {n for n in found if not n.startswith("test/")} == {
        "speed/ms_per_case", "size/params_m", "size/peak_ram_mb",
    }  # fmt: skip


def test_the_table_is_aligned(published, train_run, capsys):
    from cphloc.cli import main

    assert main(["compare", str(published), str(train_run(dice=(0.9, 0.8, 1.0), name="better").folder)]) == 0
    head, dice, *_ = capsys.readouterr().out.splitlines()
    assert dice.split() == [
        "test/dice", "0.800", "[0.700,", "0.900]", "0.900", "[0.800,", "1.000]", "+0.1000", "[+0.1000,", "+0.1000]",
        "0.250", "3",
    ]  # fmt: skip
    assert head.index("last - first") == dice.index("+0.1000")
    assert head.index("95 % interval") == dice.index("[+0.1000")
