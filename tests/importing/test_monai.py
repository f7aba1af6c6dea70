"""MONAI bundles become entries that predict what MONAI predicted (``make_monai_bundles.py``), or are refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cphloc.data.io.read import read_volume
from cphloc.errors import DataError, InputError, NotFoundError
from cphloc.importing.entry import Terms, recipe_of
from cphloc.importing.monai import import_monai
from cphloc.importing.proof import compare
from cphloc.inference.localizer import Localizer
from cphloc.modeling.build import build_model
from cphloc.modeling.ensemble import member_weights
from cphloc.recipe.recipe import load
from cphloc.zoo.weights import build_with_weights

BUNDLES = Path(__file__).parent / "monai"


def localizer_of(imported):
    recipe = recipe_of(imported, "small", Terms("CC0", "x", "y"))
    return Localizer(build_with_weights(recipe, member_weights(imported.weights), "small"), recipe)


@pytest.mark.parametrize("name", ["dynunet", pytest.param("unet", marks=pytest.mark.slow)])
def test_it_predicts_what_monai_predicts(name):
    proof = compare(localizer_of(import_monai(BUNDLES / name)), BUNDLES / name, "reference")
    assert proof.outputs <= 1e-4 * max(1, proof.scale)
    assert proof.differing <= 2, proof
    assert proof.voxels == 5808
    assert len(np.unique(read_volume(BUNDLES / name / "case.nii.gz").array)) == 3  # every class occurs


@pytest.mark.parametrize(
    "changed", [{"axcodes": "LPS"}, {"scaled": "before"}, {"overlap": 0.25}, {"weight": "constant"}]
)
def test_every_step_of_the_preparation_matters(changed):
    imported = import_monai(BUNDLES / "dynunet")
    data = {**imported.recipe["data"], "monai": {**imported.recipe["data"]["monai"], **changed}}
    other = localizer_of(type(imported)(**{**vars(imported), "recipe": {**imported.recipe, "data": data}}))
    with pytest.raises(DataError, match="voxels of masks differ"):
        compare(other, BUNDLES / "dynunet", "reference")


def bundle_with(folder, name="dynunet", **changed):
    """A copy of a bundle with other steps; a number replaces a step of the preparation."""
    shutil.copytree(BUNDLES / name, folder / name)
    path = folder / name / "configs" / "inference.json"
    content = json.loads(path.read_text())
    for key, value in changed.items():
        *place, last = key.split("__")
        where = content
        for part in place:
            where = where[int(part)] if part.isdigit() else where[part]
        where[int(last) if last.isdigit() else last.replace("@", "_target_")] = value
    path.write_text(json.dumps(content))
    return folder / name


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"preprocessing__transforms__2": {"_target_": "CropForegroundd", "keys": "image"}}, "the transform CropForeg"),
        ({"preprocessing__transforms__3__scale_extent": True}, "Spacingd with scale_extent True"),
        ({"preprocessing__transforms__3__mode": 3}, "Spacingd with mode 3"),
        ({"preprocessing__transforms__4__b_min": None}, "without a_min, a_max, b_min or b_max"),
        ({"preprocessing__transforms__4__a_min": "$int(-30)"}, r"the expression \$int"),
        ({"postprocessing__transforms__1__nearest_interp": True}, "Invertd with nearest_interp True"),
        ({"postprocessing__transforms__2": {"_target_": "AsDiscreted", "keys": "pred"}}, "AsDiscreted without argmax"),
        ({"postprocessing__transforms__1": {"_target_": "EnsureTyped", "keys": "pred"}}, "the postprocessing"),
        ({"inferer__@": "SliceInferer"}, "the inferer SliceInferer"),
        ({"inferer__mode": "@nothing"}, "the reference @nothing"),
        ({"network_def__@": "VNet"}, "the network VNet"),
        ({"network_def__res_block": True}, "a DynUNet with res_block True"),
        ({"network_def": "$torch.jit.load('a')"}, "it is code"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_an_entry_cannot_express_is_refused_by_name(tmp_path, changed, named):
    with pytest.raises(InputError, match=named):
        import_monai(bundle_with(tmp_path, **changed))


def test_references_are_followed(tmp_path):
    changed = {"roi": [16, 16, 8], "inferer__roi_size": "@roi", "preprocessing__transforms__3__pixdim": "@spacing#0"}
    recipe = import_monai(bundle_with(tmp_path, spacing=[[1.5, 1.5, 2.0]], **changed)).recipe
    assert recipe["data"]["patch"] == [16, 16, 8]
    assert recipe["data"]["spacing_mm"] == [1.5, 1.5, 2.0]


def test_a_hostile_checkpoint_is_refused_and_named(tmp_path, hostile):
    bundle = bundle_with(tmp_path)
    hostile(bundle / "models" / "model.pt")
    with pytest.raises(DataError, match=r"posix\.system"):
        import_monai(bundle)
    assert not (bundle / "models" / "mark").exists()


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(NotFoundError, match=r"has no configs/inference\.json"):
        import_monai(tmp_path)
    bundle = bundle_with(tmp_path)
    (bundle / "models" / "model.pt").rename(bundle / "models" / "model.ts")
    with pytest.raises(NotFoundError, match=r"a TorchScript \(\.ts\) is code"):
        import_monai(bundle)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("BasicUNet", {"features": [4, 4, 6, 8, 8, 4]}),
        ("SegResNet", {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}),
        ("SwinUNETR", {"feature_size": 12}),
    ],
)
def test_wrapped_networks_compute_what_monai_computes(name, arguments):
    nets = pytest.importorskip("monai.networks.nets")
    theirs = getattr(nets, name)(spatial_dims=3, in_channels=1, out_channels=2, **arguments).eval()
    head = {"type": "monai_network", "name": name, "arguments": arguments, "classes": ["a"]}
    data = {"type": "image_folder", "classes": ["a"], "patch": [64] * 3}
    model = {"backbone": {"type": "identity"}, "heads": {"mask": head}}
    ours = build_model(load({"task": "segmentation", "dims": 3, "data": data, "model": model})).eval()
    ours.heads["mask"].network.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 1, 64, 64, 64)  # of 32, the coarsest level of a SwinUNETR has one voxel
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))
