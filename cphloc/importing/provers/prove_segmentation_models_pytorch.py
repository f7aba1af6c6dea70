"""Predict with segmentation-models-pytorch: ``python prove_segmentation_models_pytorch.py CHECKPOINT FOLDER OPTIONS``.

``FOLDER`` holds ``case_0000.png``; the mask, the logits of a random window and the time are written beside it. It runs
in an environment that has segmentation-models-pytorch and not cphloc.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp  # pyright: ignore[reportMissingImports]  # of its own environment
import torch
from PIL import Image
from torch.nn import functional

DIVISOR = 32
"""Pictures are padded to a multiple of it at their far ends, by their edge; smp itself takes no others."""


def network_of(checkpoint: Path) -> torch.nn.Module:
    """Build the network that ``config.json`` states, with the weights of the checkpoint."""
    config = json.loads((checkpoint.parent / "config.json").read_text(encoding="utf-8"))
    network = getattr(smp, config.pop("_model_class"))(**{**config, "encoder_weights": None, "activation": None})
    if checkpoint.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(checkpoint)
    else:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state.get("model", state))
    network.load_state_dict(state)
    return network.eval()


def mask_of(network: torch.nn.Module, picture: np.ndarray, options: argparse.Namespace) -> np.ndarray:
    """Predict a picture ``(H, W, C)`` of 8 bits."""
    channels = len(options.normalize) // 2
    mean, std = (torch.tensor(v)[:, None, None] for v in (options.normalize[:channels], options.normalize[channels:]))
    x = (torch.from_numpy(picture).permute(2, 0, 1).float() / 255 - mean) / std
    height, width = x.shape[1:]
    x = functional.pad(x[None], (0, -width % DIVISOR, 0, -height % DIVISOR), mode="replicate")
    with torch.inference_mode():
        logits = network(x)[0, :, :height, :width]
    if not options.regions:
        return logits.argmax(0).numpy().astype(np.uint8)
    numbers = torch.arange(1, len(logits) + 1)[:, None, None]
    return ((logits >= 0) * numbers).amax(0).numpy().astype(np.uint8)


def main() -> None:
    """Predict the case of a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--normalize", nargs="+", type=float)
    parser.add_argument("--regions", action="store_true")
    parser.add_argument("--exclusive", action="store_true")
    options = parser.parse_args()
    network = network_of(options.checkpoint)
    started = time.perf_counter()
    picture = np.asarray(Image.open(options.folder / "case_0000.png"))
    mask = mask_of(network, picture if picture.ndim == 3 else picture[..., None], options)
    seconds = time.perf_counter() - started
    Image.fromarray(mask).save(options.folder / "case.png")
    generator = torch.Generator().manual_seed(0)
    window = torch.randn(1, len(options.normalize) // 2, 64, 96, generator=generator)
    with torch.inference_mode():
        logits = network(window)
    np.savez(options.folder / "case.npz", input=window.numpy(), logits=logits.numpy())
    facts = {"version": version("segmentation-models-pytorch"), "seconds": seconds}
    (options.folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
