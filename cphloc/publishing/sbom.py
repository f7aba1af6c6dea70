"""Write the bill of materials of an entry in CycloneDX 1.6: files, components, packages, data and the model card."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from cphloc.recipe.recipe import Recipe
from cphloc.registry import catalogue
from cphloc.zoo.entry import Entry, File
from cphloc.zoo.names import ENTRY_FILE, WEIGHTS_FILE, sha256_of


def bill_of_materials(entry: Entry, recipe: Recipe, content: bytes | None = None) -> dict[str, Any]:
    """Return the bill of materials of an entry.

    Args:
        entry: the entry.
        recipe: its stored recipe.
        content: its ``entry.yaml``; left out of a bill that the entry itself pins.
    """
    files = dict(entry.files)
    if content is not None:
        files[ENTRY_FILE] = File(sha256=sha256_of(content), bytes=len(content))
    parts = [_weights(entry), _data(entry), *_files(files), *_components(recipe), *_packages(entry)]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{entry}/{entry.weights.sha256}')}",
        "version": 1,
        "metadata": {
            "timestamp": f"{entry.origin.published}T00:00:00Z",
            "component": {
                "type": "machine-learning-model",
                "bom-ref": str(entry),
                "name": entry.name,
                "version": entry.version,
                "description": entry.summary,
            },
        },
        "components": parts,
        "dependencies": [{"ref": str(entry), "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def _weights(entry: Entry) -> dict[str, Any]:
    name = entry.weights.file or WEIGHTS_FILE
    found = {
        "type": "machine-learning-model",
        "bom-ref": f"file/{name}",
        "name": name,
        "version": entry.version,
        "hashes": _hashes(entry.weights),
        "modelCard": _model_card(entry),
    }
    places = [{"type": "distribution", "url": url} for url in entry.weights.urls]
    return found | ({"externalReferences": places} if places else {})


def _model_card(entry: Entry) -> dict[str, Any]:
    return {
        "modelParameters": {
            "task": entry.task,
            "datasets": [{"ref": f"data/{entry.data.name}"}],
            "inputs": [{"format": f"{entry.dims}-D image, channel {name}"} for name in entry.channels],
            "outputs": [{"format": f"class {number}: {name}"} for number, name in entry.classes.items()],
        },
        "quantitativeAnalysis": {"performanceMetrics": list(_metrics(entry))},
        "considerations": {"useCases": [entry.intended_use], "technicalLimitations": list(entry.limits)},
    }


def _metrics(entry: Entry) -> Iterator[dict[str, Any]]:
    """Yield every metric that is defined, of all cases and of each class."""
    evaluation = entry.evaluation
    for of_class, table in {"": evaluation.metrics, **evaluation.per_class}.items():
        for name, metric in table.items():
            if metric.value is None:
                continue
            ends = {}
            if metric.low is not None and metric.high is not None:
                ends = {"confidenceInterval": {"lowerBound": repr(metric.low), "upperBound": repr(metric.high)}}
            part = f"{evaluation.split}, {of_class}" if of_class else evaluation.split
            yield {"type": name, "value": repr(metric.value), "slice": part, **ends}


def _data(entry: Entry) -> dict[str, Any]:
    data = entry.data
    found = {
        "type": "data",
        "bom-ref": f"data/{data.name}",
        "name": data.name,
        "description": data.citation,
        "hashes": [{"alg": "SHA-256", "content": data.fingerprint}] if len(data.fingerprint) == 64 else [],
        "licenses": [{"license": {"name": data.licence}}],
        "data": [{"type": "dataset", "name": data.name, **({"contents": {"url": data.url}} if data.url else {})}],
    }
    return found


def _files(files: Mapping[str, File]) -> Iterator[dict[str, Any]]:
    for name, file in sorted(files.items()):
        size = [{"name": "cphloc:bytes", "value": str(file.bytes)}]
        yield {
            "type": "file",
            "bom-ref": f"file/{name}",
            "name": name,
            "hashes": _hashes(file),
            "properties": size,
        }


def _components(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Yield every component that the recipe names, once; those without a class of their own are allowed by name."""
    found = {(block.kind, str(block.node.children["type"].plain)) for block in recipe.blocks}
    for kind, name in sorted(found):
        card = catalogue.card(kind, name)
        where = {"properties": [{"name": "cphloc:import", "value": card.import_}]} if card.import_ else {}
        yield {"type": "library", "bom-ref": f"{kind}/{name}", "group": kind, "name": name, **where}


def _packages(entry: Entry) -> Iterator[dict[str, Any]]:
    """Yield the packages that the model was trained with, and the plug-ins that it needs."""
    for name, version in sorted({**entry.origin.packages, **entry.origin.plugins}.items()):
        purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _hashes(file: File) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": file.sha256}]
