"""Detectors of torchvision become entries with its boxes, or are refused."""

import numpy as np
import pytest
import torch
from foreign_networks import SIZE, detector
from PIL import Image

from cphloc.errors import DataError, InputError, NotFoundError
from cphloc.importing.entry import Terms, recipe_of
from cphloc.importing.proof import compare
from cphloc.importing.torchvision import import_torchvision
from cphloc.inference.localizer import Localizer
from cphloc.modeling.ensemble import member_weights
from cphloc.zoo.weights import build_with_weights


def localizer_of(imported):
    recipe = recipe_of(imported, "small", Terms("BSD", "x", "y"))
    return Localizer(build_with_weights(recipe, member_weights(imported.weights), "small"), recipe)


def reference(folder, theirs):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 110, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "case_0000.png")
    with torch.no_grad():
        (found,) = theirs([torch.from_numpy(pixels).permute(2, 0, 1).float() / 255])
    np.savez(folder / "case.npz", **{key: value.numpy() for key, value in found.items()})
    return found


@pytest.mark.parametrize(
    "name",
    [
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("retinanet_resnet50_fpn", "fcos_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2")
        ),
    ],
)
def test_boxes_and_scores_are_those_of_torchvision(tmp_path, name):
    theirs = detector(name)
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    found = reference(tmp_path, theirs)
    localizer = localizer_of(import_torchvision(name, tmp_path / "a.pth", ["a", "b", "c"], SIZE))
    proof = compare(localizer, tmp_path, "reference")
    assert proof.boxes == int((found["labels"] > 0).sum()) > 5
    assert proof.box_pixels < 1e-3
    assert proof.box_scores < 1e-3
    found["boxes"][0] += 0.1
    np.savez(tmp_path / "case.npz", **{key: value.numpy() for key, value in found.items()})
    with pytest.raises(DataError, match=r"boxes differ by 1\.0e-01 pixels"):
        compare(localizer, tmp_path, "reference")


def test_a_hostile_checkpoint_is_refused_and_named(tmp_path, hostile):
    with pytest.raises(DataError, match=r"posix\.system"):
        import_torchvision("retinanet_resnet50_fpn", hostile(tmp_path / "a.pth"), ["a"])
    assert not (tmp_path / "mark").exists()


def test_wrong_inputs_are_refused_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(NotFoundError, match="torchvision yolo_v9 cannot be imported"):
        import_torchvision("yolo_v9")
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(DataError, match=r"no tensor head\.classification_head.* no checkpoint of a retinanet"):
        import_torchvision("retinanet_resnet50_fpn", tmp_path / "a.pth", ["a"])
    torch.save({"head.classification_head.cls_logits.weight": torch.zeros(4, 1)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"has 3 labels besides the background; name them with --classes \(1 given"):
        import_torchvision("fcos_resnet50_fpn", tmp_path / "a.pth", ["a"])
    monkeypatch.setenv("CPHLOC_OFFLINE", "1")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match=r"CPHLOC_OFFLINE forbids downloading them; give --checkpoint FILE"):
        import_torchvision("fcos_resnet50_fpn")
