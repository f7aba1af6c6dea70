"""From a recipe to a model."""

from __future__ import annotations

from collections.abc import Callable

from .measure import Comparison, Contender, below, times_at_most

WIDTHS = (24, 48, 96, 192)


def comparisons(full: bool) -> list[Comparison]:
    """Reading and checking, and building against the same network by hand."""
    return [
        Comparison(
            "read, merge and check a recipe, warm",
            Contender("cphloc", _read),
            (Contender("mmengine, which checks nothing", _mmengine),),
            below(0.02),
        ),
        Comparison(
            "recipe (read) to 3-D U-Net of 4 levels",
            Contender("cphloc", _build),
            (Contender("the same by hand", _by_hand),),
            times_at_most(1.1),
            same=lambda ours, theirs: ours == theirs,
        ),
        Comparison(
            "the same beside networks of other libraries, which differ in size",
            Contender("cphloc", _build),
            (Contender("MONAI UNet", _monai), Contender("smp Unet resnet18, 2-D", _smp)),
        ),
    ]


def _read() -> Callable[[], object]:
    from cphloc.recipe.recipe import load

    return lambda: load("unet3d-hippocampus")


def _mmengine() -> Callable[[], object]:
    from mmengine import Config

    from cphloc.recipe.merge import find

    path = str(find("unet3d-hippocampus"))
    return lambda: Config.fromfile(path)


def _build() -> Callable[[], int]:
    from cphloc.modeling.build import build_model
    from cphloc.recipe.recipe import load

    recipe = load("unet3d-hippocampus", {"model.backbone.widths": list(WIDTHS)})
    return lambda: _parameters(build_model(recipe))


def _by_hand() -> Callable[[], int]:
    from cphloc.components.backbone.conv_encoder import ConvEncoder
    from cphloc.components.head.unet import UNet
    from cphloc.components.loss.dice_ce import DiceCE
    from cphloc.modeling.model import Model

    def job() -> int:
        backbone = ConvEncoder(1, 3, WIDTHS)
        head = UNet(backbone.levels, {1: "anterior", 2: "posterior"}, loss=DiceCE())
        return _parameters(Model(backbone, None, {"mask": head}, {}))

    return job


def _monai() -> Callable[[], None]:
    from monai.networks.nets import UNet

    def job() -> None:
        UNet(3, 1, 3, channels=WIDTHS, strides=(2, 2, 2), num_res_units=2)

    return job


def _smp() -> Callable[[], None]:
    import segmentation_models_pytorch as smp

    def job() -> None:
        smp.Unet("resnet18", encoder_weights=None)

    return job


def _parameters(model: object) -> int:
    return sum(p.numel() for p in model.parameters())
