"""Collect what ``entry.yaml`` states about a run: its data, metrics, size, speed and origin."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

import cphloc
from cphloc.inference.localizer import Localizer
from cphloc.metrics.explanation import SANITY
from cphloc.publishing.source import modalities_of, source_facts
from cphloc.recipe.plugins import used_plugins
from cphloc.recipe.recipe import Recipe
from cphloc.structures.options import ChosenOptions, Options
from cphloc.structures.split import SPLITS
from cphloc.tracking.run import Run
from cphloc.zoo.entry import Input
from cphloc.zoo.measured import as_undefined, is_undefined

if TYPE_CHECKING:
    from cphloc.publishing.material import Material


def entry_facts(
    material: Material,
    localizer: Localizer,
    name: str,
    version: str,
    because: str | None = None,
    below_baseline: str | None = None,
    supersedes: Sequence[str] = (),
) -> dict[str, Any]:
    """Collect the content of ``entry.yaml`` without its files."""
    recipe, facts, about = localizer.recipe, material.facts, material.about
    speed = (
        facts.get("speed") or material.evaluation["speed"]
    )  # that of the first publication, of weights published anew
    return {
        "name": name,
        "version": version,
        "summary": f"Not above its baseline. {about.summary}" if below_baseline else about.summary,
        "task": recipe.task,
        "dims": recipe.dims,
        "modality": modalities_of(material.source, recipe.channels),
        "classes": dict(localizer.classes),
        "channels": list(recipe.channels),
        "inputs": {name: Input.of(channel).model_dump() for name, channel in recipe.inputs.items()},
        "fingerprint": facts.get("training_images"),
        "spacing_mm": recipe.data.spacing_mm,
        "intensity": recipe.plain_intensity,
        **_results(material, recipe),
        "data": _data_facts(material),
        "size": {
            "parameters": sum(p.numel() for p in localizer.model.parameters()),
            "peak_ram_mb": speed["peak_ram_mb"],
        },
        "speed": {"ms_per_case": float(speed["ms_per_case"]), "device": speed.get("device") or facts["device"]},
        "training": facts.get("training") or _training(material.run),
        "origin": _origin(material),
        "intended_use": about.intended_use,
        "limits": list(about.limits),
        "changelog": about.changelog,
        "because": because,
        "below_baseline": below_baseline,
        "supersedes": list(supersedes),
        "requires_cphloc": f">={cphloc.__version__},<{Version(cphloc.__version__).major + 1}",
    }


def _results(material: Material, recipe: Recipe) -> dict[str, Any]:
    """Collect what was measured: the evaluation beside its baseline, groups, calibration, stages and options."""
    evaluation, first = dict(material.evaluation), recipe.headline
    return {
        "evaluation": {
            "split": evaluation["split"],
            "cases": evaluation["cases"],
            **_measured(evaluation, first),
            **_reasons(evaluation),
            "groups": _groups(evaluation, first),
        },
        "baseline": {
            "name": evaluation["baseline"]["name"],
            **_measured(evaluation["baseline"], first),
            "paired": _gains(evaluation["paired"]["metrics"], first),
        },
        "tested": _tested(material.tested, first),
        "calibration": evaluation.get("calibration"),
        "explanation": _explanation(evaluation),
        "stages": _stages(recipe, evaluation),
        "oracle": _measured(evaluation["oracle"], first)["metrics"] if evaluation.get("oracle") else None,
        "options": _chosen(evaluation),
    }


def _origin(material: Material) -> dict[str, Any]:
    """Collect what made the weights: run, commit, seed, packages and plug-ins, and the day of publication."""
    facts, run = material.facts, material.run
    return {
        "run": facts.get("run") or run.id,
        "git_commit": facts.get("git_commit") or None,
        "seed": facts["seed"],
        "packages": facts["packages"],
        "plugins": used_plugins(run.recipe),
        "mlflow_run": facts["mlflow_run"] if "run" in facts else _mlflow_run(run.folder),
        "published": datetime.now(UTC).date().isoformat(),
    }


def _tested(evaluation: Mapping[str, Any], first: str) -> dict[str, Any] | None:
    """Metrics of an ensemble on the test split, with the difference from its baseline; ``None`` without."""
    if not evaluation:
        return None
    paired = _gains((evaluation.get("paired") or {}).get("metrics") or {}, first)
    return {**_measured(evaluation, first), "paired": paired, "cases": evaluation["cases"]}


def _reasons(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics to judge the model by, with the reason, and tolerances of the surface Dice; earlier ones have neither."""
    return {key: dict(evaluation.get(key) or {}) for key in ("recommended", "nsd_tolerance_mm")}


def _groups(evaluation: Mapping[str, Any], first: str) -> dict[str, Any]:
    """Headline and recommended metrics of each group that was measured."""
    kept = {first, *(evaluation.get("recommended") or {})}

    def of_group(found: Mapping[str, Any]) -> dict[str, Any]:
        """Return the facts of one group."""
        metrics = {name: value for name, value in found["metrics"].items() if name in kept}
        return {**{key: found[key] for key in ("cases", "patients")}, **_measured({"metrics": metrics}, first)}

    by = evaluation.get("by") or {}
    plain = {column: {name: of_group(found) for name, found in groups.items()} for column, groups in by.items()}
    for groups in plain.values():
        for group in groups.values():
            del group["per_class"]
    return plain


def _training(run: Run) -> dict[str, Any] | None:
    """Time and steps of a training; of a cross-validation those of all its networks. ``None`` where not recorded."""
    runs = [Run.open(folder) for folder in run.fold_folders] if run.is_cross_validation else [run]
    if not all("train/seconds" in one.metrics for one in runs):
        return None
    seconds, steps = (sum(one.metrics.get(f"train/{key}", 0) for one in runs) for key in ("seconds", "steps"))
    device = runs[0].facts.get("device")
    return {"hours": seconds / 3600, "steps": int(steps), "device": device} if seconds > 0 and device else None


def evaluated_options(evaluation: Mapping[str, Any]) -> ChosenOptions:
    """Return the options of the predictions that an evaluation measured."""
    chosen = _chosen(evaluation)
    return ChosenOptions() if chosen is None else ChosenOptions.model_validate(chosen)


def _chosen(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """`ChosenOptions` of an evaluation; of one by an earlier version, its temperature and thresholds."""
    if evaluation.get("options") is not None:
        return evaluation["options"]
    stated: dict[str, Any] = {}
    if calibration := evaluation.get("calibration"):
        stated["temperature"] = calibration["temperature"]
    if thresholds := evaluation.get("thresholds"):
        stated["thresholds"] = {part: value for part, value in thresholds.items() if part != "split"}
    return ChosenOptions(options=Options(**stated)).model_dump() if stated else None


def _measured(table: Mapping[str, Any], first: str) -> dict[str, Any]:
    """Sort metrics with the headline first, and replace NaN by null, which every YAML reader understands."""

    def plain(metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Return metrics with the headline first and NaN as null."""
        ordered = sorted(metrics.items(), key=lambda item: item[0] != first)
        return {name: as_undefined(m) if is_undefined(m) else m for name, m in ordered}

    per_class = {name: plain(metrics) for name, metrics in (table.get("per_class") or {}).items()}
    return {"metrics": plain(table["metrics"]), "per_class": per_class}


def _explanation(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """`Explanation` of an evaluation; ``None`` where it was not measured."""
    if (found := evaluation.get("explanation")) is None:
        return None
    methods = {method: _measured({"metrics": of}, "")["metrics"] for method, of in found["methods"].items()}
    paired = {method: _gains(of, "") for method, of in found["paired"].items()}
    sanity = _measured({"metrics": {SANITY: found[SANITY]}}, "")["metrics"]
    return {"cases": found["cases"], "methods": methods, "paired": paired, **sanity}


def _gains(paired: Mapping[str, Any], first: str) -> dict[str, Any]:
    """Sort paired differences with the headline first, and leave out those that no case defines."""
    ordered = sorted(paired.items(), key=lambda item: item[0] != first)
    return {
        name: {**gain, "p_value": _defined(gain.get("p_value"))} for name, gain in ordered if not is_undefined(gain)
    }


def _stages(recipe: Recipe, evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """Entry of each stage of a pipeline, with the errors of its crop; ``None`` of other models."""
    measured = evaluation.get("stages") or {}
    crops = {name: (measured.get(name) or {}).get("crop") or {} for name in recipe.stages}
    return {
        name: {
            "entry": stage.frozen.entry,
            "sha256": stage.frozen.sha256,
            "crop": {key: as_undefined(m) if is_undefined(m) else m for key, m in crops[name].items()},
        }
        for name, stage in recipe.stages.items()
    } or None


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _data_facts(material: Material) -> dict[str, Any]:
    source = material.source
    return {
        "name": source.name,
        **source_facts(source),
        "fingerprint": material.facts["data_fingerprint"],
        "splits": {split: len(material.dataset.cases(split)) for split in SPLITS},
    }


def _mlflow_run(folder: Path) -> str | None:
    state = folder / "tracking.json"
    return json.loads(state.read_text(encoding="utf-8"))["run_id"] if state.is_file() else None
