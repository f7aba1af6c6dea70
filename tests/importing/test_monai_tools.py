"""A bundle that MONAI's ``init_bundle`` makes is imported and predicts what ``python -m monai.bundle run`` writes."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from cphloc.data.io.read import read_volume
from cphloc.importing.entry import Terms, recipe_of
from cphloc.importing.monai import import_monai
from cphloc.inference.localizer import Localizer
from cphloc.modeling.ensemble import member_weights
from cphloc.zoo.weights import build_with_weights

ARGUMENTS = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
}


@pytest.mark.slow
def test_a_bundle_of_init_bundle_predicts_what_run_writes(tmp_path):
    pytest.importorskip("ignite", reason="MONAI's run needs it: pip install pytorch-ignite")
    nets, tools = pytest.importorskip("monai.networks.nets"), pytest.importorskip("monai.bundle")
    torch.manual_seed(0)
    network = nets.UNet(**ARGUMENTS)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    stated = copy.deepcopy(tools.utils.DEFAULT_INFERENCE)
    stated["imports"].append("$import os")  # the template names os and does not import it
    stated["network_def"] = {"_target_": "UNet", **ARGUMENTS}
    stated["datalist"] = "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))"
    saved = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "$@bundle_root + '/eval'"}
    stated["postprocessing"]["transforms"].append(saved)
    bundle, images = tmp_path / "bundle", tmp_path / "images"
    tools.init_bundle(bundle, network=network, inference_str=stated)
    images.mkdir()
    for number, shape in enumerate([(6, 14, 12), (8, 10, 16)]):
        image = sitk.GetImageFromArray(np.random.default_rng(number).normal(20, 40, shape).astype(np.float32))
        image.SetSpacing((1.1, 2.3, 4.0))
        image.SetDirection((-1, 0, 0, 0, 0, 1, 0, -1, 0))
        sitk.WriteImage(image, str(images / f"scan{number}.nii.gz"))
    files = ["--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json", "--bundle_root", "."]
    command = [sys.executable, "-m", "monai.bundle", "run", "evaluating", *files, "--dataset_dir", str(images)]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

    imported = import_monai(bundle, ["front", "back"])
    recipe = recipe_of(imported, "small", Terms("CC0", "x", "y"))
    localizer = Localizer(build_with_weights(recipe, member_weights(imported.weights), "small"), recipe)
    for number in range(2):
        ours = localizer.predict(images / f"scan{number}.nii.gz")
        theirs = read_volume(next((bundle / "eval").rglob(f"scan{number}*.nii.gz")))
        assert theirs.geometry.same_grid(ours.image.geometry)
        assert (theirs.array[0] != ours.masks).sum() <= 2
        assert len(np.unique(ours.masks)) == 3
