"""Study files are checked whole, and every mistake is told at its place."""

from __future__ import annotations

import pytest

from cphloc.errors import NotFoundError, RecipeError
from cphloc.studies.study import load


def test_cells_are_arms_times_grid_with_paired_seeds(tiny):
    tiny.write_text(tiny.read_text() + "grid: {train.batch: [2, 4]}\n")
    study = load(tiny, {"seeds": [3, 5], "train.steps": 7})
    assert [(cell.arm, cell.at) for cell in study.cells] == [
        *(("convolutional", 2), ("convolutional", 4)),
        *(("fully connected", 2), ("fully connected", 4)),
    ]
    recipes = [study.cells[-1].recipes("tiny", seed, study.text.vary)[0] for seed in study.seeds]
    assert [(r.train.seed, r.train.steps, r.train.batch, r.model.backbone.type) for r in recipes] == [
        (3, 7, 4, "mlp"),
        (5, 7, 4, "mlp"),
    ]


def test_an_arm_may_be_another_recipe_and_a_base_may_be_written_out(tiny):
    tiny.write_text(tiny.read_text().replace("convolutional: {}", "convolutional: gap").replace("compare", "x-c"))
    with pytest.raises(RecipeError, match=r"tiny\.yaml:.*unknown key 'x-c'"):
        load(tiny)
    text = tiny.read_text().replace("x-c: [[convolutional, fully connected]]\n", "")
    tiny.write_text(text.replace("  - {x-c: [convolutional, fully connected]", "  - {row: convolutional"))
    with pytest.raises(RecipeError, match="dims"):  # gap is 3-D, the sizes are 2-D
        load(tiny)
    tiny.write_text(
        text.replace("base: cnn", "base: {extends: cnn, train: {warmup_steps: 1}}")
        .replace(": gap", ": {}")
        .replace("  - {x-c: [convolutional, fully connected]", "  - {row: convolutional")
    )
    assert load(tiny).cells[0].recipes("tiny", 0, ["train.seed"])[0].train.warmup_steps == 1


def test_all_mistakes_are_told_at_their_lines_with_a_suggestion(tiny):
    text = tiny.read_text()
    text = text.replace(
        "fully connected: {model.backbone: {type: mlp,", "fully connected: {model.backbone: {type: mpl,"
    )
    text = text.replace("compare: [[convolutional, fully", "compare: [[convolutionl, fully")
    text = text.replace("metric: brier", "metric: breir")
    text = text.replace("data.diameter_mm: [4, 5]", "data.diametr_mm: [4, 5]")
    tiny.write_text(text + "measures: [{type: evaluaton}, {type: evaluation, spilt: test}]\n")
    with pytest.raises(RecipeError) as caught:
        load(tiny)
    told = {(p.where.rsplit(":", 2)[1], p.fix) for p in caught.value.problems}
    lines = {line.split(":")[0].strip(): str(n) for n, line in enumerate(tiny.read_text().splitlines(), 1)}
    assert told == {
        (lines["fully connected"], "did you mean 'mlp'?"),
        (lines["compare"], "did you mean 'convolutional'?"),
        (str(len(tiny.read_text().splitlines()) - 1), "did you mean 'brier'?"),
        (lines["data.diametr_mm"], "did you mean 'diameter_mm'?"),
        (lines["measures"], "did you mean 'evaluation'?"),
        (lines["measures"], "did you mean 'split'?"),
    }


def test_a_wrong_key_and_a_wrong_type_of_the_study_itself(tiny):
    tiny.write_text(tiny.read_text().replace("expected:", "expcted:").replace("seeds: 2", "seeds: many"))
    with pytest.raises(RecipeError) as caught:
        load(tiny)
    assert "did you mean 'expected'?" in str(caught.value)
    assert "'many' is not a whole number" in str(caught.value)


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("{metric: auc, above: 0}", "a condition needs either 'row' or 'compare'"),
        ("{row: convolutional, metric: auc}", "either 'above' or 'below'"),
        ("{row: convolutional, metric: auc, above: 0, below: 1}", "give exactly one of each"),
    ],
)
def test_a_condition_that_decides_nothing(tiny, condition, told):
    text = tiny.read_text().splitlines()
    tiny.write_text("\n".join([*text[:-1], f"  - {condition}"]) + "\n")
    with pytest.raises(RecipeError, match=told):
        load(tiny)


@pytest.mark.parametrize("named", ["fully connected", "convolutional", "nothing"])
@pytest.mark.parametrize("key", ["after", "teacher"])
def test_an_arm_can_only_start_or_learn_from_an_earlier_one(tiny, named, key):
    tiny.write_text(tiny.read_text().replace("convolutional: {}", f"convolutional: {{{key}: {named}}}"))
    with pytest.raises(RecipeError, match=rf"tiny.yaml:14.*arms.convolutional.{key}.*'{named}' is not an earlier arm"):
        load(tiny)


def test_an_arm_either_starts_or_learns_from_an_earlier_one(tiny):
    both = "  both: {after: convolutional, teacher: convolutional}\nseeds"
    tiny.write_text(tiny.read_text().replace("seeds", both, 1))
    with pytest.raises(RecipeError, match="keep 'after' or 'teacher'"):
        load(tiny)


def test_an_unknown_study():
    with pytest.raises(NotFoundError, match="no study 'e99'"):
        load("e99")
