"""A large CT, .nii.gz to .nii.gz, beside ``nnUNetv2_predict``: ``python -m tests.benchmarks.large_ct``.

A network of the size that nnU-Net plans is imported; both commands predict the same CT with the same windows, half of
each overlapping, without mirroring, on one thread. Its weights are random but for the last layer, which is fitted to
tell air, body and an organ apart. The rows are added to ``RESULTS.md``; about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SIDE, PATCH = 160, 96
"""Of the CT, in voxels of 1.5 mm, and of the windows: 27 of them. 96 for a trial."""
WIDTHS = (32, 64, 128, 256, 320)
NAME = "nnUNetTrainer__nnUNetPlans__3d_fullres"
LABELS = {"background": 0, "body": 1, "organ": 2}
TERMS = ("--licence", "CC0-1.0", "--citation", "none", "--origin", "random weights")
AIR, BODY, ORGAN, NOISE = -1000.0, 40.0, 250.0, 30.0
"""Mean intensities in HU, and the standard deviation inside the body."""
HU = {"max": 1000.0, "mean": 80.0, "median": 90.0, "min": -1000.0, "std": 140.0}
CLIPPED = (-300.0, 400.0)


def plans(side: int) -> dict[str, Any]:
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
        **{"patch_size": [PATCH] * 3, "median_image_size_in_voxels": [side] * 3, "spacing": [1.5] * 3},
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
    return {
        **{"dataset_name": "Dataset001_ct", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO"},
        **{"original_median_spacing_after_transp": [1.5] * 3, "original_median_shape_after_transp": [side] * 3},
        **{"transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2]},
        **{"experiment_planner_used": "ExperimentPlanner", "label_manager": "LabelManager"},
        "configurations": {"3d_fullres": configuration},
        "foreground_intensity_properties_per_channel": {
            "0": {**HU, "percentile_00_5": CLIPPED[0], "percentile_99_5": CLIPPED[1]}
        },
    }


def make(folder: Path, side: int) -> None:
    """Write the model and the CT; runs in nnU-Net's environment."""
    import SimpleITK as sitk
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans  # pyright: ignore[reportMissingImports]  # of its own environment

    model = folder / "results" / "Dataset001_ct" / NAME
    (model / "fold_0").mkdir(parents=True)
    stated = plans(side)
    (model / "plans.json").write_text(json.dumps(stated), encoding="utf-8")
    described = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": 1, "file_ending": ".nii.gz"}
    (model / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    torch.manual_seed(0)
    design = stated["configurations"]["3d_fullres"]["architecture"]
    keys = ("network_class_name", "arch_kwargs", "_kw_requires_import")
    network = get_network_from_plans(*(design[key] for key in keys), 1, len(LABELS), deep_supervision=False)
    ct, labels = phantom(side)
    fit_last_layer(network, ct, labels)
    checkpoint = {
        **{"network_weights": network.state_dict(), "trainer_name": "nnUNetTrainer", "current_epoch": 1},
        **{"init_args": {"configuration": "3d_fullres"}, "inference_allowed_mirroring_axes": (0, 1, 2)},
    }
    torch.save(checkpoint, model / "fold_0" / "checkpoint_final.pth")
    image = sitk.GetImageFromArray(ct.astype("int16"))
    image.SetSpacing((1.5, 1.5, 1.5))
    (folder / "inputs").mkdir()
    sitk.WriteImage(image, str(folder / "inputs" / "case_0000.nii.gz"))


def phantom(side: int) -> tuple[Any, Any]:
    """Intensities in HU and labels ``(side, side, side)`` of an elliptic body in air, with an organ inside."""
    import numpy as np

    z, y, x = np.ogrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j, -1 : 1 : side * 1j]
    body = (y / 0.5) ** 2 + (x / 0.76) ** 2 + 0 * z < 1
    organ = (z / 0.6) ** 2 + (y / 0.3) ** 2 + ((x - 0.2) / 0.4) ** 2 < 1
    inside = np.where(organ, ORGAN, BODY) + np.random.default_rng(0).normal(0, NOISE, body.shape)
    return np.where(body, inside, AIR), np.where(body, 1 + organ, 0)


def fit_last_layer(network: Any, ct: Any, labels: Any) -> None:
    """Fit the last convolution, by least squares, to the labels of the window in the middle of the CT."""
    import torch

    middle = (slice((len(ct) - PATCH) // 2, (len(ct) + PATCH) // 2),) * 3
    window = torch.from_numpy((ct[middle].clip(*CLIPPED) - HU["mean"]) / HU["std"]).float()
    last, seen = network.decoder.seg_layers[-1], []
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network.eval()(window[None, None])
        hook.remove()
        features = seen[0][0].flatten(1).T.double()
        features = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        target = torch.nn.functional.one_hot(torch.from_numpy(labels[middle]).flatten().long(), len(LABELS)).double()
        normal = features.T @ features + 1e-3 * torch.eye(features.shape[1])
        solved = 10 * torch.linalg.solve(normal, features.T @ target).float()
        last.weight.copy_(solved[:-1].T.reshape(last.weight.shape))
        last.bias.copy_(solved[-1])


def cpu_seconds(command: list[Any], **variables: str) -> tuple[float, str]:
    """Run a command on one thread; return the seconds of CPU of all its processes, and what it printed.

    Processes are looked at ten times a second, because the system adds the times of those alone that are waited for.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = kept | {"OMP_NUM_THREADS": "1", **variables}
    with tempfile.TemporaryFile("w+") as said:
        words = [str(word) for word in command]
        process = subprocess.Popen(words, env=environment, stdout=said, stderr=said, text=True, start_new_session=True)
        taken: dict[int, float] = {}
        while process.poll() is None:
            taken |= _taken(process.pid)
            time.sleep(0.1)
        said.seek(0)
        text = said.read()
    if process.returncode:
        sys.exit(f"{command}: {text[-3000:]}")
    return sum(taken.values()), text


def _taken(session: int) -> dict[int, float]:
    """Seconds of CPU that each process of a session has taken until now."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            found[int(stat.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def measured(python: Path, folder: Path, side: int) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    import numpy as np
    import SimpleITK as sitk

    folders = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    cpu_seconds([python, "-W", "ignore", __file__, "--make", folder, side], **folders)
    inputs, zoo = folder / "inputs", folder / "zoo"
    cphloc = [sys.executable, "-W", "ignore", "-m", "cphloc"]
    model = folder / "results" / "Dataset001_ct"
    own = {"PYTHONPATH": str(ROOT), "CPHLOC_CACHE": str(folder / "cache")}
    named = ("--name", "large-ct", "--version", "1.0.0", "--to", zoo, "--no-mirroring")
    cpu_seconds([*cphloc, "import", "nnunet", model / NAME, *named, *TERMS], **own)
    theirs = [python.with_name("nnUNetv2_predict"), "-i", inputs, "-o", folder / "theirs", "-d", "1", "-f", "0"]
    theirs += ["-c", "3d_fullres", "-device", "cpu", "-npp", "1", "-nps", "1", "--disable_tta"]
    ours = [*cphloc, "predict", f"{zoo / 'large-ct' / '1.0.0'}/", inputs / "case_0000.nii.gz"]
    ways = {
        "cphloc predict --backend half": ([*ours, "--backend", "half", "--out", folder / "half"], own, "half"),
        "cphloc predict": ([*ours, "--out", folder / "ours"], own, "ours"),
        "nnUNetv2_predict": (theirs, folders, "theirs"),
    }
    rows: list[dict[str, Any]] = []
    masks = {}
    for who, (command, variables, out) in ways.items():
        taken, said = cpu_seconds(command, **variables)
        masks[who] = sitk.GetArrayFromImage(sitk.ReadImage(str(next((folder / out).rglob("*.nii.gz")))))
        by = next((line for line in said.splitlines() if line.startswith("computed by")), "")
        rows.append({"who": who, "CT": f"{side}^3", "windows": f"{PATCH}^3", "seconds of CPU": taken, "computed": by})
        print(rows[-1], flush=True)
    for row in rows:
        taken = row["seconds of CPU"]
        differ = np.mean(masks[row["who"]] != masks["nnUNetv2_predict"])
        row |= {"nnU-Net takes": f"{rows[-1]['seconds of CPU'] / taken:.2f}", "voxels that differ": f"{differ:.3%}"}
    return [row | {"seconds of CPU": f"{row['seconds of CPU']:.0f}"} for row in rows]


def main() -> None:
    """Make the model, or measure and add the rows to the page."""
    from cphloc.importing.environment import environment
    from tests.benchmarks.__main__ import add_facts

    parser = argparse.ArgumentParser()
    parser.add_argument("--python", type=Path, help="a Python that has nnU-Net; default: an environment made with uv")
    parser.add_argument("--side", type=int, default=SIDE, help=f"of the CT, in voxels; default {SIDE}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(options.python or Path(environment("nnunetv2")), Path(folder), options.side)
    print(*rows, sep="\n")
    add_facts("large_ct", rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
