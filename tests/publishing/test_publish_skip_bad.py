"""With ``data.skip_bad``, cases that cannot be read stop neither training, evaluation nor publishing."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from cphloc.cli import main
from cphloc.errors import DataError
from cphloc.evaluation.evaluate import evaluate
from cphloc.publishing.publish import publish
from cphloc.training.train import train

ABOUT = {"summary": "A test.", "intended_use": "Tests.", "limits": ["Phantoms."], "changelog": "First."}
CASES = {"train": 4, "val": 2, "test": 3}


@pytest.fixture(params=[2, 3])
def recipe(request, tmp_path, monkeypatch, mlflow_store):
    """A recipe on a folder of which one case in each split cannot be read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    size, rng = (8,) * (request.param - 2) + (16, 16), np.random.default_rng(0)
    folder, rows = tmp_path / "data", ["image,mask,split"]
    folder.mkdir()
    for split, count in CASES.items():
        for number in range(count):
            name = f"{split}{number}"
            mask = np.zeros(size, np.uint8)
            mask[..., 4:10, 4:10] = 1
            image = (100 * mask + rng.normal(0, 5, size)).astype(np.float32)
            for suffix, array in (("", image), ("m", mask)):
                sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / f"{name}{suffix}.mha"))
            rows.append(f"{name}.mha,{name}m.mha,{split}")
        (folder / f"{split}0.mha").write_bytes(b"no image")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    about = {"licence": "CC0-1.0", "citation": "None.", "modality": ["MR"]}
    data = {"type": "image_folder", "root": str(folder), "patch": list(size), "workers": 0, "about": about}
    heads = {"mask": {"type": "unet", "classes": {1: "mass"}}}
    return {
        **{"name": "skipping", "task": "segmentation", "dims": request.param},
        "data": {**data, "classes": {1: "mass"}, "skip_bad": True},
        "model": {"backbone": {"type": "conv_encoder", "widths": [4, 8]}, "heads": heads},
        "train": {"steps": 2, "batch": 2, "precision": "32"},
    }


def test_unreadable_cases_are_left_out_from_training_to_entry(recipe, tmp_path, registered, capfd):
    with pytest.raises(DataError, match="train0"):
        train({**recipe, "data": {**recipe["data"], "skip_bad": False}})
    run = train(recipe)
    said = capfd.readouterr().err
    assert all(f"case '{split}0'" in said for split in CASES)
    assert [row.partition(",")[0] for row in (run.folder / "cases.csv").read_text().split()] == ["case", "val1"]
    assert evaluate(run).facts["cases"] == ["test1", "test2"]
    zoo, options = tmp_path / "zoo", {"about": ABOUT, "below_baseline": "trained for two steps"}
    entry = publish(run, "skipping", "1.0.0", to=zoo, **options)
    assert entry.evaluation.cases == ["test1", "test2"]
    assert entry.data.splits == {"train": 3, "val": 1, "test": 2}
    assert main(["evaluate", f"{zoo}/skipping/1.0.0/", "--root", recipe["data"]["root"]]) == 0
