"""Write an imported model as a version of an entry."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version
from torch import Tensor

import cphloc
from cphloc.errors import DataError, InputError, RecipeError, one_line
from cphloc.importing.environment import Prover
from cphloc.importing.imported import Imported
from cphloc.importing.proof import compare
from cphloc.importing.sample import synthetic
from cphloc.inference.localizer import Localizer
from cphloc.modeling.build import build_model
from cphloc.modeling.ensemble import member_weights
from cphloc.publishing import sample as samples
from cphloc.publishing.freeze import check_frozen, entry_recipe, stored_weights, write_entry
from cphloc.publishing.patient import write_pixels
from cphloc.publishing.publish import most_bytes, placed, zoo_to_write
from cphloc.publishing.source import data_card, modalities_of, source_facts
from cphloc.recipe import recipe as recipes
from cphloc.recipe.recipe import Recipe
from cphloc.structures.options import Options
from cphloc.zoo.entries import Listing
from cphloc.zoo.entry import Entry, Input
from cphloc.zoo.imported import ImportedFrom, Proof
from cphloc.zoo.names import RECIPE_FILE, WEIGHTS_FILE, check_name
from cphloc.zoo.weights import build_with_weights, write_weights


@dataclass(frozen=True)
class Terms:
    """What the source does not state and a person must: licence, citation and origin of the weights."""

    licence: str
    citation: str
    origin: str

    def __post_init__(self) -> None:
        for name in ("licence", "citation", "origin"):
            if not getattr(self, name).strip():
                msg = f"--{name} is empty; state the {name} of the weights, as their authors do"
                raise InputError(msg)


def publish_imported(
    imported: Imported,
    name: str,
    version: str,
    terms: Terms,
    to: str | Path | None = None,
    prover: Prover | None = None,
    reference: str | Path | None = None,
) -> Entry:
    """Publish an imported model as ``name`` at ``version``.

    Args:
        imported: from an importer.
        name: of the entry.
        version: ``1.2.0``; one that exists is never overwritten.
        terms: licence, citation and origin of the weights.
        to: zoo folder; by default the first folder of ``CPHLOC_ZOO``, else the shipped zoo.
        prover: runs the framework that trained the weights on the entry's sample, to compare; ``None``: does not.
        reference: folder with inputs and outputs of that framework, see `cphloc.importing.proof`.

    Raises:
        InputError: the version exists, or the recipe cannot hold the model.
        DataError: the weights do not fit, or predictions differ from those of the framework; nothing is written.
    """
    check_name(name, version)
    zoo = zoo_to_write(to)
    recipe = recipe_of(imported, name, terms)
    weights = member_weights(imported.weights)
    check_shapes(recipe, weights, imported.source)
    localizer = Localizer(build_with_weights(recipe, weights, str(imported.source)), recipe)
    localizer.options = Options(**imported.options)
    proof = None if reference is None else compare(localizer, Path(reference), "reference")

    def write(folder: Path) -> Entry:
        """Write the files of the entry."""
        (folder / RECIPE_FILE).write_text(recipe.to_yaml(), encoding="utf-8")
        seconds = _write_sample(folder / samples.SAMPLE_FOLDER, localizer)
        proven = proof if prover is None else prover.prove(localizer, folder / samples.SAMPLE_FOLDER)
        write_weights(folder / WEIGHTS_FILE, weights)
        facts = _facts(imported, localizer, terms, proven) | {"name": name, "version": version}
        facts["speed"] = {"ms_per_case": 1000 * seconds, "device": "the CPU of the import"}
        facts["weights"] = stored_weights(folder, "float32", (), most_bytes(zoo))
        entry = write_entry(facts, folder, recipe)
        check_frozen(Listing(name, version, folder))
        return entry

    return placed(zoo, name, version, write)


def check_shapes(recipe: Recipe, weights: Mapping[str, Tensor], source: object) -> None:
    """Compare a recipe's network with the weights before memory is taken for it; its source may state any size.

    Raises:
        DataError: the network cannot be built, or has tensors of other shapes.
    """
    try:
        with torch.device("meta"):
            network = build_model(recipe)
    except InputError as error:
        msg = f"{source}: the network that it states cannot be built: {one_line(str(error))}; copy it again"
        raise DataError(msg) from None
    for key, value in network.state_dict().items():
        if key in weights and weights[key].shape != value.shape:
            shapes = f"{tuple(weights[key].shape)}, that of the network that it states is {tuple(value.shape)}"
            msg = f"{source}: the shape of the weights '{key}' is {shapes}; copy both of the same training"
            raise DataError(msg)


def recipe_of(imported: Imported, name: str, terms: Terms) -> Recipe:
    """Complete the recipe of an imported model.

    Raises:
        InputError: a recipe cannot hold a value that the source states.
    """
    plain = dict(imported.recipe)
    modality = ["CT"] if plain["data"].get("units") else []
    about = {"licence": terms.licence, "citation": terms.citation, "modality": modality}
    plain["data"] = {key: value for key, value in plain["data"].items() if value is not None} | {"about": about}
    try:
        return entry_recipe(recipes.load({"name": name, **plain}))
    except RecipeError as error:
        first = error.problems[0]
        msg = f"{imported.source}: cannot be imported: {first.path}: {first.what}; {first.fix}"
        raise InputError(one_line(msg)) from None


def _write_sample(folder: Path, localizer: Localizer) -> float:
    """Write a synthetic image and its prediction; returns the time of the prediction in seconds."""
    folder.mkdir()
    inputs = write_pixels(folder, synthetic(localizer), localizer.recipe.channels)
    source = samples.source_of({"inputs": inputs}, {name: folder / name for name in inputs.values()})
    started = time.perf_counter()
    result = localizer.predict(source)
    seconds = time.perf_counter() - started
    samples.write_expected(folder, "synthetic", inputs, None, result)
    return seconds


def _facts(imported: Imported, localizer: Localizer, terms: Terms, proof: Proof | None) -> dict[str, Any]:
    """Content of ``entry.yaml`` without name, version and files."""
    recipe = localizer.recipe
    source, undefined = data_card(recipe.data), {recipe.headline: _UNDEFINED}
    return {
        "summary": f"{imported.architecture} of {imported.framework}: {', '.join(localizer.classes.values())}",
        "task": recipe.task,
        "dims": recipe.dims,
        "modality": modalities_of(source, recipe.channels),
        "classes": dict(localizer.classes),
        "channels": list(recipe.channels),
        "inputs": {name: Input.of(channel).model_dump() for name, channel in recipe.inputs.items()},
        "spacing_mm": recipe.data.spacing_mm,
        "intensity": recipe.to_plain()["data"]["intensity"],
        "evaluation": {"split": "test", "metrics": undefined, "cases": []},
        "baseline": {"name": "none", "metrics": undefined},
        "options": {"options": localizer.options.model_dump()},
        "data": {
            "name": recipe.data.type,
            **source_facts(source),
            "fingerprint": "unknown",
            "splits": {"train": imported.training_cases} if imported.training_cases else {},
        },
        "size": {"parameters": sum(p.numel() for p in localizer.model.parameters()), "peak_ram_mb": None},
        "origin": {
            "run": f"imported from {imported.framework}",
            "git_commit": None,
            "seed": None,
            "packages": {"cphloc": cphloc.__version__, "torch": version_of("torch")},
            "mlflow_run": None,
            "published": datetime.now(UTC).date().isoformat(),
        },
        "imported": ImportedFrom(
            framework=imported.framework,
            architecture=imported.architecture,
            licence=terms.licence,
            citation=terms.citation,
            origin=terms.origin,
            proof=proof,
        ).model_dump(),
        "intended_use": f"As stated by the origin of the weights: {terms.origin}",
        "limits": [*imported.remarks, "Not evaluated by cphloc."],
        "changelog": f"Imported from {imported.framework}.",
        "requires_cphloc": f">={cphloc.__version__},<{Version(cphloc.__version__).major + 1}",
    }


_UNDEFINED: Mapping[str, Any] = {"value": None, "low": None, "high": None, "n": 0, "n_undefined": 0}
