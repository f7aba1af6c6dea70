"""Predict with nnU-Net: ``python prove_nnunetv2.py MODEL FOLDER [--folds 0 1] [--no-mirroring]``.

``FOLDER`` holds ``case_0000.nii.gz`` and further channels; the mask, the logits of one window and the time are written
beside them. It runs in an environment that has nnU-Net and not cphloc.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference import predict_from_raw_data  # pyright: ignore[reportMissingImports]  # of its own environment
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # pyright: ignore[reportMissingImports]  # of its own environment


def model_folder(source: Path, scratch: str) -> Path:
    """Return the folder of plans.json, of a folder or a zip."""
    if source.is_file():
        zipfile.ZipFile(source).extractall(scratch)
        source = Path(scratch)
    return next(path.parent for path in sorted(source.rglob("plans.json")))


@contextmanager
def single_precision() -> Iterator[None]:
    """Let nnU-Net sum logits in single precision: half precision decides where two classes score nearly the same."""
    half, weight = torch.half, predict_from_raw_data.compute_gaussian
    torch.half = torch.float32
    predict_from_raw_data.compute_gaussian = partial(weight, dtype=torch.float32)
    try:
        yield
    finally:
        torch.half, predict_from_raw_data.compute_gaussian = half, weight


def window_logits(predictor: nnUNetPredictor, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a random window and the mean of the networks' logits for it."""
    shape = (1, channels, *predictor.configuration_manager.patch_size)
    window = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    logits = []
    for parameters in predictor.list_of_parameters:
        predictor.network.load_state_dict(parameters)
        predictor.network.eval()
        with torch.inference_mode():
            logits.append(predictor.network(window))
    return window.numpy(), torch.stack(logits).mean(dim=0).numpy()


def main() -> None:
    """Predict the case of a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--folds", nargs="*")
    parser.add_argument("--no-mirroring", action="store_true")
    options = parser.parse_args()
    predictor = nnUNetPredictor(use_mirroring=not options.no_mirroring, device=torch.device("cpu"), allow_tqdm=False)
    with tempfile.TemporaryDirectory() as scratch:
        model = model_folder(options.model, scratch)
        folds = None if not options.folds else tuple(f if f == "all" else int(f) for f in options.folds)
        predictor.initialize_from_trained_model_folder(str(model), folds, "checkpoint_final.pth")
    files = sorted(str(path) for path in options.folder.glob("case_*"))
    ending = Path(files[0]).name.removeprefix("case_0000")
    started = time.perf_counter()
    reader = predictor.plans_manager.image_reader_writer_class()
    image, properties = reader.read_images(files)
    rounded = predictor.predict_single_npy_array(image, dict(properties))
    seconds = time.perf_counter() - started
    with single_precision():
        mask = predictor.predict_single_npy_array(image, dict(properties))
    reader.write_seg(mask, str(options.folder / f"case{ending}"), properties)
    window, logits = window_logits(predictor, len(image))
    if window.ndim == 4 and image.shape[1] > 1:  # slices of a volume
        window, logits = window[:, :, None], logits[:, :, None]
    np.savez(options.folder / "case.npz", input=window, logits=logits)
    facts = {"version": version("nnunetv2"), "seconds": seconds, "rounding": int((rounded != mask).sum())}
    (options.folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
