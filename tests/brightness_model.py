"""A model without training: it finds what is brighter than 0.5, in 2-D and 3-D."""

import torch
from torch import nn

from cphloc.inference.localizer import Localizer
from cphloc.modeling.model import Model
from cphloc.ops.targets import Detections, Prediction
from cphloc.recipe.recipe import load
from cphloc.structures.levels import Level

SHAPE = {2: (20, 24), 3: (10, 20, 24)}
SPACING = {2: (2.0, 1.0), 3: (3.0, 2.0, 1.0)}


class Bright(nn.Module):
    """Finds what is brighter than 0.5: its mask, its box, where it looked, and that it is there."""

    def __init__(self):
        super().__init__()
        self.classes = {1: "bright"}

    def forward(self, pyramid):
        return pyramid[0]

    def decode(self, outputs):
        inside = (outputs.mean(dim=1) > 0.5).float()
        where = inside[0].nonzero().float()
        boxes = torch.cat([where.amin(0), where.amax(0) + 1])[None]
        return Prediction(
            mask_probabilities=torch.stack([1 - inside, inside], 1),
            detections=[Detections(boxes, torch.tensor([0.8]), torch.tensor([1]))],
            attention=inside / inside.sum(),
            label_probabilities=torch.tensor([[0.75]]),
        )


class Pixels(nn.Module):
    def __init__(self, dims):
        super().__init__()
        self.levels = (Level(1, (1,) * dims),)
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return (x * self.weight,)


def localizer(dims, channels=("a",), **data):
    recipe = load(
        {
            "task": "localization",
            "dims": dims,
            "data": {
                "type": "image_folder",
                "root": ".",
                "classes": ["bright"],
                "channels": list(channels),
                "intensity": "none",
                "patch": [64] * dims,
                **data,
            },
            "model": {
                "backbone": {"type": "conv_encoder", "widths": [4]},
                "heads": {"mask": {"type": "unet", "classes": {1: "bright"}}},
            },
        }
    )
    return Localizer(Model(Pixels(dims), None, {"all": Bright()}), recipe)
