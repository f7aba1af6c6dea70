"""What people see of each object: at most ten lines with its facts, a page in notebooks, a table in terminals."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from matplotlib.image import imread
from nbclient import NotebookClient
from rich.console import Console

import cphloc
from cphloc.cli.evaluate import answer
from cphloc.data.io.read import read_volume
from cphloc.evaluation.evaluate import Evaluation
from cphloc.inference.ensemble import Ensemble
from cphloc.inference.localization import Box, Localization
from cphloc.recipe.recipe import load as load_recipe
from cphloc.structures.display import MAX_LINES
from cphloc.tracking.run import Run

ENTRY = "unet2d-breast-ultrasound"


def lines_of(shown: object) -> list[str]:
    """The text of an object, which is short also in a terminal and in a notebook."""
    lines = repr(shown).splitlines()
    assert len(lines) <= MAX_LINES
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(shown)
    assert lines[0] in console.export_text()
    assert lines[0].split(" ")[0] in shown._repr_html_()
    return lines


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [imread(io.BytesIO(base64.b64decode(code))) for code in found]


@pytest.mark.parametrize("dims", [2, 3])
def test_a_result_shows_sizes_boxes_and_probabilities(dims):
    mask = np.zeros((20,) * dims, np.uint8)
    mask[(slice(0, 10),) * dims] = 1  # 10 voxels of 2 mm per axis: 20^3 mm3 = 8 mL, 20^2 = 400 mm2
    image = read_volume(np.random.default_rng(0).random((20,) * dims), spacing_mm=(2.0,) * dims)
    boxes = [Box("mass", 0.9, (0.0,) * dims + (5.0,) * dims, (), 1)]
    result = Localization(
        image,
        {1: "mass"},
        masks=mask,
        boxes=boxes,
        probabilities={"mass": 0.75},
        case="patient 1",
        model=("net", "1.2.0"),
    )
    lines = lines_of(result)
    assert lines[0] == "Localization of patient 1 by net 1.2.0"
    text = " ".join(" ".join(lines).split())
    assert ("mass 8 mL, longest diameter" if dims == 3 else "mass 400 mm2, longest diameter") in text
    assert "boxes 1: mass 0.90" in text
    assert "probabilities mass 0.750" in text
    assert len(pictures(result._repr_html_())) == 1


def test_a_large_result_stays_short():
    names = {number: f"class {number}" for number in range(1, 30)}
    image = read_volume(np.zeros((64, 64)), spacing_mm=(1.0, 1.0))
    boxes = [Box(name, 0.5, (0, 0, 5, 5), (), number) for number, name in names.items()] * 2
    warnings = tuple(f"warning {i}" for i in range(9))
    result = Localization(image, names, np.zeros((64, 64), np.uint8), boxes, warnings=warnings, inputs={"a": {}})
    assert "58: class 1 0.50" in " ".join(lines_of(result))


def test_an_entry_a_model_and_an_ensemble_show_what_they_take_and_how_good_they_are():
    model = cphloc.load(ENTRY)
    value = model.entry.headline[1].value
    for shown in (model, model.entry):
        text = " ".join(lines_of(shown))
        assert "segmentation in 2-D" in text
        assert f"{value:.3f}" in text
        assert ENTRY in text
    assert len(pictures(model._repr_html_())) == 1  # the median case
    assert "<svg" in model.entry._repr_html_()
    assert lines_of(Ensemble([model, model]))[0] == "Ensemble of 2 models"
    assert "UNet" in " ".join(lines_of(model.model))


def test_entries_of_a_zoo_have_one_line_each():
    assert all(len(repr(listing).splitlines()) == 1 and len(repr(listing)) < 250 for listing in cphloc.list_entries())


def test_a_run_shows_its_state_and_metrics(tmp_path):
    folder = tmp_path / "20260101-000000-000000"
    (folder / "pictures").mkdir(parents=True)
    recipe = load_recipe("demo")
    open_run = Run(folder.name, folder, recipe, {})
    assert "cphloc train --resume" in repr(open_run)
    assert str(folder) in repr(open_run)
    (folder / "evaluation-test.json").write_text("{}")
    lines = lines_of(Run(folder.name, folder, recipe, {"val/dice": 0.81234, "val/nsd": 0.5}))
    assert lines[0] == "Run 20260101-000000-000000"
    assert ["val/dice", "0.8123"] in [line.split() for line in lines]
    assert ["evaluated", "test"] in [line.split() for line in lines]


def test_an_evaluation_shows_metrics_beside_the_baseline(tmp_path):
    metric = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 3}
    facts = {
        "cases": ["a", "b", "c"],
        "patients": 2,
        "recommended": {"nsd": "why"},
        "metrics": {"dice": metric, **{f"metric {i}": metric for i in range(20)}, "nsd": metric | {"value": 0.75}},
        "baseline": {"metrics": {"dice": metric | {"value": 0.5}}},
        "paired": {"metrics": {"dice": {"value": 0.3, "low": 0.1, "high": 0.4}}},
    }
    evaluation = Evaluation("net@1.0.0", "test", facts, [], None)
    lines = lines_of(evaluation)
    assert lines[0] == "Evaluation of net@1.0.0 on test: 3 cases of 2 patients"
    assert lines[1].split()[:2] == ["nsd", "0.750"]  # recommended metrics first
    assert "0.800 [0.700, 0.900]; baseline 0.500; difference +0.300 [+0.100, +0.400]" in lines[2]
    assert evaluation._repr_html_().count("<tr>") == 22


def test_the_difference_of_a_signed_error_is_called_that_of_its_size():
    metric = {"value": -0.2, "low": -0.3, "high": 0.1, "n": 1}
    gain = {"value": -0.1, "low": None, "high": None, "p_value": None}
    facts = {
        **{"split": "test", "cases": ["a"], "patients": 2, "recommended": {}, "sensitivity_at_fp": {}, "by": {}},
        **{"metrics": {"volume_error": metric, "dice": metric}, "per_class": {}, "speed": {"ms_per_case": 1.0}},
        "baseline": {"metrics": {"volume_error": metric | {"value": 0.3}, "dice": metric}, "per_class": {}},
        "paired": {"metrics": {"volume_error": gain, "dice": gain}, "per_class": {}},
    }
    evaluation = Evaluation("net@1.0.0", "test", facts, [], None)
    first, signed, dice = repr(evaluation).splitlines()
    assert first.endswith("1 case of 2 patients")
    assert ["difference of |error| -0.100" in line for line in (signed, dice)] == [True, False]
    _, signed, dice, *_ = answer(evaluation).text.splitlines()
    assert ["|error| -0.100" in line for line in (signed, dice)] == [True, False]


def test_a_notebook_shows_pictures_and_tables_without_a_magic_command():
    image = Path(str(cphloc.list_entries(name=ENTRY)[0].place)) / "sample"
    cells = [
        "import cphloc",
        f"model = cphloc.load({ENTRY!r})\nmodel",
        f"result = model.predict({str(next(p for p in image.iterdir() if p.suffix in ('.png', '.jpg')))!r})\nresult",
        "result.plot()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    _, model, result, plot = ([output.get("data", {}) for output in cell.outputs] for cell in notebook.cells)
    assert len(pictures(model[0]["text/html"])) == 1
    assert "<table>" in model[0]["text/html"]
    [picture] = pictures(result[0]["text/html"])
    assert picture.std() > 0.05  # not an empty canvas
    shown = imread(io.BytesIO(base64.b64decode(plot[0]["image/png"])))
    np.testing.assert_allclose(shown, picture)
