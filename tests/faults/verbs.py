"""The jobs that faults are put into: what they do, what must hold when one was cut off, and how they end."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.faulty_io import Point

RECIPE = """\
task: segmentation
dims: 3
description: Small
about: {intended_use: tests, limits: [tests only], changelog: first}
data:
  type: phantom
  size: [8, 16, 16]
  patch: [8, 16, 16]
  objects: [1, 2]
  diameter_mm: [5, 7]
  distractors: [0, 0]
  positive: 1.0
  cases: {train: 2, val: 2, test: 2}
  workers: 0
model:
  backbone: {type: conv_encoder, widths: [2, 4]}
  heads: {mask: {type: unet, classes: {1: mass}, loss: {type: dice_ce}}}
train: {steps: 4, batch: 1, optimizer: {type: AdamW, lr: 1e-2}, validate_every: 2, precision: '32'}
"""
STUDY = """\
claim: A small step is enough
expected: a higher Dice
base: recipe.yaml
arms: {small: {train.optimizer.lr: 1e-2}}
seeds: 1
metrics: [dice]
"""
VERSION = ("small", "1.0.0")


@dataclass(frozen=True)
class Verb:
    """A job.

    Args:
        name: of the command.
        base: template of the working folder to start from.
        do: does it.
        again: what a user does after it was cut off.
        facts: what is there in the end, the same as after an undisturbed job.
        check: lists what is wrong after it was cut off, before it is done again; given how the child ended.
        file: a file that must have its earlier or its later content after every fault.
        own_cache: whether the cache is in the working folder, so that its files count.
        only: pattern of the files to put faults into; those left out are written by another job in the same way.
        until: file after which there are no more faults, for the same reason.
    """

    name: str
    base: str | None
    do: Callable[[], Any]
    again: Callable[[], Any]
    facts: Callable[[], Any]
    check: Callable[[str, str], list[str]]
    file: str = ""
    own_cache: bool = False
    only: str = ""
    until: str = ""

    def points(self, every: list[Point]) -> list[Point]:
        """The operations to put faults into, of all that the job does."""
        ends = [i for i, point in enumerate(every) if point.operation == "rename" and point.file == self.until]
        return [point for point in every[: ends[0] + 1 if ends else None] if re.search(self.only, point.file)]


def torn_files(folder: Path) -> list[str]:
    """Files under their final names that cannot be read as what they are."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        hidden = any(part.startswith(".cphloc-") for part in path.relative_to(folder).parts)
        if not hidden and not _reads(path):
            found.append(f"{path.relative_to(folder)} is torn")
    return found


def leftovers(folder: Path) -> list[str]:
    """Temporary files and folders that are still there."""
    return [f"{path.relative_to(folder)} is left" for path in folder.rglob(".cphloc-*")]


def _reads(path: Path) -> bool:
    import numpy as np
    import yaml
    from PIL import Image
    from safetensors import safe_open

    try:
        match path.suffix:
            case ".json":
                json.loads(path.read_text())
            case ".yaml" | ".lock" if path.stat().st_size and not path.name.startswith("."):
                yaml.safe_load(path.read_text())
            case ".safetensors":
                with safe_open(path, "pt") as file:
                    [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
            case ".npz" | ".npy":
                with np.load(path) if path.suffix == ".npz" else path.open("rb") as file:
                    [file[name] for name in file.files] if path.suffix == ".npz" else np.load(file)
            case ".png":
                with Image.open(path) as picture:
                    picture.load()
            case ".gz":
                import gzip

                gzip.decompress(path.read_bytes())
            case ".csv" | ".md" | ".svg":
                return path.read_bytes().endswith(b"\n") or path.suffix == ".svg"
    except Exception:
        return False
    return True


def tensors(path: Path) -> str:
    """SHA-256 of all tensors of a file, without its header."""
    from cphloc.training import checkpoint

    found = checkpoint.load(path)[0]
    parts = [name.encode() + value.contiguous().numpy().tobytes() for name, value in sorted(found.items())]
    return hashlib.sha256(b"".join(parts)).hexdigest()


# --- training


def train() -> str:
    from cphloc.training.train import train

    return str(train("recipe.yaml").folder)


def resume() -> str:
    """Resume the run, or train where there is none yet."""
    from cphloc.tracking.run_folders import run_names
    from cphloc.training.train import train as start

    return str(start(resume="latest").folder) if run_names() else train()


def run_facts() -> dict[str, Any]:
    from cphloc.tracking import record
    from cphloc.tracking.run import Run

    run = Run.open("latest")
    return {
        "finished": run.finished,
        "metrics": {name: repr(value) for name, value in run.metrics.items() if "seconds" not in name},
        **{name: tensors(run.folder / f"{name}.safetensors") for name in ("best", "last")},
        "cases": (run.folder / "cases.csv").read_text(),
        "pictures": sorted(path.name for path in (run.folder / "pictures").iterdir()),
        "files": sorted(path.name for path in run.folder.iterdir() if path.suffix != ".lock"),
        "logged": sorted(name for name in record.curves(run.folder) if "system" not in name),
        "artifacts": sorted(record.bundled(record.events(run.folder)).artifacts),
        "params": len(record.bundled(record.events(run.folder)).params),
    }


def check_run(how: str, text: str) -> list[str]:
    from cphloc.tracking.run import Run
    from cphloc.tracking.run_folders import run_names

    if how == "returned":
        return []  # the facts are compared
    if not run_names():
        return []
    return ["a run that was cut off counts as finished"] if Run.open("latest").finished and how == "error" else []


# --- evaluation


def evaluate() -> str:
    from cphloc.evaluation.evaluate import evaluate

    evaluate("latest")
    return "evaluated"


def evaluation_facts() -> dict[str, Any]:
    from cphloc.publishing.checks import evaluation_problems
    from cphloc.tracking import record
    from cphloc.tracking.run import Run

    folder = Run.open("latest").folder
    found = json.loads((folder / "evaluation-test.json").read_text())
    events = record.bundled(record.events(folder))
    return {
        "json": {key: value for key, value in found.items() if key != "speed"},
        "csv": (folder / "evaluation-test.csv").read_text(),
        "problems": evaluation_problems(found, "test", folder / "evaluation-test.csv"),
        "baseline": (folder / "baseline.npz").is_file(),
        "pictures": sorted(path.name for path in (folder / "pictures").iterdir()),
        "finished": Run.open("latest").finished,
        "logged": sorted({name for name, *_ in events.metrics if name.startswith("test/")}),
        "artifacts": sorted(events.artifacts),
    }


def check_evaluation(how: str, text: str) -> list[str]:
    from cphloc.publishing.checks import evaluation_problems
    from cphloc.tracking.run import Run

    folder = Run.open("latest").folder
    path, rows = folder / "evaluation-test.json", folder / "evaluation-test.csv"
    found = json.loads(path.read_text()) if path.is_file() else {}
    if evaluation_problems(found, "test", rows):
        return []  # refused, as it should be
    return [] if (folder / "baseline.npz").is_file() else ["an evaluation without its baseline counts as finished"]


# --- publishing


def publish() -> str:
    from cphloc.publishing.publish import publish

    return str(publish("latest", *VERSION, to="zoo", below_baseline="a test"))


def publish_again() -> str:
    """Publish; where a kill came after the last step that the index shows, do what the message names."""
    from cphloc.errors import InputError

    try:
        return publish()
    except InputError as error:
        if "It was published from this run" not in str(error):
            raise
        return index()


def entry_facts() -> dict[str, Any]:
    from cphloc.zoo.index import read_index

    folder = Path("zoo", *VERSION)
    return {
        "problems": _entry_problems(folder),
        "files": {p.relative_to(folder).as_posix(): _sha(p) for p in sorted(folder.rglob("*")) if p.is_file()},
        "index": [(row.name, row.version, row.sha256) for row in read_index(Path("zoo", "zoo.json"))],
    }


def check_entry(how: str, text: str) -> list[str]:
    folder = Path("zoo", *VERSION)
    there = folder.exists()
    wrong = _entry_problems(folder) if there else []
    if how == "returned" and not there:
        wrong.append("published is said, but it is not")
    if how == "error" and there:
        wrong.append(f"it is published, but the error says: {text}")
    return wrong


def _entry_problems(folder: Path) -> list[str]:
    from cphloc.zoo.entry import Entry, File

    entry = Entry.read(folder / "entry.yaml")
    pinned = {**entry.files, "model.safetensors": entry.weights}
    wrong = [name for name, stated in pinned.items() if File.of(folder / name).sha256 != stated.sha256]
    unknown = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - set(pinned)
    return [*wrong, *(unknown - {"entry.yaml"})]


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def index() -> str:
    from cphloc.zoo.index import index_zoo

    return str(index_zoo("zoo"))


def index_facts() -> Any:
    return Path("zoo", "zoo.json").read_text()


def lock() -> str:
    from cphloc.zoo.lock import lock

    lock(["small"], zoos=[str(Path("zoo").absolute())])
    return "locked"


def lock_facts() -> Any:
    return Path("cphloc.lock").read_text()


# --- prediction


def predict(threshold: float = 0.4) -> str:
    from cphloc.inference.batch import cases_of, predict_cases
    from cphloc.inference.batch_report import write_report
    from cphloc.zoo.load import load

    model = load(str(Path("zoo", *VERSION).absolute()), device="cpu")
    images = sorted(Path(os.environ["CPHLOC_CACHE"]).glob("data/phantom/*/phantom_test_*/image.mha"))
    Path("images").mkdir(exist_ok=True)
    for number, image in enumerate(images):
        link = Path("images", f"case{number}.mha")
        if not link.is_symlink():
            link.symlink_to(image)
    rows = list(predict_cases(model, cases_of(["images"]), "out", threshold=threshold))
    write_report("out/report.csv", rows)
    failed = [row["error"] for row in rows if row["status"] == "failed"]
    if failed:
        from cphloc.errors import CphlocError

        raise CphlocError("; ".join(failed))
    return f"{len(rows)} done"


def prediction_facts() -> Any:
    found = {p.name: _reads(p) for p in sorted(Path("out").iterdir()) if p.is_file()}
    results = {p.name: json.loads(p.read_text())["measurements"] for p in sorted(Path("out").glob("*_result.json"))}
    masks = {p.name: _voxels(p) for p in sorted(Path("out").glob("*_mask.nii.gz"))}
    records = {p.name: sorted(json.loads(p.read_text())["sha256"]) for p in sorted(Path("out/.cphloc").glob("*.json"))}
    return {"files": found, "results": results, "masks": masks, "records": records}


def _voxels(path: Path) -> str:
    from cphloc.data.io.read import read_volume

    return hashlib.sha256(read_volume(path).array.tobytes()).hexdigest()


def check_prediction(how: str, text: str) -> list[str]:
    """A case that counts as done has all files, each as it is recorded."""
    wrong = []
    for path in Path("out/.cphloc").glob("[!.]*.json"):
        known = json.loads(path.read_text())
        files = known["sha256"] if known["row"] else {}
        wrong += [f"{file} is not as recorded" for file, digest in files.items() if _sha(Path(file)) != digest]
    return wrong


# --- data


def prepare() -> str:
    from cphloc.data.pipeline.pipeline import open_dataset
    from cphloc.recipe.recipe import load
    from cphloc.training.preparation import prepare as prepare_recipe

    recipe = load("recipe.yaml", {"data.cases": {"train": 1, "val": 1, "test": 1}})
    open_dataset(recipe.data, recipe.dims).cases("test")
    prepare_recipe(recipe)
    return "prepared"


def prepared_facts() -> Any:
    cache = Path("cache")
    arrays = sorted(_array(p) for p in cache.rglob("*.npy"))
    images = sorted(_voxels(p) for p in cache.rglob("image.mha"))
    return {"arrays": arrays, "images": images, "entries": len(list(cache.glob("prepared/*")))}


def _array(path: Path) -> str:
    return path.name + hashlib.sha256(path.read_bytes()).hexdigest()


def nothing_to_check(how: str, text: str) -> list[str]:
    return []


# --- studies


def study() -> str:
    from cphloc.studies.run import study

    results, _ = study("study.yaml", out="study")
    return str(results.facts()["verdict"])


def study_facts() -> Any:
    found = json.loads(Path("study/results.json").read_text())
    runs = [path for path in Path("study/runs").glob("*/*/*") if path.is_dir()]
    jobs = [json.loads(p.read_text())["values"] for p in sorted(Path("study/results").glob("*.json"))]
    from cphloc.tracking.run import Run

    return {
        "rows": found["rows"],
        "runs": len(runs),
        "finished": [Run.open(run).finished for run in runs],
        "jobs": jobs,
        "files": sorted(p.name for p in Path("study").iterdir() if p.suffix != ".lock"),
    }


VERBS = [
    Verb("lock", "published", lock, lock, lock_facts, nothing_to_check, file="cphloc.lock"),
    Verb("zoo index", "published", index, index, index_facts, nothing_to_check, file="zoo/zoo.json"),
    Verb("data", "recipe", prepare, prepare, prepared_facts, nothing_to_check, own_cache=True),
    Verb("predict", "predicted", predict, predict, prediction_facts, check_prediction),
    Verb("evaluate", "trained", evaluate, evaluate, evaluation_facts, check_evaluation),
    Verb(
        "evaluate again",
        "evaluated",
        evaluate,
        evaluate,
        evaluation_facts,
        check_evaluation,
        only="evaluation-test|baseline",
    ),
    Verb("publish", "evaluated", publish, publish_again, entry_facts, check_entry),
    Verb("train --resume", "interrupted", resume, resume, run_facts, check_run),
    Verb("train", "recipe", train, resume, run_facts, check_run, until="runs/recipe/RUN/last.safetensors"),
    Verb("study", "study", study, study, study_facts, nothing_to_check, only="^study(?!/runs/)"),
]
