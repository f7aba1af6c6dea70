"""The files of an entry agree with each other, or verify and audit say which does not."""

from __future__ import annotations

import csv
import io
import statistics
import time

import numpy as np
import pytest

from cphloc import paths
from cphloc.cli.main import main
from cphloc.config import yamlio
from cphloc.errors import InputError
from cphloc.publishing.agreement import card_disagreement, disagreements, table_disagreements
from cphloc.publishing.audit import audit
from cphloc.publishing.card import model_card
from cphloc.publishing.checks import read_rows
from cphloc.publishing.verify import verify
from cphloc.registry.metrics import POOLED
from cphloc.zoo.entries import find_entry, list_entries
from cphloc.zoo.entry import Entry, File
from cphloc.zoo.stored import stored_recipe

SHIPPED = list_entries(zoos=[str(paths.shipped("zoo"))])


def rewrite(folder, change=lambda plain: None, **contents):
    """Replace files of an entry and pin them, as a stranger would."""
    plain = yamlio.load(folder / "entry.yaml").plain
    for name, text in contents.items():
        file = {"card": "card.md", "cases": "cases.csv"}[name]
        (folder / file).write_text(text)
        plain["files"][file] = File.of(folder / file).model_dump()
    change(plain)
    (folder / "entry.yaml").write_text(yamlio.dump(plain))
    return plain


def faults(folder):
    """The files that verify and audit name, which must be the same."""
    found = {check.what for check in verify(folder) if not check.right}
    assert found == {line.name for line in audit(folder) if not line.safe}
    return found


@pytest.mark.parametrize("listing", SHIPPED, ids=str)
def test_published_entries_agree_with_themselves(listing):
    assert list(disagreements(listing, stored_recipe(listing))) == []


@pytest.mark.parametrize("published", [2, 3], indirect=True)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task", "detection"),
        ("classes", {1: "healthy"}),
        ("channels", ["pet"]),
        ("intensity", [{"type": "zscore", "low": 0.0}]),
        ("data", {"name": "busi"}),
    ],
)
def test_an_entry_that_contradicts_its_recipe_is_found(published, key, value):
    def lie(plain):
        plain.update({key: plain[key] | value if key == "data" else value, "inputs": None})

    rewrite(published, lie)
    assert "recipe.yaml" in faults(published)


@pytest.mark.parametrize("where", [("evaluation", "metrics"), ("evaluation", "per_class", "mass")])
def test_a_metric_that_the_cases_do_not_give_is_found(where):
    entry = find_entry("unet3d-hippocampus", [str(paths.shipped("zoo"))]).entry
    rows = read_rows(paths.shipped("zoo") / entry.name / entry.version / "cases.csv")
    assert list(table_disagreements(entry, rows)) == []
    independent = statistics.fmean(float(row["dice"]) for row in rows.values())
    assert entry.evaluation.metrics["dice"].value == pytest.approx(independent, abs=1e-12)
    some = next(iter(rows))
    column = "dice" if where[-1] == "metrics" else "dice/anterior"
    rows[some][column] = str(float(rows[some][column]) - 0.01)
    text, *paired = table_disagreements(entry, rows)
    assert text.startswith(f"entry.yaml states {column} ")
    assert all(column in each for each in paired)
    del rows[some]
    assert "cases, which are not the" in next(table_disagreements(entry, rows))


def test_metrics_of_the_baseline_and_paired_differences_are_computed_again(published):
    entry = Entry.read(published / "entry.yaml")
    rows = read_rows(published / "cases.csv")
    for row, value in zip(rows.values(), (0.1, 0.1, 0.4), strict=True):
        row["dice_baseline"] = str(value)
    first, second = table_disagreements(entry, rows)
    assert first.startswith("entry.yaml states dice_baseline 0.1000")
    assert "but the cases give 0.2000" in first
    assert "paired difference of dice 0.7000" in second
    assert "but the cases give 0.6000" in second


def test_a_lie_about_every_number_is_found_by_verify_and_audit(published):
    def lie(plain):
        for metric in plain["evaluation"]["metrics"].values():
            metric.update(value=0.999, low=0.998, high=1.0)

    rewrite(published, lie)
    assert faults(published) == {"cases.csv", "card.md"}


@pytest.mark.parametrize("text", ["not a table", "case,patient,dice\n\x00", "case,dice\na,b,c\n"])
def test_a_table_that_is_none_is_one_line(published, text):
    rewrite(published, cases=text)
    assert faults(published) == {"cases.csv"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# tiny 1.0.0", "# other 1.0.0"),
        ("0.800", "0.900"),
        ("Tests of the zoo; nothing else.", "Diagnosis."),
        ("1 mass", "1 healthy"),
        ("3 cases of the test split", "300 cases of the test split"),
        ("- Knows phantoms alone.", "- None."),
        ("| licence |", "| Licence |"),
        ("beats the baseline", "does not beat the baseline"),
        ("## Changes", "Approved by everyone.\n\n## Changes"),
    ],
)
def test_a_card_that_says_something_else_is_found(published, old, new):
    card = (published / "card.md").read_text()
    assert old in card
    rewrite(published, card=card.replace(old, new))
    assert faults(published) == {"card.md"}


def test_the_card_of_another_entry_is_found(published):
    rewrite(published, card=(paths.shipped("zoo") / "unet3d-ct" / "0.1.0" / "card.md").read_text())
    assert faults(published) == {"card.md"}


def test_another_wording_of_the_same_facts_is_no_fault(published):
    entry = Entry.read(published / "entry.yaml")
    card = model_card(entry).replace("which were not used in training", "which training never saw")
    assert card_disagreement(entry, card) == ""


def test_a_run_whose_numbers_are_not_those_of_its_cases_is_not_published(train_run, put):
    run = train_run()
    run.edit("evaluation-test.json", "metrics", "dice", "value", value=0.81)
    with pytest.raises(InputError, match=r"(?s)contradicts itself.*cases\.csv: entry\.yaml states dice 0\.8100"):
        put(run)


def test_a_long_table_is_compared_without_resampling():
    entry = find_entry("unet3d-ct", [str(paths.shipped("zoo"))]).entry
    names = [f"c{i}" for i in range(100_000)]
    rows = {name: {"case": name, "dice": "0.5"} for name in names}
    dice = entry.evaluation.metrics["dice"].model_copy(update={"value": 0.5, "n": len(names)})
    stated = entry.evaluation.model_copy(update={"metrics": {"dice": dice}, "cases": names})
    alone = entry.baseline.model_copy(update={"metrics": {}, "per_class": {}, "paired": {}})  # the table has no columns
    assert list(table_disagreements(entry.model_copy(update={"evaluation": stated, "baseline": alone}), rows)) == []


def test_an_index_names_the_versions_that_contradict_themselves(published, registered, capsys):
    zoo = published.parents[1]
    assert main(["zoo", "index", str(zoo)]) == 0
    assert registered == ["tiny@1.0.0"]
    card = (published / "card.md").read_text()
    rewrite(published, card=card.replace("1 mass", "1 healthy"))
    assert main(["zoo", "index", str(zoo)]) == 1
    assert "WRONG  tiny@1.0.0: card.md: line" in capsys.readouterr().out
    assert registered == ["tiny@1.0.0"]


@pytest.mark.parametrize(("key", "fact", "lie"), [("weights", "precision", "float32"), ("size", "parameters", 7)])
def test_another_precision_or_size_than_that_of_the_weights_is_found(published, key, fact, lie):
    def change(plain):
        plain[key][fact] = lie

    rewrite(published, change)
    assert {"model.safetensors", "card.md"} == faults(published)


def test_a_metric_whose_column_was_removed_is_found(published):
    lines = [line.split(",") for line in (published / "cases.csv").read_text().splitlines()]
    place = lines[0].index("dice")
    rewrite(published, cases="".join(",".join(line[:place] + line[place + 1 :]) + "\n" for line in lines))
    assert faults(published) == {"cases.csv"}


def test_a_paired_difference_whose_columns_were_removed_is_found(published):
    """Otherwise any difference from the baseline could be stated."""
    rows = list(csv.DictReader((published / "cases.csv").read_text().splitlines()))
    kept = [{name: cell for name, cell in row.items() if not name.endswith("_baseline")} for row in rows]
    text = io.StringIO()
    table = csv.DictWriter(text, list(kept[0]))
    table.writeheader()
    table.writerows(kept)
    plain = rewrite(published, cases=text.getvalue())
    assert plain["baseline"]["paired"]["dice"]["n"] > 0
    assert faults(published) == {"cases.csv"}


def test_an_entry_without_its_table_is_found(published):
    (published / "cases.csv").unlink()
    rewrite(published, lambda plain: plain["files"].pop("cases.csv"))
    assert "cases.csv" in faults(published)


@pytest.mark.parametrize(("key", "value"), [("modality", ["PT"]), ("licence", "public domain"), ("citation", "me")])
def test_another_origin_than_that_of_the_data_set_is_found(published, key, value):
    rewrite(published, lambda plain: (plain if key == "modality" else plain["data"]).update({key: value}))
    assert "recipe.yaml" in faults(published)


def test_a_table_of_many_metrics_is_compared_in_time():
    entry = find_entry("unet3d-hippocampus", [str(paths.shipped("zoo"))]).entry
    names, metric = [f"c{i}" for i in range(2000)], entry.evaluation.metrics["dice"].model_copy(update={"value": 0.5})
    metrics = {f"m{i}": metric.model_copy(update={"n": len(names)}) for i in range(500)}
    rows = {name: {"case": name, **dict.fromkeys(metrics, "0.5")} for name in names}
    stated = entry.evaluation.model_copy(update={"metrics": metrics, "per_class": {}, "cases": names})
    alone = {"evaluation": stated, "baseline": entry.baseline.model_copy(update={"paired": {}})}
    started = time.process_time()
    assert list(table_disagreements(entry.model_copy(update=alone), rows)) == []
    assert time.process_time() - started < 10


def test_metrics_without_a_value_per_case_are_those_that_pool_all():
    from cphloc.metrics.detection import DetectionCase
    from cphloc.metrics.evaluation import classification_statistics, detection_statistics
    from cphloc.metrics.instances import InstanceCase, instance_statistics

    boxes = np.array([[0.0, 0, 2, 2]])
    case = DetectionCase(boxes, np.array([0.9]), np.array([1]), boxes, np.array([1]))
    of_labels = classification_statistics(np.array([[0.9], [0.2]]), np.array([[1], [0]]), ["a"])
    square = np.ones((1, 2, 2), bool)
    outlined = InstanceCase(square, np.array([0.9]), np.array([1]), square, np.array([1]))
    of_objects = instance_statistics([outlined], {1: "a"})
    of_boxes = detection_statistics([case], {1: "a"})
    found = {name.partition("/")[0] for name in (*of_boxes, *of_objects, *of_labels)}
    assert found == set(POOLED)
