"""Register published entries with MLflow: a summary run, a LoggedModel and a model version for each version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from packaging.version import Version

from cphloc import paths
from cphloc.errors import CphlocError
from cphloc.registry.metrics import quality
from cphloc.tracking import published
from cphloc.tracking.published import ENTRY_TAG, PublishedVersion, shortened_card
from cphloc.tracking.server import client_of, reaching, tracking_uri, usable_run
from cphloc.tracking.zoo_experiment import NEWEST_TAG, SUPERSEDES_TAG, zoo_experiment

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
"""Alias of the version with the best headline metric."""

_LAYOUT = "3"
"""Number of the layout of a summary run; a run of an earlier one is logged again."""
_LAYOUT_TAG = "cphloc.layout"
_HEADLINE_TAG, _VALUE_TAG = "headline_metric", "headline"
_MOST_DESCRIPTION = 5000
_LOCK_SECONDS = 600.0
_LATER = "to register entries later, run: cphloc zoo index"


@contextmanager
def open_register() -> Iterator[Register]:
    """Open the register of published entries at `tracking_uri`; one process of this machine at a time.

    Raises:
        CphlocError: the server cannot be reached or rejects an entry; or another process has registered for minutes.
    """
    import filelock

    uri = tracking_uri()
    lock = paths.cached("mlflow", f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(lock, timeout=_LOCK_SECONDS):
            with reaching(uri, _LATER):
                register = Register(client_of(uri), uri)
            yield register
    except filelock.Timeout:
        msg = f"{lock}: another process registers entries with MLflow; wait until it has ended"
        raise CphlocError(msg) from None


class Register:
    """Published entries as MLflow has them: of each version a summary run, a LoggedModel and a model version.

    People may rename and delete all of these in the user interface: each is found by the tag ``cphloc.entry``, a
    deleted one is restored or created again, and what people changed in the others is kept.

    Args:
        client: see `cphloc.tracking.server.client_of`.
        uri: URI of the server.
    """

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self.client, self._uri = client, uri
        self.experiment = zoo_experiment(client, uri)
        self._runs = self._known_runs()
        self._models: dict[str, LoggedModel] = {
            model.tags[ENTRY_TAG]: model
            for model in _pages(client.search_logged_models, [self.experiment])
            if ENTRY_TAG in model.tags
        }
        self._versions = self._known_versions()
        for name in {version.name for version in self._versions.values()}:
            if CHAMPION not in client.get_registered_model(name).aliases:  # it was deleted
                self._promote(next(version for version in self._versions.values() if version.name == name))

    def run_id(self, entry: str) -> str | None:
        """Return the id of the summary run of ``name@1.2.0``; ``None`` if anything of the version is missing."""
        model = self._models.get(entry)
        complete = model is not None and str(model.status) == "READY" and entry in self._versions
        return self.shown(entry) if complete else None

    def shown(self, entry: str) -> str | None:
        """Return the id of the summary run of ``name@1.2.0``; ``None`` if it is missing, deleted or incomplete."""
        run = self._runs.get(entry)
        complete = (
            run is not None
            and (run.info.lifecycle_stage, run.info.status) == ("active", "FINISHED")
            and run.data.tags.get(_LAYOUT_TAG) == _LAYOUT
        )
        return run.info.run_id if run is not None and complete else None

    def show(self, version: PublishedVersion) -> str:
        """Log the summary run of a version, by which the table of runs shows it, unless it is there.

        Returns:
            the id of the summary run.

        Raises:
            CphlocError: the server rejects it.
        """
        with reaching(self._uri, _LATER):
            return self._show(version)

    def register(self, version: PublishedVersion) -> str:
        """Register a version, or what of it is missing.

        Returns:
            the id of the summary run.

        Raises:
            CphlocError: the server rejects it.
        """
        with reaching(self._uri, _LATER):
            run_id = self._show(version)
            self._register(version, run_id)
            return run_id

    def _show(self, version: PublishedVersion) -> str:
        if (known := self.shown(str(version))) is not None:
            return known
        run_id = self._begun_run(version)
        published.log_run(
            self.client, run_id, version, {SUPERSEDES_TAG: ",".join(version.supersedes), _LAYOUT_TAG: _LAYOUT}
        )
        self.client.set_terminated(run_id, end_time=version.time_ms)
        self._runs[str(version)] = self.client.get_run(run_id)
        for name in dict.fromkeys([version.name, *(old.partition("@")[0] for old in version.supersedes)]):
            self._mark_newest(name)
        return run_id

    def _register(self, version: PublishedVersion, run_id: str) -> None:
        entry = str(version)
        model = published.log_model(self.client, self.experiment, run_id, version, self._models.get(entry))
        self._models[entry] = model
        published.log_metrics(self.client, run_id, version, model.model_id)
        if entry not in self._versions:
            self._versions[entry] = self._create_version(version, run_id, model)
        self._promote(self._versions[entry])

    def _mark_newest(self, name: str) -> None:
        """Tag the newest version of an entry, by which the table of runs shows each entry once."""
        every = self._runs.values()
        superseded = {old for run in every for old in run.data.tags.get(SUPERSEDES_TAG, "").split(",")}
        tagged = {run.data.tags.get(ENTRY_TAG, ""): run for run in every}
        runs = {entry: run for entry, run in tagged.items() if entry.partition("@")[0] == name}
        newest = max(runs.keys() - superseded, key=lambda entry: Version(entry.partition("@")[2]), default=None)
        for entry, run in runs.items():
            stated = "true" if entry == newest else "false"
            if run.data.tags.get(NEWEST_TAG) != stated and run.info.lifecycle_stage == "active":
                self.client.set_tag(run.info.run_id, NEWEST_TAG, stated)
                self._runs[entry] = self.client.get_run(run.info.run_id)

    def _known_runs(self) -> dict[str, Run]:
        """Summary runs by entry, deleted ones too; by their names where the tag was deleted."""
        found: dict[str, Run] = {}
        for run in _pages(self.client.search_runs, [self.experiment], run_view_type=3):
            entry = run.data.tags.get(ENTRY_TAG, run.info.run_name)
            if entry not in found or found[entry].info.lifecycle_stage == "deleted":
                found[entry] = run
        return found

    def _known_versions(self) -> dict[str, ModelVersion]:
        """Model versions by entry, whatever the registered model is called now."""
        entries, found = {run.info.run_id: entry for entry, run in self._runs.items()}, {}
        ids = list(entries)
        for start in range(0, len(ids), 100):
            listed = ", ".join(f"'{run_id}'" for run_id in ids[start : start + 100])
            for one in _pages(self.client.search_model_versions, f"run_id IN ({listed})"):
                found.setdefault(entries[one.run_id], one)
        return found

    def _begun_run(self, version: PublishedVersion) -> str:
        """Return the id of the summary run: a known one, restored if it was deleted, or a new one."""
        known = self._runs.get(str(version))
        if known is not None and usable_run(self.client, known.info.run_id) is not None:
            return known.info.run_id
        tags = {**version.provenance, ENTRY_TAG: str(version)}
        return self.client.create_run(self.experiment, version.time_ms, tags, str(version)).info.run_id

    def _create_version(self, version: PublishedVersion, run_id: str, model: LoggedModel) -> ModelVersion:
        from mlflow.exceptions import MlflowException

        client, name = self.client, version.name
        with suppress(MlflowException):  # raised if the model exists already
            client.create_registered_model(name, dict(version.tags), version.summary)
        card = shortened_card(version.card, _MOST_DESCRIPTION, run_id)
        headline = {_VALUE_TAG: str(version.metrics["headline"])} if "headline" in version.metrics else {}
        headline |= {_HEADLINE_TAG: str(version.params.get(_HEADLINE_TAG, ""))}
        source, tags = model.artifact_location, {**version.tags, **headline, ENTRY_TAG: str(version)}
        created = client.create_model_version(name, source, run_id, tags, description=card, model_id=model.model_id)
        shown = json.dumps([{"name": created.name, "version": str(created.version)}])
        client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": shown})  # else "Not registered" in the UI
        return created

    def _promote(self, new: ModelVersion) -> None:
        """Give a version the alias ``champion`` if its headline metric is not below that of the present one."""
        from mlflow.exceptions import MlflowException

        try:
            champion = self.client.get_model_version_by_alias(new.name, CHAMPION)
        except MlflowException:  # there is none, or it was deleted
            others = _pages(self.client.search_model_versions, f"name = '{new.name}'")
            best = max(others, key=lambda one: (_rank(one, new), int(one.version)), default=new)
            self.client.set_registered_model_alias(new.name, CHAMPION, best.version)
            return
        if champion.version != new.version and _rank(new, champion) >= _rank(champion, champion):
            self.client.set_registered_model_alias(new.name, CHAMPION, new.version)


def _rank(version: ModelVersion, like: ModelVersion) -> float:
    """Quality of the headline metric; lowest of all where it is another metric, or of another split."""
    metric, value = version.tags.get(_HEADLINE_TAG, ""), version.tags.get(_VALUE_TAG)
    if value is None or metric != like.tags.get(_HEADLINE_TAG):
        return -float("inf")
    return quality(metric.partition("/")[2], float(value))


def _pages(search, *arguments, **options) -> Iterator:
    """Yield what a search of MLflow finds, page by page."""
    token = None
    while True:
        page = search(*arguments, page_token=token, **options)
        yield from page
        token = page.token
        if not token:
            return
