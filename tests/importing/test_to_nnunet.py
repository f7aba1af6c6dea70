"""A model goes to nnU-Net's layout and back without a difference; what nnU-Net lacks is refused."""

from pathlib import Path

import pytest
import torch

from cphloc.errors import InputError
from cphloc.importing.checkpoint import read_checkpoint
from cphloc.importing.entry import Terms, recipe_of
from cphloc.importing.nnunet import import_nnunet
from cphloc.importing.nnunet_folder import extract
from cphloc.importing.to_nnunet import export_nnunet
from cphloc.inference.localizer import Localizer
from cphloc.modeling.build import build_model
from cphloc.modeling.ensemble import member_weights
from cphloc.recipe.recipe import load
from cphloc.zoo.weights import build_with_weights

MODELS = Path(__file__).parent / "nnunet"


@pytest.mark.parametrize("name", ["folds", "residual", "slices"])
def test_a_model_of_nnunet_comes_back_with_all_its_tensors(tmp_path, name):
    imported = import_nnunet(MODELS / name / "model.zip")
    recipe = recipe_of(imported, "small", Terms("CC0", "x", "y"))
    localizer = Localizer(build_with_weights(recipe, member_weights(imported.weights), name), recipe)
    done = export_nnunet(localizer, tmp_path / "out")
    assert done.difference < 1e-6
    extract(MODELS / name / "model.zip", tmp_path / "in")
    for path in sorted((tmp_path / "in").rglob("*.pth")):
        before = read_checkpoint(path).below("network_weights")
        after = read_checkpoint(tmp_path / "out" / path.parent.name / path.name).below("network_weights")
        assert set(after) == set(before)
        for key, value in before.items():
            assert after[key].shape == value.shape, key
            without_effect = key.startswith("decoder.seg_layers.0") or (key.endswith("bias") and not after[key].any())
            assert without_effect or torch.equal(after[key], value), key


def test_a_model_that_prepares_images_as_cphloc_does_is_refused(tmp_path):
    data = {"type": "phantom", "size": [16] * 3, "patch": [8] * 3, "spacing_mm": [1.0] * 3}
    heads = {"mask": {"type": "unet", "classes": {1: "mass"}}}
    backbone = {"type": "conv_encoder", "widths": [4, 6]}
    recipe = load({"task": "segmentation", "dims": 3, "data": data, "model": {"backbone": backbone, "heads": heads}})
    with pytest.raises(InputError, match=r"data\.nnunet is null"):
        export_nnunet(Localizer(build_model(recipe), recipe), tmp_path / "out")
