"""The page of the results: ``RESULTS.md``."""

from __future__ import annotations

from pathlib import Path

from .explained import EXPLAINED

HERE = Path(__file__).parent
OTHERS = {
    "crowd": (
        "Crowds",
        "Written by `make crowd`: so many processes train, evaluate, publish, load and predict at once on one zoo, one "
        "cache and one MLflow.\nEvery version and run must be there once. Retries: what was sent or registered later.",
    ),
    "loading": (
        "Waiting for data",
        "Written by `python -m tests.benchmarks.loading`: six steps of every shipped recipe after its first; the goal "
        "is a share below 10 %.\nPatches: the time in which one process makes those of a step. On a busy machine the "
        "worker processes get too little of a core, and steps wait longer.",
    ),
    "large_ct": (
        "A large CT beside nnUNetv2_predict",
        "Written by `python -m tests.benchmarks.large_ct`: an imported network of nnU-Net's size, the same windows and "
        "steps, no mirroring,\nfrom .nii.gz to .nii.gz on one thread, start of the commands and export of the network "
        "included; the goal is 4.",
    ),
    "large": (
        "Large zoos, splits and tables",
        "Written by `python -m tests.benchmarks.large`: each in a process of its own; MB are its peak memory.",
    ),
}
"""What other commands measure: name in ``results.json`` -> title and text."""


def page(facts: dict) -> str:
    """Return the text of ``RESULTS.md``."""
    machine = facts["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {machine['date']}: {machine['processor']} "
        f"({', '.join(machine.get('features', []))}), {machine['cores']} cores, Python "
        f"{machine['python']}; {packages}.",
        "",
        f"Medians of {facts['rounds']} rounds in turn (of one, where somebody takes over 20 s), milliseconds of CPU on "
        "one thread; in brackets the least and the most. "
        f"Load of the machine when it ended: {machine['load']:.1f}; a busy one takes more CPU for the same. "
        "The ratio is what a peer takes over what cphloc takes: above 1, cphloc is quicker. A row whose "
        "outputs differ is no comparison of equals.",
    ]
    if (HERE / "profile.md").is_file():
        lines += ["", (HERE / "profile.md").read_text(encoding="utf-8").rstrip()]
    for topic, results in facts["topics"].items():
        lines += ["", f"## {topic.capitalize()}", "", "| job | who | ms | ratio | output | goal |", "|" + "---|" * 6]
        lines += [row for result in results for row in _rows(result)]
    if facts.get("failed"):
        lines += ["", "## Failed", "", *(f"- {job}: {why}" for job, why in facts["failed"].items())]
    if facts.get("left"):
        lines += ["", f"Not finished: {', '.join(facts['left'])}; run `make bench` again, which goes on with them."]
    if "growth" in facts:
        lines += ["", *_growth(facts["growth"])]
    for name, (title, about) in OTHERS.items():
        if name in facts:
            lines += ["", f"## {title}", "", about, "", *_table(facts[name])]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict]) -> list[str]:
    cells = [[f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()] for row in rows]
    return [f"| {' | '.join(line)} |" for line in [list(rows[0]), ["---"] * len(rows[0]), *cells]]


def _growth(found: dict) -> list[str]:
    lines = ["## Growth", "", "cphloc alone. The exponent is fitted to all sizes: 1 is linear, 0 no growth.", ""]
    lines += ["![cost over size](growth.svg)", ""]
    lines += ["| what grows | sizes | seconds of CPU | exponent |", "|" + "---|" * 4]
    for row in found["seconds"]:
        sizes, values = (", ".join(f"{n:.3g}" if n < 1 else f"{n:,.4g}" for n in row[k]) for k in ("sizes", "values"))
        lines.append(f"| {row['what']} | {sizes} | {values} | {row['exponent']:.2f} |")
    lines += ["", "| peak memory of the process, MB | sizes | MB |", "|" + "---|" * 3]
    for row in found["peak_mb"]:
        sizes, values = (", ".join(f"{n:,.0f}" for n in row[key]) for key in ("sizes", "values"))
        lines.append(f"| {row['what']} | {sizes} | {values} |")
    return lines


def _rows(result: dict) -> list[str]:
    ours = result["ours"]
    goal = result["goal"] and f"{result['goal']}: {_verdict(result['reached'], result['job'])}"
    rows = []
    for name, seconds in result["seconds"].items():
        low, high = result["spread"][name]
        first = (result["job"], f"**{name}**") if name == ours else ("", name)
        ratio = "" if name == ours else f"{seconds / result['seconds'][ours]:.2f}"
        cells = (*first, f"{_ms(seconds)} ({_ms(low)} to {_ms(high)})", ratio, result["outputs"].get(name, ""))
        rows.append(f"| {' | '.join(cells)} | {goal if name == ours else ''} |")
    rows += [f"| | {name} | not installed: `{package}` | | | |" for name, package in result["missing"].items()]
    return rows


def _verdict(reached: bool | None, job: str) -> str:
    """Whether a goal is reached, or what a profile says of why not."""
    if reached is None or reached:
        return "not measured" if reached is None else "reached"
    return next((f"missed: {why}" for start, why in EXPLAINED.items() if job.startswith(start)), "**missed**")


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"
