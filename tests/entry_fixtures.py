"""Entries that need no training, complete with made-up numbers."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cphloc.config import yamlio

WEIGHTS = bytes(range(256)) * 400
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a4944415478da63600000000200015e"
    "f32a370000000049454e44ae426082"
)


def metric(value: float, n: int = 8) -> dict[str, Any]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": n, "n_undefined": 0}


def measured_interval(values: tuple[float, ...], cases: list[str]) -> dict[str, Any]:
    """The metric of cases of one patient each."""
    from cphloc.metrics.bootstrap import interval

    return interval(values, cases)._asdict()


def pinned(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def facts(name: str, version: str) -> dict[str, Any]:
    """What a valid ``entry.yaml`` says."""
    return {
        "name": name,
        "version": version,
        "summary": f"Finds things, called {name}",
        "task": "segmentation",
        "dims": 3,
        "modality": ["CT"],
        "classes": {1: "tumour"},
        "channels": ["ct"],
        "spacing_mm": [3.0, 2.0, 2.0],
        "intensity": {"type": "zscore"},
        "evaluation": {
            "split": "test",
            "metrics": {"dice": metric(0.8), "hd95_mm": metric(7.5)},
            "per_class": {"tumour": {"dice": metric(0.8)}},
            "cases": [f"case-{i}" for i in range(8)],
        },
        "baseline": {"name": "mean shape", "metrics": {"dice": metric(0.6)}},
        "data": {
            "name": "sts_petct",
            "licence": "CC BY 3.0",
            "citation": "Vallieres et al. 2015",
            "url": "https://doi.org/10.7937/K9/TCIA.2015.7GO2GSKS",
            "fingerprint": "f" * 64,
            "splits": {"train": 24, "val": 7, "test": 8},
        },
        "size": {"parameters": 1_400_000, "peak_ram_mb": 900.0},
        "speed": {"ms_per_case": 1500.0, "device": "2 cores"},
        "weights": {"file": "model.safetensors", "urls": [], "precision": "float16", **pinned(WEIGHTS)},
        "files": {"recipe.yaml": pinned(b"task: segmentation\n")},
        "origin": {
            "run": "20260101-000000-aaaa",
            "git_commit": "0" * 40,
            "seed": 0,
            "packages": {"cphloc": "0.1.0", "torch": "2.6.0"},
            "mlflow_run": None,
            "published": "2026-01-01",
        },
        "intended_use": "Research on volumetry; not for diagnosis.",
        "limits": ["Never tested on children."],
        "changelog": "First version.",
        "because": None,
        "requires_cphloc": ">=0.1",
    }


@pytest.fixture
def entry_facts() -> Callable[[str, str], dict[str, Any]]:
    return facts


@pytest.fixture
def put_entry() -> Callable[..., Path]:
    """Writes an entry's folder; keywords replace facts of ``entry.yaml``."""

    def put(zoo: Path, name: str, version: str, **changes: Any) -> Path:
        folder = zoo / name / version
        folder.mkdir(parents=True)
        (folder / "entry.yaml").write_text(yamlio.dump({**facts(name, version), **changes}))
        (folder / "recipe.yaml").write_bytes(b"task: segmentation\n")
        (folder / "model.safetensors").write_bytes(WEIGHTS)
        return folder

    return put


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the zoos, the cache or the lock file of whoever runs it."""
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CPHLOC_ZOO", raising=False)
    monkeypatch.delenv("CPHLOC_OFFLINE", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@dataclass
class Trained:
    """A run folder as training and evaluation leave it, of a model with random weights on synthetic scans."""

    folder: Path
    recipe: Any

    def json(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name).read_text())

    def write(self, name: str, value: Any) -> None:
        (self.folder / name).write_text(json.dumps(value))

    def edit(self, name: str, *path: str, value: Any = ...) -> None:
        """Replace the value at ``path`` of a JSON file, or delete it where none is given."""
        facts = inner = self.json(name)
        for key in path[:-1]:
            inner = inner[key]
        if value is ...:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        self.write(name, facts)

    def say(self, about: dict[str, Any]) -> None:
        """Replace the texts in the run's recipe."""
        recipe = self.folder / "recipe.yaml"
        recipe.write_text(yamlio.dump(yamlio.load(recipe).plain | {"about": about}))


ABOUT = {
    "intended_use": "Tests of the zoo; nothing else.",
    "limits": ["Knows phantoms alone."],
    "changelog": "First version.",
}


def tiny_recipe(dims: int) -> dict[str, Any]:
    size = [16, 16] if dims == 2 else [8, 16, 16]
    return {
        "name": "tiny",
        "description": "Finds masses in phantoms",
        "about": ABOUT,
        "task": "segmentation",
        "dims": dims,
        "data": {
            "type": "phantom",
            "size": size,
            "cases": {"train": 3, "val": 1, "test": 3},
            "objects": [1, 1],
            "diameter_mm": [4.0, 6.0],
            "distractors": [0, 0],
            "patch": size,
        },
        "model": {
            "backbone": {"type": "conv_encoder", "widths": [4, 8]},
            "heads": {"mask": {"type": "unet", "classes": {1: "mass"}}},
        },
    }


def trained(runs: Path, dims: int = 3, dice: tuple[float, ...] = (0.8, 0.7, 0.9), name: str = "run") -> Trained:
    """Makes the folder of a run: ``dims`` axes, per-case Dice of ``dice``."""
    import torch

    from cphloc.data.pipeline.pipeline import open_dataset
    from cphloc.metrics.bootstrap import paired_difference
    from cphloc.modeling.build import build_model
    from cphloc.recipe import recipe as recipes
    from cphloc.training import checkpoint

    recipe = recipes.load(tiny_recipe(dims))
    folder = runs / "tiny" / name
    (folder / "pictures").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    (folder / "pictures" / "worst.png").write_bytes(PICTURE)
    torch.manual_seed(0)
    checkpoint.save(folder / checkpoint.BEST, build_model(recipe).state_dict(), {})
    run = Trained(folder, recipe)
    cases = [case.id for case in open_dataset(recipe.data, recipe.dims).cases("test")]
    measured = measured_interval(dice, cases)
    beneath = (0.1,) * len(cases)
    gain = paired_difference(dice, beneath, cases)._asdict()
    run.write("metrics.json", {"val/dice": 0.8})
    run.write("tracking.json", {"uri": "", "experiment": "", "name": name, "run_id": "abc123", "sent": 0})
    made_by = {"git_commit": "0" * 40, "seed": 0, "device": "cpu", "packages": {"cphloc": "0.1.0"}}
    run.write("facts.json", {"data_fingerprint": "f" * 64, **made_by})
    evaluation = {
        "split": "test",
        "metrics": {"dice": measured},
        "per_class": {"mass": {"dice": measured}},
        "baseline": {"name": "nothing", "metrics": {"dice": measured_interval(beneath, cases)}},
        "paired": {"metrics": {"dice": gain}, "per_class": {}},
        "speed": {"ms_per_case": 12.0, "peak_ram_mb": 300.0},
        "cases": cases,
    }
    run.write("evaluation-test.json", evaluation)
    rows = "".join(f"{case},{case},{value},0.1\n" for case, value in zip(cases, dice, strict=True))
    (folder / "evaluation-test.csv").write_text(f"case,patient,dice,dice_baseline\n{rows}")
    return run


@pytest.fixture
def train_run(tmp_path: Path) -> Callable[..., Trained]:
    """`trained`, in this test's own folder."""
    return functools.partial(trained, tmp_path / "runs")


@pytest.fixture(scope="session")
def published_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The zoo folder in which ``tiny@1.0.0`` of so many axes was published; to be copied, not changed."""
    from cphloc.publishing import register
    from cphloc.publishing.publish import publish

    @functools.cache
    def zoo(dims: int) -> Path:
        base = tmp_path_factory.mktemp(f"published{dims}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CPHLOC_CACHE", str(base / "cache"))
            patch.setattr(register, "register_entry", lambda entry, folder: None, raising=False)
            publish(trained(base / "runs", dims).folder, "tiny", "1.0.0", to=base / "zoo")
        return base / "zoo"

    return zoo


@pytest.fixture
def published(request: pytest.FixtureRequest, published_once: Callable[[int], Path], tmp_path: Path) -> Path:
    """Folder of ``tiny@1.0.0`` in a zoo of its own; 3-D unless parametrised."""
    shutil.copytree(published_once(getattr(request, "param", 3)), tmp_path / "zoo")
    return tmp_path / "zoo" / "tiny" / "1.0.0"


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The entries that MLflow was told of, without a server."""
    from cphloc.publishing import register

    told: list[str] = []

    class Register:
        def run_id(self, entry: str) -> None:
            return None

        def register(self, version: object) -> str:
            told.append(str(version))
            return "run"

    monkeypatch.setattr(register, "open_register", lambda: contextlib.nullcontext(Register()))
    return told
