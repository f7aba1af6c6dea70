"""``make bench``: cphloc beside its peers; writes ``RESULTS.md`` and ``results.json``, and decides no test.

Every job is done in turn by all contenders, several times; the numbers are medians of CPU seconds, on one thread.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from .measure import Comparison, Result, busy_share, measure

HERE = Path(__file__).parent
TOPICS = ("start", "model", "data", "boxes", "metrics", "prediction", "training", "growth")
MOST_BUSY, SECONDS_WATCHED = 0.1, 10.0
"""Nothing is measured if other processes took more than this share of a core over so many seconds."""
MOST_FALL = 0.1
"""A ratio that falls by more than this share since the last run is printed."""
FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8")
"""Instructions of a processor on which the numbers depend."""
_OTHERS = {
    "crowd": (
        "Crowds",
        "Written by `make crowd`: so many processes train, evaluate, publish, load and predict at once on one zoo, one "
        "cache and one MLflow.\nEvery version and run must be there once. Retries: what was sent or registered later.",
    ),
    "large": (
        "Large zoos, splits and tables",
        "Written by `python -m tests.benchmarks.large`: each in a process of its own; MB are its peak memory.",
    ),
}
"""What other commands measure: name in ``results.json`` -> title and text."""
PACKAGES = (
    *("torch", "monai", "torchio", "batchgeneratorsv2", "torchvision", "segmentation-models-pytorch", "SimpleITK"),
    *("nibabel", "pycocotools", "faster-coco-eval", "pydantic", "pyyaml", "numba"),
)


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write."""
    options = _options(argv)
    busy = 0.0 if options.busy else busy_share(SECONDS_WATCHED)
    if busy > MOST_BUSY:
        sys.exit(
            f"other processes take {busy:.0%} of a core, which doubles some numbers; wait until they have ended, or "
            "measure anyway with --busy --out FOLDER"
        )
    os.environ["OMP_NUM_THREADS"] = "1"  # read by torch when it is imported, here and in the commands measured
    facts = {"full": options.full, "rounds": options.rounds, "topics": {}} | _kept(options.out)
    before = _ratios(options.out)
    for topic in options.topics:
        module = importlib.import_module(f".{topic}", __package__)
        if topic == "growth":
            facts["growth"] = module.measured(options.full)
            module.plot(facts["growth"], options.out / "growth.png")
        else:
            facts["topics"][topic] = [
                _measured(topic, each, options.rounds) for each in module.comparisons(options.full)
            ]
        _write(facts, options.out)
    _remember(_ratios(options.out), before, options.out)


def _measured(topic: str, comparison: Comparison, rounds: int) -> dict:
    result = measure(comparison, rounds)
    print(f"{topic}: {_line(result)}", flush=True)
    return asdict(result)


def add_facts(name: str, rows: list[dict]) -> None:
    """Add what another command has measured to the page, and to what later runs keep."""
    facts = json.loads((HERE / "results.json").read_text(encoding="utf-8")) | {name: rows}
    (HERE / "results.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (HERE / "RESULTS.md").write_text(_page(facts), encoding="utf-8")


def _ratios(folder: Path) -> dict[str, float]:
    """What the best peer takes over what cphloc takes, by topic and job, of the last run in a folder."""
    file = folder / "results.json"
    topics = json.loads(file.read_text(encoding="utf-8")).get("topics", {}) if file.is_file() else {}
    found = {}
    for topic, results in topics.items():
        for result in results:
            peers = [t for name, t in result["seconds"].items() if not name.startswith("cphloc")]
            if peers:
                found[f"{topic}: {result['job']}"] = min(peers) / result["seconds"][result["ours"]]
    return found


def _remember(now: dict[str, float], before: dict[str, float], folder: Path) -> None:
    """Add the ratios to ``history.jsonl``, and print those that fell by more than a tenth since the last run."""
    line = {"date": _machine()["date"], "processor": _processor(), "ratios": {k: round(v, 3) for k, v in now.items()}}
    with (folder / "history.jsonl").open("a", encoding="utf-8") as history:
        history.write(json.dumps(line) + "\n")
    for job in sorted(now.keys() & before.keys()):
        if now[job] < (1 - MOST_FALL) * before[job]:
            print(f"FELL: {job}: {before[job]:.2f} to {now[job]:.2f} times", flush=True)


def _kept(folder: Path) -> dict:
    """Return what other commands have measured."""
    file = folder / "results.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {name: known[name] for name in _OTHERS if name in known}


def _write(facts: dict, folder: Path) -> None:
    """After every topic, so that an interrupted run leaves what it has."""
    facts["machine"] = _machine()
    (folder / "results.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "RESULTS.md").write_text(_page(facts), encoding="utf-8")


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(TOPICS)}; by default all")
    parser.add_argument("--full", action="store_true", help="also the large sizes, which take an hour")
    parser.add_argument("--rounds", type=int, default=3, help="times that everybody does each job")
    parser.add_argument("--busy", action="store_true", help="measure although other processes use the machine")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for RESULTS.md and results.json")
    options = parser.parse_args(argv)
    if options.busy and options.out == HERE:
        parser.error("--busy writes no published numbers; name a folder: --out FOLDER")
    options.out.mkdir(parents=True, exist_ok=True)
    options.topics = options.topics or list(TOPICS)
    if unknown := set(options.topics) - set(TOPICS):
        parser.error(f"no topic '{min(unknown)}'; choose from {', '.join(TOPICS)}")
    return options


def _machine() -> dict[str, object]:
    """What the numbers depend on; no names or paths of this machine."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "features": _features(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "bytecode": "not kept" if sys.dont_write_bytecode else "kept",
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _features() -> list[str]:
    """Those of `FEATURES` that the processor has, where Linux states them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return [name for name in FEATURES if name in flags]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _line(result: Result) -> str:
    ratios = [f"{name} {result.ratio(name):.2f} times" for name in result.seconds if name != result.ours]
    missing = [f"{name} not installed ({package})" for name, package in result.missing.items()]
    found = f"{result.job}: {1e3 * result.seconds[result.ours]:.2f} ms; {', '.join(ratios + missing) or 'no peer'}"
    return found if result.reached is None else f"{found}; goal {'reached' if result.reached else 'MISSED'}"


def _page(facts: dict) -> str:
    machine = facts["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {machine['date']}: {machine['processor']} "
        f"({', '.join(machine.get('features', []))}), {machine['cores']} cores, Python "
        f"{machine['python']}, bytecode {machine['bytecode']}; {packages}.",
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
    if "growth" in facts:
        lines += ["", *_growth(facts["growth"])]
    for name, (title, about) in _OTHERS.items():
        if name in facts:
            lines += ["", f"## {title}", "", about, "", *_table(facts[name])]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict]) -> list[str]:
    cells = [[f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()] for row in rows]
    return [f"| {' | '.join(line)} |" for line in [list(rows[0]), ["---"] * len(rows[0]), *cells]]


def _growth(found: dict) -> list[str]:
    lines = ["## Growth", "", "cphloc alone. The exponent is fitted to all sizes: 1 is linear, 0 no growth.", ""]
    lines += ["![cost over size](growth.png)", ""]
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
    goal = result["goal"] and f"{result['goal']}: {_verdict(result['reached'])}"
    rows = []
    for name, seconds in result["seconds"].items():
        low, high = result["spread"][name]
        first = (result["job"], f"**{name}**") if name == ours else ("", name)
        ratio = "" if name == ours else f"{seconds / result['seconds'][ours]:.2f}"
        cells = (*first, f"{_ms(seconds)} ({_ms(low)} to {_ms(high)})", ratio, result["outputs"].get(name, ""))
        rows.append(f"| {' | '.join(cells)} | {goal if name == ours else ''} |")
    rows += [f"| | {name} | not installed: `{package}` | | | |" for name, package in result["missing"].items()]
    return rows


def _verdict(reached: bool | None) -> str:
    return "not measured" if reached is None else "reached" if reached else "**missed**"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


if __name__ == "__main__":
    main()
