"""MONAI predicts with an exported bundle what the model predicts; what a bundle cannot express is refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from cphloc.data.io.read import read_volume
from cphloc.errors import DataError, InputError
from cphloc.importing import to_monai
from cphloc.importing.to_monai import export_monai
from cphloc.inference.localizer import Localizer
from cphloc.modeling.build import build_model
from cphloc.recipe.recipe import load

CT = {"type": "ct", "low": -50.0, "high": 90.0, "mean": 20.0, "std": 30.0}
SCALE = {"type": "scale", "low": 0.0, "high": 255.0}


def localizer_of(dims, head=None, **data):
    torch.manual_seed(0)
    head = {"type": "unet", "classes": {1: "mass", 2: "cyst"}, **(head or {})}
    backbone = {"type": "conv_encoder", "widths": [4, 6]}
    spacing = {"spacing_mm": [3.0, 1.5, 1.6]} if dims == 3 else {}
    own = {"type": "image_folder", "channels": ["ct"], "patch": [8, 12, 16][-dims:], **spacing}
    model = {"backbone": backbone, "heads": {"mask": head}}
    recipe = load({"name": "tiny", "task": "segmentation", "dims": dims, "data": own | data, "model": model})
    model = build_model(recipe).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.4)
    return Localizer(model, recipe)


MODELS = {
    "volume": (3, {"intensity": CT, "spacing_mm": [3.0, 1.5, 1.6]}),
    "picture": (2, {"intensity": SCALE}),
    "zscore": (3, {"intensity": "zscore", "pad": "edge"}),
    "channels": (3, {"intensity": [SCALE, SCALE], "channels": ["a", "b"]}),
}


@pytest.mark.slow  # each starts a process that imports MONAI
@pytest.mark.parametrize("name", MODELS)
def test_monai_predicts_the_same_mask(tmp_path, name):
    dims, data = MODELS[name]
    done = export_monai(localizer_of(dims, **data), tmp_path / "bundle")
    proof = json.loads((done.path / "configs" / "metadata.json").read_text())["proof"]
    assert proof["outputs"] < 1e-4
    assert proof["voxels"] > 200
    assert proof["differing"] <= 3
    assert done.proof.startswith("outputs")


@pytest.mark.slow
def test_a_bundle_that_prepares_images_otherwise_is_not_written(tmp_path, monkeypatch):
    wrong = {**CT, "mean": 45.0}
    translated = to_monai.transforms
    monkeypatch.setattr(to_monai, "transforms", lambda _: translated(localizer_of(3, intensity=wrong).recipe))
    with pytest.raises(DataError, match="voxels of masks differ"):
        export_monai(localizer_of(3, intensity=CT), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_monai_verifies_and_runs_a_bundle(tmp_path):
    localizer = localizer_of(3, intensity=CT)
    bundle = export_monai(localizer, tmp_path / "bundle").path
    rng = np.random.default_rng(0)
    for number, shape in enumerate([(6, 30, 21), (11, 15, 19)]):
        image = sitk.GetImageFromArray(rng.normal(20, 40, shape).astype(np.float32))
        image.SetSpacing((1.1, 2.3, 4.0))
        image.SetOrigin((5.0, -3.0, 40.0))
        image.SetDirection((-1, 0, 0, 0, 0, 1, 0, -1, 0))
        (bundle / "images").mkdir(exist_ok=True)
        sitk.WriteImage(image, str(bundle / "images" / f"scan{number}.nii.gz"))
    monai = [sys.executable, "-m", "monai.bundle"]
    files = ["--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json"]
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in (["verify_net_in_out", "network_def"], ["run", "run"]):
        done = subprocess.run(
            [*monai, *command, *files], cwd=bundle, capture_output=True, text=True, check=False, env=alone
        )
        assert done.returncode == 0, done.stderr[-2000:]
    for number in range(2):
        ours = localizer.predict(bundle / "images" / f"scan{number}.nii.gz", skip_air=False)
        theirs = read_volume(next((bundle / "eval").rglob(f"scan{number}*.nii.gz")))
        assert theirs.geometry.same_grid(ours.image.geometry)
        assert (theirs.array[0] != ours.masks).sum() <= 2
        assert len(np.unique(ours.masks)) > 1


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"fit": "whole"}, "data.fit"),
        ({"intensity": {"type": "zscore", "clip": [1, 99]}}, "zscore"),
        ({"intensity": "window"}, "window"),
        ({"nnunet": {"axes": [0, 1, 2]}}, "data.nnunet"),
        ({"channels": ["a", "b"], "intensity": [CT, SCALE]}, "different data.intensity"),
        ({"head": {"scores": "sigmoid"}}, "regions"),
    ],
    ids=["fit", "percentiles", "window", "nnunet", "channels", "regions"],
)
def test_what_a_bundle_cannot_express_is_refused_by_name(tmp_path, data, named):
    with pytest.raises(InputError, match=named):
        export_monai(localizer_of(3, **data), tmp_path / "bundle")


def test_options_that_a_bundle_would_ignore_are_refused(tmp_path):
    localizer = localizer_of(3)
    localizer.options = localizer.options.model_copy(update={"thresholds": {"mask": 0.3}})
    with pytest.raises(InputError, match=r"options\.thresholds"):
        export_monai(localizer, tmp_path / "bundle")
