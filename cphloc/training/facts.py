"""Provenance of a training run: fingerprint of the data, git commit, package versions and device."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import cphloc
from cphloc.data.fingerprint import fingerprint as hash_of
from cphloc.recipe.recipe import Recipe
from cphloc.structures.fingerprint import Fingerprint

if TYPE_CHECKING:
    from cphloc.data.pipeline.prepare import PreparedCases

PACKAGES = ("cphloc", "torch", "lightning", "numpy", "scipy", "timm", "albumentations", "SimpleITK", "mlflow")
"""Distributions whose installed versions are recorded."""


def facts_of(recipe: Recipe, splits: Mapping[str, PreparedCases]) -> dict[str, Any]:
    """Collect the provenance of a training run, JSON-serializable.

    Args:
        recipe: the recipe that is trained.
        splits: prepared cases by split name.
    """
    return {
        "data_fingerprint": fingerprint(splits),
        "splits": {split: len(prepared) for split, prepared in splits.items()},
        "left_out": {split: list(prepared.left_out) for split, prepared in splits.items() if prepared.left_out},
        "training_images": _training_images(recipe, splits),
        **recipe_facts(recipe),
    }


def recipe_facts(recipe: Recipe) -> dict[str, Any]:
    """Collect what the provenance of a training states besides its data, JSON-serializable."""
    return {
        "recipe_sha256": recipe.sha256,
        "git_commit": git_commit(Path(cphloc.__file__).parent),
        "seed": recipe.train.seed,
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
    }


def _training_images(recipe: Recipe, splits: Mapping[str, PreparedCases]) -> dict[str, Any] | None:
    """Fingerprint of the intensities and extents of the training images; ``None`` where their units differ."""
    cases = list(splits.get("train", ()))
    if not cases or len({case.source.unit for case in cases}) > 1 or not all(case.percentiles for case in cases):
        return None
    grids = [case.source.reoriented(*case.source.canonical()) for case in cases]
    extents = [[n * s for n, s in zip(grid.shape, grid.spacing_mm, strict=True)] for grid in grids]
    found = Fingerprint.of(recipe.channels, [case.percentiles for case in cases], extents, cases[0].source.unit)
    return found.model_dump()


def fingerprint(splits: Mapping[str, PreparedCases]) -> str:
    """Return a SHA-256 hash of the case ids and file contents of all splits, independent of file locations."""
    return hash_of((f"{split}/{case.id}", case.content) for split, prepared in splits.items() for case in prepared)


def git_commit(folder: Path) -> str:
    """Return the commit of cphloc's own git repository, or an empty string where it is installed without one.

    ``+changes`` is appended where tracked files have uncommitted changes. A repository of the user, in which cphloc is
    installed, does not count: only one whose top folder holds the package and that tracks it.

    Args:
        folder: the folder ``cphloc`` of the package.
    """
    try:
        top, commit, changes, _ = (
            _git(folder, *args)
            for args in (
                ("rev-parse", "--show-toplevel"),
                ("rev-parse", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no"),
                ("ls-files", "--error-unmatch", "__init__.py"),
            )
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    if Path(top).resolve() != folder.resolve().parent:
        return ""
    return commit + ("+changes" if changes else "")


def _git(folder: Path, *args: str) -> str:
    """Run git in a folder; variables such as ``GIT_DIR``, which hooks set, would lead to another repository."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(["git", *args], cwd=folder, env=own, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """Model name of the processor, from ``/proc/cpuinfo`` on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
