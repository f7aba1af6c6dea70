"""Fuzz every reader, recipe, card, entry, index and report: ``python -m tests.fuzz [--minutes 60] [NAME...]``.

It can be stopped and goes on: inputs that reach new code are kept in ``.fuzz``, with the time spent on each target.
Inputs that fail are copied to ``tests/fuzz/seeds``, where the tests run them. Writes ``tests/fuzz/RESULTS.md``.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys

from tests.fuzz.targets import HERE, SEEDS, TARGETS, valid_files

WORK = HERE.parent.parent / ".fuzz"
STATE = WORK / "state.json"
_HEAD = """# Fuzzing

Written by `make fuzz`. An input fails if it raises anything but an error of cphloc, takes more than 2 s of processor
time, blocks, or needs 500 MB beyond the imported libraries.
"""


def main() -> int:
    """Run all targets, one after the other; 0 if no input has failed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=60, help="time of all targets together (default 60)")
    options.add_argument("--seeds", action="store_true", help="only write the valid files to start from")
    options.add_argument("names", nargs="*", help="targets; default: all")
    asked = options.parse_args()
    write_seeds()
    if asked.seeds:
        return 0
    names = asked.names or [target.name for target in TARGETS]
    seconds = asked.minutes * 60 / len(names)
    state = json.loads(STATE.read_text()) if STATE.is_file() else {}
    if all(state.get(name, {}).get("seconds", 0) >= seconds for name in names):
        state = {}  # a complete run: start a new one
    for name in names:
        spent = state.setdefault(name, {"seconds": 0.0, "runs": 0, "failed": 0})
        if spent["seconds"] >= seconds:
            continue
        print(f"{name}: {seconds - spent['seconds']:.0f} s", flush=True)
        runs, failed = fuzz(name, seconds - spent["seconds"])
        state[name] = {"seconds": seconds, "runs": spent["runs"] + runs, "failed": spent["failed"] + failed}
        STATE.write_text(json.dumps(state, indent=1))
    write_results(state)
    return int(any(state[name]["failed"] for name in names))


def write_seeds() -> None:
    """Write the valid files of every target that has none."""
    for name, contents in valid_files().items():
        (SEEDS / name).mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            path = SEEDS / name / f"valid-{number}"
            if not path.exists():
                path.write_bytes(content)


def fuzz(name: str, seconds: float) -> tuple[int, int]:
    """Fuzz one target; return the number of inputs, and of those that failed."""
    corpus, crashes = WORK / "corpus" / name, WORK / "crashes" / name
    shutil.rmtree(crashes, ignore_errors=True)
    for folder in (corpus, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.fuzz.one",
        name,
        str(int(seconds)),
        str(corpus),
        str(crashes),
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    failed = sorted(crashes.iterdir())
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:], sep="\n", flush=True)
    for path in failed:
        shutil.copyfile(path, SEEDS / name / path.name[:24])
    return int(found[1]) if found else 0, max(len(failed), int(done.returncode != 0))


def write_results(state: dict[str, dict[str, float]]) -> None:
    """Write the table of the last run."""
    rows = [f"| {name} | {s['runs']:,} | {s['seconds']:.0f} | {s['failed']} |" for name, s in state.items()]
    lines = [
        "# Fuzzing",
        "",
        "Written by `make fuzz`. An input fails if it raises anything but an error of cphloc,",
        "",
    ]
    lines[2] += " takes more than 2 s"
    lines[3] = "of processor time, blocks, or needs 500 MB beyond the imported libraries.\n"
    table = ["| target | inputs | seconds | failed |", "|---|---|---|---|", *rows]
    (HERE / "RESULTS.md").write_text("\n".join([*lines, *table]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
