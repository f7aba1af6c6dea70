"""Export an entry as a results folder of nnU-Net, for models that prepare images as nnU-Net does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cphloc.config import jsonio
from cphloc.data.pipeline.intensity import CT, Intensity, Scale, Unchanged, ZScore
from cphloc.data.pipeline.intensity_of_image import MinMax, ZScoreNonzero
from cphloc.errors import CphlocError, InputError
from cphloc.files import temporary_folder
from cphloc.importing.entry import Terms, recipe_of
from cphloc.importing.environment import Prover
from cphloc.importing.names import renamed_back
from cphloc.importing.nnunet import ARCHITECTURES, import_nnunet
from cphloc.importing.nnunet_folder import CHECKPOINT
from cphloc.inference.export import TOLERANCE, Exported
from cphloc.inference.localizer import Localizer
from cphloc.modeling.ensemble import member_weights
from cphloc.recipe.recipe import Recipe
from cphloc.zoo.weights import build_with_weights

_NETWORK = "dynamic_network_architectures.architectures.unet."
_SCHEMES: Mapping[type[Intensity], str] = {
    CT: "CTNormalization",
    ZScore: "ZScoreNormalization",
    ZScoreNonzero: "ZScoreNormalization",
    Unchanged: "NoNormalization",
    MinMax: "RescaleTo01Normalization",
    Scale: "RGBTo01Normalization",
}


PROOF = "proof.json"
"""File of the folder with the differences that were found."""


def export_nnunet(
    localizer: Localizer, path: str | Path, prove: bool = False, python: str | Path | None = None
) -> Exported:
    """Write a model as a folder that ``nnUNetv2_predict_from_modelfolder`` takes, read it back and compare.

    Args:
        localizer: the model.
        path: folder to write, which must not exist.
        prove: let nnU-Net itself predict a synthetic image with the folder, and compare.
        python: a Python that has nnU-Net; ``None`` makes an environment in the cache with uv.

    Raises:
        InputError: the folder exists, or nnU-Net cannot express the model; the message names what.
        CphlocError: the folder read back, or nnU-Net with it, differs from the model; then nothing is written.
    """
    path, recipe = Path(path), localizer.recipe
    if path.exists():
        msg = f"{path} exists; name a folder that does not"
        raise InputError(msg)
    _check(recipe)
    plans, dataset = _plans(localizer), _dataset(localizer)
    with temporary_folder(path) as stage:
        (stage / "plans.json").write_text(json.dumps(plans, indent=1), encoding="utf-8")
        (stage / "dataset.json").write_text(json.dumps(dataset, indent=1), encoding="utf-8")
        for fold, state in enumerate(_members(localizer)):
            (stage / f"fold_{fold}").mkdir()
            torch.save(_checkpoint(localizer, state, fold), stage / f"fold_{fold}" / CHECKPOINT)
        shape, difference = _difference(localizer, stage)
        if not difference <= TOLERANCE:
            msg = f"{path}: the folder read back differs by {difference:.1e}, tolerance {TOLERANCE:.0e}"
            raise CphlocError(f"{msg}; nothing was written")
        proof = Prover("nnunetv2", stage, python).prove_synthetic(localizer) if prove else None
        found = {"read_back": difference, **({} if proof is None else proof.model_dump(exclude_none=True))}
        (stage / PROOF).write_text(jsonio.dumps(found, indent=2) + "\n", encoding="utf-8")
        stage.rename(path)
    agreement = "not proven by nnU-Net itself; export with --prove" if proof is None else proof.agreement
    outputs: tuple[str | int, ...] = ("N", len(localizer.classes) + 1, *shape[2:])
    return Exported(path, {"image": ("N", *shape[1:])}, {"logits": outputs}, difference, TOLERANCE, agreement)


def _check(recipe: Recipe) -> None:
    """Refuse by name what nnU-Net cannot express."""
    backbone, heads = recipe.model.backbone, recipe.model.heads
    head = next(iter(heads.values()))
    schemes = recipe.data.intensity if isinstance(recipe.data.intensity, list) else [recipe.data.intensity]
    refused = {
        "images that are prepared as cphloc does (data.nnunet is null)": recipe.data.nnunet is None,
        f"the backbone {backbone.type}": backbone.type not in {ours for ours, _ in ARCHITECTURES.values()},
        f"the heads {', '.join(heads)}": len(heads) > 1 or head.type != "unet",
        "regions, whose labels the entry does not state": head.args.get("scores") == "sigmoid",
        "an average of probabilities": recipe.model.members > 1 and recipe.model.average != "logits",
        f"{len(schemes)} intensities for {len(recipe.channels)} channels": len(schemes) != len(recipe.channels),
    }
    if wrong := [what for what, is_so in refused.items() if is_so]:
        msg = f"{recipe.name}: nnU-Net has no counterpart of {wrong[0]}; export it as onnx, torch or monai-bundle"
        raise InputError(msg)


def _thin(recipe: Recipe) -> bool:
    """Whether the network sees slices of volumes."""
    return recipe.data.nnunet is not None and 0 in recipe.data.nnunet.kept


def _stripped(recipe: Recipe, values: Any) -> list[Any]:
    """Drop the axis of length 1 that a network on slices of volumes has here."""
    return list(values)[1:] if _thin(recipe) else list(values)


def _members(localizer: Localizer) -> list[dict[str, Tensor]]:
    """Weights of each network by our names."""
    state = {name: value.detach().cpu() for name, value in localizer.model.state_dict().items()}
    count = localizer.recipe.model.members - 1
    first = {name: value for name, value in state.items() if not name.startswith("others.")}
    starts = [f"others.{number}." for number in range(count)]
    return [first, *({n.removeprefix(s): v for n, v in state.items() if n.startswith(s)} for s in starts)]


def _architecture(recipe: Recipe) -> str:
    return next(name for name, (ours, _) in ARCHITECTURES.items() if ours == recipe.model.backbone.type)


def _checkpoint(localizer: Localizer, state: Mapping[str, Tensor], fold: int) -> dict[str, Any]:
    recipe = localizer.recipe
    levels = len(recipe.model.backbone.args["widths"]) - 1
    axes = localizer.mirrored_axes() if localizer.options.tta else ()
    return {
        "network_weights": _network(recipe, renamed_back(state, ARCHITECTURES[_architecture(recipe)][1], levels)),
        "init_args": {"configuration": _configuration(recipe), "fold": fold},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": tuple(axis - _thin(recipe) for axis in axes) or None,
    }


def _network(recipe: Recipe, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add what nnU-Net stores besides: biases before norms, every layer twice, and the encoder again in the decoder."""
    found = {name: value.squeeze(2) if _thin(recipe) and value.dim() == 5 else value for name, value in state.items()}
    found |= {
        name.replace(".conv.weight", ".conv.bias"): torch.zeros(len(value))
        for name, value in found.items()
        if name.endswith(".conv.weight") and ".skip." not in name
    }
    score = found["decoder.seg_layers.1.weight"]
    coarse = found["decoder.transpconvs.0.weight"].shape[1]
    found["decoder.seg_layers.0.weight"] = torch.zeros(len(score), coarse, *score.shape[2:])
    found["decoder.seg_layers.0.bias"] = torch.zeros(len(score))
    for layer, place in (("conv", 0), ("norm", 1)):
        doubled = {n: v for n, v in found.items() if f".{layer}." in n and ".all_modules." not in n}
        found |= {n.replace(f".{layer}.", f".all_modules.{place}."): v for n, v in doubled.items()}
    return found | {f"decoder.{name}": value for name, value in found.items() if name.startswith("encoder.")}


def _configuration(recipe: Recipe) -> str:
    return "2d" if recipe.dims == 2 or _thin(recipe) else "3d_fullres"


def _plans(localizer: Localizer) -> dict[str, Any]:
    recipe = localizer.recipe
    steps, data, schemes = recipe.data.nnunet, recipe.data, localizer.preprocess.intensity
    assert steps is not None
    axes = [0, 1, 2] if recipe.dims == 2 else list(steps.axes)
    resampling = {"is_seg": False, "order_z": 0, "force_separate_z": steps.separate}
    spacing = list(data.spacing_mm) if data.spacing_mm is not None else [1.0] * recipe.dims
    configuration: dict[str, Any] = {
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": _stripped(recipe, data.patch),
        "spacing": _stripped(recipe, spacing),
        "normalization_schemes": [_SCHEMES[type(scheme)] for scheme in schemes],
        "use_mask_for_norm": [isinstance(scheme, ZScoreNonzero) for scheme in schemes],
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "architecture": _network_plan(recipe),
    }
    for what, order in (("data", steps.image_order), ("probabilities", steps.result_order)):
        configuration[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{what}_kwargs"] = {**resampling, "order": order}
    known = [s if isinstance(s, CT) else CT(0.0, 1.0, 0.0, 1.0) for s in schemes]
    reader = {"stored": "SimpleITKIO", "RAS": "SimpleITKIOWithReorient"}[steps.orientation]
    return {
        "dataset_name": "Dataset001_exported",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": spacing if recipe.dims == 3 else [999.0, *spacing],
        "original_median_shape_after_transp": [1, *(data.patch or ())] if recipe.dims == 2 else [99, 99, 99],
        "image_reader_writer": reader if data.spacing_mm is not None else "NaturalImage2DIO",
        "transpose_forward": axes,
        "transpose_backward": [axes.index(axis) for axis in range(3)],
        "configurations": {_configuration(recipe): configuration},
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(n): {"mean": s.mean, "std": s.std, "percentile_00_5": s.low, "percentile_99_5": s.high}
            for n, s in enumerate(known)
        },
    }


def _network_plan(recipe: Recipe) -> dict[str, Any]:
    of, head = recipe.model.backbone.args, next(iter(recipe.model.heads.values())).args
    dims, count = len(_stripped(recipe, recipe.data.patch)), len(of["widths"])
    blocks = {"n_conv_per_stage": [of.get("convolutions", 2)] * count}
    if recipe.model.backbone.type == "residual_encoder":
        blocks = {"n_blocks_per_stage": of["blocks"]}
    kwargs = {
        "n_stages": count,
        "features_per_stage": of["widths"],
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": [_stripped(recipe, kernel) for kernel in of["kernels"]],
        "strides": [_stripped(recipe, stride) for stride in of["strides"]],
        **blocks,
        "n_conv_per_stage_decoder": [head["convolutions"]] * (count - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    imported = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    name = _NETWORK + _architecture(recipe)
    return {"network_class_name": name, "arch_kwargs": kwargs, "_kw_requires_import": imported}


def _dataset(localizer: Localizer) -> dict[str, Any]:
    recipe = localizer.recipe
    ending = ".png" if recipe.data.spacing_mm is None else ".nii.gz"
    labels = {"background": 0, **{name: number for number, name in localizer.classes.items()}}
    channels = {str(number): name.upper() if name == "ct" else name for number, name in enumerate(recipe.channels)}
    return {"channel_names": channels, "labels": labels, "numTraining": 0, "file_ending": ending}


def _difference(localizer: Localizer, folder: Path) -> tuple[tuple[int, ...], float]:
    """Import the folder again; returns the shape of an input and the largest relative difference of the outputs."""
    again = import_nnunet(folder)
    recipe = recipe_of(again, "exported", Terms("-", "-", "-"))
    model = build_with_weights(recipe, member_weights(again.weights), str(folder)).eval()
    shape = (1, len(recipe.channels), *(localizer.recipe.data.patch or ()))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pairs = [of.decode(of.outputs(x), shape[2:]) for of in (model, localizer.model.cpu())]
    ours, theirs = (next(iter(pair.values())).mask_probabilities for pair in pairs)
    assert ours is not None
    assert theirs is not None
    return shape, float((ours - theirs).abs().max())
