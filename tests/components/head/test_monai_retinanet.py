import pytest
import torch

from cphloc.components.head.monai_retinanet import MonaiRetinaNet
from cphloc.errors import InputError
from cphloc.structures.levels import Level

pytest.importorskip("monai.apps.detection", reason="MONAI is an extra: pip install 'cphloc[monai]'")
WINDOWS = {"window": [24, 24, 24], "overlap": 0.5}


def head_of(dims, **arguments):
    torch.manual_seed(0)
    shapes = [[4.0, 6.0, 4.0][:dims], [8.0, 5.0, 6.0][:dims]]
    pyramid = {"returned_layers": [1], "anchor_shapes": shapes, "anchor_scales": [1.0, 2.0], "size_divisible": 8}
    chosen = {"score_threshold": 0.02, "detections": 20}
    head = MonaiRetinaNet((Level(1, (1,) * dims),), ["a", "b"], "resnet10", {}, **{**pyramid, **chosen, **arguments})
    torch.nn.init.normal_(head.detector.network.classification_head.cls_logits.weight, 0, 0.3)
    return head


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_are_those_of_monai_from_the_edge_of_the_first_voxel(dims):
    head = head_of(dims, **{**WINDOWS, "window": WINDOWS["window"][:dims]})
    image = torch.rand(1, 1, *[32, 30, 28][:dims])
    with torch.no_grad():
        (found,) = head.decode(head((image,))).detections
        (theirs,) = head.detector([image[0]], use_inferer=True)
    assert len(found.boxes) == 20
    assert torch.equal(found.boxes, theirs["boxes"] + 0.5)
    assert torch.equal(found.scores, theirs["labels_scores"])
    assert torch.equal(found.classes, theirs["labels"] + 1)


def test_an_image_smaller_than_a_window_is_predicted_at_once():
    head, image = head_of(2, **{**WINDOWS, "window": [64, 64]}), torch.rand(1, 1, 32, 30)
    with torch.no_grad():
        (theirs,) = head.detector([image[0]], use_inferer=False)
        assert torch.equal(head((image,)).boxes[0], theirs["boxes"] + 0.5)


def test_it_only_predicts_and_what_it_cannot_build_is_refused():
    head = head_of(2)
    assert not head.train().detector.training
    with pytest.raises(InputError, match="only predicts with imported weights"):
        head.loss(None, None)
    with pytest.raises(InputError, match="takes the image itself"):
        MonaiRetinaNet((Level(1, (2, 2)),), ["a"])
    with pytest.raises(InputError, match="MONAI refuses its arguments"):
        head_of(2, returned_layers=[9])
