"""Find entries in repositories of the Hugging Face Hub, written ``hf://owner/name@1.2.0``.

A repository contains the files of one entry, and its tags are the versions. A tag is resolved to a commit, from which
every file is downloaded as from a zoo at a URL: with its published hash, into the cache, and with a token where one is
set. Answers of the Hub are kept, so that what was loaded once is found again without a network.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.version import Version

import cphloc
from cphloc import paths
from cphloc.download import DownloadError, hub, read_url
from cphloc.errors import DataError, InputError, NotFoundError
from cphloc.files import atomic
from cphloc.zoo.entries import Listing, NoSuchVersionError
from cphloc.zoo.index import is_supported, row_of
from cphloc.zoo.listing import cached_path
from cphloc.zoo.names import ENTRY_FILE, MAX_ENTRY_BYTES, VERSION_PATTERN, WEIGHTS_FILE, sha256_of
from cphloc.zoo.pins import check_unchanged
from cphloc.zoo.versions import VersionSpec, parse_range

_REPOSITORY = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}"
_SPEC = re.compile(rf"hf://({_REPOSITORY})(?:@(.*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BRANCH = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,199}")


@dataclass(frozen=True)
class HubListing(Listing):
    """A version in a repository of the Hub.

    Args:
        source: the repository, ``hf://owner/name``.
        revision: its commit.
    """

    source: str = ""
    revision: str = ""

    def weights_path(self) -> Path:
        """Return the local path of the weights; the repository contains also those that the entry gives by URL."""
        weights = self.entry.weights
        return self._fetched(weights.file or WEIGHTS_FILE, weights, weights.urls)


@dataclass(frozen=True)
class HubSpec:
    """A repository, and what is asked for after ``@``: a version, a range, a branch, a commit, or nothing."""

    source: str
    asked: str

    @classmethod
    def parse(cls, spec: str | Path) -> HubSpec | None:
        """Read ``hf://owner/name@1.2.0``; ``None`` for any other text."""
        found = _SPEC.fullmatch(spec) if isinstance(spec, str) else None
        return found and cls(f"hf://{found[1]}", (found[2] or "").strip())

    @property
    def repository(self) -> str:
        """``owner/name``."""
        return self.source.removeprefix("hf://")

    @property
    def is_revision(self) -> bool:
        """Whether a branch or commit is asked for, rather than a version or a range of versions."""
        of_git = _COMMIT.fullmatch(self.asked) or _BRANCH.fullmatch(self.asked)
        return bool(of_git) and self.asked != "latest" and ".." not in self.asked

    def allows(self, version: str, revision: str) -> bool:
        """Return whether a version, at a commit, is what is asked for."""
        if self.is_revision:
            return self.asked == revision
        return bool(self._versions().newest([version]))

    def _versions(self) -> VersionSpec:
        return VersionSpec(self.source, parse_range(self.asked, f"{self.source}@{self.asked}"), self.asked)

    def find(self) -> HubListing:
        """Find the version, of a range the newest that this cphloc supports.

        Raises:
            NotFoundError: no such repository, version or branch.
            InputError: the version needs another cphloc.
            DataError: the repository has no valid entry, or the version has changed since it was first read.
            DownloadError: the Hub cannot be reached and was not asked before.
        """
        newest = None
        for found in self._candidates():
            if is_supported(found.row.requires_cphloc):
                return found
            newest = newest or found
        needs = newest.row.requires_cphloc if newest else ""
        msg = f"{self.source}: {newest} needs cphloc {needs} but this is {cphloc.__version__}; install that"
        raise InputError(msg)

    def _candidates(self) -> Iterator[HubListing]:
        """Yield what is asked for, newest first; at least one."""
        if self.is_revision:
            yield self.at(_commit(self, self.asked))
        elif re.fullmatch(VERSION_PATTERN, self.asked):
            yield self._version(self.asked)
        else:
            tags = _tags(self)
            fitting = self._versions().newest(tags)
            if not fitting:
                raise _no_version(self, tags)
            yield from map(self._version, fitting)

    def at(self, revision: str) -> HubListing:
        """Find the version at a commit; raises as `find`."""
        place = f"{hub()}/{self.repository}/resolve/{revision}"
        content = _kept(f"{place}/{ENTRY_FILE}", self, fixed=True)
        row = row_of(content, f"{self.source}@{revision[:12]}/{ENTRY_FILE}")
        _keep_entry(content)
        return HubListing(row.name, row.version, place, row, source=self.source, revision=revision)

    def _version(self, version: str) -> HubListing:
        """Find the version of a tag, and refuse a tag that was moved: versions are immutable."""
        found = self.at(_commit(self, version))
        if found.version != version:
            msg = f"{self.source}: the tag {version} holds {found}; ask its publisher to push the entry again"
            raise DataError(msg)
        check_unchanged(str(found), f"{hub()}/{self.repository}@{version}", found.row.sha256)
        return found


def is_hub_commit(source: str | None, revision: str | None) -> bool:
    """Return whether texts of a lock file are a repository and a commit."""
    spec = HubSpec.parse(source or "")
    return spec is not None and not spec.asked and _COMMIT.fullmatch(revision or "") is not None


def _commit(spec: HubSpec, revision: str) -> str:
    """Return the commit of a tag, branch or abbreviated commit."""
    url = f"{hub()}/api/models/{spec.repository}/revision/{quote(revision, safe='')}"
    try:
        return _checked_commit(_parsed(_kept(url, spec), url).get("sha"), url)
    except NotFoundError:
        raise _no_version(spec, _tags(spec)) from None


def _tags(spec: HubSpec) -> list[str]:
    """List the tags of a repository that are versions."""
    url = f"{hub()}/api/models/{spec.repository}/refs"
    try:
        tags = _parsed(_kept(url, spec), url).get("tags")
    except NotFoundError:
        msg = f"{spec.source}: no such repository at {hub()}; check its name, and for a private one set HF_TOKEN"
        raise NotFoundError(msg) from None
    names = [tag.get("name") for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []
    return [name for name in names if isinstance(name, str) and re.fullmatch(VERSION_PATTERN, name)]


def _no_version(spec: HubSpec, tags: Iterable[str]) -> NoSuchVersionError:
    existing = ", ".join(sorted(tags, key=Version, reverse=True)) or "no versions; push one: cphloc push-to-hub"
    return NoSuchVersionError(f"{spec.source} has no version '{spec.asked or 'latest'}'; it has {existing}")


def _kept(url: str, spec: HubSpec, fixed: bool = False) -> bytes:
    """Read an answer of the Hub and keep it; where the Hub cannot be reached, return the last one.

    Args:
        url: address of the answer.
        spec: what is looked for, for messages.
        fixed: the answer never changes, so that one that was kept is not asked for again.
    """
    kept = paths.cached("zoo", "hub", sha256_of(url.encode()))
    if fixed and kept.is_file():
        return kept.read_bytes()
    try:
        content = read_url(url, MAX_ENTRY_BYTES)
    except NotFoundError:
        if not fixed:
            raise
        msg = f"{spec.source}: has no {ENTRY_FILE}, so it is not an entry; push one: cphloc push-to-hub"
        raise NotFoundError(msg) from None
    except DownloadError as error:
        return _last(kept, error)
    with atomic(kept) as temporary:
        temporary.write_bytes(content)
    return content


def _last(kept: Path, error: DownloadError) -> bytes:
    if not kept.is_file():
        hint = "; for a private or gated repository set HF_TOKEN" if re.search(r"answered 40[13]", str(error)) else ""
        msg = f"{error}{hint}"
        raise DownloadError(msg) from None
    if not paths.offline():
        warnings.warn(f"{error}; using what it answered before", stacklevel=6)
    return kept.read_bytes()


def _keep_entry(content: bytes) -> None:
    """Put ``entry.yaml`` where a listing looks for it."""
    from cphloc.zoo.entry import File

    path = cached_path(File(sha256=sha256_of(content), bytes=len(content)))
    if not path.is_file():
        with atomic(path) as temporary:
            temporary.write_bytes(content)


def _parsed(content: bytes, url: str) -> dict[str, Any]:
    try:
        facts = json.loads(content)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        msg = f"{url}: the answer is not that of a Hub; check HF_ENDPOINT"
        raise DataError(msg)
    return facts


def _checked_commit(commit: Any, url: str) -> str:
    """Return a commit as the Hub stated it, which becomes part of addresses."""
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        msg = f"{url}: the answer states no commit; check HF_ENDPOINT"
        raise DataError(msg)
    return commit
