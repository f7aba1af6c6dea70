"""Export a mask model as a MONAI bundle with a network in TorchScript, which needs no cphloc, and check it."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cphloc import __version__
from cphloc.config import jsonio
from cphloc.data.pipeline.intensity import CT, Intensity, Scale, Unchanged, Window, ZScore, parse_intensity
from cphloc.errors import InputError, needs
from cphloc.files import temporary_folder
from cphloc.importing.environment import Prover
from cphloc.inference.export import TOLERANCE, Exported, Flat, described, drawn, shapes
from cphloc.inference.localizer import Localizer
from cphloc.modeling.model import Model
from cphloc.recipe.recipe import Recipe
from cphloc.structures.padding import prediction_fill

NETWORK = "models/model.ts"
STEPS = Path(__file__).with_name("bundle_steps.py")
"""Code that a bundle carries: resampling, windows and masks as cphloc computes them."""


def export_monai(localizer: Localizer, path: str | Path, source: str | None = None) -> Exported:
    """Write a model as a MONAI bundle, let MONAI predict a synthetic image with it, and compare.

    The bundle holds the network as TorchScript, ``metadata.json``, ``inference.json``, and in ``scripts/`` the steps of
    cphloc that MONAI lacks. ``python -m monai.bundle run --config_file configs/inference.json`` predicts the images in
    ``images/``; of several channels, ``CASE_0000.nii.gz``, ``CASE_0001.nii.gz`` and so on.

    Args:
        localizer: the model; its only head predicts a mask.
        path: folder to write, which must not exist.
        source: name to store as the origin of the model; by default that of the recipe.

    Raises:
        InputError: the folder exists, or a bundle cannot express what the model does; the message names it.
        MissingExtraError: MONAI is not installed.
        DataError: network or mask differ; then nothing is written.
    """
    path, model, recipe = Path(path), localizer.model.cpu(), localizer.recipe
    if path.exists():
        msg = f"{path} exists; name a folder that does not"
        raise InputError(msg)
    _check(localizer)
    preprocessing = {"_target_": "Compose", "transforms": transforms(recipe)}
    example, facts = described(model, recipe, source)
    with temporary_folder(path) as stage:
        for folder in ("configs", "models", "scripts"):
            (stage / folder).mkdir()
        inputs, outputs, difference = _write_network(model, example, stage / NETWORK)
        shutil.copyfile(STEPS, stage / "scripts" / "steps.py")
        (stage / "scripts" / "__init__.py").write_text("", encoding="utf-8")
        _write_config(stage, "inference", {"preprocessing": preprocessing, **_inference(recipe)})
        metadata = _metadata(model, recipe, facts)
        _write_config(stage, "metadata", metadata)
        with needs("an export for MONAI"):
            import monai  # noqa: F401
        proof = Prover("monai", stage, sys.executable).prove_synthetic(localizer)
        _write_config(stage, "metadata", {**metadata, "proof": proof.model_dump(exclude_none=True)})
        stage.rename(path)
    return Exported(path, inputs, outputs, max(difference, proof.outputs or 0.0), TOLERANCE, proof.agreement)


def _check(localizer: Localizer) -> None:
    """Refuse by name what a bundle cannot express."""
    recipe, options, heads = localizer.recipe, localizer.options, localizer.recipe.model.heads
    head = next(iter(heads.values()))
    refused = {
        f"the heads {', '.join(heads)}": len(heads) > 1,
        f"the head {head.type}, which gives no mask": recipe.task != "segmentation",
        "data.nnunet": recipe.data.nnunet is not None,
        "data.fit: whole": recipe.data.fit == "whole",
        "data.spacing_mm of pictures": recipe.dims == 2 and recipe.data.spacing_mm is not None,
        "regions (scores: sigmoid)": head.args.get("scores") == "sigmoid",
        "an ensemble": recipe.model.members > 1,
        "mirrored views (options.tta)": options.tta,
        "a threshold of the mask (options.thresholds)": "mask" in options.thresholds,
        "the removal of classes or components (options.min_probability, largest, min_size)": options.filters_masks,
    }
    if wrong := [name for name, is_so in refused.items() if is_so]:
        msg = f"{recipe.name}: {wrong[0]} has no counterpart in a MONAI bundle; export it as onnx or torch"
        raise InputError(msg)


def _write_network(model: Model, example: torch.Tensor, path: Path) -> tuple[dict, dict, float]:
    """Write the network as TorchScript; returns shapes of inputs and outputs, and the largest relative difference."""
    flat, given = Flat(model, single=True).eval(), drawn({"image": example}, batch=1)
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        outputs = flat.named(*given.values())
        torch.jit.save(torch.jit.trace(_First(flat), example), str(path))
        loaded = torch.jit.load(str(path))
        difference = max(_difference(flat, loaded, drawn(given, batch)["image"]) for batch in (1, 3))
    return shapes(given), shapes(outputs), difference


def _write_config(folder: Path, name: str, content: dict[str, Any]) -> None:
    (folder / "configs" / f"{name}.json").write_text(jsonio.dumps(content, indent=2) + "\n", encoding="utf-8")


class _First(torch.nn.Module):
    """Returns the only output of a network."""

    def __init__(self, flat: Flat) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, K + 1, *S)``."""
        return self.flat(image)[0]


def _difference(flat: Flat, loaded: torch.nn.Module, image: torch.Tensor) -> float:
    expected = flat(image)[0]
    return float((loaded(image) - expected).abs().max() / expected.abs().max().clamp(min=1))


def transforms(recipe: Recipe) -> list[dict[str, Any]]:
    """Translate the preparation of images to transforms.

    Raises:
        InputError: the recipe does something that they cannot express.
    """
    keys: dict[str, Any] = {"keys": "image"}
    steps = [{"_target_": "LoadImaged", **keys}, {"_target_": "EnsureChannelFirstd", **keys}]
    if recipe.dims == 3:
        steps.append({"_target_": "Orientationd", **keys, "axcodes": "LPS"})
    steps += _intensity(recipe.name, parse_intensity(recipe.to_plain()["data"]["intensity"], len(recipe.channels)))
    steps.append({"_target_": "scripts.steps.Resampled", **keys, "spacing_mm": recipe.data.spacing_mm})
    return steps


def _intensity(name: str, schemes: Sequence[Intensity]) -> list[dict[str, Any]]:
    """Translate intensity schemes, which must be the same for all channels."""
    if len(set(schemes)) > 1:
        msg = f"{name}: channels with different data.intensity have no counterpart in MONAI's transforms"
        raise InputError(f"{msg}; export it as onnx or torch")
    scheme, keys = schemes[0], {"keys": "image"}
    if isinstance(scheme, Unchanged):
        return []
    if isinstance(scheme, ZScore) and scheme.clip == (0.0, 100.0):
        return [{"_target_": "NormalizeIntensityd", **keys, "channel_wise": True}]
    if isinstance(scheme, CT):
        clip = {"_target_": "ThresholdIntensityd", **keys}
        return [
            {**clip, "threshold": scheme.high, "above": False, "cval": scheme.high},
            {**clip, "threshold": scheme.low, "above": True, "cval": scheme.low},
            {"_target_": "NormalizeIntensityd", **keys, "subtrahend": scheme.mean, "divisor": scheme.std},
        ]
    if isinstance(scheme, Window) and scheme.center is not None and scheme.width is not None:
        low, high = scheme.center - scheme.width / 2, scheme.center + scheme.width / 2
    elif isinstance(scheme, Scale):
        low, high = scheme.low, scheme.high
    else:
        msg = f"{name}: the intensity {scheme.type} has no counterpart in MONAI's transforms"
        raise InputError(f"{msg}; export it as onnx or torch")
    ends = {"a_min": low, "a_max": high, "b_min": 0, "b_max": 1, "clip": True}
    return [{"_target_": "ScaleIntensityRanged", **keys, **ends}]


def _inference(recipe: Recipe) -> dict[str, Any]:
    """The rest of ``inference.json``: network, windows and what follows them."""
    windows = {"patch": list(recipe.data.patch or ()), "fill": prediction_fill(recipe.data.pad)}
    after = [
        {"_target_": "scripts.steps.Restored", "keys": "pred"},
        {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"},
        {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
    ]
    case = "f"
    if recipe.dims == 3 and len(recipe.channels) > 1:
        case = f"[f.replace('_0000.', '_%04d.' % c) for c in range({len(recipe.channels)})]"
    files = "*_0000.*" if case != "f" else "*"
    return {
        "imports": ["$import torch", "$import glob", "$import os"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": {"_target_": "torch.jit.load", "f": f"$@bundle_root + '/{NETWORK}'"},
        "network": "$@network_def.to(@device)",
        "dataset": {
            "_target_": "Dataset",
            "data": f"$list({{'image': {case}}} for f in sorted(glob.glob(@dataset_dir + '/{files}')))",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "inferer": {"_target_": "scripts.steps.Windows", **windows},
        "postprocessing": {"_target_": "Compose", "transforms": after},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "run": ["$@evaluator.run()"],
    }


def _metadata(model: Model, recipe: Recipe, facts: dict[str, str]) -> dict[str, Any]:
    """Content of ``metadata.json``, after MONAI's schema."""
    versions = {"monai_version": "1.5.0", "pytorch_version": torch.__version__.partition("+")[0]}
    patch = list(recipe.data.patch or ())
    image: dict[str, Any] = {"type": "image", "format": "magnitude", "spatial_shape": patch, "dtype": "float32"}
    image |= {"is_patch_data": True, "value_range": []}
    channels = {str(number): name for number, name in enumerate(recipe.channels)}
    classes = {str(number): name for number, name in {0: "background", **dict(model.classes)}.items()}
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by cphloc {__version__} from {facts['source']}"},
        **versions,
        "numpy_version": np.__version__,
        "required_packages_version": {"nibabel": "5.0.0", "pytorch-ignite": "0.4.11"},
        "task": recipe.task,
        "description": recipe.description or facts["source"],
        "authors": "see the entry",
        "copyright": "see the entry",
        "data_source": facts["source"],
        "intended_use": recipe.about.intended_use,
        "limits": "Windows that contain only air are predicted too, which cphloc skips in CT.",
        "network_data_format": {
            "inputs": {"image": {**image, "num_channels": len(channels), "channel_def": channels}},
            "outputs": {"pred": {**image, "format": "logits", "num_channels": len(classes), "channel_def": classes}},
        },
    }
