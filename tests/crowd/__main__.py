"""Many processes at once on one zoo, one cache and one MLflow: ``python -m tests.crowd [--processes 20] [STORE...]``.

Every process trains, evaluates, publishes, loads and predicts. Afterwards every version and every run must be there
once. Takes about ten minutes on two cores. Writes ``tests/benchmarks/RESULTS.md``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from tests.benchmarks.__main__ import add_facts
from tests.crowd.members import Found, crowd
from tests.crowd.postgresql import mlflow_on_postgresql

STORES = ("sqlite", "postgresql")


def main() -> int:
    """Run the crowd on every store; 0 if nothing was lost."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--processes", type=int, default=20, help="number of processes (default 20)")
    options.add_argument("--dry", action="store_true", help="write no results")
    options.add_argument("stores", nargs="*", default=STORES, help=f"of {', '.join(STORES)}; default: both")
    asked = options.parse_args()
    found = {store: _on(store, asked.processes) for store in asked.stores}
    if not asked.dry:
        add_facts("crowd", [_row(store, each) for store, each in found.items()])
    return int(any(each.lost for each in found.values()))


def _on(store: str, processes: int) -> Found:
    with tempfile.TemporaryDirectory(prefix="crowd-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        database = nullcontext(f"sqlite:///{folder}/mlflow.db")
        with database if store == "sqlite" else mlflow_on_postgresql(folder) as uri:
            found = crowd(processes, folder, uri)
    print(*found.errors, *sorted(set(found.retries)), _row(store, found), sep="\n", flush=True)
    return found


def _row(store: str, found: Found) -> dict[str, object]:
    counts = {name: getattr(found, name) for name in ("processes", "loads", "versions", "runs", "registered")}
    return {"store": store, **counts, "seconds": round(found.seconds), "retries": len(found.retries)}


if __name__ == "__main__":
    sys.exit(main())
