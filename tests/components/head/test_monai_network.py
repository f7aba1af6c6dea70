import pytest
import torch

from cphloc.components.head.monai_network import MonaiNetwork
from cphloc.errors import InputError
from cphloc.structures.levels import Level

nets = pytest.importorskip("monai.networks.nets", reason="MONAI is an extra: pip install 'cphloc[monai]'")
ARGUMENTS = {"channels": [4, 8], "strides": [2], "num_res_units": 1}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_logits_are_those_of_the_network_with_the_same_weights(dims, scores):
    head = MonaiNetwork((Level(1, (1,) * dims),), ["a", "b"], "UNet", ARGUMENTS, scores=scores).eval()
    outputs = 2 if scores == "sigmoid" else 3
    theirs = nets.UNet(spatial_dims=dims, in_channels=1, out_channels=outputs, **ARGUMENTS).eval()
    theirs.load_state_dict(head.network.state_dict())
    image = torch.rand(2, 1, *(8,) * dims)
    with torch.no_grad():
        logits = head((image,))
        assert torch.equal(logits, theirs(image))
    probabilities = head.decode(logits).mask_probabilities
    if scores == "softmax":
        assert torch.allclose(probabilities, logits.softmax(dim=1))
    else:
        assert probabilities.shape[1] == 4
        with pytest.raises(InputError, match="only predicts with imported weights"):
            head.loss(logits, None)


@pytest.mark.parametrize(
    ("level", "arguments", "message"),
    [
        (Level(1, (2, 2)), ARGUMENTS, "takes the image itself"),
        (Level(1, (1, 1)), {**ARGUMENTS, "depth": 3}, "does not take the argument 'depth'"),
        (Level(1, (1, 1)), {**ARGUMENTS, "in_channels": 1}, "does not take the argument 'in_channels'"),
        (Level(1, (1, 1)), {"channels": [4], "strides": []}, "refuses its arguments"),
    ],
)
def test_what_it_cannot_build_is_refused(level, arguments, message):
    with pytest.raises(InputError, match=message):
        MonaiNetwork((level,), ["a"], "UNet", arguments)
