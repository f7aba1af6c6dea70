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
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from .measure import Comparison, Result, busy_share, measure
from .page import OTHERS, page

HERE = Path(__file__).parent
TOPICS = ("start", "model", "data", "boxes", "metrics", "prediction", "training", "growth")
MOST_BUSY, SECONDS_WATCHED = 0.1, 10.0
"""Nothing is measured if other processes took more than this share of a core over so many seconds."""
SECONDS_BETWEEN = 3.0
"""Seconds over which that is looked at again between topics."""
MOST_SECONDS = 14 * 60
"""No topic is begun after this time; the next run goes on with it."""
MOST_FALL = 0.1
"""A ratio that falls by more than this share since the last run is printed."""
FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8")
"""Instructions of a processor on which the numbers depend."""
PACKAGES = (
    *("torch", "monai", "torchio", "batchgeneratorsv2", "torchvision", "segmentation-models-pytorch", "SimpleITK"),
    *("nibabel", "pycocotools", "faster-coco-eval", "pydantic", "pyyaml", "numba"),
)


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write; returns 1 where a job failed.

    A run that was interrupted, or whose time was over, goes on with the topics that it had left.
    """
    options = _options(argv)
    _refuse_beside_others(options.busy, SECONDS_WATCHED)
    os.environ["OMP_NUM_THREADS"] = "1"  # read by torch when it is imported, here and in the commands measured
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # commands are compiled once, as those of an installed package
    facts, before = _begun(options), _ratios(options.out)
    began = time.monotonic()
    while facts["left"]:
        if time.monotonic() - began > MOST_SECONDS:
            sys.exit(f"{MOST_SECONDS / 60:.0f} minutes are over; run again for {', '.join(facts['left'])}")
        _measure_topic(facts, facts["left"][0], options)
        facts["left"].pop(0)
        _write(facts, options.out)
        if facts["left"]:
            _refuse_beside_others(options.busy, SECONDS_BETWEEN)
    _remember(_ratios(options.out), before, options.out)
    return int(bool(facts["failed"]))


def _refuse_beside_others(allowed: bool, seconds: float) -> None:
    """Exit where other processes use the processor; what was measured before is kept."""
    busy = 0.0 if allowed else busy_share(seconds)
    if busy > MOST_BUSY:
        sys.exit(
            f"other processes take {busy:.0%} of a core, which doubles some numbers; wait until they have ended and "
            "run again, or measure anyway with --busy --out FOLDER"
        )


def _begun(options: argparse.Namespace) -> dict:
    """Return the facts of the run before if it is to go on, else of a new one."""
    file = options.out / "results.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    new = {"full": options.full, "rounds": options.rounds, "asked": list(options.topics), "failed": {}, "topics": {}}
    same = all(known.get(key) == new[key] for key in ("full", "rounds", "asked"))
    if known.get("left") and same and not options.anew and _same_machine(known["machine"]):
        print(f"going on with {', '.join(known['left'])}; --anew begins again", flush=True)
        return known
    return new | {"left": list(options.topics)} | {name: known[name] for name in OTHERS if name in known}


def _same_machine(then: dict[str, object]) -> bool:
    now = _machine()
    return all(then.get(key) == now[key] for key in ("date", "processor", "python", "packages"))


def _measure_topic(facts: dict, topic: str, options: argparse.Namespace) -> None:
    """Measure a topic; a job that fails is named, and the others go on."""
    module = importlib.import_module(f".{topic}", __package__)
    if topic == "growth":
        try:
            facts["growth"] = module.measured(options.full)
            module.plot(facts["growth"], options.out / "growth.svg")
        except Exception as error:
            _note_failure(facts, topic, error)
        return
    facts["topics"][topic] = rows = []
    for comparison in module.comparisons(options.full):
        try:
            rows.append(_measured(topic, comparison, options.rounds))
        except Exception as error:
            _note_failure(facts, f"{topic}: {comparison.job}", error)


def _note_failure(facts: dict, job: str, error: Exception) -> None:
    facts["failed"][job] = f"{type(error).__name__}: {error}"
    print(f"FAILED: {job}: {error}", flush=True)


def _measured(topic: str, comparison: Comparison, rounds: int) -> dict:
    result = measure(comparison, rounds)
    print(f"{topic}: {_line(result)}", flush=True)
    return asdict(result)


def add_facts(name: str, rows: list[dict]) -> None:
    """Add what another command has measured to the page, and to what later runs keep."""
    facts = json.loads((HERE / "results.json").read_text(encoding="utf-8")) | {name: rows}
    (HERE / "results.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (HERE / "RESULTS.md").write_text(page(facts), encoding="utf-8")


def kept(name: str) -> list[dict]:
    """Return the rows that another command has added before."""
    return json.loads((HERE / "results.json").read_text(encoding="utf-8")).get(name, [])


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


def _write(facts: dict, folder: Path) -> None:
    """After every topic, so that an interrupted run leaves what it has."""
    facts["machine"] = _machine()
    (folder / "results.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "RESULTS.md").write_text(page(facts), encoding="utf-8")


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(TOPICS)}; by default all")
    parser.add_argument("--full", action="store_true", help="also the large sizes, which take an hour")
    parser.add_argument("--rounds", type=int, default=3, help="times that everybody does each job")
    parser.add_argument("--anew", action="store_true", help="do not go on with a run that was interrupted")
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


if __name__ == "__main__":
    sys.exit(main())
