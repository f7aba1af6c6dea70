"""Commands work where the system lacks what Windows lacks: the module resource, process groups, colons in names."""

from __future__ import annotations

import shutil
import subprocess
import sys

WITHOUT = '''
import os, re, sys
from pathlib import PureWindowsPath
sys.modules["resource"] = None
for name in ("killpg", "setsid", "getpgid", "fork"):
    if hasattr(os, name):
        delattr(os, name)

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def refuse(event, arguments):
    """Refuse to make files and folders whose names Windows does not allow."""
    made = {"os.mkdir": 0, "os.rename": 1, "os.symlink": 1}.get(event)
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT:
        made = 0
    if made is not None and isinstance(arguments[made], (str, bytes)):
        name = os.path.basename(os.fsdecode(arguments[made]))
        ends = name not in (".", "..") and name.endswith((".", " "))
        if ends or PureWindowsPath(name).is_reserved() or re.search(r'[<>:"|?*\\\\\\x00-\\x1f]', name):
            raise OSError(22, f"Windows has no file named {name!r}")
sys.addaudithook(refuse)
'''

TRAIN = """
from cphloc.cli import main
assert main(["train", "demo.yaml"]) == 0
assert main(["evaluate", "latest", "--split", "val"]) == 0
assert main(["predict", "unet3d-hippocampus", "scan.nii.gz", *names, "--out", "out"]) == 0
"""

RECIPE = """
task: segmentation
dims: 2
data: {type: phantom, size: [32, 32], cases: {train: 2, val: 2, test: 2}, patch: [32, 32], workers: 0}
model:
  backbone: {type: conv_encoder, widths: [4, 8]}
  heads: {mask: {type: unet, classes: {1: mass}}}
train: {steps: 1, batch: 2}
"""


def test_training_evaluation_and_prediction_need_nothing_that_windows_lacks(tmp_path, monkeypatch, mlflow_store):
    import numpy as np

    from cphloc.data.io.write import write_mask
    from cphloc.structures.geometry import Geometry

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "demo.yaml").write_text(RECIPE)
    write_mask("scan.nii.gz", np.ones((12, 12, 12), np.uint8), Geometry.regular((12, 12, 12), (1.0, 1.0, 1.0)))
    names = ["aux.nii.gz", "12:30.nii.gz", "A.nii.gz", "a.nii.gz", "CON.X.nii.gz"]  # made elsewhere
    for name in names:
        shutil.copy("scan.nii.gz", name)
    code = f"names = {names}\n{WITHOUT}{TRAIN}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    made = {path.name for path in (tmp_path / "out").glob("*_mask*")}
    assert {"scan_mask.nii.gz", "_aux_mask.nii.gz", "12-30_mask.nii.gz", "_CON.X_mask.nii.gz"} < made
    assert len({name.lower() for name in made}) == 6
