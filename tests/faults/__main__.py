"""Faults at every write of every command: ``python -m tests.faults [--sample N] [--kills N] [VERB...]``.

It can be stopped and goes on. Writes ``tests/faults/TABLE.md``.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.faulty_io import KINDS
from tests.faults.server import Server
from tests.faults.trial import attempt, key_of, kill, plan, server_for, undisturbed
from tests.faults.verbs import VERBS, Verb

HERE = Path(__file__).parent
TABLE = HERE / "TABLE.md"
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

Where `tried` is below `faults`, the run was stopped; `make faults` goes on.

`~` is a temporary name; RUN and HASH stand for names that vary.
"""


def main() -> int:
    """Try all commands; 0 if every trial has recovered."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sample", type=int, help="faults of each command, not written to the table; default: all")
    options.add_argument("--first", type=int, help="only as many faults of each command for now")
    options.add_argument("--kills", type=int, default=0, help="kill each command so often, at random moments, instead")
    options.add_argument("verbs", nargs="*", help="commands to try; default: all")
    asked = options.parse_args()
    chosen = [verb for verb in VERBS if not asked.verbs or verb.name in asked.verbs]
    chosen.sort(key=lambda verb: asked.verbs.index(verb.name) if asked.verbs else 0)
    state: dict = json.loads(STATE.read_text()) if asked.sample is None and STATE.is_file() else {}
    if all(_is_complete(state, verb) for verb in chosen):
        state = {name: found for name, found in state.items() if asked.verbs and name not in asked.verbs}
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # there, a flush takes no time
    with tempfile.TemporaryDirectory(dir=memory) as base:
        server = server_for(chosen, Path(base).resolve())
        if asked.kills:
            recovered = [_kill(server, verb, asked.kills) for verb in chosen]
            return int(not all(recovered))
        for verb in chosen:
            _try_all(server, verb, state, asked.sample, asked.first)
    return int(any(wrong for found in state.values() for wrong in found["tried"].values()))


def _kill(server: Server, verb: Verb, times: int) -> bool:
    """Kill a command at random moments, the same ones each time; True if it recovered from all."""
    expected, moments = undisturbed(server, verb), random.Random(0)
    trials = [kill(server, verb, expected, moments.uniform(0, expected.seconds)) for _ in range(times)]
    for trial in trials:
        if trial.wrong:
            print(f"{verb.name}: {trial}", flush=True)
    print(f"{verb.name}: {sum(trial.how == 'killed' for trial in trials)} of {times} killed", flush=True)
    return not any(trial.wrong for trial in trials)


def _is_complete(state: dict, verb: Verb) -> bool:
    return verb.name in state and len(state[verb.name]["tried"]) == state[verb.name]["planned"]


def _try_all(server: Server, verb: Verb, state: dict, sample: int | None, first: int | None) -> None:
    """Try the faults of a command that were not tried before, and keep the result of each."""
    expected, planned = plan(server, verb)
    found = state.setdefault(verb.name, {"seconds": 0.0, "tried": {}})
    found["planned"] = len(planned)
    for point, kind in planned[: sample or first]:
        if key_of(point, kind) in found["tried"]:
            continue
        started = time.monotonic()
        trial = attempt(server, verb, expected, point, kind)
        found["tried"][trial.key] = list(trial.wrong)
        found["seconds"] += time.monotonic() - started
        if trial.wrong:
            print(f"{verb.name}: {trial}", flush=True)
        if sample is None:
            STATE.parent.mkdir(exist_ok=True)
            STATE.write_text(json.dumps(state, indent=1))
            TABLE.write_text(table(state), encoding="utf-8")
    print(f"{verb.name}: {len(found['tried'])} faults, {found['seconds']:.0f} s", flush=True)


def rows_of(tried: dict[str, list[str]]) -> list[tuple[str, str, int, int]]:
    """For every file: its name, the operations with their number, the faults tried and those recovered."""
    files: dict[str, dict[str, list[str]]] = {}
    for key, wrong in tried.items():
        files.setdefault(key.split("\n")[0], {})[key] = wrong
    rows = []
    for file, of in sorted(files.items()):
        counted = Counter(operation for operation, _ in {tuple(key.split("\n")[1:3]) for key in of})
        operations = ", ".join(f"{counted[name]} {name}" for name in KINDS if counted[name])
        rows.append((file, operations, len(of), sum(not wrong for wrong in of.values())))
    return rows


def table(state: dict) -> str:
    """Write the results as Markdown."""
    lines = [_HEAD, "| command | files | faults | tried | recovered |", "|---|---|---|---|---|"]
    total = Counter()
    for verb in [verb.name for verb in VERBS if verb.name in state]:
        rows = rows_of(state[verb]["tried"])
        counts = (len(rows), state[verb]["planned"], sum(row[2] for row in rows), sum(row[3] for row in rows))
        total.update(dict(enumerate(counts)))
        lines.append(f"| {verb} | {' | '.join(map(str, counts))} |")
    lines.append(f"| **all** | {' | '.join(str(total[i]) for i in range(4))} |")
    for verb in [verb.name for verb in VERBS if verb.name in state]:
        lines += ["", f"## {verb}", "", "| file | operations | tried | recovered |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(map(str, row))} |" for row in rows_of(state[verb]["tried"])]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
