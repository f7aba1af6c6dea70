"""Detect with torchvision: ``python prove_torchvision.py CHECKPOINT FOLDER NAME SHORTEST LONGEST EPS``.

``FOLDER`` holds ``case_0000.png``; boxes, scores and labels and the time are written beside it. It runs in an
environment that has torchvision and not cphloc.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.models import get_model
from torchvision.ops.misc import FrozenBatchNorm2d


def network_of(checkpoint: Path, name: str, shortest: int, longest: int, eps: float) -> torch.nn.Module:
    """Build a detector with the weights of a checkpoint."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state.get("model", state))
    scores = state.get(
        "roi_heads.box_predictor.cls_score.weight", state.get("head.classification_head.cls_logits.weight")
    )
    labels = len(scores) // (9 if name.startswith("retinanet") else 1)
    made = {"num_classes": labels, "min_size": shortest, "max_size": longest}
    network = get_model(name, weights=None, weights_backbone=None, **made)
    network.load_state_dict(state, strict=False)
    missing = {key.rpartition(".")[2] for key in network.state_dict().keys() - state.keys()}
    if missing - {"num_batches_tracked"}:
        sys.exit(f"the checkpoint lacks {', '.join(sorted(missing))}")
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d | FrozenBatchNorm2d):
            layer.eps = eps
    return network.eval()


def main() -> None:
    """Detect in the case of a folder."""
    checkpoint, folder, name, shortest, longest, eps = sys.argv[1:]
    network = network_of(Path(checkpoint), name, int(shortest), int(longest), float(eps))
    started = time.perf_counter()
    picture = np.asarray(Image.open(Path(folder) / "case_0000.png").convert("RGB"))
    with torch.inference_mode():
        (found,) = network([torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255])
    seconds = time.perf_counter() - started
    np.savez(Path(folder) / "case.npz", **{key: value.numpy() for key, value in found.items()})
    facts = {"version": version("torchvision"), "seconds": seconds}
    (Path(folder) / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
