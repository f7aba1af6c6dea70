"""A bundle with MONAI's RetinaNet becomes an entry with MONAI's boxes, or is refused by name."""

import json
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from cphloc.errors import InputError
from cphloc.importing.entry import Terms, recipe_of
from cphloc.importing.monai import import_monai
from cphloc.importing.proof import compare
from cphloc.inference.localizer import Localizer
from cphloc.modeling.ensemble import member_weights
from cphloc.zoo.weights import build_with_weights

INFERER = """
from math import prod
from monai.inferers.inferer import Inferer


class RetinaNetInferer(Inferer):
    def __init__(self, detector):
        self.detector = detector

    def __call__(self, inputs, network):
        self.detector.network, self.detector.training = network, network.training
        size = prod(self.detector.inferer.roi_size)
        return self.detector(inputs, use_inferer=any(one[0].numel() >= size for one in inputs))
"""
"""A script as bundles have it; it is not read by the import."""

KEYS = {"keys": "image"}
SCALE = {"a_min": -90, "a_max": 90, "b_min": 0, "b_max": 1, "clip": True}
CONFIGURATION = {
    "raw": False,
    "resampled": "$(not @raw)",
    "device": "$torch.device('cpu')",
    "infer_patch_size": [32, 24, 16],
    "anchor_generator": {
        "_target_": "monai.apps.detection.utils.anchor_utils.AnchorGeneratorWithAnchorShape",
        "feature_map_scales": [1, 2],
        "base_anchor_shapes": [[6, 8, 4], [10, 10, 6]],
    },
    "backbone": "$monai.networks.nets.resnet.resnet10(spatial_dims=3,n_input_channels=1,conv1_t_stride=[2,2,1])",
    "feature_extractor": "$monai.apps.detection.networks.retinanet_network"
    ".resnet_fpn_feature_extractor(@backbone,3,False,[1],None)",
    "network_def": {
        "_target_": "RetinaNet",
        "spatial_dims": 3,
        "num_classes": 2,
        "num_anchors": 2,
        "feature_extractor": "@feature_extractor",
        "size_divisible": [8, 8, 4],
    },
    "network": "$@network_def.to(@device)",
    "detector": {
        "_target_": "RetinaNetDetector",
        "network": "@network",
        "anchor_generator": "@anchor_generator",
        "debug": False,
    },
    "detector_ops": [
        "$@detector.set_target_keys(box_key='box', label_key='label')",
        "$@detector.set_box_selector_parameters(score_thresh=0.02,topk_candidates_per_level=100,nms_thresh=0.3,"
        "detections_per_img=25)",
        "$@detector.set_sliding_window_inferer(roi_size=@infer_patch_size,overlap=0.25,sw_batch_size=1,"
        "mode='constant',device='cpu')",
    ],
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", **KEYS, "_disabled_": "@raw"},
            {"_target_": "LoadImaged", **KEYS, "reader": "itkreader", "_disabled_": "@resampled"},
            {"_target_": "EnsureChannelFirstd", **KEYS},
            {"_target_": "Orientationd", **KEYS, "axcodes": "RAS"},
            {"_target_": "Spacingd", **KEYS, "pixdim": [0.8, 0.8, 1.5]},
            {
                "_target_": "ScaleIntensityRanged",
                **KEYS,
                "a_min": -90,
                "a_max": 90,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            },
            {"_target_": "EnsureTyped", **KEYS},
        ],
    },
    "inferer": {"_target_": "scripts.detection_inferer.RetinaNetInferer", "detector": "@detector"},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "ClipBoxToImaged", "box_keys": "box", "label_keys": "label", "box_ref_image_keys": "image"},
            {"_target_": "AffineBoxToWorldCoordinated", "box_keys": "box", "box_ref_image_keys": "image"},
        ],
    },
}


def bundle(folder, **changed):
    for name in ("configs", "models", "scripts"):
        (folder / name).mkdir(parents=True)
    (folder / "configs" / "inference.json").write_text(json.dumps({**CONFIGURATION, **changed}))
    (folder / "configs" / "metadata.json").write_text(json.dumps({"version": "1.0.0"}))
    (folder / "scripts" / "__init__.py").touch()
    (folder / "scripts" / "detection_inferer.py").write_text(INFERER)
    torch.save({"a": torch.zeros(1)}, folder / "models" / "model.pt")
    return folder


def write_image(path):
    values = np.random.default_rng(0).normal(0, 60, (18, 30, 34)).astype(np.float32)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.9, 1.1, 1.7))
    image.SetOrigin((5.0, -30.0, 12.0))
    image.SetDirection((-1, 0, 0, 0, 0, 1, 0, -1, 0))
    sitk.WriteImage(image, str(path))


@pytest.mark.slow
def test_boxes_and_scores_are_those_of_monai(tmp_path, monkeypatch):
    pytest.importorskip("monai.apps.detection")
    from cphloc.importing.provers import prove_monai

    folder, given = bundle(tmp_path / "bundle"), tmp_path / "given"
    given.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path])
    torch.manual_seed(0)
    network = prove_monai.configuration(folder).get_parsed_content("network_def")
    torch.nn.init.normal_(network.classification_head.cls_logits.weight, 0, 0.3)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    write_image(given / "case_0000.nii.gz")
    monkeypatch.setattr(sys, "argv", ["prove_monai.py", str(folder), str(given)])
    prove_monai.main()
    imported = import_monai(folder, ["nodule", "node"])
    recipe = recipe_of(imported, "small", Terms("CC0", "x", "y"))
    localizer = Localizer(build_with_weights(recipe, member_weights(imported.weights), "small"), recipe)
    proof = compare(localizer, given, "reference")
    assert proof.boxes == 25
    assert proof.box_pixels < 1e-3
    assert proof.box_scores < 1e-3


def test_the_configuration_becomes_arguments_of_the_head(tmp_path):
    recipe = import_monai(bundle(tmp_path / "bundle"), ["nodule", "node"]).recipe
    head = recipe["model"]["heads"]["boxes"]
    assert recipe["task"] == "detection"
    assert recipe["data"]["spacing_mm"] == [0.8, 0.8, 1.5]
    assert recipe["data"]["patch"] is None
    assert head == {
        "type": "monai_retinanet",
        "classes": {1: "nodule", 2: "node"},
        "resnet": "resnet10",
        "resnet_arguments": {"conv1_t_stride": [2, 2, 1]},
        "returned_layers": [1],
        "anchor_shapes": [[6.0, 8.0, 4.0], [10.0, 10.0, 6.0]],
        "anchor_scales": [1.0, 2.0],
        "size_divisible": [8, 8, 4],
        "window": [32, 24, 16],
        "overlap": 0.25,
        "weight": "constant",
        "score_threshold": 0.02,
        "pre_nms_topk": 100,
        "nms_threshold": 0.3,
        "detections": 25,
    }


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"backbone": "$os.system('true')"}, r"the expression \$os\.system\('true'\)"),
        ({"backbone": "$__import__('os').system('true')"}, "it is code"),
        ({"resampled": "$(lambda: True)()"}, "it is code"),
        ({"detector_ops": ["$@detector.set_box_coder_weights(weights=[1,1,1,1,1,2])"]}, "set_box_coder_weights"),
        ({"detector_ops": ["$@detector.set_target_keys(box_key=open('a'), label_key='l')"]}, r"open\('a'\)"),
        ({"detector": {"_target_": "RetinaNetDetector", "box_overlap_metric": "$mine"}}, "box_overlap_metric"),
        ({"inferer": {"_target_": "SimpleInferer"}}, "the inferer SimpleInferer"),
        ({"postprocessing": [{"_target_": "NonMaxd"}]}, "the transform NonMax"),
        ({"anchor_generator": {"_target_": "AnchorGenerator"}}, "the anchors"),
        ({"network_def": {**CONFIGURATION["network_def"], "feature_extractor": {"_target_": "a.ViT"}}}, r"a\.ViT"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_an_entry_cannot_express_is_refused_by_name(tmp_path, changed, named):
    with pytest.raises(InputError, match=named):
        import_monai(bundle(tmp_path / "bundle", **changed), ["nodule", "node"])


def test_the_classes_of_a_detector_must_be_named(tmp_path):
    with pytest.raises(InputError, match=r"has 2 classes; name them with --classes \(1 given\)"):
        import_monai(bundle(tmp_path / "bundle"), ["nodule"])
