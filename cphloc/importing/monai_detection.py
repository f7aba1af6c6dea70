"""Translate a MONAI bundle with a RetinaNet: network, anchors, thresholds and windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cphloc.importing.imported import unsupported
from cphloc.importing.monai_config import BundleConfig

_FEATURES = ("backbone", "spatial_dims", "pretrained_backbone", "returned_layers", "trainable_backbone_layers")
"""Arguments of MONAI's ``resnet_fpn_feature_extractor`` in their order."""

_WITHOUT_EFFECT = ("_target_", "spatial_dims", "n_input_channels", "pretrained", "progress")
_AFTER = ("ClipBoxToImage", "AffineBoxToWorldCoordinate", "ConvertBoxMode", "DeleteItems")
"""Steps after the detector: they state its boxes in other units, or drop what lies outside, as the detector did."""

_SELECTOR = {
    "score_thresh": "score_threshold",
    "nms_thresh": "nms_threshold",
    "topk_candidates_per_level": "pre_nms_topk",
    "detections_per_img": "detections",
}
_WINDOWS = {"roi_size": "window", "overlap": "overlap", "mode": "weight"}
_METHODS: Mapping[str, tuple[Mapping[str, str], tuple[str, ...]]] = {
    "set_target_keys": ({}, ("box_key", "label_key")),
    "set_box_selector_parameters": (_SELECTOR, ()),
    "set_sliding_window_inferer": (_WINDOWS, ("sw_batch_size", "device", "sw_device", "progress")),
}
"""Method of the detector -> its arguments and ours, and those without an effect on boxes."""


def detector_head(config: BundleConfig, network: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return the head of a recipe for the detector of a bundle, without its classes, and its number of channels.

    Args:
        config: configuration of the bundle.
        network: its ``network_def``.

    Raises:
        InputError: the detector does something that an entry cannot express; the message names it.
    """
    _check_steps(config)
    features = _named(config, network.get("feature_extractor"), "resnet_fpn_feature_extractor")
    resnet = _named(config, features.get("backbone"), "resnet")
    anchors = config.of("anchor_generator")
    if not str(anchors.get("_target_")).endswith("AnchorGeneratorWithAnchorShape") or anchors.get("indexing") == "xy":
        raise unsupported(config.path, f"the anchors {anchors}", "known is AnchorGeneratorWithAnchorShape, indexing ij")
    dims = int(network["spatial_dims"])
    divisible = network.get("size_divisible", 1)
    head = {
        "type": "monai_retinanet",
        "resnet": str(resnet["_target_"]).rpartition(".")[2],
        "resnet_arguments": {key: value for key, value in resnet.items() if key not in _WITHOUT_EFFECT},
        "returned_layers": features.get("returned_layers", [1, 2, 3]),
        "anchor_shapes": [[float(n) for n in shape] for shape in anchors["base_anchor_shapes"]],
        "anchor_scales": [float(scale) for scale in anchors["feature_map_scales"]],
        "size_divisible": [divisible] * dims if isinstance(divisible, int) else divisible,
        **_settings(config, dims),
    }
    return head, int(resnet.get("n_input_channels", 3))


def _named(config: BundleConfig, value: Any, function: str) -> dict[str, Any]:
    """Return the arguments of a call by name."""
    if not isinstance(value, dict) or not str(value.get("_target_")).rpartition(".")[2].startswith(function):
        raise unsupported(config.path, f"a RetinaNet of {value}", f"a call of {function} is expected")
    placed = dict(zip(_FEATURES, value.get("_args_", ()), strict=False))
    return placed | {key: one for key, one in value.items() if key != "_args_"}


def _settings(config: BundleConfig, dims: int) -> dict[str, Any]:
    """Return thresholds and windows, which bundles state in calls of the detector's methods."""
    stated = config.content.get("detector")
    stated = stated if isinstance(stated, dict) else {}
    if more := set(stated) - {"_target_", "network", "anchor_generator", "debug", "spatial_dims", "num_classes"}:
        raise unsupported(config.path, f"a detector with {min(more)} {stated[min(more)]}", "it is not known")
    found: dict[str, Any] = {}
    calls = config.calls("detector")
    for method, arguments in calls.items():
        if method not in _METHODS:
            raise unsupported(config.path, f"the call {method} of the detector", f"known are {', '.join(_METHODS)}")
        names, ignored = _METHODS[method]
        for key, value in arguments.items():
            if key not in names and key not in ignored:
                raise unsupported(config.path, f"{method} with {key} {value}", "it is not known")
            found |= {names[key]: value} if key in names else {}
    if isinstance(found.get("window"), int):
        found["window"] = [found["window"]] * dims
    if "window" in found:
        found = {"overlap": 0.5, **found}  # MONAI's default
    return found


def _check_steps(config: BundleConfig) -> None:
    """Refuse steps after the detector, and ways to run it, that change its boxes."""
    for step in config.steps("postprocessing"):
        name = str(step.get("_target_")).rpartition(".")[2].removesuffix("ict").removesuffix("d")
        if name not in _AFTER:
            raise unsupported(config.path, f"the transform {name}", f"known after a detector are {', '.join(_AFTER)}")
    inferer = config.content.get("inferer")
    name = str(inferer.get("_target_") if isinstance(inferer, dict) else inferer).rpartition(".")[2]
    if name != "RetinaNetInferer":
        raise unsupported(config.path, f"the inferer {name}", "known for a detector is RetinaNetInferer")
