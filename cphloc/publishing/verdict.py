"""Whether an entry is above its baseline, in words: the first thing that its card states."""

from __future__ import annotations

from cphloc.registry.metrics import has_direction, less_is_gain, quality_range
from cphloc.zoo.entry import Entry
from cphloc.zoo.measured import Metric

ABOVE, BELOW, UNKNOWN = "**Above its baseline**", "**Not above its baseline**", "**Not compared with a baseline**"
VERDICTS = tuple(f"{words} in " for words in (ABOVE, BELOW, UNKNOWN))
"""First words of a card, before the headline metric."""


def format_metric(metric: Metric, signed: bool = False) -> str:
    """Format a metric with its interval; ``signed`` writes the plus sign of differences.

    >>> format_metric(Metric(value=0.891, low=0.88, high=0.9, n=40))
    '0.891 [0.880, 0.900]'
    """
    found = metric.interval
    if found is None:
        return "undefined" if metric.value is None else f"{_number(metric.value, signed)} [one patient: no interval]"
    low, high = _number(found.low, signed), _number(found.high, signed)
    return f"{_number(found.value, signed)} [{low}, {high}]"


def beats_baseline(entry: Entry, name: str) -> bool | None:
    """Return whether a metric beats the baseline's; ``None`` where it is unknown.

    It does where the 95 % interval of the paired difference lies on the better side of 0; the difference of signed
    errors is that of their distances from 0. Entries that were published without paired differences are judged by
    whether the two intervals are apart.
    """
    if (gain := entry.baseline.paired.get(name)) is not None and gain.interval is not None:
        if not has_direction(name):
            return None
        return gain.interval.high < 0 if less_is_gain(name) else gain.interval.low > 0
    baseline = entry.baseline.metrics.get(name)
    if baseline is None or not has_direction(name):
        return None
    ours, other = entry.evaluation.metrics[name].interval, baseline.interval
    if ours is None or other is None:
        return None
    return quality_range(name, ours)[0] > quality_range(name, other)[1]


def first_words(entry: Entry) -> str:
    """Write whether the headline metric is above the baseline, by how much, and which other metrics are not."""
    name, found = entry.headline
    above = {metric: beats_baseline(entry, metric) for metric in entry.evaluation.metrics}
    if above[name] is None:
        return f"{UNKNOWN} in {name}: {format_metric(found)}."
    other, gain = entry.baseline.metrics.get(name), entry.baseline.paired.get(name)
    start = ABOVE if above[name] else BELOW
    text = f"{start} in {name}: {format_metric(found)}"
    text += f" against {format_metric(other)} ({entry.baseline.name})" if other is not None else ""
    if gain is not None:
        text += f", paired difference {format_metric(gain, signed=True)}"
    level = [metric for metric, beaten in above.items() if beaten is False and metric != name]
    rest = f" Not above it in: {', '.join(level)}." if level else ""
    why = f" Published because: {entry.below_baseline}" if entry.below_baseline else ""
    return f"{text} on {found.n} cases.{rest}{why}"


def verdict(entry: Entry) -> str:
    """Write whether the headline metric, then the others, beat the baseline."""
    name, _ = entry.headline
    how = "paired by patient" if entry.baseline.paired else "with intervals apart"
    found = {metric: beats_baseline(entry, metric) for metric in entry.evaluation.metrics}
    if found[name] is None:
        first = f"The baseline reports no '{name}', so it is not known whether the model beats it."
    elif found[name]:
        first = f"It beats the baseline in {name}, {how}."
    else:
        first = f"**It does not beat the baseline in {name}, {how}.**"
    better = [metric for metric, beaten in found.items() if beaten and metric != name]
    level = [metric for metric, beaten in found.items() if beaten is False and metric != name]
    too, neither = (" too", "") if found[name] else ("", " either" if found[name] is False else "")
    rest = [f"Better{too}: {', '.join(better)}."] if better else []
    return " ".join([first, *rest, *([f"Not better{neither}: {', '.join(level)}."] if level else [])])


def _number(value: float, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{value:{sign}.3f}" if abs(value) < 10 else f"{value:{sign}.1f}"
