"""Fuzz every reader, recipe, card, entry, index and report: ``python -m tests.fuzz [--minutes 60] [NAME...]``.

Each target runs in processes of its own with a limit on their memory, so that one that dies is reported with its input
and the others go on. The run can be stopped and goes on: inputs that reach new code are kept in ``.fuzz``, with the
time spent on each target. Inputs that fail are copied to ``tests/fuzz/seeds``, where the tests run them. Writes
``tests/fuzz/RESULTS.md``, after every target.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.fuzz.targets import HERE, SEEDS, TARGETS, valid_files

WORK = HERE.parent.parent / ".fuzz"
STATE = WORK / "state.json"
GRACE_SECONDS = 900
"""Time for imports on a busy machine, and for an input that never ends to be noticed by atheris."""
MOST_FAILURES = 5
"""Failures of a target after which it is left."""
_HEAD = """# Fuzzing

Written by `make fuzz`. An input fails if it raises anything but an error of cphloc, ends the process, takes more than
2 s of processor time, blocks, or needs 500 MB beyond the imported libraries. The last run: {inputs:,} inputs in
{minutes:.0f} minutes, {failed} of them failed.

| target | inputs | seconds | failed | how |
|---|---|---|---|---|
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
    if all(_is_done(state.get(name, {}), seconds) for name in names):
        state = {}  # a complete run: start a new one
        shutil.rmtree(WORK / "failed", ignore_errors=True)
    for name in names:
        spent = state.setdefault(name, {"seconds": 0.0, "inputs": 0, "failed": []})
        while not _is_done(spent, seconds):
            print(f"{name}: {seconds - spent['seconds']:.0f} s", flush=True)
            fuzz(name, seconds - spent["seconds"], spent)
            STATE.write_text(json.dumps(state, indent=1))
            if not asked.names:
                write_results(state)
        for path in sorted((WORK / "failed" / name).glob("*")):
            shutil.copyfile(path, SEEDS / name / path.name[:24])
    return int(any(state[name]["failed"] for name in names))


def _is_done(spent: dict[str, Any], seconds: float) -> bool:
    """Return whether a target has had its time, to the second that atheris counts in, or has failed too often."""
    return spent.get("seconds", 0) > seconds - 1 or len(spent.get("failed", ())) >= MOST_FAILURES


def write_seeds() -> None:
    """Write the valid files of every target that has none."""
    for name, contents in valid_files().items():
        (SEEDS / name).mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            path = SEEDS / name / f"valid-{number}"
            if not path.exists():
                path.write_bytes(content)


def fuzz(name: str, seconds: float, spent: dict[str, Any]) -> None:
    """Fuzz one target in a process of its own, until the time is over or an input fails; adds to ``spent``."""
    corpus, crashes, last = WORK / "corpus" / name, WORK / "crashes" / name, WORK / "last" / name
    for folder in (crashes, last.parent):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (corpus, crashes, last.parent):
        folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.one", name, str(max(1, int(seconds)))]
    started = time.monotonic()
    with (WORK / f"{name}.log").open("w+", errors="replace") as log:
        child = subprocess.Popen([*command, str(corpus), str(crashes), str(last)], stdout=log, stderr=log)
        try:
            code = child.wait(seconds + GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
        finally:
            child.kill()
        log.seek(0)
        said = log.read()
    spent["seconds"] += min(time.monotonic() - started, seconds)
    spent["inputs"] += int(Path(f"{last}.count").read_text() or 0) if Path(f"{last}.count").is_file() else 0
    failed = sorted(crashes.iterdir())
    if code and not failed:
        content = last.read_bytes() if last.is_file() else b""
        failed = [crashes / f"death-{hashlib.sha256(content).hexdigest()[:16]}"]
        failed[0].write_bytes(content)
    for path in failed:
        reason = _reason(code, said)
        spent["failed"].append(f"{path.name.partition('-')[0]}: {reason}")
        (kept := WORK / "failed" / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept / path.name)
        print(f"FAILED {name} {kept / path.name}: {reason}\n{said[-3000:]}", flush=True)


def _reason(code: int, said: str) -> str:
    """Return why a process ended, in a line: the Python exception, else the signal or exit status."""
    raised = said.partition("=== Uncaught Python exception: ===")[2] or said.rpartition("Traceback ")[2]
    lines = [line for line in raised.splitlines() if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
    if lines:
        return lines[0][:120].replace("|", "/")
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def write_results(state: dict[str, dict[str, Any]]) -> None:
    """Write the table of the last run."""
    spent = state.values()
    totals = {"inputs": sum(s["inputs"] for s in spent), "minutes": sum(s["seconds"] for s in spent) / 60}
    rows = [
        f"| {name} | {s['inputs']:,} | {s['seconds']:.0f} | {len(s['failed'])} | {'; '.join(s['failed'])} |"
        for name, s in state.items()
    ]
    head = _HEAD.format(**totals, failed=sum(len(s["failed"]) for s in spent))
    (HERE / "RESULTS.md").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
