"""Faults at every write of every command: ``python -m tests.faults [--sample N] [VERB...]``.

It can be stopped and goes on with the next command. Writes ``tests/faults/TABLE.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.faulty_io import KINDS
from tests.faults.trial import Trial, server_for, trials
from tests.faults.verbs import VERBS

HERE = Path(__file__).parent
STATE = HERE.parent.parent / ".faults" / "state.json"
_HEAD = """# Faults at every write

Written by `make faults`: each command is run on a small job as often as there are faults at its file operations, once
for each, then done again (a training: resumed), and compared with an undisturbed one. At every write: a full disk (half
of the bytes are written) and a torn write (half of the bytes, then SIGKILL). At every rename: an input/output error,
SIGKILL just before and just after. At every removal: an input/output error and SIGKILL before. At every new file and
every flush (fsync): an input/output error. At every new folder: a full disk.

A trial has recovered if no visible file is torn, nothing unfinished counts as finished, an error is one line that names
the file and the cause, the second attempt succeeds, its results equal the undisturbed ones bit for bit, and no
temporary file is left.

`~` is a temporary name; RUN and HASH stand for names that vary.
"""


def main() -> int:
    """Try all commands; 0 if every trial has recovered."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sample", type=int, help="faults of each command; default: all")
    options.add_argument("verbs", nargs="*", help="default: all")
    asked = options.parse_args()
    chosen = [verb for verb in VERBS if not asked.verbs or verb.name in asked.verbs]
    whole = asked.sample is None
    state = json.loads(STATE.read_text()) if whole and STATE.is_file() else {}
    if all(verb.name in state for verb in chosen):
        state = {name: found for name, found in state.items() if asked.verbs}  # all was done: start anew
    for name in asked.verbs:
        state.pop(name, None)
    failed = 0
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # there, a flush takes no time
    with tempfile.TemporaryDirectory(dir=memory) as base:
        waiting = [verb for verb in chosen if verb.name not in state]
        server = server_for(waiting, Path(base).resolve())
        for verb in waiting:
            started, found = time.monotonic(), []
            for trial in trials(server, verb, asked.sample):
                found.append(trial)
                if trial.wrong:
                    print(f"{verb.name}: {trial}", flush=True)
            failed += sum(bool(trial.wrong) for trial in found)
            seconds = time.monotonic() - started
            print(f"{verb.name}: {len(found)} faults, {seconds:.0f} s", flush=True)
            state[verb.name] = {"seconds": round(seconds), "rows": rows_of(found)}
            if whole:
                STATE.parent.mkdir(exist_ok=True)
                STATE.write_text(json.dumps(state, indent=1))
    if whole:
        ordered = {verb.name: state[verb.name] for verb in VERBS if verb.name in state}
        (HERE / "TABLE.md").write_text(table(ordered), encoding="utf-8")
    return int(failed > 0)


def rows_of(found: list[Trial]) -> list[list]:
    """For every file: its name, the operations with their number, the number of faults and of those not recovered."""
    files: dict[str, list[Trial]] = {}
    for trial in found:
        files.setdefault(trial.point.file, []).append(trial)
    rows = []
    for file, of in sorted(files.items()):
        counted = Counter(trial.point.operation for trial in {trial.point: trial for trial in of}.values())
        operations = ", ".join(f"{counted[name]} {name}" for name in KINDS if counted[name])
        rows.append([file, operations, len(of), sum(bool(trial.wrong) for trial in of)])
    return rows


def table(state: dict) -> str:
    """Write the results as Markdown."""
    lines = [_HEAD, "| command | files | faults | recovered | seconds |", "|---|---|---|---|---|"]
    for verb, found in state.items():
        rows = found["rows"]
        faults, wrong = sum(row[2] for row in rows), sum(row[3] for row in rows)
        lines.append(f"| {verb} | {len(rows)} | {faults} | {faults - wrong} | {found['seconds']} |")
    every = [row for found in state.values() for row in found["rows"]]
    total, lost = sum(row[2] for row in every), sum(row[3] for row in every)
    lines.append(f"| **all** | {len(every)} | {total} | {total - lost} | {sum(f['seconds'] for f in state.values())} |")
    for verb, found in state.items():
        lines += ["", f"## {verb}", "", "| file | operations | faults | recovered |", "|---|---|---|---|"]
        lines += [f"| {file} | {what} | {faults} | {faults - wrong} |" for file, what, faults, wrong in found["rows"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
