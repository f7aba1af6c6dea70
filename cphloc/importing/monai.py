"""Import a MONAI bundle: network, transforms and windows of ``inference.json``, and the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cphloc.config.json_file import well_formed
from cphloc.errors import DataError, InputError, NotFoundError
from cphloc.importing.checkpoint import read_checkpoint
from cphloc.importing.imported import Imported, class_names, own_data, unsupported
from cphloc.importing.monai_config import BundleConfig, bundle_config
from cphloc.importing.monai_detection import detector_head
from cphloc.importing.monai_transforms import preparation, result
from cphloc.importing.names import Rule, renamed, swapped_halves, without_prefix

WEIGHTS = ("model.pt", "model.pth", "model.safetensors")
WRAPPED = ("UNet", "BasicUNet", "SegResNet", "SwinUNETR")
"""Networks that keep MONAI's code; others are translated, or refused."""

_DYNUNET_RULES = [
    Rule("skip_layers.*", None),  # every layer again
    Rule("deep_supervision_heads.*", None),  # for training only
    Rule("heads.*", None),
    *(
        rule
        for theirs, ours in (("input_block", "0"), ("downsamples.#", "{0}"), ("bottleneck", "{last}"))
        for number in (1, 2)
        for rule in (
            Rule(f"{theirs}.conv{number}.conv.*", f"backbone.stages.{ours}.{number - 1}.conv.*"),
            Rule(f"{theirs}.norm{number}.*", f"backbone.stages.{ours}.{number - 1}.norm.*"),
        )
    ),
    Rule("upsamples.#.transp_conv.conv.*", "heads.mask.up.{-0}.conv.*"),
    Rule("upsamples.#.conv_block.conv1.conv.*", "heads.mask.blocks.{-0}.0.conv.*", swapped_halves),
    Rule("upsamples.#.conv_block.norm1.*", "heads.mask.blocks.{-0}.0.norm.*"),
    Rule("upsamples.#.conv_block.conv2.conv.*", "heads.mask.blocks.{-0}.1.conv.*"),
    Rule("upsamples.#.conv_block.norm2.*", "heads.mask.blocks.{-0}.1.norm.*"),
    Rule("output_block.conv.conv.*", "heads.mask.score.0.*"),
]

_DYNUNET_KNOWN: Mapping[str, tuple[Any, ...]] = {
    "res_block": (False,),
    "norm_name": ("instance", "INSTANCE", ["instance", {"affine": True}], ["INSTANCE", {"affine": True}]),
    "act_name": (["leakyrelu", {"inplace": True, "negative_slope": 0.01}],),
    "dropout": (None, 0, 0.0),
}
"""Arguments of DynUNet -> values that are translated; the first act_name is its default."""

_DYNUNET_READ = ("kernel_size", "strides", "upsample_kernel_size", "filters", "trans_bias")
_DYNUNET_WITHOUT_EFFECT = ("deep_supervision", "deep_supr_num")


def import_monai(source: str | Path, classes: Sequence[str] | None = None) -> Imported:
    """Translate a MONAI bundle with a network that gives a mask, or a RetinaNet.

    Args:
        source: folder of the bundle.
        classes: names of the classes, as in `class_names`, of a detector by number; ``None``: those of
            ``metadata.json``.

    Raises:
        NotFoundError: the folder is no bundle, or has no weights.
        DataError: a file is damaged, or the weights ask for more than tensors, containers, numbers and texts.
        InputError: the bundle does something that an entry cannot express; the message names it.
    """
    folder = Path(source)
    config = bundle_config(folder)
    network = config.of("network_def")
    name = str(network.get("_target_")).rpartition(".")[2]
    with well_formed(config.path):
        translate = _detector if name == "RetinaNet" else _segmentation
        return translate(config, folder, name, network, classes)


def _segmentation(
    config: BundleConfig, folder: Path, name: str, network: Mapping[str, Any], classes: Sequence[str] | None
) -> Imported:
    """Translate a bundle whose network gives a mask."""
    dims, outputs = int(network.get("spatial_dims", 3)), int(network.get("out_channels", 1))
    scores = result(config)
    names, regions = class_names(classes or config.class_names(outputs, scores == "sigmoid"), outputs, config.metadata)
    if regions != (scores == "sigmoid"):
        what = f"{len(names)} classes for {outputs} outputs with {scores}"
        raise unsupported(config.path, what, "name the background neither in a softmax nor leave out a class")
    model, weights = _model(config, name, network, _state(folder))
    head = next(iter(model["heads"].values()))
    head |= {"classes": names, "scores": scores}
    channels = config.channels(int(network.get("in_channels", 1)))
    data = {**own_data(names, channels), **preparation(config, dims, channels)}
    return Imported(
        framework="monai",
        architecture=name,
        recipe={"task": "segmentation", "dims": dims, "data": data, "model": model},
        weights=[weights],
        source=folder,
        remarks=() if name == "DynUNet" else (f"The network is MONAI's {name}, which needs the extra monai.",),
    )


def _detector(
    config: BundleConfig, folder: Path, name: str, network: Mapping[str, Any], classes: Sequence[str] | None
) -> Imported:
    """Translate a bundle whose network is a detector."""
    dims, count = int(network["spatial_dims"]), int(network["num_classes"])
    if classes is None or len(classes) != count:
        msg = f"{config.path}: the detector has {count} classes; name them with --classes ({len(classes or ())} given)"
        raise InputError(msg)
    names, (head, inputs) = dict(enumerate(classes, start=1)), detector_head(config, network)
    channels = config.channels(inputs)
    data = {**own_data(names, channels), **preparation(config, dims, channels, windows=False)}
    model = {"backbone": {"type": "identity"}, "heads": {"boxes": {**head, "classes": names}}}
    return Imported(
        framework="monai",
        architecture=name,
        recipe={"task": "detection", "dims": dims, "data": data, "model": model},
        weights=[{f"heads.boxes.detector.network.{key}": value for key, value in _state(folder).items()}],
        source=folder,
        remarks=("The network is MONAI's RetinaNet, which needs the extra monai; it cannot be trained further here.",),
    )


def _state(folder: Path) -> dict[str, Tensor]:
    """Read the weights of a bundle by MONAI's names."""
    return without_prefix(read_checkpoint(_weights(folder)).network())


def _weights(folder: Path) -> Path:
    """Return the file of the weights of a bundle."""
    found = [folder / "models" / name for name in WEIGHTS if (folder / "models" / name).is_file()]
    if not found:
        msg = f"{folder}: has none of models/{', models/'.join(WEIGHTS)}; a TorchScript (.ts) is code and is not read, "
        raise NotFoundError(f"{msg}download the bundle with its weights")
    return found[0]


def _model(
    config: BundleConfig, name: str, network: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return section ``model`` of the recipe, and the weights by our names."""
    arguments = {
        key: value
        for key, value in network.items()
        if key not in ("_target_", "_desc_", "spatial_dims", "in_channels", "out_channels") and value is not None
    }
    if name == "DynUNet":
        return _dynunet(config, network, arguments, state)
    if name not in WRAPPED:
        raise unsupported(config.path, f"the network {name}", f"known are DynUNet, {', '.join(WRAPPED)}")
    head = {"type": "monai_network", "name": name, "arguments": arguments}
    weights = {f"heads.mask.network.{key}": value for key, value in state.items()}
    return {"backbone": {"type": "identity"}, "heads": {"mask": head}}, weights


def _dynunet(
    config: BundleConfig, network: Mapping[str, Any], arguments: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Translate a DynUNet to ``conv_encoder`` and ``unet``, which compute the same."""
    for key, value in arguments.items():
        if key in _DYNUNET_KNOWN and value not in _DYNUNET_KNOWN[key]:
            raise unsupported(config.path, f"a DynUNet with {key} {value}", f"known is {_DYNUNET_KNOWN[key][0]}")
        if key not in (*_DYNUNET_KNOWN, *_DYNUNET_READ, *_DYNUNET_WITHOUT_EFFECT):
            raise unsupported(config.path, f"the argument {key} of a DynUNet", "it is not known")
    strides, kernels, dims = list(network["strides"]), list(network["kernel_size"]), int(network["spatial_dims"])
    if list(network["upsample_kernel_size"]) != strides[1:]:
        what = f"a DynUNet with upsample_kernel_size {network['upsample_kernel_size']}"
        raise unsupported(config.path, what, f"known are the strides, {strides[1:]}")
    most = 320 if dims == 3 else 512
    widths = list(network.get("filters") or [min(2 ** (5 + level), most) for level in range(len(strides))])
    levels = len(strides) - 1
    rules = [
        Rule(r.theirs, None if r.ours is None else r.ours.replace("{last}", str(levels)), r.change)
        for r in _DYNUNET_RULES
    ]
    found = renamed(_numbered(state), rules, levels)
    for level in range(levels):
        found.setdefault(f"heads.mask.up.{level}.conv.bias", torch.zeros(widths[level]))
    backbone = {
        "type": "conv_encoder",
        "widths": widths[: levels + 1],
        "strides": strides,
        "kernels": kernels,
        "convolutions": 2,
    }
    head = {"type": "unet", "convolutions": 2, "kernels": kernels[1:], "deep_supervision": False}
    return {"backbone": backbone, "heads": {"mask": head}}, found


def _numbered(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Count the stages between input and bottleneck from 1, as ours are counted."""
    found = {}
    for key, value in state.items():
        first, _, rest = key.partition("downsamples.")
        number, dot, end = rest.partition(".")
        if first == "" and dot and number.isdigit():
            key = f"downsamples.{int(number) + 1}.{end}"
        if value.dim() == 0 and key.endswith("num_batches_tracked"):
            continue
        found[key] = value
    if not found:
        msg = "the weights hold no tensor; download the bundle again"
        raise DataError(msg)
    return found
