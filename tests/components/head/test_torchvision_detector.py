import pytest
import torch

from cphloc.components.head.torchvision_detector import TorchvisionDetector
from cphloc.errors import InputError
from cphloc.structures.levels import Level

NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"


@pytest.fixture(scope="module")
def head():
    torch.manual_seed(0)
    made = TorchvisionDetector((Level(3, (1, 1)),), {1: "cell", 2: "dot"}, NAME, shortest=64, longest=96)
    for key, parameter in made.named_parameters():
        if "cls_score" in key:
            torch.nn.init.normal_(parameter, 0, 0.1)
    return made


def test_boxes_are_those_of_torchvision_in_the_order_of_the_axes(head):
    image = torch.rand(1, 3, 48, 72, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (found,) = head.decode(head((image,))).detections
        (theirs,) = head.network([image[0]])
    kept = theirs["labels"] > 0
    assert int(kept.sum()) > 0
    x_low, y_low, x_high, y_high = theirs["boxes"][kept].T
    assert torch.equal(found.boxes, torch.stack([y_low, x_low, y_high, x_high], dim=1))
    assert torch.equal(found.scores, theirs["scores"][kept])
    assert found.boxes[:, 2].max() <= 48 < found.boxes[:, 3].max() <= 72


def test_it_only_predicts(head):
    assert not head.train().network.training
    with pytest.raises(InputError, match="only predicts with imported weights"):
        head.loss(None, None)


@pytest.mark.parametrize("level", [Level(1, (1, 1)), Level(3, (2, 2)), Level(3, (1, 1, 1))])
def test_other_inputs_than_pictures_of_three_channels_are_refused(level):
    with pytest.raises(InputError, match="takes pictures of three channels"):
        TorchvisionDetector((level,), ["cell"], NAME)
