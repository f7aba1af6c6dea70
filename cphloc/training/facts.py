"""What made the weights of a run, besides its recipe: data, code, packages, machine."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cphloc.data.fingerprint import fingerprint as hash_of
from cphloc.recipe.recipe import Recipe

if TYPE_CHECKING:
    from cphloc.data.pipeline.prepare import PreparedCases

PACKAGES = ("cphloc", "torch", "lightning", "numpy", "scipy", "timm", "albumentations", "SimpleITK", "mlflow")


def facts_of(recipe: Recipe, splits: Mapping[str, PreparedCases]) -> dict[str, Any]:
    """Enough to train the same weights again, ready for JSON."""
    return {
        "recipe_sha256": recipe.sha256,
        "data_fingerprint": fingerprint(splits),
        "splits": {split: len(prepared) for split, prepared in splits.items()},
        "left_out": {split: list(prepared.left_out) for split, prepared in splits.items() if prepared.left_out},
        "git_commit": git_commit(Path(__file__).parent),
        "seed": recipe.train.seed,
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
    }


def fingerprint(splits: Mapping[str, PreparedCases]) -> str:
    """sha256 over the cases of the splits: their ids and the content of their files, wherever these lie."""
    return hash_of((f"{split}/{case.id}", case.content) for split, prepared in splits.items() for case in prepared)


def git_commit(folder: Path) -> str:
    """Commit of the checkout that holds ``folder``, ``+changes`` where files differ from it; empty outside one."""
    try:
        commit, changes = (
            subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, timeout=10, check=True).stdout
            for args in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit.strip() + ("+changes" if changes.strip() else "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """Model name of the processor; Linux alone tells it in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
