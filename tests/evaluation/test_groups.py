"""Metrics by a column of the table or by size, intervals of measured sizes, and the page of the worst cases."""

from __future__ import annotations

import numpy as np
import pytest

from cphloc.cli.main import main
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.errors import InputError
from cphloc.evaluation.choose import choose_options
from cphloc.evaluation.evaluate import evaluate
from cphloc.metrics.conformal import conformal_quantile
from cphloc.recipe.fields import Data
from cphloc.recipe.recipe import load
from cphloc.structures.options import Options

both = pytest.mark.parametrize("dims", [2, 3])
pytestmark = pytest.mark.usefixtures("own_cache")
MASKS = ("mask_probabilities",)


def block(dims, first, last):
    mask = np.zeros((8,) * dims)
    mask[(slice(first, last),) * dims] = 1
    return mask


def rows(dims, split="test"):
    """Of ten cases from two sites: those of b are predicted a voxel off; sizes grow."""
    found = [{"case": "train", "patient": "t", "split": "train", "image": block(dims, 0, 4), "mask": block(dims, 0, 4)}]
    for number in range(10):
        truth = block(dims, 1, 3 + number // 2)
        image = np.roll(truth, 1, axis=0) if number % 2 else truth
        found.append({"case": f"c{number}", "patient": f"p{number}", "split": split, "image": image, "mask": truth})
    return [row | {"image": row["image"].astype(np.float32), "mask": row["mask"].astype(np.uint8)} for row in found]


def add_column(root, name):
    table = root / "data" / "cases.csv"
    head, *lines = table.read_text().splitlines()
    sites = {f"c{number}": "ab"[number % 2] for number in range(8)}
    table.write_text("\n".join([f"{head},{name}", *(f"{line},{sites.get(line.split(',')[0], '')}" for line in lines)]))


@both
def test_each_group_has_its_metrics_with_patients_and_intervals(hand_made, tmp_path, dims):
    localizer = hand_made(rows(dims), MASKS)
    add_column(tmp_path, "x-site")
    done = evaluate(localizer, by=["site", "size"])
    groups = done.facts["by"]["site"]
    assert {name: (of["cases"], of["patients"]) for name, of in groups.items()} == {
        "a": (4, 4),
        "b": (4, 4),
        "(not stated)": (2, 2),
    }
    assert groups["a"]["metrics"]["dice"]["value"] == 1
    dice = [row["dice"] for row in done.rows if row["case"] in ("c1", "c3", "c5", "c7")]
    measured = groups["b"]["metrics"]["dice"]
    assert measured["value"] == pytest.approx(np.mean(dice))
    assert min(dice) <= measured["low"] <= measured["value"] <= measured["high"] <= max(dice)
    assert [of["cases"] for of in done.facts["by"]["size"].values()] == [4, 4, 2]
    sizes = {row["case"]: row["reference_size"] for row in done.rows}
    assert sizes["c0"] == 2**dims
    assert next(iter(done.facts["recommended"])) == "dice"


def test_an_unknown_column_is_named_before_anything_is_predicted(hand_made, tmp_path):
    localizer = hand_made(rows(2), MASKS)
    localizer.predict = None
    with pytest.raises(InputError, match=r"cases\.csv: no column 'sites' to group the cases by; did you mean 'size'"):
        evaluate(localizer, by=["sites"])


@both
def test_sizes_of_new_cases_come_with_an_interval(hand_made, dims):
    localizer = hand_made(rows(dims, "val"), MASKS)
    cases = open_dataset(localizer.recipe.data, dims).cases("val")
    chosen = choose_options([(localizer, case) for case in cases])
    errors = []
    for row in rows(dims, "val")[1:]:
        predicted = (row["image"] >= 1).sum()
        errors.append(abs(predicted ** (1 / dims) - row["mask"].sum() ** (1 / dims)))
    assert chosen.sizes.errors["mass"] == pytest.approx(conformal_quantile(np.array(errors)), abs=1e-9)
    assert chosen.sizes.patients == {"mass": 10, "cyst": 10}
    localizer.sizes = chosen.sizes.model_copy(update={"errors": {"mass": 1.0}})
    localizer.options = Options()
    result = localizer.predict(block(dims, 1, 5).astype(np.float32), [1.0] * dims)
    key, factor = ("volume_ml", 1000) if dims == 3 else ("area_mm2", 1)
    found = result.measurements["mass"]
    assert found[f"{key}_low_90"] == pytest.approx(3**dims / factor)
    assert found[f"{key}_high_90"] == pytest.approx(5**dims / factor)
    assert f"{key}_low_90" not in result.measurements["cyst"]
    other = localizer.predict(block(dims, 1, 5).astype(np.float32), [1.0] * dims, threshold=0.3)
    assert f"{key}_low_90" not in other.measurements["mass"], "the errors are those of the stored options"


def test_the_page_shows_the_worst_cases_first(hand_made, tmp_path):
    localizer = hand_made(rows(2), MASKS)
    page = tmp_path / "page.html"
    done = evaluate(localizer, by=["size"], report=page)
    text = page.read_text()
    order = sorted(done.rows, key=lambda row: row["dice"])
    places = [text.index(f"<h3>{place}: {row['case']}, dice") for place, row in enumerate(order[:3], start=1)]
    assert places == sorted(places)
    assert text.count("data:image/png;base64,") == 10
    assert "By size" in text


def test_the_command_prints_groups_and_why_a_metric_fits(hand_made, tmp_path, monkeypatch, capsys):
    localizer = hand_made(rows(2), MASKS)
    monkeypatch.setattr("cphloc.evaluation.evaluate.open_localizer", lambda source: (localizer, None))
    assert main(["evaluate", "any", "--split", "test", "--by", "size"]) == 0
    printed = capsys.readouterr().out
    assert "judge it by:" in printed
    assert "1 small" in printed


@both
def test_a_table_of_images_is_evaluated_by_a_model_of_another_data_set(hand_made, tmp_path, dims):
    """The recipe names a data set that stores its cases otherwise; without splits, all cases are test cases."""
    localizer = hand_made(rows(dims), MASKS)
    table = tmp_path / "data" / "cases.csv"
    head, _, *lines = (line.split(",") for line in table.read_text().splitlines())
    keep = [place for place, name in enumerate(head) if name not in ("split", "boxes", "label")]
    kept = [",".join(cells[place] for place in keep) for cells in (head, *lines)]
    table.write_text("\n".join(kept))
    stated = {"type": {2: "busi", 3: "hippocampus"}[dims], "patch": localizer.recipe.data.patch}
    data = Data.model_validate({**stated, "intensity": "none", "channels": ["image"]})
    localizer.recipe = localizer.recipe.model_copy(update={"data": data})
    done = evaluate(localizer, root=str(tmp_path / "data"))
    assert len(done.rows) == 10
    assert done.facts["metrics"]["dice"]["n"] == 10


@both
def test_the_tolerance_of_a_class_counts_and_is_stated(hand_made, dims):
    """Masks that are one voxel too large on every side: within 1 mm, and not within less."""
    truth, seen = block(dims, 2, 4), block(dims, 1, 5)
    row = {"case": "c0", "patient": "p0", "split": "test", "image": seen.astype(np.float32), "mask": truth}
    localizer = hand_made([row], MASKS)
    plain = evaluate(localizer).facts
    assert plain["nsd_tolerance_mm"] == {"mass": 1.0, "cyst": 1.0}
    localizer.recipe = load({**localizer.recipe.to_plain(), "nsd_tolerance_mm": {"mass": 0.5}})
    stated = evaluate(localizer).facts
    assert stated["nsd_tolerance_mm"] == {"mass": 0.5, "cyst": 1.0}
    assert (stated["per_class"]["mass"]["nsd"]["value"], stated["metrics"]["dice"]) == (0, plain["metrics"]["dice"])
    assert plain["per_class"]["mass"]["nsd"]["value"] > 0.4
    assert "0.5 mm for mass, else 1 mm" in stated["recommended"]["nsd"]


def test_a_tolerance_of_an_unknown_class_is_refused_where_it_is_written():
    from cphloc.modeling.classes import class_problems

    plain = {"task": "segmentation", "dims": 3, "data": {"type": "hippocampus", "patch": [16, 16, 16]}}
    heads = {"mask": {"type": "unet", "classes": ["anterior", "posterior"]}}
    plain["model"] = {"backbone": {"type": "conv_encoder", "widths": [4, 8]}, "heads": heads}
    recipe = load({**plain, "nsd_tolerance_mm": {"anteriour": 2.0}})
    (problem,) = class_problems(recipe, {1: "anterior", 2: "posterior"})
    assert (problem.path, problem.fix) == ("nsd_tolerance_mm.anteriour", "did you mean 'anterior'?")
