"""Predict with a MONAI bundle: ``python prove_monai.py BUNDLE FOLDER``.

``FOLDER`` holds ``case_0000.nii.gz`` (or ``.png``) and further channels; the mask, the logits of one window and the
time are written beside them, or the boxes of a detector. It runs in an environment that has MONAI, and takes the steps
from the configuration of the bundle.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle.config_parser import ConfigParser
from monai.data.meta_tensor import MetaTensor

CONFIGURATIONS = ("inference.json", "inference.yaml", "inference.yml")
WEIGHTS = ("model.pt", "model.pth")


def configuration(bundle: Path) -> Any:
    """Read the configuration of a bundle, without the transforms that write files."""
    parser = ConfigParser()
    parser.read_config([bundle / "configs" / n for n in CONFIGURATIONS if (bundle / "configs" / n).is_file()][:1])
    parser.read_meta(bundle / "configs" / "metadata.json")
    parser["bundle_root"] = str(bundle)
    for name in ("preprocessing", "postprocessing"):
        for number, step in enumerate(parser.get(f"{name}::transforms", ())):
            if str(step.get("_target_")).endswith("SaveImaged"):
                parser[f"{name}::transforms::{number}::_disabled_"] = True
    return parser


def network_of(parser: Any, bundle: Path) -> torch.nn.Module:
    """Build the network with the weights of the bundle."""
    network = parser.get_parsed_content("network_def")
    if not isinstance(network, torch.jit.ScriptModule):
        path = next(bundle / "models" / name for name in WEIGHTS if (bundle / "models" / name).is_file())
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state.get("model", state))
    return network.eval()


def write_mask(mask: Any, path: Path) -> None:
    """Write a mask ``(1, x, y, z)``, or one for each of several regions, as NIfTI; pictures as PNG."""
    regions = np.asarray(mask)
    numbers = np.arange(1, len(regions) + 1).reshape([-1] + [1] * (regions.ndim - 1))
    values = regions[0] if len(regions) == 1 else ((regions > 0) * numbers).max(axis=0)
    values = values.astype(np.uint8)
    if path.suffix == ".png":
        from PIL import Image

        Image.fromarray(values.T).save(path)
        return
    import nibabel

    affine = mask.affine if isinstance(mask, MetaTensor) else np.eye(4)
    nibabel.Nifti1Image(values, np.asarray(affine, float)).to_filename(path)


def boxes_of(parser: Any, network: torch.nn.Module, image: MetaTensor) -> tuple[np.ndarray, ...]:
    """Detect objects: boxes as x, y, z, x, y, z from the edge of the file's first voxel, scores, and labels from 1.

    MONAI counts voxels from the centre of the first one and clips boxes half a voxel too far; here, at the edge.
    """
    lists = {key: value for key, value in parser.get().items() if isinstance(value, list)}
    for place, line in (
        (f"{key}::{number}", line) for key, value in lists.items() for number, line in enumerate(value)
    ):
        if isinstance(line, str) and line.startswith("$@detector."):
            parser.get_parsed_content(place)
    (found,) = parser.get_parsed_content("inferer")([image], network)
    (score,) = [value for key, value in found.items() if key.endswith("_scores")]
    (corners,) = [np.asarray(value, float) for value in found.values() if value.dim() == 2]
    (labels,) = [value for key, value in found.items() if value.dim() == 1 and not key.endswith("_scores")]
    dims = corners.shape[1] // 2
    edge = np.tile(image.shape[1:], 2) - 0.5
    corners = corners.clip(-0.5, edge)
    back = np.linalg.inv(np.asarray(image.meta["original_affine"], float)) @ np.asarray(image.affine, float)
    ends = [corners[:, :dims] @ back[:dims, :dims].T + back[:dims, -1] for corners in (corners, corners[:, dims:])]
    boxes = np.concatenate([np.minimum(*ends), np.maximum(*ends)], axis=1) + 0.5
    return boxes, np.asarray(score), np.asarray(labels) + 1


def main() -> None:
    """Predict the case of a folder."""
    bundle, folder = Path(sys.argv[1]).absolute(), Path(sys.argv[2])
    sys.path.insert(0, str(bundle))
    parser = configuration(bundle)
    network = network_of(parser, bundle)
    files = sorted(folder.glob("case_*"))
    ending = files[0].name.removeprefix("case_0000")
    started = time.perf_counter()
    data = parser.get_parsed_content("preprocessing")(
        {"image": [str(f) for f in files] if len(files) > 1 else str(files[0])}
    )
    with torch.no_grad():
        if parser.get("detector") is not None:
            boxes, scores, labels = boxes_of(parser, network, data["image"])
            np.savez(folder / "case.npz", boxes=boxes, scores=scores, labels=labels)
            write_facts(folder, time.perf_counter() - started)
            return
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
        mask = parser.get_parsed_content("postprocessing")(data)["pred"]
        seconds = time.perf_counter() - started
        stated = parser.get("_meta_::network_data_format::inputs::image") or {}
        shape = [n if isinstance(n, int) else 64 for n in stated.get("spatial_shape", [64] * (data["image"].ndim - 1))]
        generator = torch.Generator().manual_seed(0)
        window = torch.randn(1, len(data["image"]), *shape, generator=generator)
        logits = network(window)
    write_mask(mask, folder / f"case{ending}")
    logits = logits[0] if isinstance(logits, list | tuple) else logits
    np.savez(folder / "case.npz", input=window.numpy(), logits=logits.numpy())
    write_facts(folder, seconds)


def write_facts(folder: Path, seconds: float) -> None:
    """Write the version of MONAI and the time."""
    facts = {"version": version("monai"), "seconds": seconds}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
