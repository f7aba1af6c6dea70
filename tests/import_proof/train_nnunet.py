"""Train small models of nnU-Net: ``python train_nnunet.py CASES FOLDER MODEL``.

It runs in an environment that has nnU-Net. Preparation, plans, networks, augmentation, loss, trainer and checkpoints
are nnU-Net's own; only the widths of the networks, the batch and the number of steps are smaller, so that a model takes
minutes on one core.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DATASET = {"labels": 1, "regions": 2}
"""Kind of labels -> number of the data set."""

MODELS: Mapping[str, dict[str, Any]] = {
    "2d": {"configuration": "2d", "batch": 8, "steps": 200},  # after 50 it predicts background alone
    "3d_fullres": {"configuration": "3d_fullres", "folds": (0, 1)},
    "resenc": {"configuration": "3d_fullres", "planner": "nnUNetPlannerResEncM", "plans": "nnUNetResEncUNetMPlans"},
    "regions": {"configuration": "3d_fullres", "labels": "regions"},
}
"""What each model is; by default labels, one fold, ``STEPS`` steps and nnU-Net's own planner."""

STEPS = 50

_WIDTHS = [8, 16, 32, 48, 64, 64, 64]


def write_raw(cases: Path, raw: Path, labels: str) -> None:
    """Write the cases that are not for testing in nnU-Net's layout."""
    with (cases / "cases.csv").open(encoding="utf-8") as stream:
        names = [row["case"] for row in csv.DictReader(stream) if row["split"] != "test"]
    for folder, part, ending in (("imagesTr", "images", "_0000.nii.gz"), ("labelsTr", "labels", ".nii.gz")):
        (raw / folder).mkdir(parents=True)
        for name in names:
            shutil.copyfile(cases / part / f"{name}.nii.gz", raw / folder / f"{name}{ending}")
    described: dict[str, Any] = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": len(names),
        "file_ending": ".nii.gz",
    }
    if labels == "regions":
        described["labels"] = {"background": 0, "hippocampus": [1, 2], "posterior": [2]}
        described["regions_class_order"] = [1, 2]
    (raw / "dataset.json").write_text(json.dumps(described), encoding="utf-8")


def prepare(cases: Path, folder: Path, model: Mapping[str, Any]) -> Path:
    """Write, plan and prepare the data of a model; returns the folder of the prepared data."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api  # pyright: ignore[reportMissingImports]  # of its own environment

    labels = model.get("labels", "labels")
    number, name = DATASET[labels], f"Dataset{DATASET[labels]:03d}_{labels}"
    raw, prepared = folder / "raw" / name, folder / "preprocessed" / name
    plans = prepared / f"{model.get('plans', 'nnUNetPlans')}.json"
    if plans.is_file():
        return prepared
    if not raw.is_dir():
        write_raw(cases, raw, labels)
    api.extract_fingerprints([number], num_processes=1, show_progress_bar=False)
    api.plan_experiments([number], experiment_planner_class_name=model.get("planner", "ExperimentPlanner"))
    stated = json.loads(plans.read_text(encoding="utf-8"))
    for configuration in stated["configurations"].values():
        network = configuration.get("architecture", {}).get("arch_kwargs")
        if network:
            network["features_per_stage"] = _WIDTHS[: network["n_stages"]]
    plans.write_text(json.dumps(stated), encoding="utf-8")
    configurations = ("2d", "3d_fullres")
    api.preprocess([number], plans.stem, configurations=configurations, num_processes=(1, 1), show_progress_bar=False)
    return prepared


def train(prepared: Path, model: Mapping[str, Any], fold: int) -> None:
    """Train one fold with nnU-Net's trainer, which writes the folder of results."""
    import torch
    from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import nnUNetTrainerVanillaAdam  # pyright: ignore[reportMissingImports]  # of its own environment

    plans = json.loads((prepared / f"{model.get('plans', 'nnUNetPlans')}.json").read_text(encoding="utf-8"))
    plans["configurations"][model["configuration"]]["batch_size"] = model.get("batch", 2)
    described = json.loads((prepared / "dataset.json").read_text(encoding="utf-8"))
    torch.manual_seed(fold)
    stated = {**plans, "continue_training": False}
    trainer = nnUNetTrainerVanillaAdam(stated, model["configuration"], fold, described, torch.device("cpu"))
    trainer.initial_lr = 3e-3  # stochastic descent, the default, predicts background for the first hundreds of steps
    trainer.num_epochs, trainer.num_val_iterations_per_epoch = 2, 1
    trainer.num_iterations_per_epoch = model.get("steps", STEPS) // trainer.num_epochs
    trainer.run_training()


def main() -> None:
    """Train all folds of a model that are not trained yet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", choices=MODELS)
    options = parser.parse_args()
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(options.folder.absolute() / name)
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_compile": "f"}  # planning takes a number of threads from it
    model = MODELS[options.model]
    prepared = prepare(options.cases, options.folder, model)
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # augments in this process
    trained = {path.parent.name for path in (options.folder / "results").rglob("checkpoint_final.pth")}
    for fold in (fold for fold in model.get("folds", (0,)) if f"fold_{fold}" not in trained):
        train(prepared, model, fold)


if __name__ == "__main__":
    main()
