"""cphloc: a declarative model zoo for localization and segmentation in medical imaging, in 2-D and 3-D."""

from __future__ import annotations

import importlib
import os

__version__ = "0.1.0"

_PUBLIC = {
    "build": "cphloc.modeling.build",
    "load": "cphloc.zoo.load",
    "train": "cphloc.training.train",
    "cross_validate": "cphloc.training.cross_validation",
    "evaluate": "cphloc.evaluation.evaluate",
    "publish": "cphloc.publishing.publish",
    "sweep": "cphloc.studies.sweep",
    "list_entries": "cphloc.zoo.entries",
    "Localization": "cphloc.inference.localization",
    "Geometry": "cphloc.structures.geometry",
    "Annotation": "cphloc.structures.annotation",
    "CphlocError": "cphloc.errors",
}

__all__ = ["__version__", *_PUBLIC]

_QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Environment variables that keep libraries from reporting to their makers; child processes inherit them."""

os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
if os.environ.get("CPHLOC_OFFLINE", "") not in ("", "0"):
    os.environ["HF_HUB_OFFLINE"] = "1"


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that ``import cphloc`` stays free of torch."""
    if name not in _PUBLIC:
        msg = f"module 'cphloc' has no attribute '{name}'"
        raise AttributeError(msg)
    from cphloc.errors import needs

    with needs(f"cphloc.{name}"):
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
