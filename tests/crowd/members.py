"""What each process of a crowd does, and what must be there when all are done."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("alpha", "beta", "gamma")
"""Names of the entries that are published; several processes publish versions of one name."""
RECIPE: dict[str, Any] = {
    "name": "crowd",
    "task": "segmentation",
    "dims": 3,
    "description": "One step on the sample",
    "about": {"intended_use": "Tests of many processes.", "limits": ["Not trained."], "changelog": "First."},
    "data": {"type": "hippocampus", "root": "sample", "patch": [8, 8, 8], "workers": 0},
    "model": {
        "backbone": {"type": "conv_encoder", "widths": [2, 4]},
        "heads": {"mask": {"type": "unet", "classes": {1: "anterior", 2: "posterior"}, "loss": {"type": "dice_ce"}}},
    },
    "train": {"steps": 1, "batch": 1, "optimizer": {"type": "AdamW", "lr": 1e-3}, "precision": "32"},
}


@dataclass
class Found:
    """What a crowd left.

    Args:
        processes: number of processes.
        seconds: time until the last one ended.
        errors: tracebacks of processes that failed.
        retries: warnings that something is sent, registered or indexed later.
        loads: entries that were loaded while others were published.
        versions: versions that load again, on disk and in the index.
        runs: finished runs in MLflow, one for each training.
        registered: versions in MLflow's model registry, and as many runs of the zoo.
    """

    processes: int
    seconds: float
    errors: list[str] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)
    loads: int = 0
    versions: int = 0
    runs: int = 0
    registered: int = 0

    @property
    def lost(self) -> bool:
        """Whether anything is missing, or came twice."""
        return bool(self.errors) or not self.versions == self.runs == self.registered == self.processes


def crowd(processes: int, folder: Path, uri: str, limit_seconds: float = 1200) -> Found:
    """Let many processes train, publish, load and predict at once.

    Args:
        processes: number of processes.
        folder: an empty folder, for the zoo, the cache and the runs that all of them use.
        uri: MLflow server or database.
        limit_seconds: time after which a process counts as blocked for ever.
    """
    os.environ |= {"MLFLOW_TRACKING_URI": uri, "CPHLOC_ZOO": str(folder / "zoo"), "CPHLOC_CACHE": str(folder / "cache")}
    os.environ["MPLBACKEND"] = "Agg"
    (folder / "said").mkdir(parents=True)
    _warm_up(folder / "warm")
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(processes)
    members = [context.Process(target=_member, args=(n, processes, folder, gate)) for n in range(processes)]
    started = time.monotonic()
    for member in members:
        member.start()
    for member in members:
        member.join(max(0.0, started + limit_seconds - time.monotonic()))
    found = Found(processes, time.monotonic() - started)
    for number, member in enumerate(members):
        if member.is_alive():
            member.kill()
            found.errors.append(f"process {number} was still running after {limit_seconds:.0f} s")
        said = folder / "said" / f"{number}.json"
        stated = json.loads(said.read_text()) if said.is_file() else {"errors": [f"process {number} died"]}
        found.errors += stated["errors"]
        found.retries += stated.get("retries", [])
        found.loads += stated.get("loads", 0)
    _count(found, folder, uri)
    return found


def _warm_up(folder: Path) -> None:
    """Import what the processes need, and compile it, before they are started as copies of this one."""
    import cphloc
    import cphloc.publishing.publish
    import cphloc.zoo.load

    folder.mkdir()
    before, uri = Path.cwd(), os.environ["MLFLOW_TRACKING_URI"]
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.chdir(folder)
    cphloc.evaluate(cphloc.train(RECIPE))
    os.chdir(before)
    os.environ["MLFLOW_TRACKING_URI"] = uri


def _member(number: int, processes: int, folder: Path, gate: Any) -> None:
    """Train, evaluate, publish, and load and predict with what others have published."""
    import cphloc

    said: dict[str, Any] = {"errors": [], "loads": 0}
    kept = _Kept()
    logging.getLogger("cphloc").addHandler(kept)
    os.chdir(folder)
    try:
        gate.wait(300)
        run = cphloc.train({**RECIPE, "train": {**RECIPE["train"], "seed": number}})
        cphloc.evaluate(run)
        name = NAMES[number % len(NAMES)]
        reasons = {"because": "a crowd", "below_baseline": "a crowd"}
        cphloc.publish(run, name, f"1.{number}.0", to=folder / "zoo", **reasons)
        scan = np.zeros((1, 8, 8, 8), np.float32)
        for listing in cphloc.list_entries(all_versions=True, zoos=[str(folder / "zoo")])[-4:]:
            cphloc.load(str(listing)).predict(scan, spacing_mm=(1, 1, 1))
            said["loads"] += 1
    except BaseException:
        said["errors"].append(f"process {number}: {traceback.format_exc()}")
    said["retries"] = kept.messages
    (folder / "said" / f"{number}.json").write_text(json.dumps(said))
    os._exit(0)  # not the clean-up of the process that this one is a copy of


class _Kept(logging.Handler):
    """Keeps the warnings that something is sent, registered or indexed later."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        if "MLflow" in record.getMessage() or "index" in record.getMessage():
            self.messages.append(record.getMessage())


def _count(found: Found, folder: Path, uri: str) -> None:
    """Count what is there, after sending and registering what the processes left for later."""
    from mlflow.tracking import MlflowClient

    import cphloc
    from cphloc.publishing.register import register_zoo
    from cphloc.tracking.tracker import push
    from cphloc.zoo.index import read_index
    from cphloc.zoo.names import INDEX_FILE

    zoo, client = folder / "zoo", MlflowClient(uri)
    for state in sorted(folder.glob("runs/*/*/tracking.json")):
        push(state.parent)
    register_zoo(zoo)
    indexed = {(row.name, row.version) for row in read_index(zoo / INDEX_FILE)}
    for listing in cphloc.list_entries(all_versions=True, zoos=[str(zoo)]):
        cphloc.load(str(listing))
        found.versions += (listing.name, listing.version) in indexed
    experiments = {each.name: each.experiment_id for each in client.search_experiments()}
    ended = [r for r in client.search_runs([experiments["cphloc/crowd"]]) if r.info.status == "FINISHED"]
    found.runs = (
        len(ended) if len({run.data.tags.get("cphloc.run", run.info.run_name) for run in ended}) == len(ended) else -1
    )
    published = client.search_runs([experiments["cphloc-zoo"]])
    models = [each for name in NAMES for each in client.search_model_versions(f"name = '{name}'")]
    entries = {run.data.tags.get("cphloc.entry") for run in published} - {None}
    found.registered = len(entries) if len(models) == len(published) == len(entries) else -1
