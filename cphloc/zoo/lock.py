"""``cphloc.lock``: the exact versions of entries that a project uses, pinned by hash."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cphloc.config import yamlio
from cphloc.errors import DataError, InputError
from cphloc.files import atomic
from cphloc.zoo.entries import Listing, find_entry
from cphloc.zoo.hub import HubListing, HubSpec, is_hub_commit
from cphloc.zoo.mlflow_model import MODEL_PREFIX, find_model
from cphloc.zoo.names import VERSION_PATTERN
from cphloc.zoo.signature import check_signature, parse_key, read_trusted
from cphloc.zoo.versions import parse_spec

LOCK_FILE = "cphloc.lock"


def lock(
    specs: Sequence[str],
    path: str | Path = LOCK_FILE,
    zoos: Sequence[str] | None = None,
    trust: str | Path | None = None,
) -> dict[str, Any]:
    """Pin the newest version within each of ``specs``; pins of other names are kept.

    Args:
        specs: entries with version ranges, ``name@^1`` or ``hf://owner/name@^1``, or ``models:/name/1`` of MLflow.
        path: the lock file; written unless ``specs`` is empty.
        zoos: folders and URLs instead of `cphloc.paths.zoos`.
        trust: file of public keys; each entry must be signed by one of them, which is pinned as ``signer``. An entry
            whose pin has a signer must be signed by the same key, unless ``trust`` is given.

    Returns:
        the pins of the file by name: ``version``, ``entry_sha256``, ``weights_sha256``, ``signer`` where pinned, and
        of an entry on the Hugging Face Hub ``source`` and ``revision``, its repository and commit.

    Raises:
        NotFoundError: no such entry or version.
        DataError: an entry is not signed by a trusted key.

    >>> lock([], path="/dev/null/never-written")
    {}
    """
    path = Path(path)
    pinned, trusted = _read(path), None if trust is None else read_trusted(trust)
    for spec in specs:
        found = _find(spec, zoos)
        known = pinned.get(found.name, {}).get("signer")
        allowed = trusted or ([parse_key(known, str(path))] if known else [])
        signer = {"signer": check_signature(found, allowed).key} if allowed else {}
        place = {"source": found.source, "revision": found.revision} if isinstance(found, HubListing) else {}
        pinned[found.name] = {
            "version": found.version,
            "entry_sha256": found.sha256,
            "weights_sha256": found.entry.weights.sha256,
            **signer,
            **place,
        }
    if specs:
        with atomic(path) as temporary:
            temporary.write_text(yamlio.dump(dict(sorted(pinned.items()))), encoding="utf-8")
    return pinned


def find_locked(spec: str | Path, path: str | Path = LOCK_FILE) -> Listing:
    """Find an entry as `find_entry` does, but at the pinned version where the lock file names it.

    Raises:
        InputError: another version is asked for than the one pinned.
        DataError: the pinned version has other content than when it was pinned.
    """
    pinned = _read(Path(path))
    name, pin = _pin_of(spec, pinned)
    if pin is None:
        found = _find(spec)
    elif _asks_for(spec, pin):
        on_hub = "source" in pin
        found = HubSpec(pin["source"], "").at(pin["revision"]) if on_hub else find_entry(f"{name}@{pin['version']}")
    else:
        asked = str(spec).partition("@")[2]
        msg = f"{path} pins {name}@{pin['version']} but '{asked}' is asked for; run 'cphloc lock {spec}'"
        raise InputError(msg)
    if found.name in pinned:
        _check_pin(found, pinned[found.name], path)
    return found


def _find(spec: str | Path, zoos: Sequence[str] | None = None) -> Listing:
    """Find an entry on the Hugging Face Hub, in MLflow's model registry, or in a zoo."""
    if isinstance(spec, str) and spec.startswith(MODEL_PREFIX):
        return find_model(spec)
    on_hub = HubSpec.parse(spec)
    return find_entry(spec, zoos) if on_hub is None else on_hub.find()


def _pin_of(spec: str | Path, pinned: Mapping[str, dict[str, str]]) -> tuple[str, dict[str, str] | None]:
    """Return name and pin of what ``spec`` names: by the entry's name, or by its repository on the Hub."""
    if (on_hub := HubSpec.parse(spec)) is not None:
        return next(((n, pin) for n, pin in pinned.items() if pin.get("source") == on_hub.source), ("", None))
    name = str(spec).partition("@")[0]
    return name, pinned.get(name) if isinstance(spec, str) else None


def _asks_for(spec: str | Path, pin: Mapping[str, str]) -> bool:
    """Return whether the pinned version is in the range that ``spec`` asks for."""
    if (on_hub := HubSpec.parse(spec)) is not None:
        return on_hub.allows(pin["version"], pin["revision"])
    return bool(parse_spec(str(spec)).newest([pin["version"]]))


def _check_pin(found: Listing, pin: dict[str, str], path: str | Path) -> None:
    """Refuse a version that is not the pinned one, however it was named: by name, folder, URL or MLflow model."""
    if (found.sha256, found.entry.weights.sha256) != (pin["entry_sha256"], pin["weights_sha256"]):
        msg = f"{found.place}: {found} has other content than {path} pins; if intended, run 'cphloc lock {found}'"
        raise DataError(msg)


def _is_pin(pin: Any, facts: set[str]) -> bool:
    """Return whether a value of the lock file states a version and its hashes."""
    if not isinstance(pin, dict) or not all(isinstance(value, str) for value in pin.values()):
        return False
    if set(pin) - {"signer", "source", "revision"} != facts or not re.fullmatch(VERSION_PATTERN, pin["version"]):
        return False
    source, revision = pin.get("source"), pin.get("revision")
    return source is revision is None or is_hub_commit(source, revision)


def _read(path: Path) -> dict[str, Any]:
    if not os.path.lexists(path):
        return {}
    if not path.is_file():  # versions that it should pin must not be loaded without it
        msg = f"{path}: is a folder, a pipe or a link that leads nowhere; remove it, or put the lock file there"
        raise DataError(msg)
    pinned = yamlio.load(path).plain or {}
    facts = {"version", "entry_sha256", "weights_sha256"}
    if not isinstance(pinned, dict) or not all(_is_pin(pin, facts) for pin in pinned.values()):
        msg = f"{path}: is not a lock file; remove it and run 'cphloc lock NAME...'"
        raise DataError(msg)
    return pinned
