"""A large CT, .nii.gz to .nii.gz, beside ``nnUNetv2_predict``: ``python -m tests.benchmarks.large_ct``.

A network of the size that nnU-Net plans, with random weights, is imported; both commands predict the same CT with the
same windows, half of each overlapping, without mirroring, on one thread. The row is added to ``RESULTS.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SIDE, PATCH = 160, 96
WIDTHS = (32, 64, 128, 256, 320)
NAME = "nnUNetTrainer__nnUNetPlans__3d_fullres"
LABELS = {"background": 0, "liver": 1, "tumour": 2}
TERMS = ("--licence", "CC0-1.0", "--citation", "none", "--origin", "random weights")


def plans() -> dict[str, Any]:
    """Return nnU-Net's plans of the network."""
    stages = len(WIDTHS)
    network = {
        **{"n_stages": stages, "features_per_stage": WIDTHS, "conv_op": "torch.nn.modules.conv.Conv3d"},
        **{"kernel_sizes": [[3, 3, 3]] * stages, "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1)},
        **{"n_conv_per_stage": [2] * stages, "n_conv_per_stage_decoder": [2] * (stages - 1), "conv_bias": True},
        **{"norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True}},
        **{"dropout_op": None, "dropout_op_kwargs": None},
        **{"nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True}},
    }
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    linear = {**resampling, "order": 1}
    configuration = {
        **{"data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2},
        **{"patch_size": [PATCH] * 3, "median_image_size_in_voxels": [SIDE] * 3, "spacing": [1.5] * 3},
        **{"normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False], "batch_dice": False},
        **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")},
        **{"resampling_fn_data_kwargs": resampling, "resampling_fn_probabilities_kwargs": linear},
        "resampling_fn_seg_kwargs": {**linear, "is_seg": True},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    hu = {"max": 1000.0, "mean": 80.0, "median": 90.0, "min": -1000.0, "std": 140.0}
    return {
        **{"dataset_name": "Dataset001_ct", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO"},
        **{"original_median_spacing_after_transp": [1.5] * 3, "original_median_shape_after_transp": [SIDE] * 3},
        **{"transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2]},
        **{"experiment_planner_used": "ExperimentPlanner", "label_manager": "LabelManager"},
        "configurations": {"3d_fullres": configuration},
        "foreground_intensity_properties_per_channel": {
            "0": {**hu, "percentile_00_5": -300.0, "percentile_99_5": 400.0}
        },
    }


def make(folder: Path) -> None:
    """Write the model and the CT; runs in nnU-Net's environment."""
    import numpy as np
    import SimpleITK as sitk
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans  # pyright: ignore[reportMissingImports]  # of its own environment

    model = folder / "results" / "Dataset001_ct" / NAME
    (model / "fold_0").mkdir(parents=True)
    stated = plans()
    (model / "plans.json").write_text(json.dumps(stated), encoding="utf-8")
    described = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": 1, "file_ending": ".nii.gz"}
    (model / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    torch.manual_seed(0)
    design = stated["configurations"]["3d_fullres"]["architecture"]
    keys = ("network_class_name", "arch_kwargs", "_kw_requires_import")
    network = get_network_from_plans(*(design[key] for key in keys), 1, len(LABELS), deep_supervision=False)
    checkpoint = {
        **{"network_weights": network.state_dict(), "trainer_name": "nnUNetTrainer", "current_epoch": 1},
        **{"init_args": {"configuration": "3d_fullres"}, "inference_allowed_mirroring_axes": (0, 1, 2)},
    }
    torch.save(checkpoint, model / "fold_0" / "checkpoint_final.pth")
    random = np.random.default_rng(0)
    z, y, x = np.ogrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    body = (y / 0.5) ** 2 + (x / 0.76) ** 2 + 0 * z < 1
    ct = np.where(body, random.normal(40, 60, body.shape), -1000).astype(np.int16)
    image = sitk.GetImageFromArray(ct)
    image.SetSpacing((1.5, 1.5, 1.5))
    (folder / "inputs").mkdir()
    sitk.WriteImage(image, str(folder / "inputs" / "case_0000.nii.gz"))


def cpu_seconds(command: list[Any], **variables: str) -> float:
    """Run a command on one thread, and return the seconds of CPU that it and its children took."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    before = sum(os.times()[2:4])
    environment = kept | {"OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run([str(p) for p in command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command}: {done.stderr[-3000:]}")
    return sum(os.times()[2:4]) - before


def measured(python: Path, folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    import numpy as np
    import SimpleITK as sitk

    folders = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    cpu_seconds([python, "-W", "ignore", __file__, "--make", folder], **folders)
    inputs, zoo = folder / "inputs", folder / "zoo"
    cphloc = [sys.executable, "-W", "ignore", "-m", "cphloc"]
    model = folder / "results" / "Dataset001_ct"
    own = {"PYTHONPATH": str(ROOT), "CPHLOC_CACHE": str(folder / "cache")}
    named = ("--name", "large-ct", "--version", "1.0.0", "--to", zoo, "--no-mirroring")
    cpu_seconds([*cphloc, "import", "nnunet", model / NAME, *named, *TERMS], **own)
    theirs = [python.with_name("nnUNetv2_predict"), "-i", inputs, "-o", folder / "theirs", "-d", "1", "-f", "0"]
    theirs += ["-c", "3d_fullres", "-device", "cpu", "-npp", "1", "-nps", "1", "--disable_tta"]
    ours = [*cphloc, "predict", f"{zoo / 'large-ct' / '1.0.0'}/", inputs / "case_0000.nii.gz", "--out", folder / "ours"]
    seconds = {"cphloc predict": cpu_seconds(ours, **own), "nnUNetv2_predict": cpu_seconds(theirs, **folders)}
    masks = [next((folder / name).rglob("*.nii.gz")) for name in ("ours", "theirs")]
    a, b = (sitk.GetArrayFromImage(sitk.ReadImage(str(mask))) for mask in masks)
    least = seconds["cphloc predict"]
    return [
        {
            "who": who,
            "CT": f"{SIDE}^3",
            "windows": f"{PATCH}^3",
            "seconds of CPU": f"{taken:.1f}",
            "ratio": f"{taken / least:.2f}",
            "voxels that differ": "" if taken == least else f"{np.mean(a != b):.2%}",
        }
        for who, taken in seconds.items()
    ]


def main() -> None:
    """Make the model, or measure and add the rows to the page."""
    from cphloc.importing.environment import environment
    from tests.benchmarks.__main__ import add_facts

    parser = argparse.ArgumentParser()
    parser.add_argument("--python", type=Path, help="a Python that has nnU-Net; default: an environment made with uv")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(options.python or Path(environment("nnunetv2")), Path(folder))
    print(*rows, sep="\n")
    add_facts("large_ct", rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]))
    else:
        main()
