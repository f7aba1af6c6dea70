"""Write ``ZOO.md``: the card of every entry beside what is measured now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata

from cphloc.publishing.markdown import table
from cphloc.publishing.verify import METRIC_TOLERANCE, Check

_PACKAGES = ("cphloc", "torch", "numpy", "scipy", "SimpleITK", "timm")
_HEADING = ("entry", "metric", "card", "measured", "difference", "verdict")

_HEAD = """# The zoo, measured again

Made by `make zoo-numbers`. Every entry was evaluated on the split of its card, with the data sets in `CPHLOC_DATA`. A
number agrees where it differs by at most {tolerance:g}, or {share:g} % where it is above 1; the ends of its 95 %
interval and its number of cases are compared too. The table holds the metrics of each entry; the last line of an entry
also counts those of its classes and of its baseline, its files and its sample.

{packages}

"""


def text(found: Mapping[str, Sequence[Check]], missing: Sequence[str]) -> str:
    """Return the page.

    Args:
        found: checks of each entry that was measured.
        missing: entries that were not.
    """
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    head = _HEAD.format(tolerance=METRIC_TOLERANCE, share=100 * METRIC_TOLERANCE, packages=versions)
    rows = [row for entry, checks in found.items() for row in _rows(entry, checks)]
    wrong = [f"- {e}, {c.what}: {c.found}" for e, checks in found.items() for c in checks if not c.right]
    parts = [head + table(_HEADING, rows)]
    parts += ["## Differences", "\n".join(wrong)] if wrong else []
    parts += [f"Not measured: {', '.join(missing)}."] if missing else []
    return "\n\n".join(parts) + "\n"


def lines(entry: str, checks: Sequence[Check]) -> Iterator[str]:
    """Yield the rows of an entry for a terminal."""
    yield from ("  ".join(filter(None, row)) for row in _rows(entry, checks))
    yield from (f"  WRONG {check.what}: {check.found}" for check in checks if not check.right)


def _rows(entry: str, checks: Sequence[Check]) -> Iterator[tuple[str, ...]]:
    for check in checks:
        own = check.published is not None and ": " not in check.what and not check.what.startswith("baseline ")
        if own and check.measured is not None:
            gap = f"{check.measured - check.published:+.1e}" if check.measured != check.published else "0"
            yield entry, check.what, _number(check.published), _number(check.measured), gap, _verdict(check.right)
    agreeing = sum(check.right for check in checks)
    yield entry, "everything", "", "", f"{agreeing} of {len(checks)} agree", _verdict(agreeing == len(checks))


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def _verdict(right: bool) -> str:
    return "agrees" if right else "**differs**"
