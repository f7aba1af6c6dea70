"""Train small models of nnU-Net, import them, and compare with ``nnUNetv2_predict``: ``python -m tests.import_proof``.

It can be stopped and goes on. Writes tests/benchmarks/IMPORT.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

import cphloc
from cphloc.cli import main as console
from cphloc.importing.environment import environment
from cphloc.zoo.entry import Entry

from .page import write
from .train_nnunet import DATASET, MODELS

ROOT = Path(__file__).parents[2]
CASES = ROOT / "cphloc" / "data" / "sample" / "hippocampus"
TERMS = [
    "--licence",
    "CC-BY-SA-4.0",
    "--citation",
    "Simpson 2019, arXiv:1902.09063",
    "--origin",
    "trained by this test",
]

ROWS = {
    "2d": ("2d", ("0",)),
    "3d_fullres": ("3d_fullres", ("0",)),
    "3d_fullres, two folds": ("3d_fullres", ("0", "1")),
    "ResEncM": ("resenc", ("0",)),
    "regions": ("regions", ("0",)),
}
"""Row of the table -> the model, and its folds."""


@dataclass(frozen=True)
class Work:
    """Where everything lies.

    Args:
        folder: of the trainings, entries and predictions.
        python: a Python that has nnU-Net.
    """

    folder: Path
    python: Path

    def run(self, *command: str | Path, **variables: str) -> None:
        """Run a command in nnU-Net's environment, on one thread."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        kept |= {"OMP_NUM_THREADS": "1", "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}", **variables}
        subprocess.run([str(part) for part in command], check=True, env=kept, stdout=subprocess.DEVNULL)

    def trained(self, model: str) -> Path:
        """Train a model if it is not trained yet; returns its folder of results."""
        script = Path(__file__).with_name("train_nnunet.py")
        folds = MODELS[model].get("folds", (0,))
        results = self.folder / model / "results"
        if len(list(results.rglob("checkpoint_final.pth"))) < len(folds):
            self.run(self.python, "-W", "ignore", script, CASES, self.folder / model, model)
        return next(path.parent for path in results.rglob("plans.json"))


def unseen_cases() -> list[str]:
    """Cases of the test split, which no model has seen."""
    with (CASES / "cases.csv").open(encoding="utf-8") as stream:
        return [row["case"] for row in csv.DictReader(stream) if row["split"] == "test"]


def imported(work: Work, row: str, model: str, folds: tuple[str, ...]) -> Entry:
    """Import a model through the console, with a proof."""
    name = f"nnunet-{model.replace('_', '-')}-{len(folds)}"
    zoo = work.folder / "zoo"
    shutil.rmtree(zoo / name, ignore_errors=True)
    source = work.trained(model)
    command = ["import", "nnunet", str(source), "--name", name, "--version", "1.0.0", *TERMS, "--to", str(zoo)]
    if console([*command, "--folds", *folds, "--prove", "--python", str(work.python)]):
        raise SystemExit(f"{row}: was not imported")
    entry = cphloc.load(f"{zoo / name / '1.0.0'}/").entry
    assert isinstance(entry, Entry)
    return entry


def theirs(work: Work, model: str, folds: tuple[str, ...]) -> Path:
    """Predict the test cases with ``nnUNetv2_predict``; returns the folder."""
    inputs, out = work.folder / "inputs", work.folder / "predicted" / f"{model}-{len(folds)}"
    inputs.mkdir(exist_ok=True)
    for case in unseen_cases():
        shutil.copyfile(CASES / "images" / f"{case}.nii.gz", inputs / f"{case}_0000.nii.gz")
    kind = MODELS[model].get("labels", "labels")
    plans, trainer = MODELS[model].get("plans", "nnUNetPlans"), "nnUNetTrainerVanillaAdam"
    options = ["-d", str(DATASET[kind]), "-c", MODELS[model]["configuration"], "-p", plans, "-tr", trainer]
    folders = {
        f"nnUNet_{name}": str((work.folder / model / name).absolute()) for name in ("raw", "preprocessed", "results")
    }
    predict = [work.python.with_name("nnUNetv2_predict"), "-i", inputs, "-o", out, *options]
    work.run(*predict, "-f", *folds, "-device", "cpu", "-npp", "1", "-nps", "1", "--disable_progress_bar", **folders)
    return out


def ours(work: Work, entry: Entry) -> Path:
    """Predict the test cases with the console; returns the folder."""
    out = work.folder / "ours" / str(entry.name)
    shutil.rmtree(out, ignore_errors=True)
    inputs = [str(CASES / "images" / f"{case}.nii.gz") for case in unseen_cases()]
    folder = f"{work.folder.absolute() / 'zoo' / entry.name / str(entry.version)}/"
    command = [Path(sys.executable), "-W", "ignore", "-m", "cphloc", "predict", folder, *inputs, "--out", out]
    work.run(*command, PYTHONPATH=str(ROOT))
    return out


def compared(first: Path, second: Path) -> Iterator[dict[str, Any]]:
    """Compare the masks of two folders, and where they lie."""
    for case in unseen_cases():
        a = sitk.ReadImage(str(next(first.rglob(f"{case}*.nii.gz"))))
        b = sitk.ReadImage(str(next(second.rglob(f"{case}*.nii.gz"))))
        places = [[*one.GetOrigin(), *one.GetSpacing(), *one.GetDirection()] for one in (a, b)]
        x, y = sitk.GetArrayFromImage(a), sitk.GetArrayFromImage(b)
        yield {
            "voxels": int(x.size),
            "differing": int((x != y).sum()) if x.shape == y.shape else int(x.size),
            "classes": sorted(np.unique(x).tolist()),
            "objects": int((x > 0).sum()),
            "moved": float(np.abs(np.subtract(*places)).max()),
        }


def main() -> None:
    """Make every row that is not finished, and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=Path(".import-proof"))
    parser.add_argument("--python", type=Path, help="a Python that has nnU-Net; default: an environment made with uv")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    work = Work(options.work.absolute(), options.python or environment("nnunetv2"))
    for row in options.rows:
        facts = work.folder / "rows" / f"{row.replace(' ', '-')}.json"
        if not facts.is_file() or not json.loads(facts.read_text(encoding="utf-8"))["cases"]:
            model, folds = ROWS[row]
            entry = imported(work, row, model, folds)
            _store(facts, row, entry, [])
            _store(facts, row, entry, list(compared(theirs(work, model, folds), ours(work, entry))))
        write(work.folder / "rows", list(ROWS), ROOT / "tests" / "benchmarks" / "IMPORT.md")


def _store(path: Path, row: str, entry: Entry, cases: list[dict[str, Any]]) -> None:
    """Store the facts of a row; without cases before both commands have predicted them."""
    assert entry.imported is not None
    assert entry.imported.proof is not None
    stated = {
        "row": row,
        "proof": entry.imported.proof.model_dump(),
        "cases": cases,
        "parameters": entry.size.parameters,
        "architecture": entry.imported.architecture,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(stated), encoding="utf-8")


if __name__ == "__main__":
    main()
