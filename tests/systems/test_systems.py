import json
from pathlib import Path

import pytest

from cphloc.data.case import Case, read_case
from cphloc.data.datasets.phantom import PhantomCases
from cphloc.structures.annotation import Annotation
from systems import __main__ as main
from systems import job, results
from systems.systems import SEEDS, SHUFFLES, SYSTEMS, Bar

RECIPES = Path(__file__).parents[2] / "recipes" / "systems"
SIZES = {"2d": [24, 24], "3d": [8, 16, 16]}


@pytest.fixture(params=SIZES)
def phantom(request):
    cases = {"train": 5, "val": 3, "test": 3}
    return PhantomCases(SIZES[request.param], positive=1.0, objects=(1, 1), diameter_mm=(4, 6), cases=cases)


def test_every_recipe_has_a_bar():
    assert set(SYSTEMS) == {path.stem for path in RECIPES.glob("*.yaml")}


def test_shuffled_cases_keep_their_images_and_have_annotations_of_others(phantom):
    before = {split: phantom.cases(split) for split in ("train", "val", "test")}
    with job.shuffled(0):
        after = {split: phantom.cases(split) for split in before}
    for split in ("train", "val"):
        assert [case.images for case in after[split]] == [case.images for case in before[split]]
        assert all(a.annotation != b.annotation for a, b in zip(after[split], before[split], strict=True))
        assert {a.annotation.mask for a in after[split]} == {b.annotation.mask for b in before[split]}
    assert after["test"] == before["test"] == phantom.cases("test")
    assert phantom.cases("train") == before["train"]
    case: Case = after["train"][0]
    annotation: Annotation = read_case(case)[1]
    assert (annotation.mask != read_case(before["train"][0])[1].mask).any()


def facts(score, low, seconds=60.0):
    found = {"value": score - 0.5, "low": low, "high": 0.9}
    kept = {"metric": "dice", "steps": 5, "score": {"value": score}, "baseline": {"value": 0.5}}
    return kept | {"difference": found, "cpu_seconds": seconds, "processor": "a processor"}


@pytest.mark.parametrize(
    ("score", "low", "seconds", "shuffled", "expected"),
    [
        (0.8, 0.1, 60, -0.1, []),
        (0.6, 0.1, 60, -0.1, ["its score is below 0.7"]),
        (0.8, -0.1, 60, -0.1, ["it is not above its baseline with every seed"]),
        (0.8, 0.1, 150, -0.1, ["it takes longer than 2 minutes"]),
        (0.8, 0.1, 60, 0.1, ["it is above its baseline with shuffled annotations, in 1 of 3 orders"]),
        (0.8, 0.1, 60, None, ["it was not trained with shuffled annotations"]),
    ],
)
def test_a_system_learns_only_where_nothing_is_missing(tmp_path, monkeypatch, score, low, seconds, shuffled, expected):
    monkeypatch.setattr(results, "SYSTEMS", {"cnn": Bar(0.7, 2)})
    for arm in SEEDS:
        (tmp_path / "cnn" / arm).mkdir(parents=True)
        (tmp_path / "cnn" / arm / job.FACTS).write_text(json.dumps(facts(score, low, seconds)))
    if shuffled is not None:
        (tmp_path / "cnn" / SHUFFLES[0]).mkdir()
        (tmp_path / "cnn" / SHUFFLES[0] / job.FACTS).write_text(json.dumps(facts(0.5, shuffled)))
    results.write(tmp_path, tmp_path / "systems.json")
    assert json.loads((tmp_path / "systems.json").read_text())["systems"]["cnn"]["problems"] == expected


def test_results_of_earlier_jobs_are_kept(tmp_path):
    path = tmp_path / "systems.json"
    row = {"score": 0.9, "scores": [0.9, 0.9, 0.9], "shuffled": []}
    path.write_text(json.dumps({"systems": {"cnn": row}}))
    results.write(tmp_path / "no jobs", path)
    assert json.loads(path.read_text())["systems"] == {"cnn": row}
    (tmp_path / "cnn" / "seed-1").mkdir(parents=True)
    (tmp_path / "cnn" / "seed-1" / job.FACTS).write_text(json.dumps(facts(0.8, 0.1)))
    results.write(tmp_path, path)
    assert json.loads(path.read_text())["systems"] == {"cnn": row}, "one seed does not replace three"


def test_a_system_with_some_of_its_seeds_says_how_many(tmp_path):
    for arm in SEEDS[:2]:
        (tmp_path / "cnn" / arm).mkdir(parents=True)
        (tmp_path / "cnn" / arm / job.FACTS).write_text(json.dumps(facts(0.9, 0.1)))
    results.write(tmp_path, tmp_path / "systems.json")
    row = json.loads((tmp_path / "systems.json").read_text())["systems"]["cnn"]
    assert (row["scores"], row["shuffled"]) == ([0.9, 0.9], [])
    assert row["problems"] == [
        "it was trained with 2 of 3 seeds",
        "it was not trained with shuffled annotations",
    ]


def test_another_order_is_tried_only_where_those_before_were_above_the_baseline(tmp_path):
    assert [arm for arm in (*SEEDS, *SHUFFLES) if main._wanted(tmp_path, arm)] == [*SEEDS, SHUFFLES[0]]
    for arm, low in zip(SHUFFLES, (0.1, -0.1), strict=False):
        (tmp_path / arm).mkdir()
        (tmp_path / arm / job.FACTS).write_text(json.dumps(facts(0.6, low)))
    assert main._wanted(tmp_path, SHUFFLES[1])
    assert not main._wanted(tmp_path, SHUFFLES[2])
    jobs = [results.read(tmp_path / arm) for arm in SHUFFLES[:2]]
    assert results.problems([facts(0.8, 0.1)] * 3, jobs, Bar(0.7, 2)) == []


@pytest.mark.parametrize(
    ("metric", "low", "above"), [("dice", 0.03, True), ("dice", 0.01, False), ("ap50", 0.03, False)]
)
def test_above_the_baseline_is_by_more_than_the_smallest_effect_of_interest(metric, low, above):
    assert results.above(facts(0.8, low) | {"metric": metric}) is above


def test_orders_differ(phantom):
    orders = [[case.annotation.mask for case in job.exchanged(phantom.cases("train"), seed)] for seed in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]


def test_finished_jobs_are_kept_and_failed_ones_are_named(tmp_path, monkeypatch, capfd):
    done = []

    def run(name, arm, folder):
        if (name, arm) == ("gap", "seed-1"):
            print("the cause")
            raise ValueError
        (folder / job.FACTS).write_text(json.dumps(facts(0.8, 0.1) | {"metric": name}))

    monkeypatch.setattr(main, "run", run)
    monkeypatch.setattr(main, "write", lambda work, path: done.append((work, path)))
    wanted = ["gap", "gmp", "--arms", *SEEDS[:2], "--work", str(tmp_path)]
    assert main.main(wanted) == 1
    assert f"failed; see {tmp_path / 'gap' / 'seed-1' / main.LOG}" in capfd.readouterr().out
    assert "the cause" in (tmp_path / "gap" / "seed-1" / main.LOG).read_text()
    assert [path.parent.name for path in sorted(tmp_path.glob(f"g*/*/{job.FACTS}"))] == ["seed-0", "seed-0", "seed-1"]
    monkeypatch.setattr(main, "run", lambda name, arm, folder: (folder / job.FACTS).write_text("{}"))
    (tmp_path / "gap" / "seed-1" / "run").mkdir()
    assert main.main(wanted) == 0
    assert json.loads((tmp_path / "gap" / "seed-0" / job.FACTS).read_text())["metric"] == "gap"
    assert not (tmp_path / "gap" / "seed-1" / "run").exists()
    assert len(done) == 2
