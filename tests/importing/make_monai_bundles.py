"""Make the small MONAI bundles in ``tests/importing/monai`` and MONAI's own predictions with them.

It runs in an environment that has MONAI: ``python tests/importing/make_monai_bundles.py``. Weights are random; each
bundle takes another road through MONAI's transforms and windows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from make_references import image
from monai.networks import nets

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "cphloc" / "importing" / "provers"))

CT = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -30, "a_max": 110, "b_min": -1.0, "b_max": 1.0}
NORMAL = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True}
SPACED = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.3, 1.0, 2.0], "mode": "bilinear"}
ORIENTED = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
LEVELS = {"kernel_size": [[3, 3, 1], 3, 3], "strides": [1, [2, 2, 1], 2], "upsample_kernel_size": [[2, 2, 1], 2]}

BUNDLES: dict[str, dict[str, Any]] = {
    "dynunet": {
        "network": {"_target_": "DynUNet", **LEVELS, "filters": [3, 4, 6], "out_channels": 3},
        "before": [ORIENTED, SPACED, {**CT, "clip": True}],
        "windows": {"roi_size": [16, 16, 8], "overlap": 0.5, "mode": "gaussian"},
    },
    "unet": {
        "network": {"_target_": "UNet", "channels": [3, 4], "strides": [2], "num_res_units": 1, "out_channels": 2},
        "before": [NORMAL, {**SPACED, "pixdim": [0.7, 0.8, 2.0]}],
        "windows": {"roi_size": [24, 24, 16]},
        "scores": "sigmoid",
    },
}


def inference(bundle: dict[str, Any]) -> dict[str, Any]:
    """Content of ``inference.json``, as bundles of the model zoo state it."""
    sigmoid = bundle.get("scores") == "sigmoid"
    load = [{"_target_": "LoadImaged", "keys": "image"}, {"_target_": "EnsureChannelFirstd", "keys": "image"}]
    decide = {"threshold": 0.5} if sigmoid else {"argmax": True}
    invert = {"transform": "@preprocessing", "orig_keys": "image", "nearest_interp": False, "to_tensor": True}
    after = [
        {"_target_": "Activationsd", "keys": "pred", "sigmoid" if sigmoid else "softmax": True},
        {"_target_": "Invertd", "keys": "pred", **invert},
        {"_target_": "AsDiscreted", "keys": "pred", **decide},
        {"_target_": "SaveImaged", "keys": "pred", "output_dir": "$@bundle_root + '/eval'"},
    ]
    return {
        "bundle_root": ".",
        "network_def": {"spatial_dims": 3, "in_channels": 1, **bundle["network"]},
        "preprocessing": {"_target_": "Compose", "transforms": [*load, *bundle["before"]]},
        "inferer": {"_target_": "SlidingWindowInferer", "sw_batch_size": 2, **bundle["windows"]},
        "postprocessing": {"_target_": "Compose", "transforms": after},
    }


def metadata(bundle: dict[str, Any]) -> dict[str, Any]:
    """Content of ``metadata.json``."""
    names = ["whole", "core"] if bundle.get("scores") == "sigmoid" else ["background", "front", "back"]
    side = {"spatial_shape": bundle["windows"]["roi_size"], "num_channels": 1}
    inputs = {"image": {**side, "channel_def": {"0": "MR"}}}
    outputs = {"pred": {**side, "num_channels": len(names), "channel_def": dict(enumerate(names))}}
    return {"version": "1.0.0", "network_data_format": {"inputs": inputs, "outputs": outputs}}


def weights(bundle: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Random weights with which every class occurs."""
    arguments = dict(bundle["network"])
    network = getattr(nets, arguments.pop("_target_"))(spatial_dims=3, in_channels=1, **arguments).eval()
    window = torch.randn(1, 1, *bundle["windows"]["roi_size"], generator=torch.Generator().manual_seed(0))
    for seed in range(1000):
        torch.manual_seed(seed)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, 0.0, 0.5)
        with torch.no_grad():
            logits = network(window)[0]
        shares = [(logits.argmax(0) == c).float().mean() for c in range(3)]
        if len(logits) == 2:
            shares = [share for region in logits for on in [(region > 0).float().mean()] for share in (on, 1 - on)]
        if min(shares) > 0.2:
            return network.state_dict()
    msg = "no weights found"
    raise RuntimeError(msg)


def main() -> None:
    """Make every bundle and its reference."""
    import prove_monai

    for name, bundle in BUNDLES.items():
        folder = HERE / "monai" / name
        for part in ("configs", "models"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for file, content in (("inference", inference(bundle)), ("metadata", metadata(bundle))):
            (folder / "configs" / f"{file}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        torch.save(weights(bundle), folder / "models" / "model.pt")
        sitk.WriteImage(image(), str(folder / "case_0000.nii.gz"), True)
        sys.argv = ["prove_monai.py", str(folder), str(folder)]
        prove_monai.main()
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "case.nii.gz")))
        print(name, (folder / "facts.json").read_text(), np.bincount(mask.ravel()))


if __name__ == "__main__":
    main()
