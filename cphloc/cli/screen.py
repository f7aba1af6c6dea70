"""``cphloc screen``: estimate what a model would change in a screening programme."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cphloc.cli.result import Answer, table
from cphloc.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from cphloc.metrics.screening_effects import Effect, Rates


_METRIC, _SPECIFICITY = "sensitivity_at_90", 0.9
"""Metric that evaluations report, and the specificity at which it is measured."""

_QUANTITIES = (
    *("recalled", "biopsied", "found", "missed", "sensitivity", "specificity", "ppv1", "reads"),
    "net_benefit",
)
"""Quantities of the table: all but one of `cphloc.metrics.screening_impact.QUANTITIES`, so that lines stay short."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the default programme is that of the lecture."""
    what = "an entry or a run whose model gives labels of whole images"
    parser.add_argument("source", metavar="ENTRY-or-RUN", nargs="?", help=what)
    what = (
        "folder of labelled test cases, laid out as for `cphloc evaluate --root`; default: the model's own data set, "
        "or the numbers of the entry's card where that is not on this machine"
    )
    parser.add_argument("data", metavar="DATA", nargs="?", help=what)
    what = "class that counts as a finding; repeatable; default: any class of the model"
    parser.add_argument("--class", dest="classes", metavar="NAME", action="append", default=[], help=what)
    what = (
        "least sensitivity on validation cases, for which the threshold is chosen; without ENTRY-or-RUN that of a model"
    )
    parser.add_argument("--sensitivity", type=float, metavar="SHARE", help=what)
    what = "the same for the specificity; default 0.9"
    parser.add_argument("--specificity", type=float, default=_SPECIFICITY, metavar="SHARE", help=what)
    what = "least probability of a positive image, in place of a threshold chosen on validation cases"
    parser.add_argument("--threshold", type=float, metavar="P", help=what)
    what = "sensitivity and specificity of each group of cases as well, as for `cphloc evaluate`; repeatable"
    parser.add_argument("--by", metavar="COLUMN", action="append", default=[], help=what)
    _programme(parser)
    what = (
        "dependence between the errors of reader and model, from 0 (independent, the default) to 1 (largest possible)"
    )
    parser.add_argument("--dependence", type=float, default=0.0, metavar="D", help=what)
    what = "probability of cancer from which a recall is justified, for the net benefit; default 0.02, as in BI-RADS"
    parser.add_argument("--justified-from", type=float, default=0.02, metavar="P", help=what)
    parser.add_argument("--out", metavar="PICTURE", help="also draw the result to a file (.png, .pdf or .svg)")
    parser.add_argument("--report", metavar="FILE.html", help="also write a page with every number and its interval")


def _programme(parser: argparse.ArgumentParser) -> None:
    """Declare the counts of today's programme."""
    for name, default, what in (
        ("screened", 1000, "people screened by today's programme"),
        ("cancers", 6, "people with cancer among them, found or missed"),
        ("recalled", 100, "people recalled for further imaging"),
        ("biopsied", 20, "people biopsied"),
        ("found", 5, "cancers found"),
    ):
        parser.add_argument(f"--{name}", type=float, default=default, metavar="N", help=f"{what}; default {default}")


def run(options: argparse.Namespace) -> Answer:
    """Compute the screening funnel of today and of every use of the model, with intervals."""
    from cphloc.evaluation.screening_report import write_screening_report
    from cphloc.metrics.screening_effects import effects
    from cphloc.metrics.screening_impact import check_picture, draw_deployments, programme

    if options.out is not None:
        check_picture(options.out)
    today = programme(options.screened, options.cancers, options.recalled, options.biopsied, options.found)
    rates = _rates(options)
    found = effects(rates, today, options.dependence, options.justified_from)
    facts = {
        **{"model": rates.name, "source": rates.source, **rates.facts(), "justified_from": options.justified_from},
        **{"today": today.intervals(), "ways": [effect.facts() for effect in found]},
    }
    if options.out is not None:
        spans = {one.way.name: (one.numbers["found"][1], one.numbers["found"][2]) for one in found}
        draw_deployments([one.way for one in found], spans, options.out, _model_line(facts))
    if options.report is not None:
        write_screening_report(options.report, facts)
    head = ("way of screening", *(name.replace("ppv1", "PPV1").replace("_", " ") for name in _QUANTITIES))
    lines = [table([head, *map(_row, found)]), "", *_notes(facts, options.cancers)]
    written = {"picture": options.out, "page": options.report}
    lines += [f"{what}: {path}" for what, path in written.items() if path is not None]
    return Answer("\n".join(lines), facts)


def _rates(options: argparse.Namespace) -> Rates:
    """Measure the model on cases; without its data, take the numbers of its card, and without a model those stated."""
    from cphloc.evaluation.screening import measured_rates
    from cphloc.metrics.screening_effects import StatedRates

    asks = options.data, options.threshold, options.classes or None, options.by or None  # what needs cases
    needs_cases = any(asked is not None for asked in asks)
    if options.source is None:
        if options.sensitivity is None or needs_cases:
            msg = "name an entry or run, or state --sensitivity (and --specificity) of a model"
            raise InputError(msg)
        return StatedRates("a model", (options.sensitivity,) * 3, options.specificity)
    chosen = options.classes, options.specificity, options.sensitivity, options.threshold, options.by
    try:
        return measured_rates(options.source, options.data, *chosen)
    except NotFoundError as error:  # of its data set; a name that is not found is refused again below
        if needs_cases or options.sensitivity is not None or options.specificity != _SPECIFICITY:
            raise
        return _of_card(options.source, error)


def _of_card(source: str, why: NotFoundError) -> Rates:
    """Return the sensitivity that an entry's card states."""
    from cphloc.metrics.screening_effects import StatedRates
    from cphloc.publishing.compare import load_source

    card = load_source(source)
    found = next((of for name, of in card.metrics.items() if name.partition("/")[2] == _METRIC), None)
    if found is None:
        msg = f"{card.name} was not measured on image labels (no {_METRIC}); name one that gives labels"
        raise InputError(msg)
    if found["low"] is None:
        msg = f"{card.name} was measured on one patient, so its {_METRIC} has no interval; evaluate it on more"
        raise InputError(msg)
    text = (
        f"the numbers of its card, whose threshold was chosen on the test cases themselves ({why}); "
        "name a folder with cases as DATA for a threshold that is chosen on others"
    )
    return StatedRates(card.name, (found["value"], found["low"], found["high"]), _SPECIFICITY, text)


def _row(effect: Effect) -> Sequence[str]:
    from cphloc.metrics.screening_effects import with_interval

    facts = effect.facts()
    wide = ("found", "reads", "net_benefit")  # with their intervals; --json and --report have all
    cells = {name: {**facts[name], **({} if name in wide else {"low": None, "high": None})} for name in _QUANTITIES}
    return effect.way.name + (" *" if effect.way.needs_location else ""), *(
        with_interval(name, of) for name, of in cells.items()
    )


def _notes(facts: Mapping[str, Any], cancers: float) -> Iterator[str]:
    yield _model_line(facts)
    if facts["source"]:
        yield f"  {facts['source']}"
    for column, groups in facts.get("by", {}).items():
        rows = [(group, str(of["cases"]), str(of["with_finding"]), *_both(of)) for group, of in groups.items()]
        yield table([(column, "cases", "with a finding", "sensitivity", "specificity"), *rows])
    known = ", ".join(f"{share} {low:.3f} to {high:.3f}" for share, (low, high) in facts["today"].items())
    yield f"today's programme rests on {cancers:g} cancers; 95 % intervals: {known}"
    yield (
        "net benefit: cancers found per 1,000 people, less the false alarms, each worth "
        f"{facts['justified_from'] / (1 - facts['justified_from']):.3f} of a cancer; "
        f"recalling nobody has 0 (Vickers and Elkin 2006)"
    )
    yield "* needs to know where: a model that gives labels alone cannot be used so"


def _both(of: Mapping[str, Any]) -> list[str]:
    """Sensitivity and specificity with their intervals."""
    from cphloc.metrics.screening_effects import with_interval

    return [with_interval(name, of[name]) for name in ("sensitivity", "specificity")]


def _model_line(facts: Mapping[str, Any]) -> str:
    sensitivity, specificity = _both(facts)
    finding = f", finding: {' or '.join(facts['classes'])}" if "classes" in facts else ""
    return f"{facts['model']}: sensitivity {sensitivity} at specificity {specificity}{finding}"
