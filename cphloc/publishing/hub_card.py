"""The model card of an entry for the Hugging Face Hub: metadata that the Hub indexes, then the card of the entry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cphloc.publishing.card import model_card
from cphloc.zoo.entry import Entry

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard

_PIPELINES = {
    "segmentation": "image-segmentation",
    "detection": "object-detection",
    "localization": "object-detection",
    "attention": "image-classification",
}
_LICENCES = {
    *("apache-2.0", "mit", "cc0-1.0", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "odc-by", "odbl", "pddl"),
    *(f"cc-by-{version}" for version in ("2.0", "2.5", "3.0", "4.0")),
    *(f"cc-by-sa-{version}" for version in ("3.0", "4.0")),
    *(f"cc-by-nc-{version}" for version in ("2.0", "3.0", "4.0")),
    *(f"cc-by-nc-sa-{version}" for version in ("2.0", "3.0", "4.0")),
    *(f"cc-by-nc-nd-{version}" for version in ("3.0", "4.0")),
    "cc-by-nd-4.0",
}
"""Licences that the Hub names: https://huggingface.co/docs/hub/repositories-licenses."""


def hub_card(entry: Entry, repository: str) -> ModelCard:
    """Write the card of an entry as the ``README.md`` of a repository, with a ``model-index`` of its test metrics.

    Args:
        entry: the entry.
        repository: ``owner/name``.
    """
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        library_name="cphloc",
        model_name=entry.name,
        pipeline_tag=_PIPELINES.get(entry.task, "other"),
        tags=["cphloc", "medical", entry.task, f"{entry.dims}d", *entry.modality, *entry.classes.values()],
        eval_results=_results(entry),
        ignore_metadata_errors=False,
        **_licence(entry),
    )
    title, _, rest = model_card(entry).partition("\n")
    load = f'```python\nimport cphloc  # pip install cphloc\n\nmodel = cphloc.load("hf://{repository}@{entry.version}")\n```'
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{title}\n\n{load}\n{rest}", ignore_metadata_errors=False)


def _results(entry: Entry) -> list[EvalResult]:
    """Give each defined metric of the test cases; its interval is in the text of the card."""
    from huggingface_hub import EvalResult

    task, evaluation = _PIPELINES.get(entry.task, "other"), entry.evaluation
    return [
        EvalResult(
            task_type=task,
            task_name=entry.task,
            dataset_type=_slug(entry.data.name),
            dataset_name=entry.data.name,
            dataset_split=evaluation.split,
            metric_type=name,
            metric_name=name,
            metric_value=found.value,
        )
        for name, found in evaluation.metrics.items()
        if found.value is not None
    ]


def _licence(entry: Entry) -> dict[str, Any]:
    """Name the licence as the Hub does; one that it does not list is ``other``, with its name and address."""
    slug = _slug(entry.data.licence)
    name = {"cc0": "cc0-1.0", "apache": "apache-2.0"}.get(slug, slug)
    if name in _LICENCES:
        return {"license": name}
    link = {"license_link": entry.data.url} if entry.data.url else {}
    return {"license": "other", "license_name": slug[:60], **link}


def _slug(text: str) -> str:
    """Write a name in lower case with hyphens.

    >>> _slug("CC BY-SA 4.0")
    'cc-by-sa-4.0'
    """
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "unnamed"
