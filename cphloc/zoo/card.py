"""``card.md``: an entry's page for people, generated from ``entry.yaml`` so that the two can never disagree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cphloc.metrics.direction import lower_is_better
from cphloc.zoo.entry import Entry, Metric

CASES_FILE = "cases.csv"
PICTURES_FOLDER = "pictures"


def card(entry: Entry) -> str:
    """The model card as Markdown (after Mitchell et al. 2019, Model Cards for Model Reporting, arXiv:1810.03993)."""
    sections = {
        "Intended use": entry.intended_use,
        "Limits": _bullets(entry.limits),
        "Results": _results(entry),
        "Pictures": _pictures(entry),
        "Input and output": _table(("", ""), _input_and_output(entry)),
        "Data": _table(("", ""), _data(entry)),
        "Cost": _table(("", ""), _cost(entry)),
        "How to use": _code("python", ["import cphloc", *_usage(entry)]),
        "How to reproduce": _reproduce(entry),
        "How to cite": f"{entry.name} {entry.version}, cphloc model zoo. Data: {entry.data.citation}",
        "Changes": entry.changelog
        + (f"\n\nWorse than the version before, because: {entry.because}" * bool(entry.because)),
    }
    body = (f"## {title}\n\n{text}\n" for title, text in sections.items() if text)
    return "\n".join([f"# {entry.name} {entry.version}\n", f"{entry.summary}\n", *body])


def stated(metric: Metric) -> str:
    """A metric with its interval, as text.

    >>> stated(Metric(value=0.891, low=0.88, high=0.9, n=40))
    '0.891 [0.880, 0.900]'
    """
    if metric.n == 0:
        return "undefined"
    return f"{_number(metric.value)} [{_number(metric.low)}, {_number(metric.high)}]"


def verdict(entry: Entry) -> str:
    """One sentence: whether the headline metric beats the baseline with intervals apart."""
    name, ours = entry.headline
    other = entry.baseline.metrics.get(name)
    if other is None or ours.n == 0 or other.n == 0:
        return f"The baseline reports no '{name}', so whether the model beats it is not known."
    beaten = ours.high < other.low if lower_is_better(name) else ours.low > other.high
    if beaten:
        return f"It beats the baseline in {name}, with intervals apart."
    return f"**It does not beat the baseline in {name} with intervals apart.**"


def _results(entry: Entry) -> str:
    evaluation, baseline = entry.evaluation, entry.baseline
    rows = [
        (name, stated(m), stated(baseline.metrics[name]) if name in baseline.metrics else "", _cases(m))
        for name, m in evaluation.metrics.items()
    ]
    heading = ("metric", entry.name, f"baseline: {baseline.name}", "cases")
    text = (
        f"On the {len(evaluation.cases)} cases of the {evaluation.split} split, with 95 % intervals. {verdict(entry)}"
    )
    parts = [text, _table(heading, rows)]
    if evaluation.per_class:
        names = list(dict.fromkeys(name for table in evaluation.per_class.values() for name in table))
        classes = [(c, *(stated(t[n]) if n in t else "" for n in names)) for c, t in evaluation.per_class.items()]
        parts.append(_table(("class", *names), classes))
    if CASES_FILE in entry.files:
        parts.append(f"Every case by itself: [{CASES_FILE}]({CASES_FILE}).")
    return "\n\n".join(parts)


def _pictures(entry: Entry) -> str:
    pictures = [file for file in sorted(entry.files) if file.startswith(f"{PICTURES_FOLDER}/")]
    return "\n\n".join(f"![{file.rsplit('/', 1)[-1].removesuffix('.png')}]({file})" for file in pictures)


def _input_and_output(entry: Entry) -> Iterable[Sequence[str]]:
    spacing = "the image's own" if entry.spacing_mm is None else " x ".join(f"{s:g}" for s in entry.spacing_mm) + " mm"
    yield "task", f"{entry.task}, {entry.dims}-D"
    yield "modality", ", ".join(entry.modality)
    yield "channels", ", ".join(entry.channels)
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
    yield "memory", f"{entry.size.peak_ram_mb:,.0f} MB at most"
    yield "time", f"{entry.speed.ms_per_case:,.0f} ms a case on {entry.speed.device}"


def _usage(entry: Entry) -> list[str]:
    sample = "scan.nii.gz" if entry.dims == 3 else "image.png"
    source = f'"{sample}"' if len(entry.channels) == 1 else f"{{name: ... for name in {entry.channels}}}"
    return [f'model = cphloc.load("{entry}")', f"result = model.predict({source})", 'result.save("out/")']


def _reproduce(entry: Entry) -> str:
    origin = entry.origin
    commit = f"commit `{origin.git_commit}`" if origin.git_commit else "an installed cphloc"
    versions = ", ".join(f"{name} {version}" for name, version in origin.packages.items())
    text = (
        f"Made by {commit}, seed {origin.seed}, run `{origin.run}`"
        + (f", MLflow run `{origin.mlflow_run}`" if origin.mlflow_run else "")
        + f", with {versions}. Published on {origin.published}."
    )
    commands = ["cphloc train recipe.yaml", f"cphloc verify {entry} --metrics"]
    return f"{text}\n\n{_code('sh', commands)}"


def _cases(metric: Metric) -> str:
    return f"{metric.n}" + (f" ({metric.n_undefined} undefined)" if metric.n_undefined else "")


def _number(value: float | None) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        rest = ", ".join(f"{k} {v}" for k, v in value.items() if k != "type")
        return f"{value.get('type', '')} ({rest})" if rest else str(value.get("type", ""))
    return "; ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _code(language: str, lines: Iterable[str]) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
