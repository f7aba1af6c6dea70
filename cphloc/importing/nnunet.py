"""Import a trained model of nnU-Net: results folder, exported zip, or TotalSegmentator's layout."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from cphloc.config.json_file import well_formed
from cphloc.errors import DataError
from cphloc.importing.checkpoint import Checkpoint, read_checkpoint
from cphloc.importing.imported import Imported, unsupported
from cphloc.importing.names import Rule, renamed, without_prefix
from cphloc.importing.nnunet_folder import CHECKPOINT, checkpoints, mapping_of, model_folder, unfinished
from cphloc.importing.nnunet_names import PLAIN, RESIDUAL
from cphloc.importing.nnunet_plans import Plans

ARCHITECTURES: Mapping[str, tuple[str, Sequence[Rule]]] = {
    "PlainConvUNet": ("conv_encoder", PLAIN),
    "ResidualEncoderUNet": ("residual_encoder", RESIDUAL),
}
"""Class of the network -> our backbone and the table of names."""

MOST_STAGES, MOST_BLOCKS = 16, 64
"""Largest number of stages of a network, and of convolutions or blocks of a stage."""


def import_nnunet(source: str | Path, folds: Sequence[str] | None = None, no_mirroring: bool = False) -> Imported:
    """Translate a trained model of nnU-Net; several folds become an ensemble that averages logits.

    Args:
        source: folder of a trained configuration, one above it, or an exported zip.
        folds: the folds to take, such as ``["0", "1"]``; ``None`` for all.
        no_mirroring: do not average mirrored views, as ``nnUNetv2_predict --disable_tta``; else they are averaged
            where the training allows it.

    Raises:
        NotFoundError: there is no trained model.
        DataError: a file is damaged, or a checkpoint asks for more than tensors, containers, numbers and texts.
        InputError: the model does something that an entry cannot express; the message names it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = model_folder(Path(source), Path(scratch))
        read = {fold: read_checkpoint(path) for fold, path in checkpoints(folder, folds).items()}
        plans, dataset = mapping_of(folder / "plans.json"), mapping_of(folder / "dataset.json")
        of = Plans(folder / "plans.json", plans, dataset, _configuration(folder, read))
    with well_formed(of.path):
        return _translated(of, read, Path(source), folds, no_mirroring)


def _translated(
    of: Plans, read: Mapping[str, Checkpoint], source: Path, folds: Sequence[str] | None, no_mirroring: bool
) -> Imported:
    """Translate plans and checkpoints; errors as for `import_nnunet`, or those of malformed plans."""
    of.check()
    architecture, kwargs = _architecture(of)
    backbone, rules = ARCHITECTURES[architecture]
    levels = int(kwargs["n_stages"]) - 1
    weights = [_weights(of, one, rules, levels) for one in read.values()]
    axes = _mirror_axes(of, read) if not no_mirroring else []
    remarks = [f"It averages the networks of the folds {', '.join(read)}."] if len(read) > 1 else []
    if folds is None and (left := unfinished(of.path.parent)):
        remarks.append(f"It lacks the folds {', '.join(left)}, which have no {CHECKPOINT}.")
    if no_mirroring:
        remarks.append("It does not average mirrored views, as nnU-Net with --disable_tta.")
    return Imported(
        framework="nnunetv2",
        architecture=architecture,
        recipe=_recipe(of, backbone, kwargs, len(read), axes),
        weights=weights,
        source=source,
        options={"tta": bool(axes)},
        training_cases=int(of.dataset.get("numTraining") or 0),
        remarks=tuple(remarks),
        prove_with=(*(["--folds", *folds] if folds else ()), *(["--no-mirroring"] if no_mirroring else [])),
    )


def _weights(of: Plans, read: Checkpoint, rules: Sequence[Rule], levels: int) -> dict[str, Tensor]:
    """Rename the weights of one fold; kernels of a 2-D network on slices of volumes get an axis of length 1."""
    found = renamed(without_prefix(read.below("network_weights")), rules, levels)
    thin = of.dims > len(of.configuration["patch_size"])
    return {name: value.unsqueeze(2) if thin and value.dim() == 4 else value for name, value in found.items()}


def _configuration(folder: Path, read: Mapping[str, Checkpoint]) -> str:
    """Name of the configuration, which all folds state."""
    facts = [one.facts if isinstance(one.facts, dict) else {} for one in read.values()]
    stated = {str((one.get("init_args") or {}).get("configuration")) for one in facts}
    if len(stated) != 1 or not all(one.get("network_weights") for one in facts):
        msg = f"{folder}: its checkpoints are not of one configuration of nnU-Net v2 (they state {', '.join(stated)})"
        raise DataError(f"{msg}; copy the folder again")
    return stated.pop()


def _mirror_axes(of: Plans, read: Mapping[str, Checkpoint]) -> list[int]:
    """Axes of the images along which predictions may be mirrored."""
    stated = {tuple(one.facts.get("inference_allowed_mirroring_axes") or ()) for one in read.values()}
    if len(stated) > 1:
        raise unsupported(of.path.parent, "folds that mirror along different axes", "import them one by one")
    added = of.dims - len(of.configuration["patch_size"])
    return [int(axis) + added for axis in stated.pop()]


def _architecture(of: Plans) -> tuple[str, dict[str, Any]]:
    """Return the class of the network and its arguments, also from plans of before nnU-Net 2.4."""
    configuration = of.configuration
    if "architecture" not in configuration:
        name, kwargs = str(configuration.get("UNet_class_name")), _former(configuration)
    else:
        stated = configuration["architecture"]
        name, kwargs = str(stated["network_class_name"]).rpartition(".")[2], dict(stated["arch_kwargs"])
    if name not in ARCHITECTURES:
        raise unsupported(of.path, f"the network {name}", f"known are {', '.join(ARCHITECTURES)}")
    if not 2 <= int(kwargs["n_stages"]) <= MOST_STAGES:
        raise unsupported(of.path, f"a network of {kwargs['n_stages']} stages", f"2 to {MOST_STAGES} are known")
    norm, activation = str(kwargs.get("norm_op")).rpartition(".")[2], str(kwargs.get("nonlin")).rpartition(".")[2]
    stated = {
        "norm_op": (norm.rstrip("123d"), "InstanceNorm"),
        "nonlin": (activation, "LeakyReLU"),
        "norm_op_kwargs": ({"eps": 1e-5, "affine": True, **(kwargs.get("norm_op_kwargs") or {})}, _NORM),
        "negative_slope": ((kwargs.get("nonlin_kwargs") or {}).get("negative_slope", 0.01), 0.01),
        "nonlin_first": (bool(kwargs.get("nonlin_first", False)), False),
        "squeeze_excitation": (bool(kwargs.get("squeeze_excitation", False)), False),
        "bottleneck_channels": (kwargs.get("bottleneck_channels"), None),
        "stem_channels": (kwargs.get("stem_channels"), None),
    }
    for argument, (found, known) in stated.items():
        if found != known:
            raise unsupported(of.path, f"a {name} with {argument} {found}", f"only {known} is known")
    return name, kwargs


_NORM = {"eps": 1e-5, "affine": True}


def _former(of: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the network from plans of before nnU-Net 2.4, as nnU-Net itself converts them."""
    stages, residual = len(of["n_conv_per_stage_encoder"]), of.get("UNet_class_name") == "ResidualEncoderUNet"
    widths = [min(of["UNet_base_num_features"] * 2**i, of["unet_max_num_features"]) for i in range(stages)]
    return {
        "n_stages": stages,
        "features_per_stage": widths,
        "kernel_sizes": of["conv_kernel_sizes"],
        "strides": of["pool_op_kernel_sizes"],
        "n_blocks_per_stage" if residual else "n_conv_per_stage": of["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": of["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": "InstanceNorm",
        "nonlin": "LeakyReLU",
    }


def _recipe(of: Plans, backbone: str, kwargs: Mapping[str, Any], members: int, axes: Sequence[int]) -> dict[str, Any]:
    """Write the recipe of the model."""
    classes, regions = of.classes()
    kernels = [of.per_axis(_listed(k, of)) for k in _stages(kwargs["kernel_sizes"], kwargs)]
    encoder: dict[str, Any] = {
        "type": backbone,
        "widths": _stages(kwargs["features_per_stage"], kwargs),
        "strides": [of.per_axis(_listed(s, of)) for s in _stages(kwargs["strides"], kwargs)],
        "kernels": kernels,
    }
    if backbone == "residual_encoder":
        encoder["blocks"] = _stages(kwargs["n_blocks_per_stage"], kwargs)
        _check_blocks(of, "n_blocks_per_stage", max(encoder["blocks"]))
    else:
        encoder["convolutions"] = _same(of, "n_conv_per_stage", kwargs)
    head = {
        "type": "unet",
        "classes": classes,
        "convolutions": _same(of, "n_conv_per_stage_decoder", kwargs),
        "kernels": kernels[:-1],
        "scores": "sigmoid" if regions else "softmax",
    }
    data = of.data()
    if axes:
        data["augment"] = [{"type": "Flip", "axes": list(axes)}]
    model = {"backbone": encoder, "heads": {"mask": head}, "members": members, "average": "logits"}
    return {"task": "segmentation", "dims": of.dims, "data": data, "model": model}


def _stages(values: Any, kwargs: Mapping[str, Any]) -> list[Any]:
    """Return a value for each stage."""
    return list(values) if isinstance(values, list) else [values] * int(kwargs["n_stages"])


def _listed(value: int | Sequence[int], of: Plans) -> list[int]:
    return [value] * len(of.configuration["patch_size"]) if isinstance(value, int) else list(value)


def _same(of: Plans, argument: str, kwargs: Mapping[str, Any]) -> int:
    """Return a number of convolutions that all levels share."""
    value = kwargs[argument]
    if isinstance(value, list) and len(set(value)) > 1:
        raise unsupported(of.path, f"a network with {argument} {value}", "all levels must have as many")
    found = int(value[0] if isinstance(value, list) else value)
    _check_blocks(of, argument, found)
    return found


def _check_blocks(of: Plans, argument: str, found: int) -> None:
    if not 1 <= found <= MOST_BLOCKS:
        raise unsupported(of.path, f"a network with {argument} {found}", f"1 to {MOST_BLOCKS} are known")
