"""``card.md``, the model card of an entry, generated from ``entry.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cphloc.metrics.explanation import METHODS, METRICS, SANITY_TEXT
from cphloc.publishing.calibration_text import calibration_text
from cphloc.publishing.markdown import code_block, table
from cphloc.publishing.options import options_text
from cphloc.publishing.usage import how_to_use
from cphloc.publishing.verdict import BELOW, beats_baseline, first_words, format_metric, verdict
from cphloc.registry.metrics import meanings
from cphloc.structures.split import OUT_OF_FOLD
from cphloc.zoo.entry import Entry
from cphloc.zoo.measured import Evaluation, Metric, Tested, Thresholds

CASES_FILE = "cases.csv"
PICTURES_FOLDER = "pictures"

_CAPTIONS = {
    "test-worst": "The test case with the worst result, with the expert's annotation",
    "test-median": "The test case with the median result",
    "test-best": "The test case with the best result",
    "worst": "The validation case with the worst result, with the expert's annotation",
    "median": "The validation case with the median result",
    "best": "The validation case with the best result",
    "test-precision-recall": "Precision against recall on the test split",
    "test-froc": "Sensitivity against false positives an image on the test split",
    "test-box-reliability": "Scores of boxes against the share of them that hit on the test split",
    "test-roc": "Sensitivity against specificity on the test split",
    "test-reliability": "Stated probabilities against observed frequencies on the test split",
    "curves": "Losses and validation metrics during training",
}


def model_card(entry: Entry) -> str:
    """Write the model card of an entry as Markdown, after Mitchell et al. 2019, arXiv:1810.03993."""
    sections = {
        "Intended use": entry.intended_use,
        "Limits": _bullets(entry.limits),
        "Results": _results(entry),
        "Stages": _stages(entry),
        "Explanation": _explanation(entry),
        "Calibration": calibration_text(entry),
        "Subgroups": _subgroups(entry),
        "Pictures": _pictures(entry),
        "Input and output": table(("", ""), _input_and_output(entry)),
        "Data": table(("", ""), _data(entry)),
        "Cost": table(("", ""), _cost(entry)),
        "How to use": how_to_use(entry),
        "How to reproduce": _reproduce(entry),
        "How to cite": _citation(entry),
        "Changes": entry.changelog
        + (f"\n\nWorse than the version before, because: {entry.because}" * bool(entry.because)),
    }
    body = (f"## {title}\n\n{text}\n" for title, text in sections.items() if text)
    summary = entry.summary.removeprefix(f"{BELOW.strip('*')}. ")
    instead = [f"Use it instead of {', '.join(entry.supersedes)}.\n"] if entry.supersedes else []
    first = [f"{first_words(entry)}\n"] if entry.imported is None else [f"{entry.imported.verdict}\n"]
    return "\n".join([f"# {entry.name} {entry.version}\n", *first, f"{summary}\n", *instead, *body])


def _measured_on(evaluation: Evaluation) -> str:
    """Describe which cases the metrics are measured on."""
    count = len(evaluation.cases)
    if evaluation.split == OUT_OF_FOLD:
        return (
            f"Out of fold, on {count} training and validation cases, each predicted by one network not trained on "
            "its patient; the published model averages these networks"
        )
    return f"On the {count} cases of the {evaluation.split} split, which were not used in training"


def _results(entry: Entry) -> str:
    evaluation, baseline = entry.evaluation, entry.baseline
    if not evaluation.cases:
        return "Not evaluated by cphloc: `cphloc evaluate` measures it on your own cases."
    answers = {True: "yes", False: "no", None: ""}
    with_gains = bool(baseline.paired)
    rows = []
    for name, found in evaluation.metrics.items():
        gain = [_beside(baseline.paired, name)] if with_gains else []
        better = answers[beats_baseline(entry, name)]
        rows.append((name, format_metric(found), _beside(baseline.metrics, name), *gain, better, _cases(found)))
    rows[0] = (f"**{entry.headline[0]}**", *rows[0][1:])
    text = (
        f"{_measured_on(evaluation)}, with "
        f"95 % bootstrap intervals by patient. The baseline ignores the image: {baseline.name}. {verdict(entry)}"
    )
    heading = ("metric", entry.name, "baseline", *["paired difference"] * with_gains, "better", "cases")
    parts = [text, _judged_by(evaluation), table(heading, rows)]
    if evaluation.per_class:
        names = list(dict.fromkeys(name for table in evaluation.per_class.values() for name in table))
        parts.append(table(("class", *names), _per_class(entry, names)))
    if entry.tested is not None:
        parts += _tested(entry.tested)
    if entry.thresholds is not None:
        parts.append(_thresholds(entry.thresholds))
    if entry.options is not None:
        parts += options_text(entry.options)
    if CASES_FILE in entry.files:
        parts.append(f"Results of every case: [{CASES_FILE}]({CASES_FILE}).")
    parts.append(_bullets(f"{name}: {meaning}" for name, meaning in meanings(evaluation.metrics).items()))
    return "\n\n".join(part for part in parts if part)


def _stages(entry: Entry) -> str:
    """State what a pipeline runs, the errors of its crops, and its last stage in the true crop."""
    if entry.stages is None:
        return ""
    found = {
        name: ", ".join(f"{m} {format_metric(v)}" for m, v in of.crop.items()) for name, of in entry.stages.items()
    }
    rows = [(name, of.entry, f"`{of.sha256[:12]}`", found[name]) for name, of in entry.stages.items()]
    text = "Runs these entries in this order; it holds their recipes and weights itself."
    parts = [text, table(("stage", "entry", "sha256", "its crop"), rows)]
    if entry.oracle is not None:
        metrics = entry.evaluation.metrics
        compared = [(name, _beside(metrics, name), format_metric(of)) for name, of in entry.oracle.items()]
        parts.append("How much is lost by the crops: the last stage as it runs, and in the crop around the annotation.")
        parts.append(table(("metric", "as it runs", "in the true crop"), compared))
    return "\n\n".join(parts)


def _explanation(entry: Entry) -> str:
    """Compare the attention as an explanation of the labels with other maps of the same network."""
    if (found := entry.explanation) is None:
        return ""
    names = list(METRICS)
    text = (
        f"How well the attention shows what the labels rest on, on {found.cases} cases of the {entry.evaluation.split} "
        "split with an object, beside other maps of the same network; differences are paired by case."
    )
    rows = [(method, *(_beside(of, name) for name in names)) for method, of in found.methods.items()]
    gains = [(f"attention - {method}", *(_beside(of, name) for name in names)) for method, of in found.paired.items()]
    similar = format_metric(found.similarity_to_random)
    sanity = f"Rank correlation with the map of random weights: {similar}. {SANITY_TEXT}."
    meaning = _bullets(f"{name}: {of}" for name, of in {**METHODS, **METRICS}.items())
    return "\n\n".join([text, table(("map", *names), [*rows, *gains]), sanity, meaning])


def _tested(found: Tested) -> list[str]:
    """Describe the metrics of an ensemble on the test split."""
    text = f"The ensemble on the {len(found.cases)} cases of the test split, which none of its networks has seen:"
    rows = [(name, format_metric(m), _beside(found.paired, name), _cases(m)) for name, m in found.metrics.items()]
    return [text, table(("metric", "ensemble", "paired difference from the baseline", "cases"), rows)]


def _judged_by(evaluation: Evaluation) -> str:
    """List the metrics that fit the answers of the model, with the reason."""
    if not evaluation.recommended:
        return ""
    title = "Judge it by (after Metrics Reloaded, Maier-Hein et al. 2024):"
    return f"{title}\n\n" + _bullets(f"`{name}`: {why}" for name, why in evaluation.recommended.items())


def _per_class(entry: Entry, names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield a row for every class, followed by its baseline."""
    for class_name, metrics in entry.evaluation.per_class.items():
        yield class_name, *(_beside(metrics, name) for name in names)
        other = entry.baseline.per_class.get(class_name)
        if other:
            yield f"{class_name}, baseline", *(_beside(other, name) for name in names)


def _beside(metrics: Mapping[str, Metric], name: str) -> str:
    return format_metric(metrics[name]) if name in metrics else ""


def _subgroups(entry: Entry) -> str:
    """Show the metrics of each group of cases, one table per column that groups them."""
    parts = []
    for column, groups in entry.evaluation.groups.items():
        names = list(dict.fromkeys(name for group in groups.values() for name in group.metrics))
        rows = [
            (name, f"{g.cases} ({g.patients})", *(_beside(g.metrics, metric) for metric in names))
            for name, g in groups.items()
        ]
        parts.append(table((column, "cases (patients)", *names), rows))
    return "\n\n".join(parts)


def _thresholds(chosen: Thresholds) -> str:
    meaning = {"boxes": "boxes with a score of at least", "mask": "objects in masks with a probability of at least"}
    kept = " and ".join(f"{meaning[part]} {value:.2f}" for part, value in chosen.by_part.items())
    return f"A prediction holds {kept}, chosen on the {chosen.split} split; another is set with `--threshold`."


def picture_files(entry: Entry) -> list[str]:
    """List the picture files of an entry, the worst case first."""
    found = [f for f in entry.files if f.startswith(f"{PICTURES_FOLDER}/") and f.endswith(".png")]
    known = list(_CAPTIONS)
    return sorted(found, key=lambda f: (known.index(_title(f)) if _title(f) in known else len(known), f))


def _pictures(entry: Entry) -> str:
    """Show each picture below its caption."""
    return "\n\n".join(f"{_CAPTIONS.get(_title(f), _title(f))}:\n\n![{_title(f)}]({f})" for f in picture_files(entry))


def _title(picture: str) -> str:
    return picture.rpartition("/")[2].removesuffix(".png")


def _input_and_output(entry: Entry) -> Iterable[Sequence[str]]:
    spacing = "the image's own" if entry.spacing_mm is None else " x ".join(f"{s:g}" for s in entry.spacing_mm) + " mm"
    yield "task", f"{entry.task}, {entry.dims}-D"
    yield "modality", ", ".join(entry.modality)
    if entry.inputs is None:
        yield "channels", ", ".join(entry.channels)
    else:
        yield "channels", "; ".join(f"{name}: {of.description}" for name, of in entry.channel_inputs.items())
    yield "works at", spacing
    yield "intensity", _plain(entry.intensity)
    yield "classes", ", ".join(f"{number} {name}" for number, name in entry.classes.items())


def _data(entry: Entry) -> Iterable[Sequence[str]]:
    data = entry.data
    yield "data set", f"[{data.name}]({data.url})" if data.url else data.name
    yield "licence", data.licence
    yield "cases", ", ".join(f"{count} {split}" for split, count in data.splits.items())
    yield "fingerprint", f"`{data.fingerprint}`"
    yield "citation", data.citation


def _cost(entry: Entry) -> Iterable[Sequence[str]]:
    yield "parameters", f"{entry.size.parameters:,}"
    yield "weights", f"{entry.weights.bytes / 1e6:.1f} MB, {entry.weights.precision}"
    if entry.size.peak_ram_mb is not None:
        yield "memory", f"{entry.size.peak_ram_mb:,.0f} MB at most"
    yield "time", f"{entry.speed.ms_per_case:,.0f} ms a case on {entry.speed.device}"
    if (training := entry.training) is not None:
        yield "training", f"{training.hours:.2f} hours, {training.steps:,} steps, on {training.device}"
    if entry.onnx is not None:
        yield "ONNX", entry.onnx


def _reproduce(entry: Entry) -> str:
    origin = entry.origin
    if entry.imported is not None:
        text = f"Weights of {entry.imported.framework} ({entry.imported.architecture}), from {entry.imported.origin}"
        return f"{text}. Imported on {origin.published}.\n\n{code_block('sh', [f'cphloc verify {entry}'])}"
    commit = f"commit `{origin.git_commit}`" if origin.git_commit else "an installed cphloc"
    versions = ", ".join(f"{name} {version}" for name, version in origin.packages.items())
    text = (
        f"Made by {commit}, seed {origin.seed}, run `{origin.run}`"
        + (f", MLflow run `{origin.mlflow_run}`" if origin.mlflow_run else "")
        + f", with {versions}. Published on {origin.published}."
    )
    commands = ["cphloc train recipe.yaml", f"cphloc verify {entry} --metrics"]
    return f"{text}\n\n{code_block('sh', commands)}"


def _citation(entry: Entry) -> str:
    """Name the entry and its data; of imported weights their citation and licence."""
    if entry.imported is not None:
        return f"{entry.imported.citation}. Licence of the weights: {entry.imported.licence}."
    return f"{entry.name} {entry.version}, cphloc model zoo. Data: {entry.data.citation}"


def _cases(metric: Metric) -> str:
    return f"{metric.n}" + (f" ({metric.n_undefined} undefined)" if metric.n_undefined else "")


def _plain(value: object) -> str:
    if isinstance(value, Mapping) and "type" not in value:
        return "; ".join(f"{key}: {_plain(of)}" for key, of in value.items())
    if isinstance(value, Mapping):
        rest = ", ".join(f"{k} {v}" for k, v in value.items() if k != "type")
        return f"{value.get('type', '')} ({rest})" if rest else str(value.get("type", ""))
    return "; ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)
