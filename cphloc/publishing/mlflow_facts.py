"""What MLflow is given of an entry: parameters, metrics, tags, data sets, and an example of a request."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cphloc.config import jsonio
from cphloc.metrics.bootstrap import Interval
from cphloc.metrics.summary import tracking_metrics
from cphloc.publishing.card import model_card
from cphloc.registry import catalogue
from cphloc.tracking.published import PublishedVersion, UsedData
from cphloc.tracking.record import flat
from cphloc.zoo.entry import Entry
from cphloc.zoo.measured import Evaluation, Metric, Tested
from cphloc.zoo.names import CARD_FILE, RECIPE_FILE
from cphloc.zoo.served import PARAMETERS, columns_of

_PARAMS = ("name", "version", "task", "dims", "modality", "classes", "channels", "spacing_mm", "intensity", "data")
_SAMPLE_FACTS = "sample/expected.json"
_DATA_FILE = "data.json"
_DIGITS = 4


def published_version(entry: Entry, folder: Path) -> PublishedVersion:
    """Collect what MLflow is given of an entry.

    Args:
        entry: the entry.
        folder: its files; their hashes have been checked.
    """
    card = folder / CARD_FILE
    pictures = sorted(name for name in entry.files if name.startswith("pictures/"))
    return PublishedVersion(
        entry.name,
        entry.version,
        entry.summary,
        card.read_text(encoding="utf-8") if card.is_file() else model_card(entry),
        _params(entry),
        _metrics(entry),
        _tags(entry),
        folder,
        _published_ms(entry),
        entry.supersedes,
        [name for name in (CARD_FILE, RECIPE_FILE, "entry.yaml", *pictures) if (folder / name).is_file()],
        _evaluated(entry, folder),
        _trained(entry),
        columns_of(entry.channels),
        PARAMETERS,
        _example(entry, folder),
    )


def _params(entry: Entry) -> dict[str, str]:
    plain = entry.model_dump(mode="json")
    params = flat({key: plain[key] for key in _PARAMS} | plain["origin"])
    stated = {"headline_metric": f"{entry.evaluation.split}/{entry.headline[0]}", "organ": ", ".join(_organ(entry))}
    return {**params, **stated, "recipe_sha256": entry.files[RECIPE_FILE].sha256}


def _tags(entry: Entry) -> dict[str, str]:
    tags = {
        "task": entry.task,
        "dims": f"{entry.dims}-D",
        "modality": ", ".join(entry.modality),
        "organ": ", ".join(_organ(entry)),
        "licence": entry.data.licence,
    }
    return {key: value for key, value in tags.items() if value}


def _organ(entry: Entry) -> list[str]:
    """Organ or region on the card of the data set; empty for a data set without one."""
    cards = catalogue.cards("dataset")
    return cards[entry.data.name].organ if entry.data.name in cards else []


def _metrics(entry: Entry) -> dict[str, float]:
    """Metrics with intervals, of the baseline and paired; those of the headline metric once more as ``headline``."""
    (name, headline), baseline = entry.headline, entry.baseline
    metrics = _tracked(entry.evaluation, entry.evaluation.split, baseline.paired, baseline.metrics)
    metrics |= {} if entry.tested is None else _tracked(entry.tested, "test", entry.tested.paired, {})
    first = {"headline": headline, "headline_baseline": baseline.metrics.get(name)}
    first["headline_paired"] = baseline.paired.get(name)
    shown = tracking_metrics({metric: _with_interval(m) for metric, m in first.items() if m is not None}, "")
    rounded = {key.removeprefix("/"): round(value, _DIGITS) for key, value in shown.items()}  # else cut off in the UI
    metrics = {key: value for key, value in rounded.items() if not key.endswith("_undefined")} | metrics
    metrics |= {"speed/ms_per_case": entry.speed.ms_per_case}
    if entry.size.peak_ram_mb is not None:
        metrics |= {"size/peak_ram_mb": entry.size.peak_ram_mb}
    return {**metrics, "size/params_m": entry.size.parameters / 1e6}


def _tracked(
    measured: Evaluation | Tested, split: str, paired: Mapping[str, Metric], baseline: Mapping[str, Metric]
) -> dict[str, float]:
    """Metrics of a split by MLflow key, of all classes and of each, with those of the baseline and the differences."""
    tables = {"": measured.metrics, **{f"/{c}": t for c, t in measured.per_class.items()}}
    every = {f"{metric}{of_class}": m for of_class, table in tables.items() for metric, m in table.items()}
    every |= {f"{metric}_baseline": m for metric, m in baseline.items()}
    every |= {f"{metric}_paired": m for metric, m in paired.items()}
    return tracking_metrics({metric: _with_interval(m) for metric, m in every.items()}, split)


def _with_interval(metric: Metric) -> Interval:
    value, low, high = map(jsonio.number, (metric.value, metric.low, metric.high))
    return Interval(value, low, high, metric.n, metric.n_undefined)


def _published_ms(entry: Entry) -> int:
    """Day of publication; now, where it is no date."""
    try:
        published = datetime.fromisoformat(entry.origin.published)
    except ValueError:
        published = datetime.now(UTC)
    return int((published if published.tzinfo else published.replace(tzinfo=UTC)).timestamp() * 1000)


def _trained(entry: Entry) -> UsedData:
    data = entry.data
    facts: dict[str, Any] = {**{f"cases_{split}": n for split, n in data.splits.items()}, "licence": data.licence}
    return UsedData(data.name, data.fingerprint, "training", data.url or "", facts | {"citation": data.citation})


def _evaluated(entry: Entry, folder: Path) -> UsedData:
    """The evaluated cases; their digest is the same for entries that were measured on the same images."""
    seen = json.loads((folder / _DATA_FILE).read_text(encoding="utf-8")) if (folder / _DATA_FILE).is_file() else {}
    contents = {id: case["content"] for cases in seen.get("cases", {}).values() for id, case in cases.items()}
    listed = sorted(f"{case} {contents.get(case, '')}" for case in entry.evaluation.cases)
    digest, split = hashlib.sha256("\n".join(listed).encode()).hexdigest(), entry.evaluation.split
    facts = {"split": split, "cases": len(listed), "licence": entry.data.licence}
    return UsedData(f"{entry.data.name} ({split})", digest, split, entry.data.url or "", facts)


def _example(entry: Entry, folder: Path) -> list[dict[str, Any]]:
    """A request with the sample of the entry; empty without a sample."""
    if not (folder / _SAMPLE_FACTS).is_file():
        return []
    facts = json.loads((folder / _SAMPLE_FACTS).read_text(encoding="utf-8"))
    files = {channel: folder / "sample" / name for channel, name in facts["inputs"].items()}
    row = {channel: base64.b64encode(file.read_bytes()).decode() for channel, file in files.items()}
    if len(row) == 1:
        row = {"image": next(iter(row.values()))}
    spacing = {"spacing_mm": facts["spacing_mm"]} if facts["spacing_mm"] else {}
    return [{**row, "name": next(iter(files.values())).name, **spacing}]
