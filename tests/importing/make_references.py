"""Make the small models of nnU-Net in ``tests/importing/nnunet`` and nnU-Net's own predictions with them.

It runs in an environment that has nnU-Net: ``python tests/importing/make_references.py``. Weights are random; each
model takes another road through nnU-Net's inference.
"""

from __future__ import annotations

import io
import json
import pydoc
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "cphloc" / "importing" / "provers"))

MODELS: dict[str, dict[str, Any]] = {
    "folds": {"folds": (0, 1), "mirror": (0, 1, 2), "masked": True, "axes": [1, 0, 2], "spacing": [3.5, 1.0, 1.0]},
    "residual": {"network": ResidualEncoderUNet, "scheme": "CTNormalization", "reader": "NibabelIOWithReorient"},
    "slices": {"patch": [16, 16], "mirror": (0, 1), "scheme": "RescaleTo01Normalization", "spacing": [1.0, 0.8]},
    "regions": {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "spacing": [1.3, 1.1, 0.8]},
}


def plans_of(model: dict[str, Any]) -> dict[str, Any]:
    """Plans of a model with one configuration."""
    patch = model.get("patch", [8, 16, 16])
    dims, residual = len(patch), "network" in model
    resample = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    layers = {"n_blocks_per_stage": [1, 2, 2]} if residual else {"n_conv_per_stage": [2, 2, 2]}
    kwargs = {
        "n_stages": 3,
        "features_per_stage": [3, 4, 6],
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": [[1, 3, 3][-dims:], [3] * dims, [3] * dims],
        "strides": [[1] * dims, [1, 2, 2][-dims:], [2] * dims],
        **layers,
        "n_conv_per_stage_decoder": [1 if residual else 2] * 2,
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    network = model.get("network", PlainConvUNet).__name__
    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": patch,
        "batch_size": 2,
        "spacing": model.get("spacing", [1.2, 1.0, 0.9]),
        "normalization_schemes": [model.get("scheme", "ZScoreNormalization")],
        "use_mask_for_norm": [model.get("masked", False)],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**resample, "order": 3},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**resample, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resample, "order": 1},
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{network}",
            "arch_kwargs": kwargs,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    forward = model.get("axes", [0, 1, 2])
    intensities = {"mean": 40.0, "std": 30.0, "percentile_00_5": -20.0, "percentile_99_5": 110.0}
    return {
        "dataset_name": "Dataset900_small",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [2.0, 1.0, 1.0],
        "original_median_shape_after_transp": [20, 24, 22],
        "image_reader_writer": model.get("reader", "SimpleITKIO"),
        "transpose_forward": forward,
        "transpose_backward": [forward.index(axis) for axis in range(3)],
        "configurations": {"2d" if dims == 2 else "3d_fullres": configuration},
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
    }


def checkpoint(model: dict[str, Any], plans: dict[str, Any], heads: int, seed: int) -> bytes:
    """A checkpoint with random weights, as nnU-Net writes it."""
    (name, configuration), *_ = plans["configurations"].items()
    stated = configuration["architecture"]
    kwargs = dict(stated["arch_kwargs"])
    for key in stated["_kw_requires_import"]:
        kwargs[key] = pydoc.locate(kwargs[key]) if kwargs[key] else None
    network = model.get("network", PlainConvUNet)(input_channels=1, num_classes=heads, deep_supervision=True, **kwargs)
    _draw(network, configuration["patch_size"], seed)
    stream = io.BytesIO()
    content = {
        "network_weights": network.state_dict(),
        "optimizer_state": {},
        "logging": {"ema_fg_dice": [np.float64(0.5)]},
        "_best_ema": np.float64(0.5),
        "init_args": {"configuration": name, "fold": seed, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": model.get("mirror"),
    }
    torch.save(content, stream)
    return stream.getvalue()


def _draw(network: torch.nn.Module, patch: list[int], seed: int) -> None:
    """Draw random weights with which every class occurs."""
    window = torch.randn(1, 1, *patch, generator=torch.Generator().manual_seed(0))
    for attempt in range(1000):
        torch.manual_seed(1000 * seed + attempt)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, 0.0, 0.5)
        with torch.no_grad():
            logits = network(window)[0][0]
        shares = [(logits.argmax(0) == c).float().mean() for c in range(3)]
        if len(logits) == 2:
            shares = [(region > 0).float().mean() for region in logits]
            shares += [1 - share for share in shares]
        if min(shares) > 0.2:
            return
    msg = "no weights found"
    raise RuntimeError(msg)


def image() -> sitk.Image:
    """A small image with a border of 0, axes that are flipped, and anisotropic voxels."""
    rng = np.random.default_rng(0)
    smooth = sitk.GetArrayFromImage(
        sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(rng.normal(size=(11, 24, 22))), 1.5)
    )
    values = np.rint(40 + 30 * smooth / smooth.std())
    values[:, :3], values[..., -2:], values[:1] = 0, 0, 0
    made = sitk.GetImageFromArray(values.astype(np.int16))
    made.SetSpacing((0.9, 1.1, 2.6))
    made.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, -1))
    made.SetOrigin((10, -20, 5))
    return made


def main() -> None:
    """Make every model and its reference."""
    import prove_nnunetv2

    for name, model in MODELS.items():
        labels = model.get("labels", {"background": 0, "front": 1, "back": 2})
        plans = plans_of(model)
        dataset = {"channel_names": {"0": "MR"}, "labels": labels, "numTraining": 7, "file_ending": ".nii.gz"}
        regions = "labels" in model
        if regions:
            dataset["regions_class_order"] = [1, 2]
        folder = HERE / "nnunet" / name
        folder.mkdir(parents=True, exist_ok=True)
        inside = f"Dataset900_small/nnUNetTrainer__nnUNetPlans__{next(iter(plans['configurations']))}"
        with zipfile.ZipFile(folder / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{inside}/plans.json", json.dumps(plans))
            archive.writestr(f"{inside}/dataset.json", json.dumps(dataset))
            for fold in model.get("folds", (0,)):
                content = checkpoint(model, plans, 2 if regions else 3, fold)
                archive.writestr(f"{inside}/fold_{fold}/checkpoint_final.pth", content)
        sitk.WriteImage(image(), str(folder / "case_0000.nii.gz"), True)
        with tempfile.TemporaryDirectory() as scratch:
            model_zip = folder / "model.zip"
            zipfile.ZipFile(model_zip).extractall(scratch)
            sys.argv = ["prove_nnunetv2.py", scratch, str(folder)]
            prove_nnunetv2.main()
        print(name, (folder / "facts.json").read_text())


if __name__ == "__main__":
    main()
