import numpy as np
import pytest
import torch

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.unet import UNet
from cphloc.components.neck.fpn import FPN
from cphloc.modeling.model import Model
from cphloc.ops.targets import Detections, Prediction, Targets
from cphloc.structures.annotation import Annotation


def two_heads(dims):
    backbone = ConvEncoder(1, dims, widths=[4, 6, 8])
    neck = FPN(backbone.levels, channels=6, extra_levels=1)
    heads = {"fine": UNet(neck.levels, ["a"]), "other": UNet(neck.levels, ["a", "b"])}
    return Model(backbone, neck, heads, {"fine": 2.0})


def test_one_head_gives_its_logits_and_several_a_dict():
    model = two_heads(2).eval()
    assert set(model(torch.zeros(1, 1, 16, 16))) == {"fine", "other"}
    single = Model(model.backbone, model.neck, {"fine": model.heads["fine"]}).eval()
    assert single(torch.zeros(1, 1, 16, 16)).shape == (1, 2, 16, 16)


@pytest.mark.parametrize("dims", [2, 3])
def test_sizes_are_padded_to_the_coarsest_stride_and_cropped_back(dims):
    model = two_heads(dims).eval()
    size = (9, 17, 12)[:dims]
    assert model.multiple == (8,) * dims
    assert model(torch.zeros(1, 1, *size))["other"].shape == (1, 3, *size)


def test_losses_are_summed_with_their_weights():
    model = two_heads(2)
    mask = np.random.default_rng(0).integers(0, 2, (16, 16)).astype(np.uint8)
    losses = model.loss(model.outputs(torch.randn(1, 1, 16, 16)), Targets.collate([Annotation(mask=mask)], (16, 16), 2))
    assert losses["loss"].item() == pytest.approx(
        2 * losses["fine/mask"].item() + losses["other/mask"].item(), rel=1e-5
    )


def test_boxes_are_clipped_to_the_image_and_those_outside_removed():
    class Boxes(torch.nn.Module):
        def decode(self, outputs):
            boxes = torch.tensor([[-3.0, -3, 4, 4], [9, 9, 12, 12], [2, 2, 30, 30]])
            return Prediction(detections=[Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.ones(3))])

    model = Model(torch.nn.Identity(), None, {"boxes": Boxes()})
    found = model.decode({"boxes": None}, (8, 8))["boxes"].detections[0]
    assert found.boxes.tolist() == [[0, 0, 4, 4], [2, 2, 8, 8]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])


def test_targets_say_who_has_what():
    cases = [
        Annotation(mask=np.ones((4, 4), np.uint8)),
        Annotation(boxes=np.zeros((0, 4)), box_classes=np.zeros(0, int)),
        Annotation(label=np.array([1.0], np.float32)),
        Annotation(),
    ]
    targets = Targets.collate(cases, (4, 4), 1)
    assert targets.has_mask.tolist() == [True, True, False, False], "where there is no box, there is no voxel"
    assert targets.has_boxes.tolist() == [True, True, False, False]
    assert targets.has_region.tolist() == [True, True, False, False]
    assert targets.has_label.tolist() == [True, True, True, False]
    assert targets.labels[:3, 0].tolist() == [1, 0, 1]
    assert targets.labels[3].isnan().all()
