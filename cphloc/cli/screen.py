"""``cphloc screen``: estimate what a model would change in a screening programme."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cphloc.cli.result import Answer, table
from cphloc.errors import InputError

if TYPE_CHECKING:
    from cphloc.metrics.screening_impact import Deployment

_METRIC, _SPECIFICITY = "sensitivity_at_90", 0.9
"""Metric that evaluations report, and the specificity at which it is measured."""

_HEAD = ("way of screening", "recalled", "biopsied", "found", "missed", "sensitivity", "specificity", "PPV1", "reads")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the default programme is that of the lecture."""
    what = "an entry or an evaluated run with image labels; its sensitivity at 90 % specificity is used"
    parser.add_argument("source", metavar="ENTRY-or-RUN", nargs="?", help=what)
    parser.add_argument(
        "--sensitivity", type=float, metavar="SHARE", help="sensitivity of a model, in place of ENTRY-or-RUN"
    )
    parser.add_argument(
        "--specificity",
        type=float,
        default=_SPECIFICITY,
        metavar="SHARE",
        help="its specificity, with --sensitivity; default 0.9",
    )
    parser.add_argument(
        "--screened", type=float, default=1000, metavar="N", help="people screened by today's programme; default 1000"
    )
    parser.add_argument(
        "--cancers",
        type=float,
        default=6,
        metavar="N",
        help="people with cancer among them, found or missed; default 6",
    )
    parser.add_argument(
        "--recalled", type=float, default=100, metavar="N", help="people recalled for further imaging; default 100"
    )
    parser.add_argument("--biopsied", type=float, default=20, metavar="N", help="people biopsied; default 20")
    parser.add_argument("--found", type=float, default=5, metavar="N", help="cancers found; default 5")
    what = (
        "dependence between the errors of reader and model, from 0 (independent, the default) to 1 (largest possible)"
    )
    parser.add_argument("--dependence", type=float, default=0.0, metavar="D", help=what)
    parser.add_argument("--out", metavar="PICTURE", help="also draw the result to a file (.png, .pdf or .svg)")


def run(options: argparse.Namespace) -> Answer:
    """Compute the screening funnel of today and of every use of the model, with the interval of its sensitivity."""
    from cphloc.metrics.screening import OperatingPoint
    from cphloc.metrics.screening_impact import deployments, draw_deployments, programme

    today = programme(options.screened, options.cancers, options.recalled, options.biopsied, options.found)
    name, sensitivities, specificity = _model(options)
    value, low, high = (
        deployments(today, OperatingPoint(sensitivity, specificity), options.dependence)
        for sensitivity in sensitivities
    )
    spans = {
        way.name: (a.funnel.biopsied_with_cancer, b.funnel.biopsied_with_cancer)
        for way, a, b in zip(value, low, high, strict=True)
    }
    if options.out is not None:
        draw_deployments(value, spans, options.out, _model_line(name, sensitivities, specificity))
    lines = [
        table([_HEAD, *(_row(way, spans[way.name]) for way in value)]),
        "",
        *_notes(name, sensitivities, specificity, today.intervals(), value),
        *([f"picture: {options.out}"] if options.out is not None else []),
    ]
    return Answer(
        "\n".join(lines), _facts(name, sensitivities, specificity, value, spans) | {"today": today.intervals()}
    )


def _model(options: argparse.Namespace) -> tuple[str, tuple[float, float, float], float]:
    """Name, sensitivity with the ends of its interval, and specificity of the model."""
    if (options.source is None) == (options.sensitivity is None):
        msg = "name an entry or run, or state --sensitivity (and --specificity) of a model, not both"
        raise InputError(msg)
    if options.source is None:
        return "a model", (options.sensitivity,) * 3, options.specificity
    from cphloc.publishing.compare import load_source

    source = load_source(options.source)
    found = next((of for name, of in source.metrics.items() if name.partition("/")[2] == _METRIC), None)
    if found is None:
        msg = f"{source.name} was not measured on image labels (no {_METRIC}); name one that gives labels"
        raise InputError(msg)
    if found["low"] is None:
        msg = f"{source.name} was measured on one patient, so its {_METRIC} has no interval; evaluate it on more"
        raise InputError(msg)
    return source.name, (found["value"], found["low"], found["high"]), _SPECIFICITY


def _row(way: Deployment, span: tuple[float, float]) -> Sequence[str]:
    funnel = way.funnel
    found = f"{funnel.biopsied_with_cancer:.2f}"
    return (
        way.name + (" *" if way.needs_location else ""),
        f"{funnel.recalled:.1f}",
        f"{funnel.biopsied:.1f}",
        found if span[1] - span[0] < 0.005 else f"{found} ({span[0]:.2f} to {span[1]:.2f})",
        f"{funnel.prevalence * funnel.screened - funnel.biopsied_with_cancer:.2f}",
        f"{funnel.sensitivity:.3f}",
        f"{funnel.specificity:.3f}",
        f"{funnel.ppv1:.3f}",
        f"{way.reads:.0f}",
    )


def _notes(
    name: str,
    sensitivities: tuple[float, float, float],
    specificity: float,
    today: Mapping[str, tuple[float, float]],
    found: Sequence[Deployment],
) -> list[str]:
    cancers = found[0].funnel.prevalence * found[0].funnel.screened
    known = ", ".join(f"{share} {low:.3f} to {high:.3f}" for share, (low, high) in today.items())
    return [
        _model_line(name, sensitivities, specificity),
        f"today's programme rests on {cancers:g} cancers; 95 % intervals: {known}",
        "* needs to know where: a model that gives labels alone cannot be used so",
    ]


def _model_line(name: str, sensitivities: tuple[float, float, float], specificity: float) -> str:
    value, low, high = sensitivities
    interval = f" (95 % interval {low:.3f} to {high:.3f})" if low < high else ""
    return f"{name}: sensitivity {value:.3f}{interval} at specificity {specificity:.3f}"


def _facts(
    name: str,
    sensitivities: tuple[float, float, float],
    specificity: float,
    found: Sequence[Deployment],
    spans: Mapping[str, tuple[float, float]],
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "model": name,
        "sensitivity": dict(zip(("value", "low", "high"), sensitivities, strict=True)),
        "specificity": specificity,
        "ways": [
            {
                "name": way.name,
                "needs_location": way.needs_location,
                "reads": way.reads,
                "found_by_biopsy": spans[way.name],
                **asdict(way.funnel),
            }
            for way in found
        ],
    }
