"""Import a U-Net of segmentation-models-pytorch: a folder of ``save_pretrained``, or a checkpoint beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cphloc.errors import InputError, NotFoundError
from cphloc.importing.checkpoint import read_checkpoint
from cphloc.importing.imported import Imported, class_names, own_data, unsupported
from cphloc.importing.names import Rule, renamed, without_prefix
from cphloc.importing.nnunet_folder import mapping_of

CONFIGURATION = "config.json"
"""Arguments of the network, as ``model.save_pretrained(FOLDER)`` writes them."""

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of the colours that the encoders expect, of values from 0 to 1."""

_RESNETS = re.compile(r"resnet(18|34|50|101|152)|resnext(50_32x4d|101_32x8d)")
_KNOWN: Mapping[str, tuple[Any, ...]] = {
    "_model_class": ("Unet",),
    "decoder_attention_type": (None,),
    "decoder_use_batchnorm": (True, None),
    "decoder_use_norm": ("batchnorm", True, None),
    "decoder_interpolation": ("nearest", None),
    "activation": (None, "identity", "sigmoid", "softmax", "softmax2d"),
    "aux_params": (None,),
}
"""Arguments of the network -> values that are imported; others change the network."""

_READ = {"encoder_name", "encoder_depth", "encoder_weights", "decoder_channels", "in_channels", "classes"}

_RULES = [
    Rule("encoder.model.*", "backbone.body.*"),
    Rule("encoder.*", "backbone.body.*"),
    Rule("decoder.blocks.#.conv1.0.*", "heads.mask.blocks.{0}.0.conv.*"),
    Rule("decoder.blocks.#.conv1.1.*", "heads.mask.blocks.{0}.0.norm.*"),
    Rule("decoder.blocks.#.conv2.0.*", "heads.mask.blocks.{0}.1.conv.*"),
    Rule("decoder.blocks.#.conv2.1.*", "heads.mask.blocks.{0}.1.norm.*"),
    Rule("segmentation_head.0.*", "heads.mask.score.*"),
]


def import_smp(
    source: str | Path,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Imported:
    """Translate a U-Net of segmentation-models-pytorch.

    Args:
        source: folder of ``save_pretrained``, or a checkpoint with ``config.json`` beside it.
        classes: names of the classes: one fewer than the network's outputs if the first is the background (softmax),
            or as many if each output is a class of its own that may overlap others (sigmoid).
        mean: mean of each channel, of values from 0 to 1; default ImageNet's, which the encoders expect.
        std: standard deviation of each channel.

    Raises:
        NotFoundError: there is no checkpoint, or no ``config.json``.
        DataError: a file is damaged, or the checkpoint asks for more than tensors, containers, numbers and texts.
        InputError: the network is another one; the message names what.
    """
    config_file, checkpoint = _files(Path(source))
    config = mapping_of(config_file)
    encoder = _checked(config_file, config)
    state = read_checkpoint(checkpoint).network()
    outputs, count = int(config.get("classes", 1)), int(config.get("in_channels", 3))
    names, regions = class_names(classes, outputs, config_file)
    widths = list(config.get("decoder_channels", (256, 128, 64, 32, 16)))
    head = {"type": "smp_unet", "classes": names, "widths": widths, "scores": "sigmoid" if regions else "softmax"}
    mean, std = _normalization(mean, std, count)
    depth = int(config.get("encoder_depth", 5))
    channels = ["red", "green", "blue"] if count == 3 else [f"channel_{number}" for number in range(count)]
    data = {
        **own_data(names, channels),
        "intensity": [
            {"type": "fixed", "mean": 255 * m, "std": 255 * s, "low": 0.0, "high": 255.0}
            for m, s in zip(mean, std, strict=True)
        ],
    }
    backbone = {"type": "timm", "name": encoder, "out_indices": list(range(depth))}
    stated = [*map(str, mean), *map(str, std)]
    return Imported(
        framework="segmentation_models_pytorch",
        architecture=f"Unet with the encoder {config.get('encoder_name')}",
        recipe={
            "task": "segmentation",
            "dims": 2,
            "data": data,
            "model": {"backbone": backbone, "heads": {"mask": head}},
        },
        weights=[renamed(without_prefix(state), [*_unused(depth), *_RULES])],
        source=checkpoint,
        remarks=(f"Colours of 0 to 255 are normalized with the mean {mean} and the deviation {std} of 0 to 1.",),
        prove_with=("--normalize", *stated, "--regions" if regions else "--exclusive"),
    )


def _files(source: Path) -> tuple[Path, Path]:
    """Return the configuration and the checkpoint."""
    folder = source if source.is_dir() else source.parent
    found = [source] if source.is_file() else [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not found:
        msg = f"{source}: holds neither {' nor '.join(WEIGHTS)}; give a folder of save_pretrained, or a checkpoint"
        raise NotFoundError(msg)
    if not (folder / CONFIGURATION).is_file():
        msg = f"{source}: has no {CONFIGURATION} beside it, which states the network; write it with "
        raise NotFoundError(f"{msg}model.save_pretrained(FOLDER)")
    return folder / CONFIGURATION, found[0]


def _checked(path: Path, config: Mapping[str, Any]) -> str:
    """Refuse by name what a recipe cannot express; returns timm's name of the encoder."""
    for key, value in config.items():
        if key in _KNOWN and value not in _KNOWN[key]:
            raise unsupported(path, f"a network with {key} {value}", f"known is {_KNOWN[key][0]}")
        if key not in _KNOWN and key not in _READ and value is not None:
            raise unsupported(path, f"the argument {key}", "it is not known")
    name = str(config.get("encoder_name", "resnet34"))
    if name.startswith("tu-"):
        return name.removeprefix("tu-")
    if not _RESNETS.fullmatch(name):
        raise unsupported(path, f"the encoder {name}", "known are resnet18 to resnet152, resnext, and timm's tu-...")
    return name


def _unused(depth: int) -> list[Rule]:
    """Stages of a ResNet beyond the depth, which smp keeps and does not use."""
    return [Rule(f"encoder.layer{stage}.*", None) for stage in range(max(depth, 1), 5)]


def _normalization(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel."""
    if (mean is None) != (std is None):
        msg = "--mean and --std belong together; give both, or neither"
        raise InputError(msg)
    given = IMAGENET if mean is None or std is None else (tuple(mean), tuple(std))
    if any(len(values) != channels for values in given):
        msg = f"the network takes {channels} channels; give --mean and --std with {channels} numbers each"
        raise InputError(msg)
    return given
