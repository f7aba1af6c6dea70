"""Translate the transforms and windows of a MONAI bundle; what a recipe cannot express is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from cphloc.errors import InputError
from cphloc.importing.imported import unsupported
from cphloc.importing.monai_config import BundleConfig

Arguments = Mapping[str, Any]

_ANY = object()
"""Any value of an argument is without effect on the result."""

_PLAIN: Mapping[str, Arguments] = {
    "LoadImaged": {
        "image_only": _ANY,
        "meta_key_postfix": _ANY,
        "ensure_channel_first": _ANY,
        "reader": (None, "NibabelReader", "PILReader"),
        "dtype": _ANY,
    },
    "EnsureChannelFirstd": {"meta_key_postfix": _ANY, "channel_dim": (None, "no_channel"), "strict_check": _ANY},
    "EnsureTyped": {"track_meta": _ANY, "device": _ANY, "data_type": _ANY, "dtype": _ANY},
    "ToTensord": {},
    "ToDeviced": {"device": _ANY},
}
"""Steps without an effect on the values -> the arguments that they may have."""

_SPACING: Arguments = {
    "mode": ("bilinear",),
    "padding_mode": ("border",),
    "align_corners": _ANY,
    "diagonal": (False,),
    "recompute_affine": _ANY,
    "scale_extent": (False,),
    "dtype": _ANY,
}
_AFTER: Mapping[str, Arguments] = {
    "Activationsd": {"softmax": _ANY, "sigmoid": _ANY},
    "Invertd": {
        "transform": _ANY,
        "orig_keys": ("image",),
        "nearest_interp": (False,),
        "to_tensor": _ANY,
        "meta_keys": _ANY,
        "orig_meta_keys": _ANY,
        "meta_key_postfix": _ANY,
        "device": _ANY,
    },
    "AsDiscreted": {"argmax": _ANY, "threshold": (None, 0.5)},
    "SaveImaged": {},
    "EnsureTyped": _PLAIN["EnsureTyped"],
}
"""Steps after the network -> the arguments that they may have."""

_NOT_PART = ("_target_", "_desc_", "_disabled_", "keys", "allow_missing_keys")


def preparation(config: BundleConfig, dims: int, channels: Sequence[str], windows: bool = True) -> dict[str, Any]:
    """Return the fields of section ``data`` for the transforms and windows of a bundle.

    Args:
        config: configuration of the bundle.
        dims: axes of the network.
        channels: names of the channels.
        windows: read the windows of the inferer; a detector has its own.

    Raises:
        InputError: a transform has no counterpart; the message names it.
    """
    intensity, spacing, order = None, None, list[str]()
    steps: dict[str, Any] = {"axcodes": None}
    for step in config.steps("preprocessing"):
        name = _name(config, step)
        order.append(name)
        if name in _PLAIN:
            _check(config, name, step, _PLAIN[name])
        elif name == "Orientationd":
            steps["axcodes"] = _axcodes(config, step, order, dims)
        elif name == "Spacingd":
            spacing = _spacing(config, step, order, dims)
        elif name in _INTENSITIES:
            if intensity is not None:
                raise unsupported(config.path, f"a second scaling of intensities, {name}", "one is stored")
            intensity = _INTENSITIES[name](config, name, step, len(channels))
            steps["scaled"] = "after" if "Spacingd" in order else "before"
        else:
            known = ", ".join([*_PLAIN, "Orientationd", "Spacingd", *_INTENSITIES])
            raise unsupported(config.path, f"the transform {name}", f"known are {known}")
    placed, patch = _windows(config, dims) if windows else ({}, None)
    found = {"intensity": intensity or "none", "patch": patch, "monai": {**steps, **placed}}
    return found if spacing is None else {**found, "spacing_mm": spacing}


def result(config: BundleConfig) -> Literal["softmax", "sigmoid"]:
    """Return how the outputs of the network become classes.

    Raises:
        InputError: the steps after the network have no counterpart; the message names it.
    """
    order, scores = list[str](), None
    for step in config.steps("postprocessing"):
        name = _name(config, step)
        if name not in _AFTER:
            raise unsupported(config.path, f"the transform {name}", f"known after the network are {', '.join(_AFTER)}")
        if name != "SaveImaged":
            _check(config, name, step, _AFTER[name])
        if name == "Activationsd":
            scores = "sigmoid" if step.get("sigmoid") else "softmax" if step.get("softmax") else None
        if name == "AsDiscreted" and bool(step.get("argmax")) == (scores == "sigmoid"):
            what = "AsDiscreted with argmax behind a sigmoid" if step.get("argmax") else "AsDiscreted without argmax"
            raise unsupported(config.path, what, "softmax goes with argmax, sigmoid with threshold 0.5")
        order.append(name)
    kept = [name for name in order if name in ("Activationsd", "Invertd", "AsDiscreted")]
    moved = any(_name(config, s) in ("Orientationd", "Spacingd") for s in config.steps("preprocessing"))
    if scores is None or kept != ["Activationsd", *(["Invertd"] if moved else kept[1:-1]), "AsDiscreted"]:
        what = f"the postprocessing {', '.join(kept) or 'without a step'}"
        raise unsupported(config.path, what, "known is Activationsd, Invertd and AsDiscreted in this order")
    return scores


def _name(config: BundleConfig, step: Arguments) -> str:
    """Return the class of a step that works on the image."""
    name = str(step.get("_target_")).rpartition(".")[2]
    keys = step.get("keys")
    if keys not in ("image", "pred", ["image"], ["pred"]):
        raise unsupported(config.path, f"{name} with the keys {keys}", "known is one key, image or pred")
    return name.removesuffix("ict") if name.endswith("Dict") else name


def _check(config: BundleConfig, name: str, step: Arguments, known: Arguments) -> None:
    """Refuse an argument that changes the result."""
    for key, value in step.items():
        if key in _NOT_PART:
            continue
        if key not in known or (known[key] is not _ANY and value not in known[key]):
            raise unsupported(config.path, f"{name} with {key} {value}", "it would change the result")


def _axcodes(config: BundleConfig, step: Arguments, order: Sequence[str], dims: int) -> str:
    _check(config, "Orientationd", step, {"axcodes": _ANY, "as_closest_canonical": (False,), "labels": _ANY})
    if dims != 3 or "Spacingd" in order or set(order) & set(_INTENSITIES):
        raise unsupported(config.path, "Orientationd here", "it must come first, on volumes")
    return str(step.get("axcodes"))


def _spacing(config: BundleConfig, step: Arguments, order: Sequence[str], dims: int) -> list[float]:
    _check(config, "Spacingd", step, {"pixdim": _ANY, **_SPACING})
    pixdim = step.get("pixdim")
    values = [float(p) for p in pixdim] if isinstance(pixdim, list) else [float(pixdim or 0)] * dims
    if len(values) != dims or min(values) <= 0:
        raise unsupported(config.path, f"Spacingd with pixdim {pixdim}", f"{dims} lengths above 0 are expected")
    return values


def _range(config: BundleConfig, name: str, step: Arguments, channels: int) -> dict[str, Any]:
    """Translate ScaleIntensityRanged to a mean and a deviation."""
    known = dict.fromkeys(("a_min", "a_max", "b_min", "b_max", "clip"), _ANY)
    _check(config, name, step, {**known, "dtype": _ANY})
    if any(step.get(key) is None for key in ("a_min", "a_max", "b_min", "b_max")):
        raise unsupported(config.path, f"{name} without a_min, a_max, b_min or b_max", "all four are needed")
    low, high, bottom, top = (float(step[key]) for key in ("a_min", "a_max", "b_min", "b_max"))
    std = (high - low) / (top - bottom)
    limits = {"low": low, "high": high} if step.get("clip") else {}
    return {"type": "fixed", "mean": low - bottom * std, "std": std, **limits}


def _normalized(config: BundleConfig, name: str, step: Arguments, channels: int) -> dict[str, Any]:
    """Translate NormalizeIntensityd."""
    known: Arguments = dict.fromkeys(("subtrahend", "divisor", "nonzero", "channel_wise", "dtype"), _ANY)
    _check(config, name, step, known)
    mean, std, nonzero = step.get("subtrahend"), step.get("divisor"), bool(step.get("nonzero"))
    if mean is not None or std is not None:
        if nonzero or not isinstance(mean, int | float) or not isinstance(std, int | float):
            raise unsupported(config.path, f"{name} with subtrahend {mean} and divisor {std}", "give two numbers")
        return {"type": "fixed", "mean": float(mean), "std": float(std)}
    _each_channel(config, name, step, channels)
    return {"type": "zscore_nonzero", "holes": False} if nonzero else {"type": "zscore"}


def _unit(config: BundleConfig, name: str, step: Arguments, channels: int) -> dict[str, Any]:
    """Translate ScaleIntensityd."""
    known: Arguments = {"minv": (0, 0.0), "maxv": (1, 1.0), "factor": (None,), "channel_wise": _ANY, "dtype": _ANY}
    _check(config, name, step, known)
    _each_channel(config, name, step, channels)
    return {"type": "minmax"}


def _each_channel(config: BundleConfig, name: str, step: Arguments, channels: int) -> None:
    if channels > 1 and not step.get("channel_wise"):
        raise unsupported(config.path, f"{name} over {channels} channels at once", "channel_wise must be true")


_INTENSITIES: Mapping[str, Callable[[BundleConfig, str, Arguments, int], dict[str, Any]]] = {
    "ScaleIntensityRanged": _range,
    "NormalizeIntensityd": _normalized,
    "ScaleIntensityd": _unit,
}


def _windows(config: BundleConfig, dims: int) -> tuple[dict[str, Any], list[int] | None]:
    """Return overlap and weight of the windows, and their size."""
    try:
        stated = config.of("inferer")
    except InputError as error:
        raise unsupported(config.path, "the inferer", str(error).partition(": ")[2]) from None
    name = str(stated.get("_target_")).rpartition(".")[2]
    if name == "SimpleInferer":
        return {}, None
    known = {"roi_size": _ANY, "overlap": _ANY, "mode": ("constant", "gaussian"), "sigma_scale": (0.125,)}
    known |= {"padding_mode": ("constant",), "cval": (0, 0.0), "sw_batch_size": _ANY, "cache_roi_weight_map": _ANY}
    known |= {"sw_device": _ANY, "device": _ANY, "progress": _ANY}
    if name != "SlidingWindowInferer":
        raise unsupported(config.path, f"the inferer {name}", "known are SlidingWindowInferer and SimpleInferer")
    _check(config, name, stated, known)
    roi, overlap = stated.get("roi_size"), stated.get("overlap", 0.25)
    if not isinstance(roi, list) or len(roi) != dims or min(roi) <= 0 or not isinstance(overlap, int | float):
        raise unsupported(config.path, f"{name} with roi_size {roi} and overlap {overlap}", f"give {dims} lengths")
    return {"overlap": float(overlap), "weight": stated.get("mode", "constant")}, [int(n) for n in roi]
