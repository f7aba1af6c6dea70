"""Evaluation of a model that reads its answers off the image, on data sets of a few voxels."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from columns import columns

from cphloc.errors import DataError, InputError, NotFoundError
from cphloc.evaluation import evaluate as evaluation
from cphloc.evaluation.evaluate import evaluate
from cphloc.tracking.run import Run

LABELS = ("label_probabilities",)
both = pytest.mark.parametrize("dims", [2, 3])
pytestmark = pytest.mark.usefixtures("own_cache")


def case(name, split, image, **known):
    return {"case": name, "patient": name, "split": split, "image": image, **known}


def with_masks(dims):
    """The model is right in one test case and half right in the other; the training masks lie elsewhere."""
    right, left = columns(dims, 0, 0, 0, 0, 0, 0, 1, 1), columns(dims, 1, 1, 0, 0, 0, 0, 0, 0)
    shifted, half = columns(dims, 0, 0, 0, 0, 0, 1, 1, 0), right
    rows = [case("train", "train", left, mask=left), case("val", "val", left, mask=left)]
    rows += [case("exact", "test", right, mask=right), case("shifted", "test", shifted, mask=half)]
    return [row | {"mask": row["mask"].astype(np.uint8)} for row in rows]


def with_labels(dims):
    """The model says 0.99 in every case: true in three of four to validate, in one of two to test."""
    image = columns(dims, *[0.99] * 8, dtype=np.float32)
    labels = {"train": ("mass",), "val": ("mass", "mass", "mass", "none") * 10, "test": ("mass", "none")}
    return [case(f"{s}{i}", s, image, label=label) for s, of in labels.items() for i, label in enumerate(of)]


@pytest.fixture
def as_run(tmp_path, monkeypatch):
    """Makes a model look like the best weights of a run; gives the run and what MLflow was told."""
    sent = {}

    class Tracker:
        def __init__(self, folder, experiment, name):
            sent.update(experiment=experiment, name=name, files=[])

        def metrics(self, values, step):
            sent["metrics"] = values

        def artifact(self, file, to):
            sent["files"].append((to, file.name))

        def end(self):
            sent["ended"] = True

    def make(localizer):
        run = Run("some-run", tmp_path / "run", localizer.recipe, {"val/dice": 0.5})
        monkeypatch.setattr(evaluation, "localizer_of", lambda opened: localizer)
        monkeypatch.setattr("cphloc.tracking.tracker.Tracker", Tracker)
        return run, sent

    return make


@both
def test_every_case_of_the_split_counts_once_with_what_the_model_found(hand_made, dims):
    done = evaluate(hand_made(with_masks(dims)))
    assert done.facts["cases"] == ["exact", "shifted"]
    assert {row["case"]: row["dice/mass"] for row in done.rows} == {"exact": 1.0, "shifted": pytest.approx(0.5)}
    assert done.facts["per_class"]["mass"]["dice"]["value"] == pytest.approx(0.75)
    assert done.facts["per_class"]["mass"]["ap50"]["value"] < 1, "boxes of two columns that share one overlap by 1/3"
    assert done.facts["metrics"]["auc"]["n"] == 2
    assert (done.split, done.folder, done.facts["calibration"]) == ("test", None, None)
    assert done.facts["speed"]["ms_per_case"] > 0


@both
def test_the_baseline_knows_the_training_cases_alone(hand_made, dims):
    """Training masks share no voxel with the test masks; a mean over the test cases would score 1."""
    localizer = hand_made(with_masks(dims))
    metrics = evaluate(localizer).facts["baseline"]["metrics"]
    assert metrics["dice"]["value"] == 0
    assert metrics["ap10"]["value"] == 0
    same = evaluate(localizer, "train").facts["baseline"]["metrics"]
    assert (same["dice"]["value"], same["ap50"]["value"]) == (1, 1), "on those it is exact"


@both
def test_the_baseline_has_the_parts_that_the_model_predicts(hand_made, dims):
    assert evaluate(hand_made(with_masks(dims))).facts["baseline"]["name"] == (
        "mean shape of the training masks, mean box of each class in training, uniform attention, frequency in training"
    )


@both
def test_the_temperature_of_a_run_is_fitted_on_its_validation_cases(hand_made, as_run, dims):
    """0.99 becomes 0.75, which is how often it was right there. In test it is right half of the times."""
    run, _ = as_run(hand_made(with_labels(dims), parts=LABELS))
    calibration = evaluate(run).facts["calibration"]
    # of 40 cases 30 have a mass and none has a cyst, which is predicted with 0.5 whatever the temperature
    temperature = np.log(0.99 / 0.01) / np.log(0.75 / 0.25)
    assert calibration["temperature"] == pytest.approx(temperature, rel=1e-3)
    assert calibration["split"] == "val"
    cyst_before, cyst_after = 0.5, 0.5  # the model says 0.5, and no case has one
    assert calibration["ece_before"]["value"] == pytest.approx((0.99 - 0.5 + cyst_before) / 2, abs=1e-3)
    assert calibration["ece_after"]["value"] == pytest.approx((0.75 - 0.5 + cyst_after) / 2, abs=1e-3)


def test_the_temperature_of_an_entry_stays(hand_made):
    localizer = hand_made(with_labels(2), parts=LABELS)
    localizer.temperature = 3.0
    assert evaluate(localizer).facts["calibration"]["temperature"] == localizer.temperature == 3.0


def test_files_and_pictures_go_to_the_folder_that_is_named(hand_made, tmp_path):
    done = evaluate(hand_made(with_masks(2)), out=tmp_path / "out")
    assert (tmp_path / "out" / "evaluation-test.json").read_text() == json.dumps(done.facts, indent=2) + "\n"
    with (tmp_path / "out" / "evaluation-test.csv").open() as file:
        assert [(row["case"], float(row["dice/mass"])) for row in csv.DictReader(file)] == [
            ("exact", 1.0),
            ("shifted", pytest.approx(0.5)),
        ]
    pictures = {path.name for path in (tmp_path / "out" / "pictures").iterdir()}
    assert {f"test-{place}.png" for place in ("worst", "median", "best")} <= pictures
    assert {"test-froc.png", "test-roc.csv"} <= pictures


def test_a_run_keeps_its_evaluation_and_tells_mlflow(hand_made, as_run):
    run, sent = as_run(hand_made(with_masks(2)))
    done = evaluate(run, "val")
    assert done.folder == run.folder
    assert done.source == str(run.folder)
    assert sent["metrics"]["val/dice"] == done.facts["metrics"]["dice"]["value"] == 1
    assert sent["metrics"]["speed/ms_per_case"] == done.facts["speed"]["ms_per_case"]
    assert {("", "evaluation-val.json"), ("", "evaluation-val.csv"), ("pictures", "val-best.png")} <= set(sent["files"])
    assert (sent["experiment"], sent["name"], sent["ended"]) == ("cphloc/reader", "reader some-run", True)


def test_a_run_takes_no_other_folder(hand_made, as_run, tmp_path):
    run, _ = as_run(hand_made(with_masks(2)))
    with pytest.raises(InputError, match="keeps its evaluation in its own folder"):
        evaluate(run, out=tmp_path)


def test_a_split_without_cases_is_refused(hand_made):
    localizer = hand_made([row for row in with_masks(2) if row["split"] != "val"])
    with pytest.raises(NotFoundError, match="has no cases in its val split"):
        evaluate(localizer, "val")


def test_the_data_may_lie_elsewhere(hand_made, tmp_path):
    localizer = hand_made(with_masks(2))
    (tmp_path / "data").rename(tmp_path / "moved")
    assert evaluate(localizer, root=str(tmp_path / "moved")).facts["cases"] == ["exact", "shifted"]


def test_neither_run_nor_entry(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match="no run or entry 'nothing'"):
        evaluate("nothing")


def test_boxes_keep_the_number_of_their_class_and_their_place():
    from cphloc.evaluation.prediction import case_prediction
    from cphloc.inference.localization import Box, Localization

    volume = SimpleNamespace(dims=2)
    boxes = [Box("cyst", 0.9, (0, 0, 2, 3), (0, 0, 3, 2)), Box("mass", 0.4, (1, 1, 4, 4), (1, 1, 4, 4))]
    result = Localization(volume, {1: "mass", 2: "cyst"}, boxes=boxes, probabilities={"mass": 0.25, "cyst": 0.75})
    prediction = case_prediction(result, result.classes)
    assert prediction.boxes.tolist() == [[0, 0, 2, 3], [1, 1, 4, 4]]
    assert prediction.box_classes.tolist() == [2, 1]
    assert prediction.scores.tolist() == [0.9, 0.4]
    assert prediction.probabilities.tolist() == [0.25, 0.75]
    none = case_prediction(Localization(volume, result.classes, boxes=[]), result.classes)
    assert none.boxes.shape == (0, 4)
    assert none.mask is None
    assert none.probabilities is None


def test_a_run_without_weights_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"has no best\.safetensors yet"):
        evaluation.localizer_of(SimpleNamespace(is_cross_validation=False, folder=tmp_path))


@both
def test_test_cases_alone_are_measured_with_the_stored_baseline(hand_made, as_run, tmp_path, capsys, dims):
    run, _ = as_run(hand_made(with_masks(dims)))
    before = evaluate(run).facts
    gain = before["paired"]["metrics"]["dice"]
    assert gain["value"] == before["metrics"]["dice"]["value"] - before["baseline"]["metrics"]["dice"]["value"]
    assert gain["p_value"] == 0.5, "two patients: both signs as they are, or both turned"
    table = tmp_path / "data" / "cases.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if ",train," not in line and ",val," not in line))
    after = evaluate(run).facts
    for part in ("baseline", "paired"):
        assert json.dumps(after[part]) == json.dumps(before[part])
    (run.folder / "baseline.npz").unlink()
    without = evaluate(run).facts
    assert json.dumps(without["metrics"]) == json.dumps(before["metrics"])
    assert without["baseline"] is without["paired"] is None
    assert "no baseline stored" in capsys.readouterr().err


@both
def test_each_case_stands_beside_its_baseline(hand_made, dims):
    rows = evaluate(hand_made(with_masks(dims))).rows
    assert [row["dice_baseline"] for row in rows] == [0, 0]
    assert all("dice" in row for row in rows)


def test_options_are_chosen_once_for_the_weights_and_validation_cases_of_a_run(
    hand_made, as_run, monkeypatch, tmp_path
):
    run, _ = as_run(hand_made(with_masks(2)))
    asked = []
    choose = evaluation.choose_options
    monkeypatch.setattr(
        evaluation, "choose_options", lambda pairs, names: asked.append(names) or choose(pairs, names=names)
    )
    first = evaluate(run).facts["options"]
    assert evaluate(run).facts["options"] == first
    assert asked == [None]
    evaluate(run, choose=True)
    assert asked == [None, None]
    changed = np.load(tmp_path / "data" / "val-mask.npy")
    np.save(tmp_path / "data" / "val-mask.npy", 1 - changed)
    evaluate(run)
    assert asked == [None, None, None]
    (run.folder / "options.json").write_text("{}")
    with pytest.raises(DataError, match=r"options\.json: is damaged .* --choose"):
        evaluate(run)


def test_options_that_a_recipe_does_not_list_are_tried_by_name_and_stay(hand_made, as_run):
    """A run trained before an option existed need not be trained again."""
    localizer = hand_made(with_masks(2))
    localizer.recipe = localizer.recipe.model_copy(update={"options": ["tta"]})
    run, _ = as_run(localizer)
    assert tried(evaluate(run)) == {"tta"}
    for choose in (["min_size", "largest"], False):
        assert tried(evaluate(run, choose=choose)) == {"largest", "min_size"}
    assert tried(evaluate(run, choose=True)) == {"tta"}
    with pytest.raises(InputError, match=r"no option 'larges' of predictions; did you mean 'largest'"):
        evaluate(run, choose=["larges"])


def test_choosing_is_refused_where_there_is_nothing_to_choose_on(hand_made, as_run, tmp_path):
    """Of a model without a run, and of a run whose validation cases are gone."""
    localizer = hand_made(with_masks(2))
    with pytest.raises(InputError, match=r"--choose, --try\) here: an entry keeps"):
        evaluate(localizer, choose=["largest"])
    run, _ = as_run(localizer)
    evaluate(run)
    table = tmp_path / "data" / "cases.csv"
    table.write_text("".join(line for line in table.open() if ",val," not in line))
    assert evaluate(run).facts["options"]["trials"]
    with pytest.raises(InputError, match="validation cases are not at hand"):
        evaluate(run, choose=True)


def tried(evaluation):
    """Names of the options that were tried for an evaluation."""
    return {trial["option"] for trial in evaluation.facts["options"]["trials"]}


def test_options_that_were_chosen_apply_where_only_test_cases_are_at_hand(hand_made, as_run, tmp_path):
    run, _ = as_run(hand_made(with_labels(2), parts=LABELS))
    before = evaluate(run).facts["options"]["options"]
    assert before["temperature"] > 1
    table = tmp_path / "data" / "cases.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if ",train," not in line and ",val," not in line))
    assert evaluate(run).facts["options"]["options"] == before
