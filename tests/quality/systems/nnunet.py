"""nnU-Net v2: its fingerprint, plans, pre-processing, augmentation, trainer and prediction, on the CPU.

Its polynomial schedule ends at the last step of the budget instead of after 250,000.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from cphloc.evaluation.prediction import CasePrediction
from cphloc.structures.volume import Volume

from ..data import Cases
from . import Trained

_DATASET = "Dataset001_task"


class NnUnet:
    """One configuration of nnU-Net.

    Args:
        configuration: ``3d_fullres`` or ``2d``.
    """

    def __init__(self, configuration: str) -> None:
        self.configuration = configuration

    def prepare(self, cases: Cases, folder: Path) -> None:
        """Write the data set in nnU-Net's layout, plan it and pre-process it."""
        self._environment(folder, workers=1)  # planning takes a number of threads from it
        split = folder / "preprocessed" / _DATASET / "splits_final.json"
        if split.is_file():
            return
        raw = folder / "raw" / _DATASET
        shutil.rmtree(folder / "raw", ignore_errors=True)
        names = []
        for _case, volume, annotation in cases.to_learn():
            if annotation.mask is not None:
                names.append(f"case{len(names):04d}")
                for number, channel in enumerate(volume.array):
                    _write(raw / "imagesTr" / f"{names[-1]}_{number:04d}.nii.gz", channel, volume)
                _write(raw / "labelsTr" / f"{names[-1]}.nii.gz", annotation.mask, volume)
        labels = {"background": 0, **{name: number for number, name in cases.classes.items()}}
        modality = "CT" if cases.dataset.channels == ("ct",) else "MR"
        channels = {str(i): modality for i in range(len(cases.dataset.channels))}
        described = {"channel_names": channels, "labels": labels, "numTraining": len(names), "file_ending": ".nii.gz"}
        (raw / "dataset.json").write_text(json.dumps(described))
        from nnunetv2.experiment_planning import plan_and_preprocess_api as api

        with (folder / "preparation.log").open("w") as log, redirect_stdout(log):
            api.extract_fingerprints([1], num_processes=1, show_progress_bar=False)
            api.plan_experiments([1])
            api.preprocess([1], configurations=(self.configuration,), num_processes=(1,), show_progress_bar=False)
        split.write_text(json.dumps([{"train": names, "val": names[:1]}]))

    def train(self, cases: Cases, steps: int, seed: int, folder: Path) -> Trained:
        """Run the training steps of nnU-Net's trainer."""
        self._environment(folder, workers=0)
        with (folder / "training.log").open("w") as log, redirect_stdout(log):
            trainer = self._trained(steps, seed, folder)
            predictor = _predictor(trainer)
        parameters = sum(p.numel() for p in trainer.network.parameters())

        def predict(volume: Volume) -> CasePrediction:
            """Predict with overlapping windows and mirrored views, nnU-Net's defaults."""
            image = volume.array if volume.geometry.dims == 3 else volume.array[:, None]
            spacing = list(volume.geometry.spacing_mm)
            spacing = spacing if len(spacing) == 3 else [999.0 * max(spacing), *spacing]
            with redirect_stdout(None):
                mask = predictor.predict_single_npy_array(image.astype(np.float32), {"spacing": spacing})
            return CasePrediction(mask=np.asarray(mask, np.uint8).reshape(volume.geometry.shape))

        return Trained(predict, parameters, trainer.batch_size)

    def _environment(self, folder: Path, workers: int) -> None:
        """Set nnU-Net's folders and the processes that augment; 0 augments in this one, so that its time is counted."""
        for name in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{name}"] = str(folder / name)
        os.environ |= {"nnUNet_n_proc_DA": str(workers), "nnUNet_compile": "f"}

    def _trained(self, steps: int, seed: int, folder: Path) -> Any:
        from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        torch.manual_seed(seed)
        np.random.seed(seed)  # nnU-Net's loaders draw from it
        prepared = folder / "preprocessed" / _DATASET
        plans, described = (json.loads((prepared / f"{name}.json").read_text()) for name in ("nnUNetPlans", "dataset"))
        trainer = nnUNetTrainer(
            {**plans, "continue_training": False}, self.configuration, 0, described, torch.device("cpu")
        )
        trainer.on_train_start()
        trainer.lr_scheduler = PolyLRScheduler(trainer.optimizer, trainer.initial_lr, steps)
        trainer.network.train()
        for step in range(steps):
            trainer.lr_scheduler.step(step)
            trainer.train_step(next(trainer.dataloader_train))
        trainer.set_deep_supervision_enabled(False)
        trainer.network.eval()
        return trainer


def _predictor(trainer: Any) -> Any:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    return predictor


def _write(path: Path, array: np.ndarray, volume: Volume) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(tuple(float(s) for s in reversed(volume.geometry.spacing_mm)))
    sitk.WriteImage(image, str(path))
