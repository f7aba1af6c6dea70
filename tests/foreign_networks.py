"""Small networks of other frameworks with random weights, with which every class occurs."""

import torch
from torchvision.models import get_model

WIDTHS = {5: (24, 16, 12, 8, 8), 3: (16, 8, 8)}


def network(**options):
    """A network with random weights and statistics, in which every class occurs."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(1)
    depth = options.get("encoder_depth", 5)
    made = smp.Unet(encoder_weights=None, decoder_channels=WIDTHS[depth], **{"encoder_name": "resnet18", **options})
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    return made.eval()


SIZE = (96, 160)


def detector(name, size=SIZE):
    """A detector with random weights that finds something."""
    torch.manual_seed(3)
    made = get_model(
        name, weights=None, weights_backbone=None, num_classes=4, min_size=size[0], max_size=size[1]
    ).eval()
    for key, parameter in made.named_parameters():
        if "cls_logits" in key or "cls_score" in key:
            torch.nn.init.normal_(parameter, 0, 0.1)
        if name.startswith("fcos") and key.endswith("bbox_reg.bias"):
            torch.nn.init.constant_(parameter, 1.5)  # else most boxes have no extent
    return made
