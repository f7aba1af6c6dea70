"""Models in TotalSegmentator's layout of folders, with its classes and weights of our own, become entries.

TotalSegmentator's weights themselves can only be had by its own download, so the import was not tried with them. The
class maps are those of its package on PyPI, which is under Apache-2.0 (``totalsegmentator/class_maps.json``).
"""

import json
from pathlib import Path

import pytest
import torch

from cphloc.errors import InputError
from cphloc.importing.entry import Terms, publish_imported
from cphloc.importing.nnunet import import_nnunet
from cphloc.importing.to_nnunet import export_nnunet
from cphloc.inference.localizer import Localizer
from cphloc.modeling.build import build_model
from cphloc.recipe.recipe import load

PARTS = json.loads((Path(__file__).parent / "totalsegmentator" / "class_maps.json").read_text())["parts"]
FOLDERS = {
    "organs": "Dataset291_TotalSegmentator_part1_organs_1559subj",
    "vertebrae": "Dataset292_TotalSegmentator_part2_vertebrae_1532subj",
}


def model_of(part):
    """A small network of TotalSegmentator's kind: nnU-Net's plain U-Net for CT at 1.5 mm, without mirroring."""
    torch.manual_seed(0)
    classes = {int(number): name for number, name in PARTS[part].items()}
    intensity = {"type": "ct", "low": -1004.0, "high": 1588.0, "mean": -50.4, "std": 503.4}
    data = {
        "type": "nnunet",
        "channels": ["ct"],
        "units": {"ct": "HU"},
        "spacing_mm": [1.5] * 3,
        "intensity": intensity,
        "patch": [16] * 3,
        "nnunet": {"orientation": "RAS", "axes": [0, 1, 2]},
    }
    kernels = [[3, 3, 3]] * 3
    strides = [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
    backbone = {"type": "conv_encoder", "widths": [3, 4, 5], "strides": strides, "kernels": kernels}
    head = {"type": "unet", "classes": classes, "convolutions": 2, "kernels": kernels[:-1]}
    model = {"backbone": backbone, "heads": {"mask": head}, "average": "logits"}
    recipe = load({"name": part, "task": "segmentation", "dims": 3, "data": data, "model": model})
    return Localizer(build_model(recipe).eval(), recipe)


def test_its_layout_is_found_and_its_classes_keep_number_and_name(tmp_path):
    for part, folder in FOLDERS.items():
        export_nnunet(model_of(part), tmp_path / folder / "nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres")
    for part, folder in FOLDERS.items():
        imported = import_nnunet(tmp_path / folder)
        classes = imported.recipe["model"]["heads"]["mask"]["classes"]
        assert classes == {int(number): name for number, name in PARTS[part].items()}
        assert imported.options == {"tta": False}
    with pytest.raises(InputError, match="holds 2 trained configurations"):
        import_nnunet(tmp_path)
    entry = publish_imported(
        import_nnunet(tmp_path / FOLDERS["organs"]), "organs", "1.0.0", Terms("a", "b", "c"), tmp_path
    )
    assert entry.classes[5] == "liver"
    assert entry.modality == ["CT"]
